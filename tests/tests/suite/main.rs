//! The tests of es-core and es-dynamo together, in a single binary: each binary links the whole AWS SDK.
//!
//! `cargo test -p es-tests --test suite projections::` runs the tests of one module.

mod damage;
mod durations;
mod dynamo;
mod engine;
mod faults;
mod feed;
mod feed_faults;
mod handlers;
mod hostile;
mod hostile_items;
mod ids;
mod indexer;
mod kinesis;
mod kit;
mod large_events;
mod large_events_faults;
mod macros;
mod memory;
mod metrics;
mod payloads;
mod personal;
mod policy;
mod processes;
mod projections;
mod publishing;
mod restoring;
#[cfg(feature = "services")]
mod services;
mod sharing;
mod signals;
mod spans;
mod splits;
mod workers;

/// Returns the sort key of the commit whose first event has the version `first`.
fn commit_key(first: u64) -> String {
    format!("E#{first:012}")
}
