//! The size of the measurement.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Plan {
    /// Whether the numbers are measurements.
    pub is_measurement: bool,
    /// The number of rounds, without the first one for warm-up.
    pub rounds: usize,
    /// The number of events after which a client opens a new account.
    pub life: u64,
    /// The number of accounts per round of a single client.
    pub lives_of_one: u64,
    /// The number of concurrent clients.
    pub many: usize,
    /// The lengths of the streams to load.
    pub streams: Vec<u64>,
    /// How long to load each stream, at most.
    pub loading: Duration,
    /// The number of events that are stored before a subscription starts.
    pub feed_events: u64,
    /// The number of events that are appended while a subscription waits for them.
    pub lag_events: u64,
    /// The number of events whose size is measured.
    pub sized_events: u64,
    /// The number of seeded interleavings.
    pub interleavings: u64,
    /// The number of events that each of the concurrent writers of a burst appends.
    pub burst: u64,
}

impl Plan {
    pub fn full(rounds: usize) -> Self {
        Self {
            is_measurement: true,
            rounds: rounds.max(1),
            life: 150,
            lives_of_one: 3,
            many: 16,
            streams: vec![10, 1_000, 100_000],
            loading: Duration::from_secs(5),
            feed_events: 20_000,
            lag_events: 400,
            sized_events: 2_000,
            interleavings: 1_000,
            burst: 500,
        }
    }

    /// Returns a plan that only checks that everything runs.
    pub fn quick() -> Self {
        Self {
            is_measurement: false,
            rounds: 1,
            life: 10,
            lives_of_one: 1,
            many: 4,
            streams: vec![10, 200],
            loading: Duration::from_millis(50),
            feed_events: 100,
            lag_events: 10,
            sized_events: 50,
            interleavings: 3,
            burst: 5,
        }
    }
}
