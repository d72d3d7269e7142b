//! Workers: restarts, health, and the order and bounds of their shutdown.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use es_core::prelude::*;
use es_core::snapshot::{Snapshot, SnapshotPolicy};
use es_core::store::{
    Append, AppendError, Appended, Claim, Commit, Head, Holder, IdempotencyKey, IdempotencyLookup, Page,
    Read, StoreIdentity, WriteError, WriteSet, Written,
};
use es_core::workers::{
    RunningWorkers, ShutdownError, StopOrder, Worker, WorkerState, WorkerStatus, WorkersHealth,
};
use es_core::{Cost, EventStore, MemoryStore, RetryPolicy, StoreError, StreamId, Workers};
use es_tests::domain::{Account, Deposit, Deposited};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tracing::Level;

use crate::processes::Time;
use es_tests::recorder::{Line, Seen};

const SECOND: Duration = Duration::from_secs(1);

/// The behavior of a scripted worker.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Runs until it is stopped, and then for this time.
    Work(Duration),
    /// Runs until it is stopped, and then fails.
    FailAtTheEnd,
    /// Fails after this time.
    Fail(&'static str, Duration),
    Panic,
    /// Returns without being asked to.
    Return,
}

/// A worker that follows a script, and then runs normally.
struct Scripted {
    name: &'static str,
    order: StopOrder,
    acts: Mutex<VecDeque<Act>>,
    stop: Notify,
    log: Log,
}

/// The actions of workers, with the time since the start of the test.
#[derive(Clone, Debug)]
struct Log {
    start: Instant,
    entries: Arc<Mutex<Vec<(String, Duration)>>>,
}

impl Log {
    fn new() -> Self {
        Self { start: Instant::now(), entries: Arc::default() }
    }

    fn note(&self, what: String) {
        self.entries.lock().expect("is not poisoned").push((what, self.start.elapsed()));
    }

    fn texts(&self) -> Vec<String> {
        self.entries.lock().expect("is not poisoned").iter().map(|(what, _)| what.clone()).collect()
    }

