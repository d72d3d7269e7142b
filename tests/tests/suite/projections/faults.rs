//! The promises of projections under faults: every event has its effect exactly once, in the order of its stream.
//!
//! `ES_FAULT_RUNS` sets how many runs there are, `ES_FAULT_SEED` repeats the run of one seed.

use std::sync::Arc;

use es_core::MemoryStore;
use es_tests::chaos::projections::{self, Report};
use es_tests::chaos::run_all;

#[test]
fn every_event_has_its_effect_once_and_in_order() {
    let run = |seed| projections::run(seed, Arc::new(MemoryStore::new()));
    run_all("projections", 200, 100, run, |total: &Report| {
        [
            total.events,
            total.died,
            total.ended,
            total.failures,
            total.interruptions,
            total.stops,
            total.parked,
            total.skipped,
            total.resets,
            total.switches,
            total.repeated,
            total.splits,
        ]
    });
}
