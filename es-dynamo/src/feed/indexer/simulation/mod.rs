//! Simulations of indexers with faults: lost requests, crashes, pauses, lost checkpoints, and expired records, while
//! slices are split.

mod stream;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use es_core::documents::{ChangeSet, DocumentKey, DocumentQuery, Documents, ExpectedDocument};
use es_core::feed::Slices;
use es_core::testing::{Faults, FaultyStore};
use es_core::{MemoryStore, StoreError, StreamId};
use es_tests::chaos::run_seeds;
use futures_util::future;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::stream::SimulatedStream;
use super::outages::Outages;
use super::progress::Progress;
use super::worker::{Settings, Worker};
use crate::feed::Ingest;
use crate::feed::committed::Committed;
use crate::feed::log::hint::{Hint, Noted};
use crate::feed::log::index::FeedIndex;
use crate::feed::log::reference::Reference;
use crate::feed::log::settings::Settings as FeedSettings;
use crate::feed::log::simulation::{MAX_DELAY, SimulatedTable, image, runtime};
use crate::feed::log::writer::Indexed;
use crate::feed::reconciler::scan::{Scan, ScanKey, ScanPage};
use crate::feed::reconciler::state::COLLECTION;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// A process: its connection to the table, and its view of the feed.
struct Process {
    table: SimulatedTable,
    feed: FeedIndex,
}

#[async_trait]
impl Ingest for Process {
    async fn ingest(&self, hints: Vec<Hint>, linger: Duration) -> Result<Indexed, StoreError> {
        self.feed.submit(&self.table, hints, linger).await
    }
}

#[async_trait]
impl Scan for Process {
    async fn scan(
        &self,
        segment: u32,
        segments: u32,
        after: Option<&ScanKey>,
    ) -> Result<ScanPage, StoreError> {
        let page = self.table.request(|content| {
            let place = |commit: &Reference| {
                let sk = crate::table::names::commit_key(commit.first);
                ScanKey { pk: commit.stream.as_str().to_owned(), sk }
            };
            let mut streams: Vec<_> = content.streams.iter().collect();
            streams.sort_by_key(|(stream, _)| *stream);
            let in_segment =
                |stream: &StreamId| crc32fast::hash(stream.as_str().as_bytes()) % segments == segment;
            let all = streams.into_iter().filter(|(stream, _)| in_segment(stream));
            let mut rest = all.flat_map(|(_, commits)| commits).filter(|commit| {
                let place = place(commit);
                after.is_none_or(|after| (&place.pk, &place.sk) > (&after.pk, &after.sk))
            });
            let page: Vec<&Reference> = rest.by_ref().take(4).collect();
            let next = rest.next().and_then(|_| page.last().map(|last| place(last)));
            let noted =
                page.into_iter().map(|commit| Noted::Hint(Hint::at(commit.stream.clone(), image(commit))));
            ScanPage { noted: noted.collect(), next, cost: es_core::Cost::ZERO }
        });
        page.await
    }
}

/// The state that all processes of a run share.
struct World {
    table: SimulatedTable,
    stream: SimulatedStream,
    documents: MemoryStore,
    settings: FeedSettings,
    /// The commits of which some worker learns without the stream.
    committed: Arc<Committed>,
    began: Instant,
}

impl World {
    fn worker(&self, faults: Option<Faults>) -> Worker {
        let table = match &faults {
            Some(faults) => self.table.with(faults.clone()),
            None => self.table.clone(),
        };
        let documents: Arc<dyn Documents> = match faults {
            // A delay of this store yields to the executor once per millisecond.
            Some(faults) => {
                let faults = faults.delays(0.05, Duration::from_millis(50));
                Arc::new(FaultyStore::new(self.documents.clone(), faults))
            }
            None => Arc::new(self.documents.clone()),
        };
        let process = Arc::new(Process { table, feed: FeedIndex::new(self.settings, Arc::default()) });
        let settings = Settings {
            poll: MINUTE * 10,
            idle_poll: None,
            linger: MINUTE,
            refresh: MINUTE * 20,
            lease: HOUR,
            shutdown: None,
            segments: 2,
        };
        let began = self.began;
        Worker {
            source: Arc::new(self.stream.clone()),
            feed: Arc::clone(&process) as _,
            table: process,
            documents,
            settings,
            progress: Progress::default(),
            outages: Outages::default(),
            stop: CancellationToken::new(),
            committed: Arc::clone(&self.committed),
            clock: Arc::new(move || i64::try_from(began.elapsed().as_millis()).expect("not so long")),
        }
    }

