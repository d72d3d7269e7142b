//! The promises under faults: nothing acknowledged is lost, nothing is applied twice.
//!
//! `ES_FAULT_RUNS` sets how many runs there are, `ES_FAULT_SEED` repeats the run of one seed.

mod lost_answers;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use es_core::testing::{Faults, FaultyStore};
use es_core::{EventStore, MemoryStore};
use es_dynamo::DynamoStore;
use es_dynamo::embedded::Engine;
use es_dynamo::testing::FaultyConnector;
use es_tests::chaos::{self, Report, Verdict};

/// The seeds to run: so many from 0, or the one that is asked for.
fn seeds(runs: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("ES_FAULT_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("ES_FAULT_RUNS").unwrap_or(runs)).collect(),
    }
}

/// Runs the seeds, and tells what they came to.
fn run_all(name: &str, seeds: &[u64], run: impl AsyncFn(u64) -> Verdict) {
    // Time stands still, and passes only when there is nothing else to do.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let mut total = Report::default();
    for seed in seeds {
        match runtime.block_on(run(*seed)) {
            Ok(report) => total += report,
            Err(error) => panic!("seed {seed}: {error}\nrepeat it with ES_FAULT_SEED={seed}"),
        }
    }
    println!("{name}: {} runs, {total:?}", seeds.len());
    assert!(
        [
            total.accepted,
            total.refused,
            total.unknown,
            total.unknown_but_recorded,
            total.transactions,
            total.deliveries,
            total.claims,
            total.claimed,
        ]
        .iter()
        .all(|count| *count > 0)
            || seeds.len() < 10,
        "the runs do not try what they are there for: {total:?}"
    );
}

/// Faults at the contract, on the store in memory.
#[test]
fn promises_hold_when_a_store_fails() {
    run_all("store in memory", &seeds(3_000), async |seed| {
        let store = MemoryStore::new();
        let truth: Arc<dyn EventStore> = Arc::new(store.clone());
        chaos::run(seed, truth, |faults| Arc::new(FaultyStore::new(store.clone(), faults))).await
    });
}

/// Faults below the SDK, on the embedded engine: the SDK's retries take part.
#[test]
fn promises_hold_when_the_network_fails() {
    run_all("embedded engine", &seeds(150), async |seed| {
        let engine = Engine::in_memory().expect("starts");
        let open = |faults: Option<Faults>| {
            let way = engine.connector().in_place();
            let way = match faults {
                Some(faults) => FaultyConnector::new(way, faults).into_shared(),
                None => SharedHttpConnector::new(way),
            };
            let retries = RetryConfig::standard().with_initial_backoff(Duration::ZERO);
            let client = Client::from_conf(engine.config_through(way).retry_config(retries).build());
            DynamoStore::builder().client(client).build().expect("a valid table name")
        };
        let truth = open(None);
        truth.create_table().await.expect("creates the table");
        chaos::run(seed, Arc::new(truth), |faults| Arc::new(open(Some(faults)))).await
    });
}
