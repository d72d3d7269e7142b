//! The size of the measurement.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Plan {
    /// The number of rounds.
    pub rounds: usize,
    /// The number of events after which a client opens a new account.
    pub life: u64,
    /// The number of accounts per round of a single client.
    pub lives_of_one: u64,
    /// The number of concurrent clients.
    pub many: usize,
    /// The lengths of the streams to load.
    pub streams: Vec<u64>,
    /// The maximum time to fill a stream or to load it.
    pub limit: Duration,
    /// The lengths of the two streams for the comparison of peak memory.
    pub memory: [u64; 2],
    /// The number of events to decode and fold.
    pub folded: u64,
    /// The number of commands on the store in memory, and for the count of allocations.
    pub commands: u64,
}

impl Plan {
    pub fn full(rounds: usize) -> Self {
        Self {
            rounds: rounds.max(1),
            life: 150,
            lives_of_one: 3,
            many: 16,
            streams: vec![10, 1_000, 100_000],
            limit: Duration::from_secs(60),
            memory: [10_000, 1_000_000],
            folded: 20_000,
            commands: 20_000,
        }
    }

    /// Returns a plan that only checks that everything runs.
    pub fn quick() -> Self {
        Self {
            rounds: 1,
            life: 10,
            lives_of_one: 1,
            many: 4,
            streams: vec![10, 200],
            limit: Duration::from_secs(5),
            memory: [5_000, 10_000],
            folded: 500,
            commands: 100,
        }
    }
}
