//! Workers that share a projection, and that die.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use es_core::clock::Clock;
use es_core::documents::{DocumentQuery, Documents};
use es_core::testing::{Faults, FaultyStore};
use es_core::{MemoryStore, Projector, ReadModel};
use es_tests::chaos::projections::VirtualTime;
use tokio::time::{sleep, timeout};

use super::support::{Journal, LEASE, deposit, projector, work};

/// Returns the number of slices of each owner, and the number of workers with a heartbeat.
pub(crate) async fn owners(store: &MemoryStore) -> (BTreeMap<String, usize>, usize) {
    let page = store.documents(&DocumentQuery::new("projection#journal")).await.expect("a page");
    let mut owners = BTreeMap::new();
    for (_, document) in page.documents.iter().filter(|(name, _)| name.starts_with("slice#")) {
        let owner = document.body.split("\"owner\":\"").nth(1).and_then(|rest| rest.split('"').next());
        *owners.entry(owner.unwrap_or("nobody").to_owned()).or_default() += 1;
    }
    (owners, page.documents.iter().filter(|(name, _)| name.starts_with("worker#")).count())
}

fn new(store: &MemoryStore, journal: &Journal) -> Projector<Journal> {
    projector(store.clone(), journal.clone()).build()
}

#[tokio::test(start_paused = true)]
async fn workers_share_the_slices_as_they_come_and_go() {
    let store = MemoryStore::new();
    let journal = Journal::new(&store);
    let mut workers = Vec::new();
    for expected in [vec![4], vec![2, 2], vec![1, 1, 2], vec![1, 1, 1, 1], vec![1, 1, 1, 1]] {
        let projector = new(&store, &journal);
        workers.push((work(&projector), projector));
        sleep(LEASE * 3).await;
        let (owners, signs) = owners(&store).await;
        let mut shares: Vec<_> = owners.values().copied().collect();
        shares.sort_unstable();
        assert_eq!((shares, signs), (expected, workers.len()));
    }
    while workers.len() > 1 {
        let (worker, projector) = workers.remove(0);
        projector.shutdown();
        worker.await.expect("no panic").expect("ends");
    }
    sleep(LEASE * 3).await;
    let (left, signs) = owners(&store).await;
    assert_eq!((left.into_values().collect::<Vec<_>>(), signs), (vec![4], 1));
    let (worker, projector) = workers.remove(0);
    projector.shutdown();
    worker.await.expect("no panic").expect("ends");
    assert_eq!(owners(&store).await, (BTreeMap::from([("nobody".to_owned(), 4)]), 0));
}

#[tokio::test(start_paused = true)]
async fn another_worker_takes_over_from_one_that_died_after_the_lease() {
    let store = MemoryStore::new();
    let journal = Journal::new(&store);
    let first = work(&new(&store, &journal));
    let accounts: Vec<_> = (0..8).map(|number| format!("bob-{number}")).collect();
    deposit(&store, "ada", &["a"]).await;
    sleep(LEASE).await;
    assert_eq!(journal.versions("ada"), [1]);
    first.abort();
    let projector = new(&store, &journal);
    let second = work(&projector);
    deposit(&store, "ada", &["b"]).await;
    for account in &accounts {
        deposit(&store, account, &["c"]).await;
    }
    sleep(LEASE / 2).await;
    assert_eq!(journal.handled().len(), 1, "the lease is not over");
    sleep(LEASE * 2).await;
    assert_eq!(journal.handled().len(), 10);
    assert_eq!(journal.versions("ada"), [1, 2]);
    assert_eq!(owners(&store).await.1, 1, "the dead one is forgotten");
    projector.shutdown();
    second.await.expect("no panic").expect("ends");
}

/// A wall clock that is set manually, on tokio's time.
#[derive(Clone, Debug)]
struct Stepping {
    time: VirtualTime,
    by: Arc<Mutex<TimeDelta>>,
}

#[async_trait::async_trait]
impl Clock for Stepping {
    fn now(&self) -> DateTime<Utc> {
        self.time.now() + *self.by.lock().expect("no panic")
    }

    async fn sleep(&self, duration: Duration) {
        self.time.sleep(duration).await;
    }

    fn monotonic(&self) -> Duration {
        self.time.monotonic()
    }

