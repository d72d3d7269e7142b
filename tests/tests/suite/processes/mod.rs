//! Processes, on the store in memory.

mod failures;
mod kit;
mod outages;
mod reactions;
mod replaced;
mod restored;
mod stored;
pub(crate) mod support;
mod timeouts;

pub(crate) use support::Time;
