//! Writers of large events under faults of the payload store and of the table, with deaths between an object and its
//! item, and sweeps at any time. `ES_FAULT_RUNS` sets how many runs there are, and `ES_FAULT_SEED` repeats the run of
//! one seed.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::AddAssign;
use std::sync::LazyLock;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use chrono::TimeDelta;
use es_core::clock::ManualClock;
use es_core::event::EventData;
use es_core::payloads::MemoryPayloads;
use es_core::repository::{Archives, StreamLifecycle};
use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::store::{Append, AppendError, Read, WriteError, WriteSet};
use es_core::testing::{Faults, FaultyPayloads};
use es_core::{EventStore, ExpectedVersion, StoreError, StreamId, Version};
use es_dynamo::embedded::Engine;
use es_dynamo::testing::FaultyConnector;
use es_dynamo::{DynamoStore, Reconciler, SweepOptions};
use es_tests::chaos::run_all;
use es_tests::conformance::{Pattern, new_commit, read_all, time};
use fastrand::Rng;
use futures_util::future::{Either, join_all, select};

const RUNS: u64 = 8;

/// The number of concurrent writers.
const WRITERS: u64 = 3;

/// The number of operations of each writer.
const OPERATIONS: usize = 5;

/// The shape of all snapshots.
const SHAPE: Fingerprint = Fingerprint::new(7);

/// Large events. There are few different ones, so that streams share objects, and names are used again after they were
/// closed.
static EVENTS: LazyLock<[EventData; 5]> =
    LazyLock::new(|| std::array::from_fn(|seed| Pattern { seed: seed as u64, bytes: 410 * 1024 }.event()));

/// The events that were acknowledged, by stream. `None` if the outcome of the append is unknown.
type Acknowledged = BTreeMap<StreamId, Option<Vec<EventData>>>;

/// The numbers of a run.
#[derive(Debug, Default)]
struct Report {
    faults: u64,
    deaths: u64,
    archived: u64,
    deleted_streams: u64,
    /// The names that sweeps closed.
    closed: u64,
    /// The objects that sweeps deleted.
    swept: u64,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.faults += other.faults;
        self.deaths += other.deaths;
        self.archived += other.archived;
        self.deleted_streams += other.deleted_streams;
        self.closed += other.closed;
        self.swept += other.swept;
    }
}

fn is_transient(error: &StoreError) -> bool {
    error.is_retryable() || error.is_outcome_unknown()
}

/// A client that writes to streams that no other client uses.
struct Writer<'a> {
    store: &'a DynamoStore,
    archives: Archives,
    random: Rng,
    report: Report,
}

