//! Processes, on the store in memory, and a rehearsal of a restore on the embedded engine.

mod failures;
mod kit;
mod outages;
mod reactions;
mod rehearsal;
mod replaced;
mod restored;
mod splits;
mod stored;
pub(crate) mod support;
mod timeouts;

pub(crate) use support::Time;
