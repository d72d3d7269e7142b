//! The promises of projections under faults: every event has its effect exactly once, in the order of its stream.
//!
//! `ES_FAULT_RUNS` sets how many runs there are, `ES_FAULT_SEED` repeats the run of one seed.

use std::sync::Arc;

use es_core::MemoryStore;
use es_tests::chaos::projections::{self, Report};
use es_tests::chaos::run_seeds;

#[test]
fn every_event_has_its_effect_once_and_in_order() {
    let reports = run_seeds(200, |seed| projections::run(seed, Arc::new(MemoryStore::new())));
    let (runs, mut total) = (reports.len(), Report::default());
    reports.into_iter().for_each(|report| total += report);
    println!("{runs} runs, {total:?}");
    let Report {
        events,
        died,
        ended,
        failures,
        interruptions,
        stops,
        parked,
        skipped,
        resets,
        switches,
        repeated,
        splits,
        ..
    } = total;
    assert!(
        [
            events,
            died,
            ended,
            failures,
            interruptions,
            stops,
            parked,
            skipped,
            resets,
            switches,
            repeated,
            splits
        ]
        .iter()
        .all(|count| *count > 0)
            || runs < 100,
        "the runs do not try what they are there for: {total:?}"
    );
}
