//! Rules of events and snapshots that do not fit into an item, for stores that accept up to 4 MB of each.

pub mod commits;
pub mod limits;
pub mod repository;
pub mod snapshots;

use es_core::event::EventData;

use super::Pattern;

/// The maximum size of a payload and of a state that the store must have.
pub const MAX_BYTES: u64 = 4 << 20;

/// Returns an event of `kilobytes` KB.
fn event(seed: u64, kilobytes: usize) -> EventData {
    Pattern { seed, bytes: kilobytes * 1024 }.event()
}