    /// Runs a worker for `time`, and then stops it, or drops it if it `dies`.
    async fn run(
        &self,
        worker: &Worker,
        time: Duration,
        dies: bool,
        is_dead: impl Fn() -> bool,
    ) -> Result<(), StoreError> {
        let stop = async {
            let end = Instant::now() + time;
            while Instant::now() < end && !is_dead() {
                tokio::time::sleep(MINUTE).await;
            }
            if !dies && !is_dead() {
                worker.stop.cancel();
                // A worker whose requests all fail is dropped.
                tokio::time::sleep(HOUR * 3).await;
            }
            Ok(())
        };
        let (run, stop) = (std::pin::pin!(worker.run(Some(HOUR * 2))), std::pin::pin!(stop));
        future::select(run, stop).await.factor_first().0
    }

    /// Deletes or damages the stored states of some shards, or of all.
    async fn lose(&self, random: &mut fastrand::Rng) {
        let page = self.documents.documents(&DocumentQuery::new(COLLECTION)).await.expect("lists");
        let all = random.bool();
        for (name, _) in page.documents {
            if all || random.u32(0..4) == 0 {
                let key = DocumentKey::new(COLLECTION, name);
                let set = ChangeSet::new(Uuid::new_v4());
                let set = match random.bool() {
                    true => set.delete(key, ExpectedDocument::Any),
                    false => set.put(key, ExpectedDocument::Any, "{}"),
                };
                self.documents.change(&set).await.expect("changes");
            }
        }
    }
}

async fn simulate(seed: u64) -> Result<u64, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let world = World {
        table: SimulatedTable::new(),
        stream: SimulatedStream::new(seed),
        documents: MemoryStore::new(),
        settings: FeedSettings::new(Slices::new(random.u32(1..4)).expect("not zero")),
        committed: Arc::default(),
        began: Instant::now(),
    };
    let streams = random.u64(1..10);
    let loses = random.u32(0..4) == 0;
    let mut life = fastrand::Rng::with_seed(seed + 1);
    let over = Cell::new(false);
    let operator = FeedIndex::new(world.settings, Arc::default());
    let splits = random.bool();
    let happens = async {
        let mut early = Vec::new();
        for _ in 0..life.u32(5..60) {
            for _ in 0..life.u32(0..5) {
                let stream = StreamId::new("order", life.u64(..streams)).expect("valid");
                let commit = world.table.commit(&stream, life.u64(1..4));
                world.stream.write(&commit);
                // Some are those of other processes, late, or repeated.
                if life.bool() {
                    early.push(commit);
                }
                for _ in 0..life.usize(0..3).min(early.len()) {
                    let hint = early[life.usize(..early.len())].clone();
                    world.committed.add_hint(match life.u32(0..5) {
                        0 => Hint::UpTo(hint.stream, hint.last),
                        _ => Hint::Commit(hint),
                    });
                }
            }
            match life.u32(0..40) {
                0..4 => world.stream.split(),
                // A long time without commits.
                4 => tokio::time::sleep(HOUR * life.u32(1..40)).await,
                5 if loses => world.lose(&mut life).await,
                6..9 if splits => {
                    let tree = world.table.tree();
                    let open: Vec<_> = tree.open().filter(|_| tree.iter().count() < 10).collect();
                    if let Some(slice) = life.choice(&open) {
                        operator.split(&world.table, *slice).await.expect("splits");
                    }
                }
                _ => {}
            }
            tokio::time::sleep(MINUTE * life.u32(0..90)).await;
        }
        over.set(true);
    };
    // Sometimes no process runs for longer than the retention of the stream.
    let longest_pause = if random.bool() { 2_500 } else { 60 };
    let mut processes = Vec::new();
    for _ in 0..random.u32(0..3) {
        let mut random = fastrand::Rng::with_seed(random.u64(..));
        let (world, over) = (&world, &over);
        processes.push(async move {
            while !over.get() {
                let mut faults = Faults::seeded(random.u64(..))
                    .lost_requests(0.03)
                    .lost_answers(0.03)
                    .throttling(0.02)
                    .delays(0.05, MAX_DELAY);
                let mut crash = u64::MAX;
                if random.bool() {
                    crash = random.u64(1..300);
                    faults = faults.crash_after(crash);
                }
                let worker = world.worker(Some(faults.clone()));
                let time = MINUTE * random.u32(1..1_500);
                world.run(&worker, time, random.bool(), || faults.requests() > crash).await?;
                tokio::time::sleep(MINUTE * random.u32(0..longest_pause)).await;
            }
            Ok::<_, StoreError>(())
        });
    }
    let ((), ended) = future::join(happens, future::try_join_all(processes)).await;
    ended.map_err(|error| format!("an indexer gave up: {error}"))?;

    // The last worker has enough time to index everything.
    world.stream.heal();
    let last = world.worker(None);
    world.run(&last, HOUR * 12, false, || false).await.map_err(|error| error.to_string())?;
    let progress = last.progress.get();
    if progress.reconciling || !progress.damaged.is_empty() || progress.foreign_items > 0 {
        return Err(format!("{progress:?}"));
    }
    world.table.check()
}

