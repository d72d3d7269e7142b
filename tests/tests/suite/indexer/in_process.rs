//! Commits of the indexer's own process, which it indexes without the table's stream; and an idle process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use es_core::feed::Feed;
use es_core::prelude::*;
use es_core::testing::Faults;
use es_dynamo::embedded::Engine;
use es_dynamo::testing::FaultyConnector;
use es_dynamo::{DynamoStore, Indexer, StreamsClient};
use es_tests::chaos::projections::VirtualTime;
use es_tests::domain::{Account, Deposited};
use tokio::time::{Instant, sleep};

use super::{account, check, deposit};

const SECOND: Duration = Duration::from_secs(1);

/// The numbers of requests, by operation.
#[derive(Clone, Default)]
struct Requests(Arc<Mutex<BTreeMap<String, u64>>>);

impl Requests {
    /// Returns a connector to the engine that counts its requests.
    fn connector(&self, engine: &Engine) -> SharedHttpConnector {
        let counts = Arc::clone(&self.0);
        let counting = FaultyConnector::new(engine.connector().in_place(), Faults::seeded(0));
        let count = move |operation: &str, _: &str| {
            *counts.lock().expect("no panic").entry(operation.to_owned()).or_default() += 1;
            false
        };
        counting.only(count).into_shared()
    }

    fn take(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}

/// Creates a store whose stream is read through `streams`.
async fn store(engine: &Engine, way: SharedHttpConnector, streams: SharedHttpConnector) -> DynamoStore {
    let store = DynamoStore::builder()
        .client(Client::from_conf(engine.config_through(way).build()))
        .streams_client(StreamsClient::from_conf(engine.streams_config_through(streams).build()))
        .build()
        .expect("a valid table name");
    store.create_table().await.expect("creates the table");
    store
}

/// Runs `work` beside an indexer with default settings.
async fn beside_an_indexer(store: &DynamoStore, work: impl Future<Output = ()>) -> Indexer {
    let indexer = Indexer::builder(store).build().expect("has a client");
    let shutdown = async {
        work.await;
        indexer.shutdown();
    };
    let (ended, ()) = tokio::join!(indexer.run(), shutdown);
    ended.expect("runs");
    indexer
}

/// Returns how long it takes until a stream is indexed up to a version.
async fn lag(store: &DynamoStore, id: u64, version: u64) -> Duration {
    let start = Instant::now();
    while store.indexed(&account(id)).await.expect("is known") < version {
        assert!(start.elapsed() < SECOND * 60, "is never indexed");
        sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn commits_of_the_process_are_indexed_without_the_stream() {
    let engine = Engine::in_memory().expect("starts");
    let way = || SharedHttpConnector::new(engine.connector().in_place());
    let broken = FaultyConnector::new(engine.connector().in_place(), Faults::seeded(0).lost_requests(1.0));
    let store = store(&engine, way(), broken.only(|name, _| name == "GetRecords").into_shared()).await;
    let indexer = beside_an_indexer(&store, async {
        sleep(SECOND).await;
        deposit(&store, 1, 1).await;
        assert!(lag(&store, 0, 1).await < Duration::from_millis(5), "the first commit is indexed at once");
        let mut total = Duration::ZERO;
        for version in 2..=51 {
            deposit(&store, 1, 1).await;
            if version % 10 == 0 {
                let lag = lag(&store, 0, version).await;
                assert!(lag <= Duration::from_millis(205), "version {version}: {lag:?}");
                total += lag;
            }
            sleep(Duration::from_millis(20)).await;
        }
        assert!(total > Duration::from_millis(100), "the others wait for each other");
        // A page that is full is written at once, although its hints have to wait otherwise.
        deposit(&store, 70, 1).await;
        assert!(lag(&store, 40, 1).await < Duration::from_millis(5));
        // On shutdown, the rest is indexed.
    })
    .await;
    check(&store, 121).await;
    let progress = indexer.progress();
    assert!(progress.events == 121 && (4..=12).contains(&progress.pages), "{progress:?}");
}

#[tokio::test(start_paused = true)]
async fn the_stream_is_read_at_most_five_times_per_second() {
    let engine = Engine::in_memory().expect("starts");
    let requests = Requests::default();
    let way = || SharedHttpConnector::new(engine.connector().in_place());
    let store_of_indexer = store(&engine, way(), requests.connector(&engine)).await;
    let other_process = store(&engine, way(), way()).await;
    beside_an_indexer(&store_of_indexer, async {
        sleep(SECOND * 30).await;
        requests.take();
        for _ in 0..250 {
            deposit(&other_process, 1, 1).await;
            sleep(Duration::from_millis(20)).await;
        }
        let reads = requests.take()["GetRecords"];
        assert!((10..=26).contains(&reads), "{reads} reads in 5 seconds");
        assert!(lag(&other_process, 0, 250).await < SECOND, "another process is indexed from the stream");
    })
    .await;
    check(&other_process, 250).await;
}

/// A projection that reports the events it has handled.
#[derive(Clone, Projection)]
#[projection(name = "deposits", events(Account(Deposited)))]
struct Deposits(tokio::sync::watch::Sender<u64>);

impl Project<Deposited> for Deposits {
    async fn project(&mut self, _: &Deposited, _: &EventContext) -> Result<(), BoxError> {
        self.0.send_modify(|events| *events += 1);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_hour_takes_few_requests_and_a_commit_ends_it_at_once() {
    let engine = Engine::in_memory().expect("starts");
    let requests = Requests::default();
    let store = store(&engine, requests.connector(&engine), requests.connector(&engine)).await;
    let (events, mut handled) = tokio::sync::watch::channel(0);
    let clock = VirtualTime::new(chrono::TimeDelta::zero());
    let projector = Projector::builder(store.clone(), Deposits(events)).clock(clock).build();
    let work = async {
        deposit(&store, 1, 1).await;
        sleep(SECOND * 600).await;
        requests.take();
        sleep(SECOND * 3_600).await;
        let counts = requests.take();
        let total: u64 = counts.values().sum();
        println!("{total} requests in an idle hour: {counts:?}");
        assert!((1_000..=4_000).contains(&total), "{counts:?}");

        let start = Instant::now();
        deposit(&store, 1, 1).await;
        handled.wait_for(|events| *events == 2).await.expect("runs");
        assert!(start.elapsed() < Duration::from_millis(50), "{:?}", start.elapsed());
        projector.shutdown();
    };
    let (ended, _) = tokio::join!(projector.run(), beside_an_indexer(&store, work));
    ended.expect("runs");
}
