//! The Bank example over HTTP.

mod accounts;
mod client;
mod conditional;
mod idempotency;
mod problems;
mod process;
mod transfers;
