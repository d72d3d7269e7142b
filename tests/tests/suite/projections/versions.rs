//! Versions of the code that accept different events, and run one after the other or at the same time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use es_core::event::EventData;
use es_core::feed::{EventFilter, Feed, FeedRead, Position, Slice};
use es_core::prelude::*;
use es_core::projection::{Progress, ProjectError};
use es_core::store::Append;
use es_core::{EventStore, ExpectedVersion, MemoryStore, RetryPolicy};
use es_tests::conformance::new_commit;
use es_tests::domain::{Account, Deposited, RateSet, SetRate, Withdrawn};
use fastrand::Rng;
use tokio::time::{sleep, timeout};

use super::support::{LEASE, deposit, projector, slice, stream, withdraw, work};

/// The event in newer code.
mod newer {
    use es_core::event;

    #[event]
    pub(super) struct DepositedV1 {
        cents: u64,
        note: String,
    }

    #[event(version = 2, previous = DepositedV1)]
    pub(super) struct Deposited {
        cents: u64,
        note: String,
    }

    impl From<DepositedV1> for Deposited {
        fn from(old: DepositedV1) -> Self {
            Self { cents: old.cents, note: old.note }
        }
    }
}

/// A projection in one version of the code. All versions share the record of handled events.
#[derive(Clone)]
struct Code {
    filter: EventFilter,
    decode: fn(&EventData) -> Result<(), ProjectError>,
    handled: Handled,
}

/// The positions of the events that were handled, by slice.
type Handled = Arc<Mutex<BTreeMap<Slice, Vec<Position>>>>;

impl Code {
    /// Accepts deposits in version 1.
    fn old(handled: &Handled) -> Self {
        let filter = EventFilter::none().with_event::<Deposited>("account");
        let decode = |event: &EventData| Ok(Deposited::decode(event).map(drop)?);
        Self { filter, decode, handled: Arc::clone(handled) }
    }

    /// Accepts deposits in version 1 and 2.
    fn reading_version_2(handled: &Handled) -> Self {
        let filter = EventFilter::none().with_event::<newer::Deposited>("account");
        let decode = |event: &EventData| Ok(newer::Deposited::decode(event).map(drop)?);
        Self { filter, decode, handled: Arc::clone(handled) }
    }

    /// Accepts withdrawals and rates, too.
    fn new(handled: &Handled) -> Self {
        let old = Self::old(handled);
        let filter = old.filter.with_event::<Withdrawn>("account").with_event::<RateSet>("account");
        Self { filter, decode: |_| Ok(()), ..old }
    }

    /// Accepts all events.
    fn of_all(handled: &Handled) -> Self {
        Self { filter: EventFilter::all(), decode: |_| Ok(()), handled: Arc::clone(handled) }
    }
}

impl Projection for Code {
    const NAME: &'static str = "code";

    fn filter(&self) -> EventFilter {
        self.filter.clone()
    }

    async fn handle(&mut self, event: &EventData, ctx: &EventContext) -> Result<(), ProjectError> {
        (self.decode)(event)?;
        let mut handled = self.handled.lock().expect("no panic");
        handled.entry(ctx.slice()).or_default().push(ctx.position());
        Ok(())
    }
}

/// Runs `code` until it has caught up, and has checked for events that other code has passed over.
async fn run(store: &MemoryStore, code: Code) -> Progress {
    let projector = projector(store.clone(), code).build();
    let worker = work(&projector);
    projector.caught_up().await.expect("works");
    // Wait until the leases of dead workers expire.
    sleep(LEASE * 4).await;
    projector.shutdown();
    worker.await.expect("no panic").expect("ends");
    projector.progress().await.expect("progress")
}

/// Returns the events that were passed over: slice, event, first position, last position.
fn passed_over(progress: &Progress) -> Vec<(Slice, String, u64, u64)> {
    let event = |(slice, event): (Slice, &es_core::projection::PassedOver)| {
        assert_eq!(event.aggregate, "account");
        (slice, event.event.clone(), event.first.get(), event.through.get())
    };
    assert!(progress.slices.iter().all(|slice| slice.unchecked == 0), "{progress:?}");
    progress.passed_over().map(event).collect()
}