    /// Returns the times between the entries with this text.
    fn gaps(&self, what: &str) -> Vec<Duration> {
        let entries = self.entries.lock().expect("is not poisoned");
        let times: Vec<_> = entries.iter().filter(|(text, _)| text == what).map(|(_, time)| *time).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Scripted {
    fn new(name: &'static str, log: &Log, acts: impl IntoIterator<Item = Act>) -> Self {
        let (acts, log) = (Mutex::new(acts.into_iter().collect()), log.clone());
        Self { name, order: StopOrder::First, acts, stop: Notify::new(), log }
    }

    fn last(self) -> Self {
        Self { order: StopOrder::Last, ..self }
    }
}

#[async_trait]
impl Worker for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    fn stop_order(&self) -> StopOrder {
        self.order
    }

    async fn run(&self) -> Result<(), BoxError> {
        self.log.note(format!("{} runs", self.name));
        let act = self.acts.lock().expect("is not poisoned").pop_front().unwrap_or(Act::Work(Duration::ZERO));
        match act {
            Act::Work(rest) => {
                self.stop.notified().await;
                sleep(rest).await;
                self.log.note(format!("{} ends", self.name));
                Ok(())
            }
            Act::FailAtTheEnd => {
                self.stop.notified().await;
                Err("the last checkpoint was refused".into())
            }
            Act::Fail(error, after) => {
                sleep(after).await;
                Err(error.into())
            }
            Act::Panic => panic!("on purpose"),
            Act::Return => Ok(()),
        }
    }

    fn shutdown(&self) {
        self.log.note(format!("{} is stopped", self.name));
        self.stop.notify_one();
    }
}

fn fail() -> Act {
    Act::Fail("the slice is damaged", Duration::ZERO)
}

fn only(health: &WorkersHealth) -> WorkerStatus {
    health.status().remove(0)
}

/// Returns the problems of an incomplete shutdown.
async fn problems(workers: RunningWorkers) -> Vec<String> {
    match workers.shutdown().await {
        Err(ShutdownError::Incomplete { problems, .. }) => problems,
        other => panic!("the shutdown was complete: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_fails_or_panics_is_restarted_with_growing_delays() {
    let log = Log::new();
    let worker = Scripted::new("mails", &log, [fail(), Act::Panic, fail(), fail(), Act::Panic]);
    let workers = Workers::new().add(worker).spawn();
    sleep(SECOND / 10).await;
    let status = only(&workers.health());
    assert_eq!((status.name.as_str(), status.failures), ("mails", 1));
    assert_eq!(status.last_error.as_deref(), Some("the slice is damaged"));
    let WorkerState::Restarting { since, next_attempt, .. } = status.state else { panic!("{status:?}") };
    assert!(next_attempt.expect("is known") > since);
    assert!(!workers.healthy());

    sleep(SECOND * 40).await;
    for (attempt, gap) in log.gaps("mails runs").into_iter().enumerate() {
        let longest = SECOND * (1 << attempt);
        assert!(gap >= longest / 2 && gap <= longest + SECOND / 10, "{attempt}: {gap:?}");
    }
    let status = only(&workers.health());
    assert_eq!(status.failures, 5);
    let error = status.last_error.expect("panicked at last");
    assert!(error.contains("on purpose"), "{error}");
    assert!(matches!(status.state, WorkerState::Running { .. }) && workers.healthy(), "it has recovered");
    workers.shutdown().await.expect("stops");
}

/// A worker that fails again soon after its restart is not healthy in between.
#[tokio::test(start_paused = true)]
async fn a_worker_is_healthy_again_once_it_has_run_for_a_while() {
    let log = Log::new();
    let again = Act::Fail("again", SECOND * 9);
    let workers = Workers::new().add(Scripted::new("mails", &log, [fail(), again])).spawn();
    sleep(SECOND * 5).await;
    let WorkerState::Restarting { since, next_attempt: None, .. } = only(&workers.health()).state else {
        panic!("{:?}", workers.health());
    };
    assert!(!workers.healthy(), "it runs, but since a moment ago only");
    sleep(SECOND * 14).await;
    let status = only(&workers.health());
    let WorkerState::Restarting { since: still, next_attempt: None, .. } = status.state else {
        panic!("{status:?}")
    };
    assert_eq!((since, status.failures), (still, 2), "the failures are one condition");
    sleep(SECOND * 5).await;
    assert!(workers.healthy());
    workers.shutdown().await.expect("stops");
}

#[tokio::test(start_paused = true)]
async fn a_failure_leaves_other_workers_alone() {
    let log = Log::new();
    let workers = Workers::new()
        .restart(RetryPolicy::default().with_base_delay(SECOND * 5).with_max_delay(SECOND * 5))
        .add(Scripted::new("mails", &log, [Act::Panic; 100]))
        .add(Scripted::new("orders", &log, []))
        .spawn();
    sleep(SECOND * 60).await;
    assert_eq!(log.texts().iter().filter(|text| *text == "orders runs").count(), 1);
    assert!(log.gaps("mails runs").iter().all(|gap| *gap >= SECOND * 5 / 2 && *gap <= SECOND * 6));
    let states: Vec<_> = workers.health().status().iter().map(|worker| worker.state.is_healthy()).collect();
    assert_eq!(states, [false, true]);
    let stopping = Instant::now();
    workers.shutdown().await.expect("stops, also one that waits for its restart");
    assert!(stopping.elapsed() < SECOND / 10, "{:?}", stopping.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_has_ended_is_not_restarted() {
    let log = Log::new();
    let workers = Workers::new().add(Scripted::new("mails", &log, [Act::Return])).spawn();
    sleep(SECOND * 60).await;
    assert_eq!(only(&workers.health()).state, WorkerState::Stopped);
    assert!(workers.healthy());
    assert_eq!(log.texts(), ["mails runs"]);
    workers.shutdown().await.expect("stops");
}

#[tokio::test(start_paused = true)]
async fn consumers_stop_before_indexers() {
    let log = Log::new();
    let work = |seconds| [Act::Work(SECOND * seconds)];
    let workers = Workers::new()
        .add(Scripted::new("indexer", &log, work(1)).last())
        .add(Scripted::new("orders", &log, work(3)))
        .add(Scripted::new("mails", &log, work(2)))
        .spawn();
    let health = workers.health();
    sleep(SECOND).await;
    let stopping = Instant::now();
    workers.shutdown().await.expect("stops");
    assert_eq!(stopping.elapsed().as_secs(), 4, "consumers stop at the same time");
    let mut texts = log.texts();
    texts.drain(..3);
    texts[..2].sort();
    let expected = [
        "mails is stopped",
        "orders is stopped",
        "mails ends",
        "orders ends",
        "indexer is stopped",
        "indexer ends",
    ];
    assert_eq!(texts, expected);
    assert!(health.status().iter().all(|worker| worker.state == WorkerState::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_stop_is_aborted_and_named() {
    let log = Log::new();
    let workers = Workers::new()
        .shutdown_timeout(SECOND * 10)
        .add(Scripted::new("orders", &log, [Act::Work(Duration::MAX / 4)]))
        .add(Scripted::new("mails", &log, []))
        .add(Scripted::new("indexer", &log, [Act::Work(SECOND)]).last())
        .spawn();
    let health = workers.health();
    sleep(SECOND).await;
    let stopping = Instant::now();
    let problems = problems(workers).await;
    assert_eq!(problems, ["`orders` did not stop in time and was aborted"]);
    assert_eq!(stopping.elapsed().as_secs(), 9, "the indexer has its share of the time");
    assert!(log.texts().contains(&"indexer ends".to_owned()));
    let states: Vec<_> = health.status().iter().map(|worker| worker.state).collect();
    assert_eq!(states, [WorkerState::Aborted, WorkerState::Stopped, WorkerState::Stopped]);
    assert!(!health.healthy());
}

#[tokio::test(start_paused = true)]
async fn a_failure_while_stopping_is_reported() {
    let log = Log::new();
    let workers = Workers::new().add(Scripted::new("mails", &log, [Act::FailAtTheEnd])).spawn();
    sleep(SECOND).await;
    let error = workers.shutdown().await.expect_err("has failed").to_string();
    assert_eq!(
        error,
        "the shutdown within 25s was incomplete: `mails` failed while it stopped: the last checkpoint was refused"
    );
}

#[tokio::test(start_paused = true)]
async fn dropped_workers_are_aborted() {
    let log = Log::new();
    let worker = Arc::new(Notify::new());
    let alive = Arc::downgrade(&worker);
    #[derive(Debug)]
    struct Holder(#[allow(dead_code)] Arc<Notify>);
    #[async_trait]
    impl Worker for Holder {
        fn name(&self) -> &str {
            "holder"
        }
        async fn run(&self) -> Result<(), BoxError> {
            std::future::pending().await
        }
        fn shutdown(&self) {}
    }
    let workers = Workers::new().add(Holder(worker)).add(Scripted::new("mails", &log, [])).spawn();
    sleep(SECOND).await;
    assert!(alive.upgrade().is_some());
    drop(workers);
    sleep(SECOND).await;
    assert!(alive.upgrade().is_none(), "its task is gone");
}

/// A store that runs background tasks after five seconds.
#[derive(Clone, Debug)]
struct Slow(MemoryStore);

#[async_trait]
impl EventStore for Slow {
    async fn append(&self, append: &Append) -> Result<Appended, AppendError> {
        self.0.append(append).await
    }

    async fn write(&self, set: &WriteSet) -> Result<Written, WriteError> {
        self.0.write(set).await
    }

    async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError> {
        self.0.claim_holder(claim).await
    }

    async fn idempotency_record(&self, key: &IdempotencyKey) -> Result<IdempotencyLookup, StoreError> {
        self.0.idempotency_record(key).await
    }

    fn identity(&self) -> StoreIdentity {
        self.0.identity()
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        self.0.read(read)
    }

    async fn head(&self, stream: &StreamId) -> Result<Head, StoreError> {
        self.0.head(stream).await
    }

    async fn write_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError> {
        self.0.write_snapshot(stream, snapshot, replaces).await
    }

    async fn erase(&self, stream: &StreamId) -> Result<Cost, StoreError> {
        self.0.erase(stream).await
    }

    async fn restore(&self, commits: &[Commit], end: &Append) -> Result<Appended, AppendError> {
        self.0.restore(commits, end).await
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(async move {
            sleep(SECOND * 5).await;
            task.await;
        });
    }
}

#[tokio::test(start_paused = true)]
async fn snapshots_that_are_being_written_are_waited_for() {
    for (timeout, expected) in [(SECOND * 25, None), (SECOND, Some("a snapshot was not written in time"))] {
        let store = Slow(MemoryStore::new());
        let accounts: Repository<Account> =
            Repository::builder(store.clone()).snapshots(SnapshotPolicy::Every(1)).build();
        let workers = Workers::new().flush(&accounts).shutdown_timeout(timeout).spawn();
        accounts.execute(&"ann".to_owned(), Deposit::one(1, "a")).await.expect("accepted");
        let stopping = Instant::now();
        match expected {
            None => workers.shutdown().await.expect("stops"),
            Some(problem) => assert_eq!(problems(workers).await, [problem]),
        }
        assert_eq!(stopping.elapsed().as_secs(), timeout.as_secs().min(5));
    }
}

/// A projection.
#[derive(Clone, Projection)]
#[projection(name = "counted", events(Account(Deposited)))]
struct Counted(Arc<Mutex<u32>>);

impl Project<Deposited> for Counted {
    async fn project(&mut self, _: &Deposited, _: &EventContext) -> Result<(), BoxError> {
        *self.0.lock().expect("is not poisoned") += 1;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn projectors_are_workers() {
    let store = MemoryStore::new();
    let accounts: Repository<Account> = Repository::new(store.clone());
    let counted = Arc::new(Mutex::new(0));
    let projector = Projector::new(store, Counted(Arc::clone(&counted)));
    let workers = Workers::new().add(projector.clone()).spawn();
    accounts.execute(&"ann".to_owned(), Deposit::one(1, "a")).await.expect("accepted");
    projector.caught_up().await.expect("catches up");
    assert_eq!(*counted.lock().expect("is not poisoned"), 1);
    assert_eq!(only(&workers.health()).name, "counted");
    workers.shutdown().await.expect("stops");
    assert_eq!(projector.progress().await.expect("progress").lag(), 0);
}

/// A projection whose handler never returns.
#[derive(Clone, Projection)]
#[projection(name = "stuck", events(Account(Deposited)))]
struct Stuck;

impl Project<Deposited> for Stuck {
    async fn project(&mut self, _: &Deposited, _: &EventContext) -> Result<(), BoxError> {
        std::future::pending().await
    }
}

/// The default timeout of a projector, 20 s, neither cuts the share of the consumers short nor exceeds it.
#[tokio::test(start_paused = true)]
async fn the_workers_have_one_bound() {
    for (bound, own, expected) in
        [(25, None, 20), (10, None, 8), (100, None, 80), (100, Some(7), 7), (10, Some(30), 8)]
    {
        let store = MemoryStore::new();
        let accounts: Repository<Account> = Repository::new(store.clone());
        accounts.execute("ann", Deposit::one(1, "a")).await.expect("accepted");
        let mut projector = Projector::builder(store, Stuck).clock(Time).handler_timeout(SECOND * 3_600);
        if let Some(own) = own {
            projector = projector.shutdown_timeout(SECOND * own);
        }
        let workers = Workers::new().shutdown_timeout(SECOND * bound).add(projector.build()).spawn();
        sleep(SECOND).await;
        let stopping = Instant::now();
        let outcome = workers.shutdown().await;
        assert_eq!(stopping.elapsed().as_secs(), expected, "{bound} {own:?}");
        assert_eq!(outcome.is_ok(), own == Some(7), "{outcome:?}: one that gives up has stopped");
    }
}

#[tokio::test(start_paused = true)]
async fn a_projector_alone_has_a_default_bound() {
    let store = MemoryStore::new();
    let accounts: Repository<Account> = Repository::new(store.clone());
    accounts.execute("ann", Deposit::one(1, "a")).await.expect("accepted");
    let projector = Projector::builder(store, Stuck).clock(Time).handler_timeout(SECOND * 3_600).build();
    let running = tokio::spawn({
        let projector = projector.clone();
        async move { projector.run().await }
    });
    sleep(SECOND).await;
    let stopping = Instant::now();
    projector.shutdown();
    running.await.expect("no panic").expect("ends");
    assert_eq!(stopping.elapsed().as_secs(), 20);
}

/// The first failure is logged, and then one per minute as long as the error is the same.
#[test]
fn each_condition_is_logged_once() {
    let seen = Seen::default();
    seen.record(async {
        let log = Log::new();
        let other = Act::Fail("the checkpoint is damaged", Duration::ZERO);
        let acts = [fail(), fail(), other, other, other].into_iter().chain([fail(); 3]);
        let delay = RetryPolicy::default().with_base_delay(SECOND * 8).with_max_delay(SECOND * 8);
        let workers = Workers::new().restart(delay).add(Scripted::new("mails", &log, acts)).spawn();
        sleep(SECOND * 120).await;
        assert!(workers.healthy());
        workers.shutdown().await.expect("stops");
    });
    let lines = seen.lines(Level::ERROR);
    let errors: Vec<_> = lines.iter().map(|line| line.fields.text("error")).collect();
    assert_eq!(errors, ["the slice is damaged", "the checkpoint is damaged", "the slice is damaged"]);
    let Line { fields, .. } = &lines[0];
    assert_eq!((fields.message(), fields.text("worker")), ("a worker has failed; restarting it", "mails"));
}

#[test]
fn a_lasting_condition_is_logged_once_a_minute() {
    let seen = Seen::default();
    seen.record(async {
        let workers = Workers::new().add(Scripted::new("mails", &Log::new(), vec![fail(); 1_000])).spawn();
        sleep(SECOND * 600).await;
        drop(workers);
    });
    let times: Vec<_> = seen.lines(Level::ERROR).iter().map(|line| line.at).collect();
    assert!((5..=11).contains(&times.len()), "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= SECOND * 60), "{times:?}");
}
