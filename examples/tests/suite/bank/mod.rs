//! The Bank example over HTTP.

mod accounts;
mod client;
mod conditional;
mod history;
mod idempotency;
mod limits;
mod list;
mod problems;
mod process;
mod transfers;