impl Writer<'_> {
    fn event(&mut self) -> EventData {
        EVENTS[self.random.usize(..EVENTS.len())].clone()
    }

    /// Repeats an operation until it succeeds. It dies now and then, perhaps between an object and its item.
    async fn until_done<T, E: Debug>(
        &mut self,
        operation: impl AsyncFn() -> Result<T, E>,
        is_transient: impl Fn(&E) -> bool,
    ) -> T {
        loop {
            let lifetime = match self.random.u8(..4) {
                0 => Duration::from_millis(self.random.u64(..2_000)),
                _ => Duration::from_secs(3_600),
            };
            match tokio::time::timeout(lifetime, operation()).await {
                Ok(Ok(done)) => return done,
                Ok(Err(error)) => assert!(is_transient(&error), "{error:?}"),
                Err(_) => self.report.deaths += 1,
            }
        }
    }

    async fn append(&mut self, append: &Append) {
        let store = self.store;
        let is_transient =
            |error: &AppendError| matches!(error, AppendError::Store(error) if is_transient(error));
        self.until_done(async || store.append(append).await, is_transient).await;
    }

    async fn write(&mut self, set: &WriteSet) {
        let store = self.store;
        let is_transient =
            |error: &WriteError| matches!(error, WriteError::Store(error) if is_transient(error));
        self.until_done(async || store.write(set).await, is_transient).await;
    }

    /// Executes one operation on the streams whose ids start with `id`.
    async fn operate(&mut self, id: &str, acknowledged: &mut Acknowledged) {
        let [here, there] =
            ["a", "b"].map(|part| StreamId::new("large", format!("{id}-{part}")).expect("valid"));
        let new = |stream: &StreamId, event: &EventData| {
            Append::new(stream.clone(), ExpectedVersion::NoStream, new_commit(vec![event.clone()]))
        };
        let (first, second) = (self.event(), self.event());
        let store = self.store;
        let lifecycle = StreamLifecycle::new(store.clone());
        match self.random.u8(..9) {
            0 | 1 => {
                // The process dies, and the append is not repeated.
                let lifetime = Duration::from_millis(self.random.u64(..1_500));
                if tokio::time::timeout(lifetime, store.append(&new(&here, &first))).await.is_err() {
                    self.report.deaths += 1;
                }
                acknowledged.insert(here, None);
            }
            2 => {
                let set = WriteSet::new().append(new(&here, &first)).append(new(&there, &second));
                self.write(&set).await;
                acknowledged.extend([(here, Some(vec![first])), (there, Some(vec![second]))]);
            }
            3 => {
                self.append(&new(&here, &first)).await;
                let state = second.payload().to_owned();
                let snapshot = Snapshot::new(Version::FIRST, time(0), SHAPE, state);
                // A snapshot is a cache, so it may be lost.
                let _ = store.write_snapshot(&here, &snapshot, None).await;
                acknowledged.insert(here, Some(vec![first]));
            }
            4 => {
                self.append(&new(&here, &first)).await;
                self.until_done(async || lifecycle.delete(&here).await, is_transient).await;
                self.report.deleted_streams += 1;
            }
            5 => {
                self.append(&new(&here, &first)).await;
                let archives = self.archives.clone();
                self.until_done(async || lifecycle.close(&here).await, is_transient).await;
                self.until_done(async || lifecycle.archive(&here, &archives).await, is_transient).await;
                // Sweeps delete the objects of its events.
                tokio::time::sleep(Duration::from_millis(self.random.u64(..5_000))).await;
                self.until_done(async || lifecycle.restore(&here, &archives).await, is_transient).await;
                self.report.archived += 1;
                acknowledged.insert(here, Some(vec![first]));
            }
            _ => {
                self.append(&new(&here, &first)).await;
                let next = new_commit(vec![second.clone()]);
                self.append(&Append::after_loaded(here.clone(), Version::FIRST, next)).await;
                acknowledged.insert(here, Some(vec![first, second]));
            }
        }
    }
}

/// Checks that all acknowledged events can be read, and that every snapshot has its object.
async fn check(store: &DynamoStore, acknowledged: &Acknowledged) -> Result<(), String> {
    for (stream, expected) in acknowledged {
        let read = read_all(store, Read::all(stream.clone())).await;
        let events = read.commits.into_iter().flat_map(|commit| commit.events);
        let events: Vec<_> = events.filter(|event| !event.name().starts_with('$')).collect();
        if expected.as_ref().is_some_and(|expected| events != *expected) {
            return Err(format!(
                "acknowledged events of the stream {stream} are lost: it has {}",
                events.len()
            ));
        }
        let read = read_all(store, Read::all(stream.clone()).from_snapshot(SHAPE, 5)).await;
        if read.unusable_snapshot.is_some() {
            return Err(format!("the object of the snapshot of {stream} was swept"));
        }
    }
    Ok(())
}

