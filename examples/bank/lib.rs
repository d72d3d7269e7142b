//! The Bank example: accounts, transfers between them, and an HTTP API.
//!
//! Start reading in [`domain`]. [`service`] executes commands, [`api`] maps them to HTTP, and [`server`] serves the
//! API.

pub mod api;
pub mod domain;
pub mod server;
pub mod service;

pub use server::{Settings, serve};
pub use service::Bank;
