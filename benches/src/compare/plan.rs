//! How much is measured.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Plan {
    /// How often the contenders take turns.
    pub rounds: usize,
    /// After how many events a client goes on to a new account.
    pub life: u64,
    /// How many accounts a client goes through in a round when it is the only one.
    pub lives_of_one: u64,
    /// How many clients there are when there are many.
    pub many: usize,
    /// The lengths of streams to load.
    pub streams: Vec<u64>,
    /// How long the fill of a stream, or one load of it, may take.
    pub limit: Duration,
    /// The lengths of two streams whose loads are compared in memory.
    pub memory: [u64; 2],
    /// How many events are decoded and folded at once.
    pub folded: u64,
    /// How many commands are carried out on the store in memory, or counted allocations of.
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

    /// That everything runs, not how fast.
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
