//! The promises under faults: nothing acknowledged is lost, nothing is applied twice.
//!
//! `ES_FAULT_RUNS` sets how many runs there are, `ES_FAULT_SEED` repeats the run of one seed.

mod lost_answers;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use es_core::testing::{Faults, FaultyStore};
use es_core::{EventStore, MemoryStore};
use es_dynamo::embedded::Engine;
use es_dynamo::testing::FaultyConnector;
use es_dynamo::{DynamoStore, Reconciler};
use es_tests::chaos::documents::{self, DocumentReport};
use es_tests::chaos::lifecycle::{self, LifecycleReport};
use es_tests::chaos::processes::{self, ProcessReport};
use es_tests::chaos::sharing::{self, SharingReport};
use es_tests::chaos::{self, Report, run_all};
use futures_util::FutureExt;

fn commands_tried(total: &Report) -> [u64; 10] {
    [
        total.accepted,
        total.refused,
        total.unknown,
        total.unknown_but_recorded,
        total.transactions,
        total.created,
        total.groups,
        total.deliveries,
        total.claims,
        total.claimed,
    ]
}

fn sharing_tried(total: &SharingReport) -> [u64; 8] {
    [
        total.accepted,
        total.shared,
        total.rejected,
        total.nothing,
        total.failed,
        total.dropped,
        total.dropped_but_recorded,
        total.panicked,
    ]
}

fn changes_tried(total: &DocumentReport) -> [u64; 7] {
    [
        total.done,
        total.outdated,
        total.refused,
        total.unknown,
        total.unknown_but_done,
        total.together,
        total.taken,
    ]
}

/// Returns a store on the engine, with these faults.
pub(crate) fn open(engine: &Engine, faults: Option<Faults>) -> DynamoStore {
    let way = engine.connector().in_place();
    let way = match faults {
        Some(faults) => FaultyConnector::new(way, faults).into_shared(),
        None => SharedHttpConnector::new(way),
    };
    let retries = RetryConfig::standard().with_initial_backoff(Duration::ZERO);
    // Time is paused, so a request without a response takes no real time.
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(Duration::from_secs(5))
        .operation_timeout(Duration::from_secs(8))
        .build();
    let config = engine.config_through(way).retry_config(retries).timeout_config(timeouts);
    let client = Client::from_conf(config.build());
    DynamoStore::builder().client(client).build().expect("a valid table name")
}

/// Returns an engine with a table, and a store without faults.
async fn engine() -> (Engine, DynamoStore) {
    let engine = Engine::in_memory().expect("starts");
    let truth = open(&engine, None);
    truth.create_table().await.expect("creates the table");
    (engine, truth)
}

/// Faults at the contract, on the store in memory.
#[test]
fn promises_hold_when_a_store_fails() {
    let run = async |seed| {
        let store = MemoryStore::new();
        let truth = Arc::new(store.clone());
        chaos::run(seed, truth, |faults| Arc::new(FaultyStore::new(store.clone(), faults))).await
    };
    run_all("store in memory", 3_000, 10, run, commands_tried);
}

/// Faults below the SDK, on the embedded engine, which include the SDK's retries.
#[test]
fn promises_hold_when_the_network_fails() {
    let run = async |seed| {
        let (engine, truth) = engine().await;
        chaos::run(seed, Arc::new(truth), |faults| Arc::new(open(&engine, Some(faults)))).await
    };
    run_all("embedded engine", 150, 10, run, commands_tried);
}

/// Clients that share a repository, and so the writes of their commands.
#[test]
fn promises_hold_for_commands_that_share_writes() {
    let run = async |seed| {
        let store = MemoryStore::new();
        let truth = Arc::new(store.clone());
        sharing::run(seed, truth, |faults| Arc::new(FaultyStore::new(store.clone(), faults))).await
    };
    run_all("shared writes in memory", 3_000, 10, run, sharing_tried);
}

/// Shared writes under faults below the SDK, on the embedded engine.
#[test]
fn promises_hold_for_shared_writes_when_the_network_fails() {
    let run = async |seed| {
        let (engine, truth) = engine().await;
        sharing::run(seed, Arc::new(truth), |faults| Arc::new(open(&engine, Some(faults)))).await
    };
    run_all("shared writes on the embedded engine", 50, 10, run, sharing_tried);
}

/// Documents under faults.
#[test]
fn documents_hold_when_a_store_fails() {
    let run = async |seed| {
        let store = MemoryStore::new();
        let truth = Arc::new(store.clone());
        documents::run(seed, truth, |faults| Arc::new(FaultyStore::new(store.clone(), faults))).await
    };
    run_all("documents in memory", 3_000, 10, run, changes_tried);
}

fn processes_tried(total: &ProcessReport) -> [u64; 9] {
    [
        total.shipped,
        total.dropped,
        total.called_off,
        total.released,
        total.deaths,
        total.faults,
        total.interruptions,
        total.unreached,
        total.splits,
    ]
}

/// Processes: each command takes effect once, even if workers die.
#[test]
fn processes_hold_when_a_store_fails() {
    let run = async |seed| {
        let store = MemoryStore::new();
        processes::run(seed, store.clone(), |faults| FaultyStore::new(store.clone(), faults)).await
    };
    run_all("processes in memory", 120, 10, run, processes_tried);
}

/// Processes under faults on the embedded engine.
#[test]
fn documents_hold_when_the_network_fails() {
    let run = async |seed| {
        let (engine, truth) = engine().await;
        documents::run(seed, Arc::new(truth), |faults| Arc::new(open(&engine, Some(faults)))).await
    };
    run_all("documents on the embedded engine", 150, 10, run, changes_tried);
}

fn lifecycle_tried(total: &LifecycleReport) -> [u64; 10] {
    [
        total.deposited,
        total.refused,
        total.closed,
        total.archived,
        total.restored,
        total.deleted,
        total.interrupted,
        total.left_archived,
        total.readable,
        total.rebuilds,
    ]
}

/// Streams that are closed, archived, restored, and deleted while commands are executed on them.
#[test]
fn ended_streams_hold_when_a_store_fails() {
    let run = async |seed| {
        let store = MemoryStore::new();
        let (truth, index) = (Arc::new(store.clone()), || async { Ok(()) }.boxed());
        lifecycle::run(seed, truth, |faults| Arc::new(FaultyStore::new(store.clone(), faults)), &index).await
    };
    run_all("ended streams in memory", 2_000, 10, run, lifecycle_tried);
}

/// Ended streams under faults below the SDK, on the embedded engine, while a reconciler runs.
#[test]
fn ended_streams_hold_when_the_network_fails() {
    let run = async |seed| {
        let (engine, truth) = engine().await;
        let index = || {
            let store = truth.clone();
            async move {
                let done = Reconciler::builder(&store).build().run().await;
                let done = done.map_err(|error| es_core::error_text(&error))?;
                match done.damaged.is_empty() && done.contradicting.is_empty() {
                    true => Ok(()),
                    false => Err(format!("the reconciler found {done:?}")),
                }
            }
            .boxed()
        };
        let open = |faults| -> Arc<dyn EventStore> { Arc::new(open(&engine, Some(faults))) };
        let report = lifecycle::run(seed, Arc::new(truth.clone()), open, &index).await?;
        let audit = Reconciler::builder(&truth).build().audit().await;
        match audit.map_err(|error| es_core::error_text(&error))? {
            audit if audit.is_sound() => Ok(report),
            audit => Err(format!("the audit found {audit:?}")),
        }
    };
    run_all("ended streams on the embedded engine", 100, 10, run, lifecycle_tried);
}
