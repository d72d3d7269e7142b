//! The Bank example: accounts, transfers between them, and an HTTP API.
//!
//! Start reading in [`domain`]; [`service`] is what the API asks for; [`api`] is the way there over HTTP, and
//! [`server`] serves it.

pub mod api;
pub mod domain;
pub mod server;
pub mod service;

pub use server::{Settings, serve};
pub use service::Bank;