#[tokio::test(start_paused = true)]
async fn events_that_older_code_passes_over_are_reported() {
    let (store, handled) = (MemoryStore::new(), Handled::default());
    let ada = slice(&store, "ada").await;
    deposit(&store, "ada", &["a", "b"]).await;
    withdraw(&store, "ada").await;
    assert_eq!(passed_over(&run(&store, Code::old(&handled)).await), []);
    assert_eq!(handled.lock().expect("no panic")[&ada], [Position::new(1), Position::new(2)]);

    // There is a withdrawal, and no rate was ever set.
    let withdrawn = |first, through| (ada, "Withdrawn".to_owned(), first, through);
    assert_eq!(passed_over(&run(&store, Code::new(&handled)).await), [withdrawn(3, 3)]);
    withdraw(&store, "ada").await;
    assert_eq!(
        passed_over(&run(&store, Code::new(&handled)).await),
        [withdrawn(3, 3)],
        "this one is handled"
    );
    withdraw(&store, "ada").await;
    run(&store, Code::old(&handled)).await;
    assert_eq!(passed_over(&run(&store, Code::new(&handled)).await), [withdrawn(3, 5)]);
    assert_eq!(handled.lock().expect("no panic")[&ada].last(), Some(&Position::new(4)));

    let operator = projector(store.clone(), Code::new(&handled)).build();
    operator.rebuild().await.expect("begins");
    let old_build = run(&store, Code::new(&handled)).await;
    assert_eq!(passed_over(&old_build), [withdrawn(3, 5)]);
    operator.run_until_caught_up().await.expect("works");
    operator.switch().await.expect("switched");
    assert_eq!(passed_over(&operator.progress().await.expect("progress")), []);
    operator.delete_replaced().await.expect("deleted");
}

#[tokio::test(start_paused = true)]
async fn reports_of_events_that_were_passed_over_can_be_dismissed() {
    let (store, handled) = (MemoryStore::new(), Handled::default());
    withdraw_from(&store, "ada").await;
    run(&store, Code::old(&handled)).await;
    assert_eq!(passed_over(&run(&store, Code::new(&handled)).await).len(), 1);
    let operator = projector(store.clone(), Code::new(&handled)).build();
    operator.dismiss_passed_over().await.expect("dismissed");
    assert_eq!(passed_over(&run(&store, Code::new(&handled)).await), []);
}

async fn withdraw_from(store: &MemoryStore, account: &str) {
    deposit(store, account, &["a"]).await;
    withdraw(store, account).await;
}

#[tokio::test(start_paused = true)]
async fn code_that_accepts_all_events_reports_each_kind_that_was_passed_over() {
    let (store, handled) = (MemoryStore::new(), Handled::default());
    let ada = slice(&store, "ada").await;
    withdraw_from(&store, "ada").await;
    withdraw(&store, "ada").await;
    let accounts = Repository::<Account>::new(store.clone());
    accounts.execute(&"ada".to_owned(), SetRate { rate: 0.5 }).await.expect("accepted");
    run(&store, Code::old(&handled)).await;
    let expected = [(ada, "Withdrawn".to_owned(), 2, 4), (ada, "RateSet".to_owned(), 4, 4)];
    assert_eq!(passed_over(&run(&store, Code::of_all(&handled)).await), expected);
}