    async fn timeout(&self, duration: Duration) {
        self.time.timeout(duration).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_steps_neither_delays_nor_hastens_a_takeover() {
    for step in [TimeDelta::seconds(-60), TimeDelta::seconds(60)] {
        let store = MemoryStore::new();
        let journal = Journal::new(&store);
        let first = work(&new(&store, &journal));
        deposit(&store, "ada", &["a"]).await;
        sleep(LEASE).await;
        let clock = Stepping { time: VirtualTime::new(TimeDelta::zero()), by: Arc::default() };
        let projector = projector(store.clone(), journal.clone()).clock(clock.clone()).build();
        let second = work(&projector);
        sleep(LEASE * 2).await;
        *clock.by.lock().expect("no panic") = step;
        sleep(LEASE / 2).await;
        assert_eq!(owners(&store).await.1, 2, "the first one lives");
        first.abort();
        sleep(LEASE / 3).await;
        assert_eq!(owners(&store).await.1, 2, "the lease is not over");
        *clock.by.lock().expect("no panic") = TimeDelta::zero();
        sleep(LEASE * 2).await;
        let (owners, signs) = owners(&store).await;
        assert_eq!((owners.into_values().collect::<Vec<_>>(), signs), (vec![4], 1));
        projector.shutdown();
        second.await.expect("no panic").expect("ends");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_died_in_the_middle_of_a_batch_has_changed_nothing() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "b", "c"]).await;
    let journal = Journal::new(&store);
    journal.fail("c", u32::MAX);
    let retry = es_core::RetryPolicy::default().with_max_attempts(u32::MAX);
    let worker = work(&projector(store.clone(), journal.clone()).retry(retry).build());
    sleep(Duration::from_millis(50)).await;
    worker.abort();
    assert!(worker.await.is_err(), "it was aborted");
    assert!(journal.failed() > 0);
    assert_eq!(journal.lines.get("c").await.expect("no row"), None);
    journal.fail("c", 0);
    let projector = new(&store, &journal);
    let second = work(&projector);
    projector.caught_up().await.expect("comes");
    assert_eq!(journal.versions("ada"), [1, 2, 3], "what came before had its checkpoint");
    projector.shutdown();
    second.await.expect("no panic").expect("ends");
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_whose_answer_is_lost_is_written_once() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "b", "c"]).await;
    let journal = Journal::new(&store);
    let faulty = FaultyStore::new(store.clone(), Faults::seeded(3).lost_answers(0.4).lost_requests(0.2));
    let projector =
        projector(faulty, journal.clone()).batch(1).retry(es_core::RetryPolicy::default()).build();
    projector.run_until_caught_up().await.expect("gets through");
    assert_eq!(journal.lines.all().await.expect("rows").len(), 3);
    assert_eq!(journal.versions("ada"), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_stops_no_slice() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "b", "c"]).await;
    let faulty = FaultyStore::new(store.clone(), Faults::seeded(3).throttling(0.95));
    // The previous rows are read while it runs.
    let journal = Journal::new(&faulty);
    let projector = projector(faulty, journal.clone()).build();
    let worker = work(&projector);
    new(&store, &journal).caught_up().await.expect("gets through at last");
    projector.shutdown();
    worker.await.expect("no panic").expect("ends");
    let dead = FaultyStore::new(store, Faults::seeded(3).crash_after(9));
    let projector = super::support::projector(dead, journal).build();
    let worker = work(&projector);
    sleep(LEASE * 5).await;
    projector.shutdown();
    worker.await.expect("no panic").expect("ends although nothing gets through");
}

mod same_name {
    use es_core::prelude::*;
    use es_core::serde::{Deserialize, Serialize};
    use es_tests::domain::{Account, Deposited};

    #[derive(Clone, Row, Serialize, Deserialize)]
    #[serde(crate = "es_core::serde")]
    #[row(name = "lines", key = number)]
    pub(super) struct OtherLine {
        number: u8,
    }

    /// A projection with two read models of the same name.
    #[derive(Clone, Projection)]
    #[projection(name = "twice", events(Account(Deposited)))]
    pub(super) struct Twice {
        #[read_model]
        pub(super) first: ReadModel<OtherLine>,
        #[read_model]
        pub(super) second: ReadModel<crate::projections::support::Line>,
    }

    impl Project<Deposited> for Twice {
        async fn project(&mut self, _: &Deposited, _: &EventContext) -> Result<(), BoxError> {
            Ok(())
        }
    }

    /// A projection with the name of another one.
    #[derive(Clone, Projection)]
    #[projection(name = "journal", events(Account(Deposited)))]
    pub(super) struct OtherJournal;

    impl Project<Deposited> for OtherJournal {
        async fn project(&mut self, _: &Deposited, _: &EventContext) -> Result<(), BoxError> {
            Ok(())
        }
    }
}

#[tokio::test(start_paused = true)]
async fn read_models_with_one_name_are_an_error() {
    use same_name::Twice;

    let store = MemoryStore::new();
    let projection = Twice { first: ReadModel::of::<Twice>(&store), second: ReadModel::of::<Twice>(&store) };
    let error = projector(store, projection).build().run_until_caught_up().await.expect_err("share rows");
    let expected = "two read models of the projection `twice` have the name `lines`";
    assert!(error.to_string().contains(expected), "{error}");
}

#[tokio::test(start_paused = true)]
async fn projections_with_one_name_are_an_error_on_one_store() {
    use same_name::OtherJournal;

    let store = MemoryStore::new();
    let journal = new(&store, &Journal::new(&store));
    let worker = work(&journal);
    sleep(Duration::from_millis(50)).await;
    let second = work(&new(&store, &Journal::new(&store)));
    let other = projector(store.clone(), OtherJournal).build();
    let run = timeout(Duration::from_secs(60), other.run()).await.expect("does not work");
    let error = run.expect_err("share checkpoints").to_string();
    let expected = "OtherJournal` have the name `journal`, so they would share their checkpoints";
    assert!(error.contains(expected) && error.contains("support::Journal`"), "{error}");
    // On another store, the name can be used, and workers of the same projection are always allowed.
    projector(MemoryStore::new(), OtherJournal).build().run_until_caught_up().await.expect("works");
    assert!(!second.is_finished());

    for worker in [worker, second] {
        worker.abort();
        let _ = worker.await;
    }
    other.run_until_caught_up().await.expect("the name is free");
}