async fn run(seed: u64) -> Result<Report, String> {
    let mut random = Rng::with_seed(seed);
    let clock = ManualClock::at("2030-01-01T00:00:00Z".parse().expect("a time"));
    let payloads = MemoryPayloads::new().with_clock(clock.clone());
    let engine = Engine::in_memory().expect("the engine starts");
    let healthy = DynamoStore::builder().engine(&engine).payloads(payloads.clone()).build().expect("valid");
    healthy.create_table().await.expect("creates the table");

    let of_objects = Faults::seeded(random.u64(..)).lost_requests(0.08).lost_answers(0.08).throttling(0.04);
    let of_objects = of_objects.delays(0.3, Duration::from_millis(500));
    let of_items = Faults::seeded(random.u64(..)).lost_requests(0.08).lost_answers(0.08);
    let of_items = of_items.delays(0.4, Duration::from_secs(2));
    let connector = FaultyConnector::new(engine.connector(), of_items.clone());
    let connector = connector.only(|operation, _| operation == "TransactWriteItems");
    let client = Client::from_conf(engine.config_through(connector.into_shared()).build());
    let faulty = FaultyPayloads::new(payloads.clone(), of_objects.clone());
    let store = |client: Client| {
        DynamoStore::builder().client(client).payloads(faulty.clone()).build().expect("valid settings")
    };
    let (writing, sweeping) = (store(client), store(healthy.client().clone()));

    let mut report = Report::default();
    let sweep = async |store: &DynamoStore, report: &mut Report| {
        let options = SweepOptions::new().with_min_age(Duration::from_secs(3_600)).with_clock(clock.clone());
        match Reconciler::builder(store).segments(1).build().sweep_payloads(options).await {
            Ok(swept) => {
                report.closed += swept.closed.len() as u64;
                report.swept += swept.deleted.len() as u64;
                Ok(())
            }
            Err(error) if is_transient(&error) => Ok(()),
            Err(error) => Err(format!("a sweep failed: {error:?}")),
        }
    };
    let writers = (0..WRITERS).map(|number| {
        let archives = Archives::new(faulty.clone(), "events/archives".parse().expect("valid"));
        let random = Rng::with_seed(random.u64(..));
        let mut writer = Writer { store: &writing, archives, random, report: Report::default() };
        async move {
            let mut acknowledged = Acknowledged::new();
            for operation in 0..OPERATIONS {
                writer.operate(&format!("{number}-{operation}"), &mut acknowledged).await;
            }
            (acknowledged, writer.report)
        }
    });
    let mut writers = Box::pin(join_all(writers.collect::<Vec<_>>()));
    let written = loop {
        let pause = Duration::from_millis(random.u64(..400));
        if let Ok(written) = tokio::time::timeout(pause, &mut writers).await {
            break written;
        }
        clock.advance(TimeDelta::minutes(random.i64(10..120)));
        // The writers go on meanwhile.
        let sweep = sweep(&sweeping, &mut report);
        tokio::pin!(sweep);
        match select(&mut writers, &mut sweep).await {
            Either::Left((written, sweep)) => {
                sweep.await?;
                break written;
            }
            Either::Right((swept, _)) => swept?,
        }
    };
    let mut acknowledged = Acknowledged::new();
    for (by_writer, of_writer) in written {
        acknowledged.extend(by_writer);
        report += of_writer;
    }
    check(&healthy, &acknowledged).await?;
    for _ in 0..3 {
        clock.advance(TimeDelta::hours(2));
        sweep(&healthy, &mut report).await?;
    }
    check(&healthy, &acknowledged).await?;
    let (closed, swept) = (report.closed, report.swept);
    clock.advance(TimeDelta::hours(2));
    sweep(&healthy, &mut report).await?;
    if (report.closed, report.swept) != (closed, swept) {
        return Err("an orphan was left".to_owned());
    }
    report.faults = of_objects.injected() + of_items.injected();
    Ok(report)
}

/// Nothing acknowledged is lost, no object in use is swept, and no orphan is left.
#[test]
fn sweeps_delete_orphans_and_nothing_else() {
    let tried = |report: &Report| {
        [report.faults, report.deaths, report.archived, report.deleted_streams, report.closed, report.swept]
    };
    run_all("large events", RUNS, RUNS as usize, run, tried);
}
