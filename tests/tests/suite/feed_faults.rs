//! The feed under faults below the SDK: indexers whose requests are lost, and that die between any two of them.
//!
//! `ES_FAULT_RUNS` sets how many runs there are, `ES_FAULT_SEED` repeats the run of one seed. The tests of `es-dynamo`
//! include thousands of runs on a simulated table and stream.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use es_core::feed::{Feed, FeedRead, Position, Slices};
use es_core::store::Append;
use es_core::testing::Faults;
use es_core::{Event, EventStore, ExpectedVersion, Repository, StreamId};
use es_dynamo::embedded::Engine;
use es_dynamo::testing::FaultyConnector;
use es_dynamo::{DynamoStore, Indexer, Reconciler};
use es_tests::chaos::{processes, run_seeds};
use es_tests::conformance::new_commit;
use es_tests::domain::{Account, AccountEvent, Deposit, Deposited};

const ACCOUNTS: u64 = 5;

/// Returns the store of a process on the engine, with faults.
fn open(engine: &Engine, faults: Option<&Faults>, slices: Option<u32>) -> DynamoStore {
    let way = || {
        let way = engine.connector().in_place();
        match faults {
            Some(faults) => FaultyConnector::new(way, faults.clone()).into_shared(),
            None => SharedHttpConnector::new(way),
        }
    };
    let retries = RetryConfig::standard().with_initial_backoff(Duration::ZERO);
    // Time is paused, so a request without a response takes no real time.
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(2)).build();
    let config = engine.config_through(way()).retry_config(retries).timeout_config(timeouts.clone());
    let streams = engine.streams_config_through(way()).timeout_config(timeouts);
    let mut builder = DynamoStore::builder()
        .client(Client::from_conf(config.build()))
        .streams_client(es_dynamo::StreamsClient::from_conf(streams.build()));
    // Copies of some commits, of all, or of none.
    builder = builder.copy_commits([0, 250, 10_000][fastrand::usize(..3)]);
    if let Some(slices) = slices {
        builder = builder.slices(Slices::new(slices).expect("not zero"));
    }
    builder.build().expect("a valid table name")
}

/// Runs an indexer for some time, and then stops or kills it.
async fn index(store: &DynamoStore, time: Duration, dies: bool) {
    let second = Duration::from_secs(1);
    let indexer = Indexer::builder(store)
        .poll(second / 2)
        .linger(second / 5)
        .refresh(second * 5)
        .lease(second * 10)
        .reconcile_segments(2)
        .build()
        .expect("has a client");
    let stop = async {
        tokio::time::sleep(time).await;
        if !dies {
            indexer.shutdown();
            tokio::time::sleep(second * 60).await;
        }
    };
    tokio::select! {
        biased;
        ended = indexer.run() => ended.expect("does not give up"),
        () = stop => {}
    }
}

/// Appends commits of one deposit each as one.
async fn append_as_one(store: &DynamoStore, id: &str, commits: usize) {
    let commit = || {
        let event = Deposited { cents: 1, note: "note".to_owned() };
        let event = AccountEvent::from(event).to_data().expect("has a JSON form");
        new_commit(vec![event])
    };
    let stream = StreamId::new("account", id).expect("valid");
    let append = Append::new(stream, ExpectedVersion::Any, commit());
    let append = append.with_following(std::iter::repeat_with(commit).take(commits - 1));
    store.append(&append).await.expect("appends");
}