impl World {
    /// Returns a world without faults.
    fn healthy() -> Self {
        let world = Self {
            table: SimulatedTable::new(),
            stream: SimulatedStream::new(0),
            documents: MemoryStore::new(),
            settings: FeedSettings::new(Slices::new(1).expect("not zero")),
            committed: Arc::default(),
            began: Instant::now(),
        };
        world.stream.heal();
        world
    }

    fn commit(&self, id: u64) {
        let stream = StreamId::new("order", id).expect("valid");
        self.stream.write(&self.table.commit(&stream, 1));
    }
}

#[test]
fn an_expired_checkpoint_is_detected_without_a_clock() {
    runtime().block_on(async {
        let world = World::healthy();
        let index = async || {
            let mut worker = world.worker(None);
            worker.clock = Arc::new(|| 0);
            world.run(&worker, HOUR * 6, false, || false).await.expect("runs");
        };
        world.commit(1);
        tokio::time::sleep(HOUR).await;
        index().await;
        world.commit(2);
        tokio::time::sleep(HOUR * 40).await;
        index().await;
        assert_eq!(world.table.check(), Ok(2));
    });
}

#[test]
fn a_checkpoint_is_not_ahead_of_the_feed() {
    runtime().block_on(async {
        let world = World::healthy();
        let index = async |worker: Worker, time, dies| {
            world.run(&worker, time, dies, || false).await.expect("runs");
        };
        world.commit(0);
        index(world.worker(None), HOUR * 6, false).await;
        for id in 1..30 {
            world.commit(id);
        }
        tokio::time::sleep(HOUR).await;
        // It reads the stream and writes its checkpoint, but cannot write the feed.
        let mut cut_off = world.worker(None);
        let table = world.table.with(Faults::seeded(0).lost_requests(1.0));
        cut_off.feed = Arc::new(Process { table, feed: FeedIndex::new(world.settings, Arc::default()) });
        index(cut_off, HOUR * 3, true).await;
        index(world.worker(None), HOUR * 6, false).await;
        assert_eq!(world.table.check(), Ok(30));
    });
}

/// `ES_FAULT_RUNS` sets the number of runs, and `ES_FAULT_SEED` repeats the run of one seed.
#[test]
fn indexers_with_faults_index_every_event_once() {
    let events = run_seeds(300, simulate);
    println!("{} runs, {} events", events.len(), events.iter().sum::<u64>());
}
