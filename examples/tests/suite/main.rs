//! The examples as processes, the Bank example over HTTP, and the snippets of the README.

mod bank;
mod costs;
mod order;
mod readme;
mod traces;