async fn run(seed: u64) -> Result<u64, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let engine = Engine::in_memory().expect("starts");
    let truth = open(&engine, None, Some(random.u32(1..4)));
    truth.create_table().await.expect("creates the table");

    let mut writes = random.fork();
    let happens = async {
        let accounts: Repository<Account> = Repository::new(truth.clone());
        let mut events = 0;
        for _ in 0..writes.u32(5..40) {
            let id = writes.u64(..ACCOUNTS).to_string();
            let notes = writes.usize(1..4);
            events += notes as u64;
            match writes.bool() {
                true => {
                    let deposit = Deposit { cents: 1, notes: vec!["note".to_owned(); notes] };
                    accounts.execute(&id, deposit).await.expect("accepted");
                }
                false => append_as_one(&truth, &id, notes).await,
            }
            tokio::time::sleep(Duration::from_millis(writes.u64(..2_000))).await;
        }
        events
    };
    let workers = (0..random.u32(1..4)).map(|_| {
        let mut random = random.fork();
        let engine = &engine;
        async move {
            for _ in 0..random.u32(1..4) {
                let faults = Faults::seeded(random.u64(..))
                    .lost_requests(0.03)
                    .lost_answers(0.03)
                    .throttling(0.02)
                    .refusals(0.02)
                    .internal_errors(0.02)
                    .unreadable_answers(0.03)
                    .stalls(0.01)
                    .cut_pages(0.05)
                    .delays(0.05, Duration::from_secs(10));
                let faults = if random.bool() { faults.crash_after(random.u64(1..150)) } else { faults };
                let store = open(engine, Some(&faults), None);
                index(&store, Duration::from_secs(random.u64(1..30)), random.bool()).await;
            }
        }
    });
    let workers = futures_util::future::join_all(workers.collect::<Vec<_>>());
    // The process that commits may run an indexer, which then learns of the commits from the store.
    let mut beside = random.fork();
    let beside = async {
        for _ in 0..beside.u32(..4) {
            tokio::time::sleep(Duration::from_secs(beside.u64(..10))).await;
            index(&truth, Duration::from_secs(beside.u64(1..20)), beside.bool()).await;
        }
    };
    let (events, ..) = futures_util::future::join3(happens, workers, beside).await;

    // At the end, an indexer without faults runs.
    index(&open(&engine, None, None), Duration::from_secs(60), false).await;
    let report = Reconciler::builder(&truth).build().audit().await.map_err(|error| error.to_string())?;
    if !report.is_sound() || report.events != events {
        return Err(format!("{events} events: {report:?}"));
    }
    // A new reader.
    let reader = open(&engine, None, None);
    let mut read = 0;
    for slice in reader.slices().await.expect("is known").iter() {
        let (mut after, mut next) = (Position::NONE, Position::new(1));
        loop {
            let request = FeedRead::new(slice, after).limit(random.u32(1..10));
            let page = reader.read_feed(&request).await.map_err(|error| error.to_string())?;
            for entry in &page.entries {
                if entry.position != next {
                    return Err(format!("slice {slice}: {} instead of {next}", entry.position));
                }
                next = entry.last().next();
                read += entry.commit.events.len() as u64;
            }
            after = page.through;
            if page.is_last {
                break;
            }
        }
    }
    for id in 0..ACCOUNTS {
        let stream = StreamId::new("account", id).expect("valid");
        let (indexed, head) = (reader.indexed(&stream).await, reader.head(&stream).await);
        if indexed.as_ref().ok() != head.as_ref().ok().map(|head| &head.version) {
            return Err(format!("{stream}: {indexed:?}, {head:?}"));
        }
    }
    match read == events {
        true => Ok(events),
        false => Err(format!("{read} events were read of {events}")),
    }
}

#[test]
fn every_event_is_in_the_feed_once_when_the_network_fails() {
    let events = run_seeds(25, run);
    println!("{} runs, {} events", events.len(), events.iter().sum::<u64>());
}

/// End to end: indexers and a process that die, on a failing store, from the command to its consequences.
#[test]
fn processes_hold_when_the_network_fails() {
    let reports = run_seeds(3, async |seed| {
        let engine = Engine::in_memory().expect("starts");
        let truth = open(&engine, None, Some(4));
        truth.create_table().await.expect("creates the table");
        let indexing = async {
            let mut random = fastrand::Rng::with_seed(seed);
            let start = tokio::time::Instant::now();
            while start.elapsed() < processes::STORM {
                let faults = Faults::seeded(random.u64(..))
                    .lost_answers(0.1)
                    .throttling(0.1)
                    .lost_requests(0.1)
                    .refusals(0.05)
                    .unreadable_answers(0.1)
                    .stalls(0.02);
                let store = open(&engine, Some(&faults), None);
                index(&store, Duration::from_millis(random.u64(100..8_000)), true).await;
            }
            index(&truth, Duration::from_hours(1), false).await;
        };
        tokio::select! {
            biased;
            report = processes::run(seed, truth.clone(), |faults| open(&engine, Some(&faults), None)) => report,
            () = indexing => unreachable!("never ends"),
        }
    });
    println!("{reports:?}");
}
