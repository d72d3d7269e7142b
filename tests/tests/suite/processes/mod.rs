//! Processes, on the store in memory.

mod failures;
mod kit;
mod outages;
mod reactions;
mod replaced;
mod restored;
mod stored;
mod support;
mod timeouts;

pub(crate) use support::Time;
