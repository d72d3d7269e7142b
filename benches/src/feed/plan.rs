//! How much is measured.

use std::time::Duration;

pub struct Plan {
    /// How often the places take turns at being as fast as they can.
    pub rounds: usize,
    /// How many clients commit at once when they commit as fast as they can, and how many events.
    pub clients: u64,
    pub events_in_memory: u64,
    pub events_on_engine: u64,
    /// How many commits there are in a second under a steady load, and for how long.
    pub rate: u32,
    pub duration: Duration,
    /// The numbers of events of which a projection is built again.
    pub rebuilt_in_memory: Vec<u64>,
    pub rebuilt_on_engine: u64,
    /// How many commits are indexed to count units: whole pages of any size.
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

    /// That everything runs, not how fast.
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
