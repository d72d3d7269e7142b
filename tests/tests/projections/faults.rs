//! The promises of projections under faults: every event has its effect exactly once, in the order of its stream.
//!
//! `ES_FAULT_RUNS` sets how many runs there are, `ES_FAULT_SEED` repeats the run of one seed.

use std::sync::Arc;

use es_core::MemoryStore;
use es_tests::chaos::projections::{self, Report};

#[test]
fn every_event_has_its_effect_once_and_in_order() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (first, runs) = match number("ES_FAULT_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("ES_FAULT_RUNS").unwrap_or(200)),
    };
    let mut total = Report::default();
    for seed in first..first + runs {
        // Time stands still, and passes only when there is nothing else to do.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let run = projections::run(seed, Arc::new(MemoryStore::new()));
        match runtime.expect("a runtime").block_on(run) {
            Ok(report) => total += report,
            Err(error) => panic!("seed {seed}: {error}\nrepeat it with ES_FAULT_SEED={seed}"),
        }
    }
    println!("{runs} runs, {total:?}");
    let Report { events, died, ended, failures, stops, parked, skipped, resets, switches, repeated, .. } =
        total;
    assert!(
        [events, died, ended, failures, stops, parked, skipped, resets, switches, repeated]
            .iter()
            .all(|count| *count > 0)
            || runs < 100,
        "the runs do not try what they are there for: {total:?}"
    );
}