#[tokio::test(start_paused = true)]
async fn a_slice_goes_on_when_a_worker_reads_the_newer_version_of_the_event() {
    let (store, handled) = (MemoryStore::new(), Handled::default());
    let ada = slice(&store, "ada").await;
    let restart = RetryPolicy::never();
    let old = projector(store.clone(), Code::old(&handled)).restart(restart).build();
    let new = projector(store.clone(), Code::reading_version_2(&handled)).restart(restart).build();
    let workers = [work(&old), work(&new)];
    sleep(LEASE * 3).await;
    for number in 0..20 {
        let account = format!("account-{number}");
        deposit(&store, &account, &["a"]).await;
        let data = EventData::new("Deposited", 2, r#"{"cents":5,"note":"b"}"#);
        let append = Append::new(stream(&account), ExpectedVersion::Any, new_commit(vec![data]));
        store.append(&append).await.expect("appended");
    }
    // No operator calls `retry`.
    let reached = async {
        while new.progress().await.expect("progress").lag() > 0 {
            sleep(LEASE).await;
        }
    };
    timeout(Duration::from_secs(60), reached).await.expect("goes on");
    assert_eq!(handled.lock().expect("no panic").values().map(Vec::len).sum::<usize>(), 40);
    new.shutdown();
    old.shutdown();
    for worker in workers {
        worker.await.expect("no panic").expect("ends");
    }

    // A worker that cannot read the version does not take the slice, even when it starts.
    let data = EventData::new("Deposited", 2, r#"{"cents":5,"note":"b"}"#);
    let append = Append::new(stream("ada"), ExpectedVersion::Any, new_commit(vec![data]));
    store.append(&append).await.expect("appended");
    let old = projector(store.clone(), Code::old(&handled)).build();
    for _ in 0..2 {
        let worker = work(&old);
        sleep(Duration::from_secs(60)).await;
        let progress = old.progress().await.expect("progress");
        let failure = progress.stopped().find(|(slice, _)| *slice == ada).expect("has stopped").1;
        assert_eq!((failure.unknown_version, failure.retry_at, failure.attempts), (Some(2), None, 1));
        worker.abort();
        let _ = worker.await;
    }
    let new = projector(store.clone(), Code::reading_version_2(&handled)).build();
    let worker = work(&new);
    sleep(LEASE * 3).await;
    assert_eq!(new.progress().await.expect("progress").lag(), 0);
    worker.abort();
}

/// The positions of all events with the stored name `name`, by slice.
async fn positions(store: &MemoryStore, name: &str) -> BTreeMap<Slice, Vec<Position>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for slice in store.slice_tree().await.expect("slices").iter() {
        let read = FeedRead::new(slice, Position::NONE).limit(10_000);
        for entry in store.read_feed(&read).await.expect("a page").entries {
            for (event, position) in entry.commit.events.iter().zip(entry.position.get()..) {
                if event.name() == name {
                    all.entry(slice).or_default().push(Position::new(position));
                }
            }
        }
    }
    all
}

#[tokio::test(start_paused = true)]
async fn exactly_the_events_that_were_not_handled_are_reported() {
    for seed in 0..40 {
        let mut random = Rng::with_seed(seed);
        let (store, handled) = (MemoryStore::new(), Handled::default());
        for _ in 0..random.u32(2..12) {
            for _ in 0..random.u32(..4) {
                withdraw_from(&store, &format!("account-{}", random.u8(..6))).await;
            }
            if random.u8(..4) == 0 {
                let account = format!("account-{}", random.u8(..6));
                store.split(slice(&store, &account).await).await.expect("splits");
            }
            let code = if random.bool() { Code::old(&handled) } else { Code::new(&handled) };
            let projector = projector(store.clone(), code).batch(random.u32(1..5)).build();
            let worker = work(&projector);
            sleep(Duration::from_millis(random.u64(..40))).await;
            if random.bool() {
                projector.shutdown();
                worker.await.expect("no panic").expect("ends");
            } else {
                worker.abort();
                let _ = worker.await;
                // Wait until the lease of the dead worker expires.
                sleep(LEASE * 2).await;
            }
        }
        let progress = run(&store, Code::new(&handled)).await;
        let handled = handled.lock().expect("no panic").clone();
        let mut missed = BTreeMap::<Slice, Vec<Position>>::new();
        for (slice, all) in positions(&store, "Withdrawn").await {
            let handled = handled.get(&slice).cloned().unwrap_or_default();
            let open: Vec<_> = all.into_iter().filter(|position| !handled.contains(position)).collect();
            if !open.is_empty() {
                missed.insert(slice, open);
            }
        }
        let reported = passed_over(&progress);
        assert_eq!(reported.len(), missed.len(), "seed {seed}: {reported:?}, {missed:?}");
        for (slice, event, first, through) in reported {
            let missed = &missed[&slice];
            let expected = (Some(&Position::new(first)), "Withdrawn");
            assert_eq!((missed.first(), event.as_str()), expected, "seed {seed}");
            assert!(missed.last() <= Some(&Position::new(through)), "seed {seed}");
        }
    }
}
