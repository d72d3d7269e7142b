//! Commands that share writes, on a store in memory: user code that panics or hangs, futures that are dropped or no
//! longer polled, and deadlines.

use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use chrono::TimeDelta;
use es_core::event::EventData;
use es_core::prelude::*;
use es_core::repository::Outcome;
use es_core::store::Append;
use es_core::{
    EventStore, ExecuteError, ExpectedVersion, MemoryStore, Repository, RetryPolicy, StreamId, Version,
};
use es_tests::chaos::projections::VirtualTime;
use es_tests::conformance::new_commit;
use es_tests::domain::{Account, Deposit, Overdrawn, RequireBalance, Withdraw};
use es_tests::gate::{Gate, Trouble, is_pending};
use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use tokio::time::Instant;

const ID: &str = "ann";

/// How long a command waits for one that does not go on, at most.
const PATIENCE: Duration = Duration::from_secs(1);

fn gated<A: Aggregate>() -> (Gate, Repository<A>) {
    let gate = Gate::new(Arc::new(MemoryStore::new()));
    let repository = on(&gate);
    (gate, repository)
}

fn on<A: Aggregate>(gate: &Gate) -> Repository<A> {
    let retry = RetryPolicy::default().with_base_delay(Duration::from_millis(1));
    Repository::builder(gate.clone()).retry(retry).clock(VirtualTime::new(TimeDelta::zero())).build()
}

/// A command as it is polled by a test.
type Running<'a> =
    Pin<Box<dyn Future<Output = Result<Outcome<Account>, ExecuteError<Overdrawn>>> + Send + 'a>>;

/// Polls the futures in turns until a condition holds.
async fn poll_until(futures: &mut [&mut Running<'_>], condition: impl Fn() -> bool) {
    while !condition() {
        for future in &mut *futures {
            assert!(is_pending(future).await, "a command has completed too early");
        }
        tokio::task::yield_now().await;
    }
}

/// A deposit of one cent.
fn one(accounts: &Repository<Account>, note: &str) -> Running<'static> {
    let (accounts, note) = (accounts.clone(), note.to_owned());
    Box::pin(async move { accounts.execute(ID, Deposit::one(1, note)).await })
}

/// An event that may break the aggregate to which it is applied.
#[event]
struct Filled {
    n: u32,
    breaks: bool,
}

#[derive(Aggregate, Clone, Debug, Default, PartialEq)]
#[aggregate(name = "vase", id = String, events(Filled))]
struct Vase {
    filled: Vec<u32>,
}

impl Apply<Filled> for Vase {
    fn apply(&mut self, event: &Filled) {
        assert!(!event.breaks, "the vase breaks, as planned");
        self.filled.push(event.n);
    }
}

struct Fill {
    n: u32,
    breaks: bool,
    panics: bool,
}

impl Handle<Fill> for Vase {
    type Error = Infallible;

    fn handle(&self, command: &Fill, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        assert!(!command.panics, "the handler panics, as planned");
        Ok(Filled { n: command.n, breaks: command.breaks }.into())
    }
}

/// Executes commands at the same time, and returns the state and the version of each that does not panic.
async fn fill(vases: &Repository<Vase>, commands: &[(bool, bool)]) -> Vec<Option<(Vec<u32>, u64)>> {
    let fill = async |(n, &(breaks, panics)): (usize, &(bool, bool))| {
        let command = vases.execute(ID, Fill { n: n as u32, breaks, panics });
        let outcome = AssertUnwindSafe(command).catch_unwind().await.ok()?.expect("accepted");
        Some((outcome.state.filled, outcome.version.get()))
    };
    join_all(commands.iter().enumerate().map(fill)).await
}

