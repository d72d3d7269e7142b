//! Processes, on the store in memory.

mod failures;
mod kit;
mod reactions;
mod replaced;
mod support;
mod timeouts;
