//! The Bank example over HTTP.

mod accounts;
mod client;
mod conditional;
mod history;
mod idempotency;
mod limits;
mod problems;
mod process;
mod transfers;