const FINE: (bool, bool) = (false, false);
const BREAKS: (bool, bool) = (true, false);
const PANICS: (bool, bool) = (false, true);

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_handler_reaches_only_its_caller() {
    let (gate, vases) = gated::<Vase>();
    let filled = fill(&vases, &[FINE, PANICS, FINE, PANICS, FINE]).await;
    assert_eq!(filled, [Some((vec![0], 1)), None, Some((vec![0, 2], 2)), None, Some((vec![0, 2, 4], 3))]);
    assert_eq!(gate.appends(), [1, 2]);

    // The first command on a stream, for which the others wait.
    let (gate, vases) = gated::<Vase>();
    let filled = fill(&vases, &[PANICS, FINE, FINE]).await;
    assert_eq!(filled, [None, Some((vec![1], 1)), Some((vec![1, 2], 2))]);
    assert_eq!(gate.appends(), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_apply_reaches_only_its_caller() {
    let (gate, vases) = gated::<Vase>();
    let filled = fill(&vases, &[FINE, BREAKS, FINE]).await;
    assert_eq!(filled, [Some((vec![0], 1)), None, Some((vec![0, 2], 2))]);
    assert_eq!(gate.appends(), [1, 1]);
    assert_eq!(vases.load(ID).await.expect("loads").state.filled, [0, 2]);
}

/// A state that cannot be copied once it has an unlucky number.
#[derive(Aggregate, Debug, Default)]
#[aggregate(name = "plate", id = String, events(Filled))]
struct Plate {
    filled: Vec<u32>,
}

impl Clone for Plate {
    fn clone(&self) -> Self {
        assert!(!self.filled.contains(&13), "the plate breaks, as planned");
        Self { filled: self.filled.clone() }
    }
}

impl Apply<Filled> for Plate {
    fn apply(&mut self, event: &Filled) {
        self.filled.push(event.n);
    }
}

impl Handle<Fill> for Plate {
    type Error = Infallible;

    fn handle(&self, command: &Fill, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        Ok(Filled { n: command.n, breaks: false }.into())
    }
}

/// Copies are made after a command is recorded, for the cache and for the commands that wait.
#[tokio::test(start_paused = true)]
async fn a_panic_of_a_copy_reaches_no_caller() {
    let store = MemoryStore::new();
    let cached = || Repository::<Plate>::builder(store.clone()).cache(10).build();
    let plates: [Repository<Plate>; 3] = [Repository::new(store.clone()), cached(), cached()];
    let mut version = 0;
    for plates in plates {
        for numbers in [vec![1, 2], vec![13, 3, 4], vec![5]] {
            let fill = |n| plates.execute(ID, Fill { n, breaks: false, panics: false });
            for done in join_all(numbers.into_iter().map(fill)).await {
                version += 1;
                assert_eq!(done.expect("accepted").version.get(), version);
            }
        }
        assert_eq!(plates.load(ID).await.expect("loads").state.filled.len() as u64, version);
    }
}

/// The panic of a state that cannot be made from the stream reaches everyone, and stops no one for good.
#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_the_aggregate_panics_in_each_caller() {
    let (gate, vases) = gated::<Vase>();
    let event = EventData::new("Filled", 1, r#"{"n":7,"breaks":true}"#);
    let stream = StreamId::new("vase", ID).expect("a valid stream");
    let winner = Append::new(stream, ExpectedVersion::Any, new_commit(vec![event]));
    gate.plan([None, Some(Trouble::Overtaken(Box::new(winner)))]);
    let filled = fill(&vases, &[FINE, FINE, FINE]).await;
    assert_eq!(filled, [Some((vec![0], 1)), None, None]);
    assert_eq!(fill(&vases, &[FINE, FINE]).await, [None, None]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_store_leaves_the_outcome_of_the_group_unknown() {
    let (gate, accounts) = gated::<Account>();
    gate.plan([None, Some(Trouble::Panic)]);
    let commands = ["a", "b", "c"].map(|note| one(&accounts, note));
    let [head, b, c] = <[_; 3]>::try_from(join_all(commands).await).expect("three");
    head.expect("accepted");
    for error in [b, c] {
        assert!(error.expect_err("the store has panicked").is_outcome_unknown());
    }
    let done = one(&accounts, "d").await.expect("accepted");
    assert_eq!(done.state.notes, ["a", "d"]);
}

/// A deposit whose handler does not return until it is told to, the first time.
struct HangOnce {
    started: Sender<()>,
    release: Mutex<Option<Receiver<()>>>,
}

impl Handle<HangOnce> for Vase {
    type Error = Infallible;

    fn handle(&self, command: &HangOnce, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        if let Some(release) = command.release.lock().expect("is not poisoned").take() {
            command.started.send(()).expect("is waited for");
            release.recv().expect("is released");
        }
        Ok(Filled { n: 100, breaks: false }.into())
    }
}

#[test]
fn a_handler_that_hangs_stops_no_other_command() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let gate = Gate::new(Arc::new(MemoryStore::new()));
    let vases: Repository<Vase> = Repository::new(gate.clone());
    gate.close();
    let (started, has_started) = channel();
    let (release, released) = channel();
    let head = std::thread::spawn({
        let vases = vases.clone();
        move || {
            runtime().block_on(async { vases.execute(ID, Fill { n: 0, breaks: false, panics: false }).await })
        }
    });
    while gate.appends().is_empty() {
        std::thread::yield_now();
    }
    let hanging = std::thread::spawn({
        let vases = vases.clone();
        let command = HangOnce { started, release: Mutex::new(Some(released)) };
        move || runtime().block_on(async { vases.execute(ID, command).await })
    });
    // Opened again and again, because the second command may not have joined yet.
    gate.open();
    has_started.recv().expect("decides");
    // Commands that arrive meanwhile are executed, whether they wait for the first command's state or its decision.
    runtime().block_on(async {
        let filled = fill(&vases, &[FINE, FINE]).await;
        assert_eq!(filled.iter().flatten().count(), 2, "{filled:?}");
    });
    release.send(()).expect("hangs");
    let head = head.join().expect("does not panic").expect("accepted");
    let hanging = hanging.join().expect("does not panic").expect("accepted");
    assert_eq!((head.version, hanging.version, hanging.attempts), (Version::new(1), Version::new(4), 2));
}

/// Polls some futures in turns until they are done, but drops the one at `victim` after some polls.
async fn race(
    mut futures: Vec<Option<Running<'_>>>,
    victim: usize,
    polls: usize,
) -> Vec<Option<Outcome<Account>>> {
    let mut outcomes: Vec<_> = futures.iter().map(|_| None).collect();
    for turn in 0.. {
        assert!(turn < 1_000, "the commands do not complete");
        if turn == polls {
            futures[victim] = None;
        }
        for (future, outcome) in futures.iter_mut().zip(&mut outcomes) {
            let Some(running) = future else { continue };
            let polled = poll_fn(|context| Poll::Ready(running.as_mut().poll(context))).await;
            if let Poll::Ready(result) = polled {
                *outcome = Some(result.expect("accepted"));
                *future = None;
            }
        }
        if futures.iter().all(Option::is_none) {
            break;
        }
        // Long enough for delays before retries, and too short for the patience of commands that wait.
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    outcomes
}

#[tokio::test(start_paused = true)]
async fn a_command_may_be_dropped_at_any_time() {
    let mut recorded = [0, 0];
    for victim in 0..4 {
        for polls in 0..24 {
            let (gate, accounts) = gated::<Account>();
            // Some of the writes are repeated, and some lose a race.
            if polls % 3 == 1 {
                gate.plan([None, Some(Trouble::AnswerLost)]);
            }
            let commands = ["0", "1", "2", "3"].map(|note| Some(one(&accounts, note)));
            let outcomes = race(commands.into(), victim, polls).await;
            let loaded = accounts.load(ID).await.expect("loads");
            for (n, outcome) in outcomes.iter().enumerate() {
                let times = loaded.state.notes.iter().filter(|note| **note == n.to_string()).count();
                match outcome {
                    Some(outcome) => {
                        assert_eq!(times, 1);
                        assert_eq!(outcome.state.notes.last(), Some(&n.to_string()));
                        let there = accounts.load_at(ID, outcome.version).await.expect("loads");
                        assert_eq!(outcome.state, there.state);
                    }
                    None => {
                        assert!(n == victim && times <= 1, "{n} is there {times} times");
                        recorded[times] += 1;
                    }
                }
            }
        }
    }
    assert!(recorded[0] > 4 && recorded[1] > 4, "some are recorded, and some are not: {recorded:?}");
}

/// Whatever was not decided when it was dropped is not recorded.
#[tokio::test(start_paused = true)]
async fn a_command_that_is_dropped_while_it_waits_is_not_recorded() {
    let (gate, accounts) = gated::<Account>();
    gate.close();
    let mut head = one(&accounts, "head");
    poll_until(&mut [&mut head], || gate.appends() == [1]).await;
    let (mut dropped, mut next) = (one(&accounts, "dropped"), one(&accounts, "next"));
    assert!(is_pending(&mut dropped).await && is_pending(&mut next).await);
    drop(dropped);
    gate.open();
    let (head, next) = join(head, next).await;
    assert_eq!(head.expect("accepted").state.notes, ["head"]);
    assert_eq!(next.expect("accepted").state.notes, ["head", "next"]);
    assert_eq!(accounts.load(ID).await.expect("loads").state.notes, ["head", "next"]);
}

/// A conflict makes the decisions of a group void, and a command that was dropped cannot decide again.
#[tokio::test(start_paused = true)]
async fn a_command_that_is_dropped_before_its_group_loses_a_race_is_not_recorded() {
    let store = MemoryStore::new();
    let gate = Gate::new(Arc::new(store.clone()));
    let (accounts, others) = (on::<Account>(&gate), on::<Account>(&Gate::new(Arc::new(store))));
    gate.close();
    let mut head = one(&accounts, "head");
    poll_until(&mut [&mut head], || gate.appends() == [1]).await;
    let (mut dropped, mut next) = (one(&accounts, "dropped"), one(&accounts, "next"));
    assert!(is_pending(&mut dropped).await && is_pending(&mut next).await);
    gate.open();
    head.await.expect("accepted");
    gate.close();
    poll_until(&mut [&mut dropped, &mut next], || gate.appends() == [2]).await;
    others.execute(ID, Deposit::one(1, "other")).await.expect("accepted");
    drop(dropped);
    gate.open();
    assert_eq!(next.await.expect("accepted").state.notes, ["head", "other", "next"]);
    assert_eq!(accounts.load(ID).await.expect("loads").state.notes, ["head", "other", "next"]);
}

/// A future that is kept, but no longer polled, as in a `select!` whose other branch runs.
#[tokio::test(start_paused = true)]
async fn a_first_command_that_is_no_longer_polled_is_waited_for_with_patience() {
    let (gate, accounts) = gated::<Account>();
    gate.close();
    let mut kept = one(&accounts, "kept");
    poll_until(&mut [&mut kept], || gate.appends() == [1]).await;
    gate.open();
    let start = Instant::now();
    let done = join(one(&accounts, "a"), one(&accounts, "b")).await;
    assert!(done.0.is_ok() && done.1.is_ok());
    assert!(start.elapsed() <= PATIENCE, "{:?}", start.elapsed());
    // Those that come later do not wait for it again.
    let start = Instant::now();
    let done = join(one(&accounts, "c"), one(&accounts, "d")).await;
    assert!(done.0.is_ok() && done.1.is_ok());
    assert!(start.elapsed() <= PATIENCE, "{:?}", start.elapsed());
    let kept = kept.await.expect("is still executed");
    assert_eq!(kept.state.balance, 5);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_no_longer_polled_stops_no_one() {
    // However often it was polled: before it decides, and while its commit is being written.
    for polls in 1..12 {
        let (gate, accounts) = gated::<Account>();
        gate.close();
        let mut head = one(&accounts, "head");
        poll_until(&mut [&mut head], || gate.appends() == [1]).await;
        let (mut kept, mut next) = (one(&accounts, "kept"), one(&accounts, "next"));
        assert!(is_pending(&mut kept).await && is_pending(&mut next).await);
        gate.open();
        let start = Instant::now();
        head.await.expect("accepted");
        for _ in 1..polls {
            if !is_pending(&mut kept).await {
                break;
            }
        }
        let next = next.await.expect("accepted");
        let later = one(&accounts, "later").await.expect("accepted");
        assert_eq!(start.elapsed(), Duration::ZERO, "polled {polls} times");
        assert!(next.state.notes.contains(&"next".to_owned()) && later.state.balance >= 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_includes_the_time_in_the_queue() {
    let (gate, accounts) = gated::<Account>();
    let limit = Duration::from_millis(100);
    let hurried = |note: &str| -> Running<'static> {
        let (accounts, command) = (accounts.clone(), Deposit::one(1, note));
        Box::pin(
            async move { accounts.with_metadata(Metadata::new()).deadline(limit).execute(ID, command).await },
        )
    };
    gate.close();
    let mut head = one(&accounts, "head");
    poll_until(&mut [&mut head], || gate.appends() == [1]).await;

    // Not decided.
    let start = Instant::now();
    let error = hurried("waits").await.expect_err("is late");
    assert!(error.deadline_exceeded().is_some() && !error.is_outcome_unknown(), "{error:?}");
    assert_eq!(start.elapsed().as_millis(), 100);

    // Decided, and sent.
    let mut sent = hurried("sent");
    assert!(is_pending(&mut sent).await);
    gate.open();
    head.await.expect("accepted");
    gate.close();
    poll_until(&mut [&mut sent], || gate.appends() == [1]).await;

    // This command has been decided but not sent. Decisions that depend on it are made again.
    let mut queued = hurried("queued");
    let mut after = one(&accounts, "after");
    let mut rejected: Running<'_> = Box::pin(accounts.execute(ID, Withdraw { cents: 4 }));
    for future in [&mut queued, &mut after, &mut rejected] {
        assert!(is_pending(future).await);
    }
    let ((sent, queued), after_pending) = (join(sent, queued).await, is_pending(&mut after).await);
    assert!(after_pending);
    let (sent, queued) = (sent.expect_err("is late"), queued.expect_err("is late"));
    assert!(sent.deadline_exceeded().is_some() && sent.is_outcome_unknown(), "{sent:?}");
    assert!(queued.deadline_exceeded().is_some() && !queued.is_outcome_unknown(), "{queued:?}");
    gate.open();
    let (after, rejected) = join(after, rejected).await;
    assert_eq!(after.expect("accepted").state.notes, ["head", "sent", "after"]);
    assert_eq!(rejected.expect_err("too little").rejection(), Some(&Overdrawn { balance: 3 }));
    assert_eq!(accounts.load(ID).await.expect("loads").state.notes, ["head", "sent", "after"]);
}

/// The order of arrival is the order in the stream, also of more commands than fit in a group.
#[tokio::test(start_paused = true)]
async fn commands_are_executed_in_their_order() {
    let (gate, accounts) = gated::<Account>();
    let commands = (0..350).map(|n| one(&accounts, &n.to_string()));
    let outcomes = join_all(commands).await;
    let versions = outcomes.into_iter().map(|outcome| outcome.expect("accepted").version);
    assert!(versions.is_sorted());
    assert_eq!(gate.appends(), [1, 100, 100, 100, 49]);
}

/// Clients that go on and on do not keep others from being executed.
#[tokio::test(start_paused = true)]
async fn no_command_is_passed_over() {
    let (_, accounts) = gated::<Account>();
    let clients: Vec<_> = (0..150)
        .map(|client| {
            let accounts = accounts.clone();
            tokio::spawn(async move {
                let mut passed = 0;
                for n in 0..10 {
                    let before = accounts.version(ID).await.expect("is read");
                    let done = one(&accounts, &format!("{client}.{n}")).await.expect("accepted");
                    passed = passed.max(done.version.since(before));
                }
                passed
            })
        })
        .collect();
    for client in join_all(clients).await {
        let passed = client.expect("does not panic");
        assert!(passed <= 3 * 150, "{passed} commands were executed meanwhile");
    }
    assert_eq!(accounts.load(ID).await.expect("loads").version, Version::new(1_500));
}

#[tokio::test(start_paused = true)]
async fn rejections_share_their_verification() {
    let (gate, accounts) = gated::<Account>();
    let commands = (0..32).map(|n| accounts.execute(ID, Withdraw { cents: 1 + n }));
    for outcome in join_all(commands).await {
        assert_eq!(outcome.expect_err("rejected").rejection(), Some(&Overdrawn { balance: 0 }));
    }
    assert_eq!((gate.appends(), gate.reads()), (vec![], 2), "a load, and a read that verifies the others");
}

/// A command that is rejected or has nothing to do is decided again if another process has appended events.
#[tokio::test(start_paused = true)]
async fn a_rejection_on_an_outdated_state_is_decided_again() {
    let (gate, accounts) = gated::<Account>();
    let mut head = one(&accounts, "head");
    assert!(is_pending(&mut head).await);
    let mut withdrawal: Running<'_> = Box::pin(accounts.execute(ID, Withdraw { cents: 3 }));
    let mut nothing: Running<'_> = Box::pin(accounts.execute(ID, RequireBalance { cents: 3 }));
    assert!(is_pending(&mut withdrawal).await && is_pending(&mut nothing).await);
    head.await.expect("accepted");
    // Another process deposits, after the head's write and before the verification.
    let others: Repository<Account> = on(&gate);
    others.execute(ID, Deposit::one(5, "other")).await.expect("accepted");
    let (nothing, withdrawal) = join(nothing, withdrawal).await;
    assert_eq!(withdrawal.expect("accepted").state.balance, 3);
    assert_eq!(nothing.expect("has nothing to do").version, Version::new(3));
}

/// A state that cannot be copied.
#[derive(Aggregate, Debug, Default)]
#[aggregate(name = "sealed", id = String, events(Filled))]
struct Sealed {
    filled: u32,
}

impl Apply<Filled> for Sealed {
    fn apply(&mut self, _: &Filled) {
        self.filled += 1;
    }
}

impl Handle<Fill> for Sealed {
    type Error = Infallible;

    fn handle(&self, command: &Fill, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        Ok(Filled { n: command.n, breaks: false }.into())
    }
}

#[tokio::test(start_paused = true)]
async fn aggregates_that_cannot_be_copied_race() {
    assert!(Sealed::default().try_clone().is_none() && Vase::default().try_clone().is_some());
    let (gate, sealed) = gated::<Sealed>();
    let commands = (0..8).map(|n| sealed.execute(ID, Fill { n, breaks: false, panics: false }));
    assert!(join_all(commands).await.iter().all(Result::is_ok));
    assert_eq!(sealed.load(ID).await.expect("loads").state.filled, 8);
    assert!(gate.appends().iter().all(|commits| *commits == 1));
}

/// A repository of any aggregate is `Send` and `Sync`, with its groups.
#[test]
fn futures_of_commands_are_send() {
    fn is_send<T: Send>(_: &T) {}
    let accounts: Repository<Account> = Repository::new(MemoryStore::new());
    is_send(&accounts.execute(ID, Withdraw { cents: 1 }));
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    is_send(&Repository::<Vase>::new(store).execute(ID, Fill { n: 1, breaks: false, panics: false }));
}
