//! Processes, on the store in memory.

mod failures;
mod reactions;
mod replaced;
mod support;
mod timeouts;
