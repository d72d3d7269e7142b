//! Timeouts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use es_core::clock::Clock;
use es_core::documents::{ChangeSet, DocumentKey, DocumentQuery, Documents, ExpectedDocument};
use es_core::projection::{FailedKind, OnFailure, Projection, Projector};
use es_core::testing::{Faults, FaultyStore, TestStore, react};
use es_core::{MemoryStore, Repository, RetryPolicy};
use es_tests::chaos::divert::{Divert, Sent};
use es_tests::chaos::slow::Slow;
use es_tests::domain::{Account, Deposited};
use fastrand::Rng;

use super::failures::{neighbor, slice};
use super::support::{Diary, Scripted, Time, Work, diary, diary_of, paid, pass, projector, tell};

/// Much longer than in other tests, where much time passes.
const POLL: Duration = Duration::from_millis(250);

#[tokio::test(start_paused = true)]
async fn a_timeout_comes_once_and_survives_a_restart() {
    let store = MemoryStore::new();
    tell(&store, "a", "ann: remind note").await;
    let first = projector(store.clone(), Scripted::new(store.clone())).build();
    let work = Work::on(&first);
    first.caught_up().await.expect("works");
    pass(Duration::from_millis(500)).await;
    assert_eq!(diary(&store).await, ["remind note"], "it is not due yet");
    drop(work);
    pass(Duration::from_secs(5)).await;
    let _work = Work::on(&projector(store.clone(), Scripted::new(store.clone())).build());
    pass(Duration::from_secs(5)).await;
    assert_eq!(diary(&store).await, ["remind note", "reminded of remind note"]);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_not_lost_and_comes_once_wherever_the_worker_dies() {
    for requests in 1..100 {
        let store = MemoryStore::new();
        tell(&store, "a", "ann: remind note").await;
        let mortal = FaultyStore::new(store.clone(), Faults::seeded(requests).crash_after(requests));
        let work = Work::on(&projector(mortal.clone(), Scripted::new(mortal)).build());
        pass(Duration::from_millis(1_500)).await;
        drop(work);
        let _work = Work::on(&projector(store.clone(), Scripted::new(store.clone())).build());
        pass(Duration::from_secs(2)).await;
        let expected = ["remind note", "reminded of remind note"];
        assert_eq!(diary(&store).await, expected, "after {requests} requests");
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_a_replaced_worker_is_found_whenever_it_is_stored() {
    // Half the time of a request between two runs.
    for at in (0..6_000).step_by(250) {
        let store = MemoryStore::new();
        let late = Scripted::new(store.clone());
        let first = projector(store.clone(), late.clone()).poll(POLL).lease(Duration::from_secs(60)).build();
        let _first = Work::on(&first);
        tell(&store, "a", "ann: pay wait remind note").await;
        pass(Duration::from_millis(200)).await;
        // It takes the slice, and its requests are slow.
        let slow = Slow::new(Arc::new(store.clone()), 1.0, Duration::from_millis(500), Rng::with_seed(1));
        let second = Scripted::new(store.clone());
        second.let_go(1);
        let second = projector(slow, second).poll(POLL).lease(Duration::from_millis(30)).build();
        let _second = Work::on(&second);
        pass(Duration::from_millis(at)).await;
        late.let_go(1);
        // The requests of a reaction and of the reaction to a timeout take less time than the interval of queries for
        // timeouts.
        pass(Duration::from_secs(20)).await;
        let expected = ["pay wait remind note", "reminded of pay wait remind note"];
        assert_eq!(diary(&store).await, expected, "let go on after {at} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_passes_over_a_reaction_looks_for_its_timeouts() {
    let store = MemoryStore::new();
    let is_cut_off = Arc::new(AtomicBool::new(false));
    let hangs = Arc::clone(&is_cut_off);
    // From the middle of its reaction on, the first worker sends no heartbeats and writes no checkpoints.
    let cut_off = Divert::hanging(store.clone(), move |sent| {
        hangs.load(Ordering::SeqCst) && sent.changes("projection#")
    });
    let late = Scripted::new(store.clone());
    let _first = Work::on(&projector(cut_off, late.clone()).build());
    tell(&store, "a", "ann: pay wait remind note").await;
    pass(Duration::from_millis(200)).await;
    is_cut_off.store(true, Ordering::SeqCst);
    // A second worker takes the slices, finds no timeouts, and waits for events.
    let reads = Arc::new(AtomicU32::new(0));
    let slow = Slow::new(Arc::new(store.clone()), 1.0, Duration::from_secs(1), Rng::with_seed(1));
    let counted = Arc::clone(&reads);
    let waiting = Divert::to(store.clone(), slow, move |sent| {
        matches!(sent, Sent::ReadFeed) && counted.fetch_add(1, Ordering::SeqCst) < 4
    });
    let process = Scripted::new(store.clone());
    process.let_go(1);
    let _second = Work::on(&projector(waiting, process).lease(Duration::from_secs(3)).build());
    while reads.load(Ordering::SeqCst) < 4 {
        pass(Duration::from_millis(1)).await;
    }
    // Meanwhile, the first one finishes the reaction.
    late.let_go(1);
    pass(Duration::from_millis(20)).await;
    assert_eq!(diary(&store).await, ["pay wait remind note"]);
    // Less than the interval of queries for timeouts.
    pass(Duration::from_secs(10)).await;
    assert_eq!(diary(&store).await, ["pay wait remind note", "reminded of pay wait remind note"]);
}

#[tokio::test(start_paused = true)]
async fn timeouts_are_looked_for_although_none_is_known() {
    let (store, other) = (MemoryStore::new(), MemoryStore::new());
    for store in [&store, &other] {
        tell(store, "a", "ann: note").await;
        let _work = Work::on(&projector(store.clone(), Scripted::new(store.clone())).build());
        pass(Duration::from_secs(1)).await;
    }
    let worker = projector(store.clone(), Scripted::new(store.clone())).build();
    let _work = Work::on(&worker);
    tell(&other, "a", "ann: remind note").await;
    let _other = Work::on(&projector(other.clone(), Scripted::new(other.clone())).build());
    pass(Duration::from_millis(500)).await;
    // A document that the worker does not know.
    let timers = format!("process#script#timers#{}", slice(&store, "a").await);
    let page = other.documents(&DocumentQuery::new(&timers)).await.expect("lists");
    let (name, document) = page.documents.into_iter().next().expect("one timeout");
    let set = ChangeSet::new(uuid::Uuid::from_u128(1));
    let set = set.put(DocumentKey::new(&timers, name), ExpectedDocument::Absent, document.body);
    store.change(&set).await.expect("stores");
    pass(Duration::from_secs(32)).await;
    assert_eq!(diary(&store).await, ["note", "reminded of remind note"]);
}

/// In one slice, instances whose turns cannot end because their events are parked have several timeouts each, and
/// another instance has one. Returns the state of the other instance.
async fn behind(instances: usize, timeouts: usize) -> Vec<String> {
    let store = MemoryStore::new();
    let process = Scripted::new(store.clone());
    process.fail("pay fail note", u32::MAX);
    let projector =
        projector(store.clone(), process).retry(RetryPolicy::never()).on_failure(OnFailure::Park).build();
    let _work = Work::on(&projector);
    for number in 0..instances {
        let reminders = "remind ".repeat(timeouts);
        tell(&store, "a", &format!("blocked-{number}: {reminders}note")).await;
    }
    pass(Duration::from_millis(500)).await;
    tell(&store, "a", "ann: remind note").await;
    for number in 0..instances {
        // In separate streams, because a parked event blocks the later events of its stream.
        tell(&store, &format!("account-{number}"), &format!("blocked-{number}: pay fail note")).await;
    }
    pass(Duration::from_secs(10)).await;
    assert_eq!(projector.parked().await.expect("parked").len(), instances, "timeouts can wait");
    assert_eq!(projector.progress().await.expect("progress").stopped().count(), 0);
    diary(&store).await
}

#[tokio::test(start_paused = true)]
async fn the_timeouts_of_a_deleted_instance_are_passed_over() {
    let store = MemoryStore::new();
    tell(&store, "a", "ann: remind remind note").await;
    tell(&store, "a", "bob: remind note").await;
    let projector =
        projector(store.clone(), Scripted::new(store.clone())).retry(RetryPolicy::never()).build();
    let _work = Work::on(&projector);
    pass(Duration::from_millis(500)).await;
    Repository::<Diary>::new(store.clone()).delete("ann").await.expect("deletes");
    pass(Duration::from_secs(5)).await;
    assert_eq!(diary_of(&store, "bob").await, ["remind note", "reminded of remind note"]);
    assert_eq!(projector.progress().await.expect("progress").stopped().count(), 0);
    assert_eq!(projector.pending_timeouts(10).await.expect("lists"), []);
    // An event is not passed over: its command may concern other aggregates.
    tell(&store, "a", "ann: pay").await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(
        stopped(&projector).await,
        [
            "the stream `diary#ann` of the instance is deleted, so it can no longer react: skip the event or timeout, or \
          discard it if it is parked"
        ]
    );
}

/// Returns the errors of the stopped slices.
async fn stopped(projector: &Projector<impl Projection>) -> Vec<String> {
    let progress = projector.progress().await.expect("progress");
    progress.stopped().map(|(_, failure)| failure.error.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_event_of_a_closed_instance_stops_its_slice_with_advice() {
    let store = MemoryStore::new();
    tell(&store, "a", "ann: note").await;
    let projector =
        projector(store.clone(), Scripted::new(store.clone())).retry(RetryPolicy::never()).build();
    let _work = Work::on(&projector);
    pass(Duration::from_millis(500)).await;
    Repository::<Diary>::new(store.clone()).close("ann").await.expect("closes");
    tell(&store, "a", "ann: note").await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(
        stopped(&projector).await,
        [
            "the stream `diary#ann` of the instance is closed, so it can no longer react: skip the event or timeout, or \
          discard it if it is parked"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn timeouts_that_wait_do_not_hold_up_others() {
    let expected = ["remind note", "reminded of remind note"];
    assert_eq!(behind(1, 200).await, expected);
    // More than are read at once.
    assert_eq!(behind(120, 1).await, expected);
}

/// Tokio's time, with a wall clock that steps.
#[derive(Clone, Debug, Default)]
struct Stepping {
    seconds_ahead: Arc<AtomicI64>,
}

#[async_trait]
impl Clock for Stepping {
    fn now(&self) -> DateTime<Utc> {
        Time.now() + TimeDelta::seconds(self.seconds_ahead.load(Ordering::SeqCst))
    }

    async fn sleep(&self, duration: Duration) {
        Time.sleep(duration).await;
    }

    fn monotonic(&self) -> Duration {
        Time.monotonic()
    }

    async fn timeout(&self, duration: Duration) {
        Time.timeout(duration).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_that_waits_goes_on_after_the_clock_has_stepped_back() {
    let store = MemoryStore::new();
    let process = Scripted::new(store.clone());
    process.fail("pay fail note", u32::MAX);
    let clock = Stepping::default();
    let projector = projector(store.clone(), process.clone())
        .clock(clock.clone())
        .retry(RetryPolicy::never())
        .on_failure(OnFailure::Park)
        .build();
    let _work = Work::on(&projector);
    tell(&store, "a", "ann: remind note").await;
    pass(Duration::from_millis(300)).await;
    tell(&store, "b", "ann: pay fail note").await;
    pass(Duration::from_millis(300)).await;
    assert_eq!(diary(&store).await, ["remind note"]);

    // The timeout is due, and waits for the parked reaction.
    clock.seconds_ahead.store(10 * 365 * 24 * 60 * 60, Ordering::SeqCst);
    pass(Duration::from_secs(60)).await;
    clock.seconds_ahead.store(0, Ordering::SeqCst);
    process.fail("pay fail note", 0);
    projector.replay_parked().await.expect("ordered");
    pass(Duration::from_secs(60)).await;
    assert_eq!(diary(&store).await, ["remind note", "pay fail note", "reminded of remind note"]);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_events_does_not_hold_up_timeouts() {
    let store = MemoryStore::new();
    tell(&store, "a", "ann: remind note").await;
    for _ in 0..60 {
        tell(&store, "a", "bob: slow note").await;
    }
    let _work = Work::on(&projector(store.clone(), Scripted::new(store.clone())).batch(100).build());
    pass(Duration::from_secs(4)).await;
    assert_eq!(diary(&store).await, ["remind note", "reminded of remind note"]);
    assert!(diary_of(&store, "bob").await.len() < 5, "there is a backlog");
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_timeouts_does_not_hold_up_events() {
    let store = MemoryStore::new();
    let reminders = "remind ".repeat(300);
    tell(&store, "a", &format!("bob: {reminders}note then slow note")).await;
    let _work = Work::on(&projector(store.clone(), Scripted::new(store.clone())).build());
    pass(Duration::from_millis(1_500)).await;
    tell(&store, &neighbor(&store, "a").await, "ann: note").await;
    pass(Duration::from_secs(60)).await;
    assert_eq!(diary(&store).await, ["note"]);
    let done = diary_of(&store, "bob").await.len();
    assert!((25..100).contains(&done), "there is a backlog: {done}");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_that_fails_stops_its_slice_and_can_be_retried_skipped_or_parked() {
    let store = MemoryStore::new();
    let process = Scripted::new(store.clone());
    process.fail("pay fail note", u32::MAX);
    let projector = projector(store.clone(), process.clone()).build();
    let _work = Work::on(&projector);
    let slice = slice(&store, "a").await;
    let stopped = async || {
        tell(&store, "a", "ann: remind note then pay fail note").await;
        pass(Duration::from_secs(3)).await;
        let progress = projector.progress().await.expect("progress");
        let stopped: Vec<_> = progress.stopped().map(|(at, failure)| (at, failure.clone())).collect();
        assert_eq!(stopped.len(), 1, "{stopped:?}");
        stopped[0].clone()
    };
    let (at, failure) = stopped().await;
    assert_eq!(at, slice);
    let text = failure.to_string();
    assert!(text.starts_with("the timeout `Reminder` of `diary#ann` (due 1970-01-02T"), "{text}");
    assert!(text.contains("Z, key `script/") && text.ends_with("`pay fail note` is not welcome"), "{text}");
    let kind = failure.event.expect("a timeout").kind;
    assert!(matches!(kind, FailedKind::Timeout { key, .. } if key.starts_with("script/")));

    // Its command is not repeated.
    process.fail("pay fail note", 0);
    projector.retry(slice).await.expect("it has stopped");
    pass(Duration::from_secs(1)).await;
    let reminded = "remind note then pay fail note";
    assert_eq!(diary(&store).await, [reminded, "pay fail note"]);
    assert_eq!(paid(&store).await, 1);

    process.fail("pay fail note", u32::MAX);
    stopped().await;
    let error = projector.abandon(&"ann".to_owned()).await.expect_err("it may still be finished").to_string();
    assert!(error.contains("has not finished: `park` or `skip` it first"), "{error}");
    projector.skip(slice).await.expect("it has stopped");
    projector.abandon(&"ann".to_owned()).await.expect("it is skipped");
    tell(&store, "a", "ann: note").await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(diary(&store).await[2..], [reminded, "note"]);

    stopped().await;
    projector.park(slice).await.expect("it has stopped");
    pass(Duration::from_secs(1)).await;
    let parked = projector.parked().await.expect("parked");
    assert_eq!(parked.len(), 1);
    assert_eq!((parked[0].slice, parked[0].event.stream.as_str()), (slice, "diary#ann"));
    assert!(parked[0].error.ends_with("is not welcome") && parked[0].event.is_timeout(), "{parked:?}");
    assert_eq!(projector.progress().await.expect("progress").slices[slice.get() as usize].parked, 1);
    process.fail("pay fail note", 0);
    projector.replay_parked().await.expect("ordered");
    pass(Duration::from_secs(1)).await;
    assert!(projector.parked().await.expect("parked").is_empty());
    assert_eq!(diary(&store).await[4..], [reminded, "pay fail note"]);
    assert_eq!(paid(&store).await, 3);
}

#[tokio::test(start_paused = true)]
async fn timeouts_that_fail_are_parked_if_events_are() {
    let store = MemoryStore::new();
    let process = Scripted::new(store.clone());
    process.fail("fail note", u32::MAX);
    tell(&store, "a", "ann: remind note then fail note").await;
    tell(&store, "a", "ann: slow remind note then note").await;
    let projector = projector(store.clone(), process.clone()).on_failure(OnFailure::Park).build();
    let _work = Work::on(&projector);
    pass(Duration::from_secs(5)).await;
    assert_eq!(projector.parked().await.expect("parked").len(), 1);
    assert_eq!(projector.progress().await.expect("progress").stopped().count(), 0);
    // It fails again, and stays parked.
    projector.replay_parked().await.expect("ordered");
    pass(Duration::from_secs(1)).await;
    assert_eq!(projector.parked().await.expect("parked").len(), 1);
    process.fail("fail note", 0);
    projector.replay_parked().await.expect("ordered");
    pass(Duration::from_secs(1)).await;
    assert!(projector.parked().await.expect("parked").is_empty());
    let expected = ["remind note then fail note", "slow remind note then note", "note", "fail note"];
    assert_eq!(diary(&store).await, expected);
}

/// Another process parks the timeout whose command fails, and the slice continues.
#[tokio::test(start_paused = true)]
async fn a_timeout_that_is_delayed_can_be_parked() {
    let store = MemoryStore::new();
    let is_down = Arc::new(AtomicBool::new(true));
    let refuses = Arc::clone(&is_down);
    let unreached = FaultyStore::new(store.clone(), Faults::seeded(0).refusals(1.0));
    let commands = Divert::to(store.clone(), unreached, move |_| refuses.load(Ordering::SeqCst));
    let process = Scripted::new(store.clone()).with_commands_in(commands);
    let _work = Work::on(&projector(store.clone(), process.clone()).poll(POLL).lease(POLL * 4).build());
    tell(&store, "a", "ann: remind note then pay note").await;
    pass(Duration::from_secs(60)).await;

    let operator = projector(store.clone(), process).build();
    let slice = slice(&store, "a").await;
    let progress = operator.progress().await.expect("progress");
    let (at, delay) = progress.delayed().next().expect("is delayed");
    let kind = &delay.event.as_ref().expect("a timeout").kind;
    assert!(at == slice && matches!(kind, FailedKind::Timeout { .. }), "{at}: {kind:?}");
    operator.park(slice).await.expect("is delayed");
    tell(&store, &neighbor(&store, "a").await, "bob: note").await;
    pass(Duration::from_secs(10)).await;
    assert_eq!(diary_of(&store, "bob").await, ["note"], "the slice goes on");
    let parked = operator.parked().await.expect("parked");
    assert!(matches!(&parked[..], [parked] if parked.event.is_timeout()), "{parked:?}");
    assert_eq!(operator.progress().await.expect("progress").delayed().count(), 0);

    is_down.store(false, Ordering::SeqCst);
    operator.replay_parked().await.expect("ordered");
    pass(Duration::from_secs(10)).await;
    assert!(operator.parked().await.expect("parked").is_empty());
    assert_eq!(diary(&store).await, ["remind note then pay note", "pay note"]);
    assert_eq!(paid(&store).await, 1);
}

/// Timeouts that each schedule the next one, such as reminders for weeks.
mod chain {
    use std::time::Duration;

    use es_core::prelude::*;
    use es_tests::domain::{Account, Deposited};

    #[event]
    pub(super) struct Reminded {
        pub(super) left: u32,
    }

    #[event]
    pub(super) struct Due {
        left: u32,
    }

    #[derive(Aggregate, Default)]
    #[aggregate(name = "reminders", id = String, events(Reminded))]
    pub(super) struct Reminders;

    impl Apply<Reminded> for Reminders {
        fn apply(&mut self, _: &Reminded) {}
    }

    /// Reminds as often as there are cents.
    #[derive(Clone, Process)]
    #[process(name = "reminders", state = Reminders, events(Account(Deposited)), timeouts(Due))]
    pub(super) struct Remind;

    impl React<Deposited> for Remind {
        fn instance(&self, _: &Deposited, ctx: &EventContext) -> Result<Option<String>, BoxError> {
            Ok(Some(ctx.id().to_owned()))
        }

        async fn react(
            &self,
            event: &Deposited,
            reaction: &mut Reaction<'_, Reminders>,
        ) -> Result<Events<Reminders>, BoxError> {
            reaction.schedule(Duration::from_secs(1), Due { left: event.cents as u32 })?;
            Ok(Events::none())
        }
    }

    impl React<Due> for Remind {
        fn instance(&self, _: &Due, ctx: &EventContext) -> Result<Option<String>, BoxError> {
            Ok(Some(ctx.id().to_owned()))
        }

        async fn react(
            &self,
            event: &Due,
            reaction: &mut Reaction<'_, Reminders>,
        ) -> Result<Events<Reminders>, BoxError> {
            if event.left > 1 {
                reaction.schedule(Duration::from_secs(1), Due { left: event.left - 1 })?;
            }
            Ok(Reminded { left: event.left }.into())
        }
    }
}

#[tokio::test]
async fn timeouts_may_lead_to_timeouts_for_ever() {
    use chain::{Remind, Reminded};

    let mut process = react(|_: &TestStore| Remind)
        .when::<Account>("ann", Deposited { cents: 100, note: String::new() })
        .await;
    for left in (1..=100).rev() {
        process = process
            .later(Duration::from_secs(1))
            .await
            .then_events::<chain::Reminders>("ann", [Reminded { left }]);
    }
    process.later(Duration::from_secs(1)).await.then_nothing::<chain::Reminders>("ann");
}

#[tokio::test(start_paused = true)]
async fn running_until_caught_up_handles_all_timeouts_that_are_due() {
    let store = MemoryStore::new();
    // Several batches of timeouts in one slice.
    let first = slice(&store, "0").await;
    let mut accounts = Vec::new();
    for number in (0..).map(|number: u32| number.to_string()).take(2_000) {
        if accounts.len() < 60 && slice(&store, &number).await == first {
            tell(&store, &number, &format!("{number}: remind")).await;
            accounts.push(number);
        }
    }
    let first = projector(store.clone(), Scripted::new(store.clone())).build();
    first.run_until_caught_up().await.expect("handles the events");
    assert_eq!(diary_of(&store, &accounts[0]).await, [""; 0], "no timeout is due yet");
    pass(Duration::from_secs(2)).await;
    // The worker knows that there are no more events before it has its slices.
    let slow = Slow::new(Arc::new(store.clone()), 1.0, Duration::from_secs(1), Rng::with_seed(1));
    let store_of_worker = Divert::to(store.clone(), slow, |sent| sent.changes("projection#"));
    let second =
        projector(store_of_worker, Scripted::new(store.clone())).lease(Duration::from_secs(60)).build();
    second.run_until_caught_up().await.expect("handles the timeouts");
    for account in &accounts {
        let diary = diary_of(&store, account).await;
        assert_eq!(diary, ["reminded of remind"], "of account {account}");
    }
}

#[tokio::test(start_paused = true)]
async fn running_until_caught_up_reports_a_timeout_that_fails() {
    let store = MemoryStore::new();
    tell(&store, "a", "ann: remind then fail").await;
    let process = Scripted::new(store.clone());
    process.fail("fail", 100);
    let worker = projector(store, process).build();
    worker.run_until_caught_up().await.expect("handles the event");
    pass(Duration::from_secs(2)).await;
    let error = worker.run_until_caught_up().await.expect_err("the timeout fails");
    assert!(error.to_string().contains("`Reminder` of `diary#ann`"), "{error}");
}
