//! Processes, on the store in memory.

mod failures;
mod kit;
mod reactions;
mod replaced;
mod stored;
mod support;
mod timeouts;
