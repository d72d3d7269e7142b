//! The size of the measurement.

use std::time::Duration;

pub struct Plan {
    /// The number of rounds at full speed.
    pub rounds: usize,
    /// The number of concurrent clients at full speed, and the number of their events.
    pub clients: u64,
    pub events_in_memory: u64,
    pub events_on_engine: u64,
    /// The commits per second under a steady load, and its duration.
    pub rate: u32,
    pub duration: Duration,
    /// The numbers of events from which a projection is rebuilt.
    pub rebuilt_in_memory: Vec<u64>,
    pub rebuilt_on_engine: u64,
    /// The number of commits that are indexed to count units, a multiple of all page sizes.
    pub counted: u64,
}

impl Plan {
    pub fn full() -> Self {
        Self {
            rounds: 3,
            clients: 16,
            events_in_memory: 100_000,
            events_on_engine: 5_000,
            rate: 50,
            duration: Duration::from_secs(20),
            rebuilt_in_memory: vec![100_000, 1_000_000],
            rebuilt_on_engine: 20_000,
            counted: 6_400,
        }
    }

    /// Returns a plan that only checks that everything runs.
    pub fn quick() -> Self {
        Self {
            rounds: 1,
            clients: 4,
            events_in_memory: 400,
            events_on_engine: 40,
            rate: 50,
            duration: Duration::from_millis(500),
            rebuilt_in_memory: vec![500, 1_000],
            rebuilt_on_engine: 200,
            counted: 128,
        }
    }
}
