//! The driver of a lane: the requests that it sends, and what follows from their results.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_util::FutureExt;

use super::state::{Failure, State, Step, Ticket};
use crate::aggregate::Aggregate;
use crate::clock::Clock;
use crate::cost::Cost;
use crate::measure;
use crate::repository::Inner;
use crate::repository::execution::MAX_FOLLOWED;
use crate::repository::loading::Fold;
use crate::repository::retry::Deadline;
use crate::store::{Append, Conflict, NewCommit, StoreError, WriteError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// How often the timer of a lane wakes its members, so that they notice one that does not go on.
const TICK: Duration = Duration::from_millis(500);

/// Commands that target the same aggregate at the same time.
pub(super) struct Lane<A> {
    stream: StreamId,
    state: Mutex<State<A>>,
    driver: Mutex<Driver>,
    /// Whether a member found the driver in use.
    missed: AtomicBool,
}

/// What the members of a lane drive together: whichever of them is polled polls this.
#[derive(Default)]
struct Driver {
    /// The request in flight.
    job: Option<BoxFuture<'static, ()>>,
    tick: Option<BoxFuture<'static, ()>>,
    /// Completes at the next deadline of a member.
    alarm: Option<(Duration, BoxFuture<'static, ()>)>,
}

impl<A: Aggregate> Lane<A> {
    pub(super) fn new(stream: StreamId) -> Self {
        let (state, driver) = (Mutex::new(State::new()), Mutex::default());
        Self { stream, state, driver, missed: AtomicBool::new(false) }
    }

    pub(super) fn stream(&self) -> &StreamId {
        &self.stream
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State<A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over from the head, with its state if that is known.
    pub(super) fn take_over(&self, fold: Option<Fold<A>>) {
        self.state().take_over(fold);
        self.wake_all();
    }

    /// Drops the request in flight: no member is left that waits for it.
    pub(super) fn stop(&self) {
        // Dropped outside the lock.
        let _driver = std::mem::take(&mut *self.driver.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn wake_all(&self) {
        let wakers = self.state().take_wakers();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Sends the requests of the lane, on behalf of the member `ticket`, which is being polled.
    pub(super) fn drive(
        self: &Arc<Self>,
        inner: &Arc<Inner<A>>,
        ticket: Ticket,
        deadline: Deadline,
        context: &mut Context<'_>,
    ) {
        // A member that finds the driver in use may have been woken for it. Its polls must not be lost, even if the
        // member that uses the driver is not polled again.
        self.missed.store(true, Ordering::SeqCst);
        let mut driver = match self.driver.try_lock() {
            Ok(driver) => driver,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        self.missed.store(false, Ordering::SeqCst);
        // Progress wakes all members, because any of them may be the only one that is still polled.
        let waker = Waker::from(Arc::clone(self));
        let mut for_all = Context::from_waker(&waker);
        loop {
            match &mut driver.job {
                Some(job) => match job.poll_unpin(&mut for_all) {
                    Poll::Ready(()) => driver.job = None,
                    Poll::Pending => break,
                },
                None => {
                    let step = self.state().next_step(ticket);
                    match step {
                        None => break,
                        Some(Step::PollAgain) => {
                            context.waker().wake_by_ref();
                            break;
                        }
                        Some(Step::WakeAll) => self.wake_all(),
                        Some(step) => {
                            let work = Work { lane: Arc::clone(self), inner: Arc::clone(inner) };
                            driver.job = Some(work.carry_out(step).boxed());
                        }
                    }
                }
            }
        }
        self.poll_timers(&mut driver, &inner.clock, deadline, &mut for_all);
        drop(driver);
        if self.missed.swap(false, Ordering::SeqCst) {
            self.wake_all();
        }
    }

    fn poll_timers(
        &self,
        driver: &mut Driver,
        clock: &Arc<dyn Clock>,
        deadline: Deadline,
        context: &mut Context<'_>,
    ) {
        let tick = driver.tick.get_or_insert_with(|| after(clock, TICK));
        let mut fired = tick.poll_unpin(context).is_ready();
        if fired {
            driver.tick = None;
            self.state().ticks += 1;
        }
        // A later deadline is noticed at a tick.
        if let Some((end, left)) = deadline.end(&**clock)
            && left < TICK
            && driver.alarm.as_ref().is_none_or(|(earlier, _)| end < *earlier)
        {
            driver.alarm = Some((end, after(clock, left)));
        }
        if let Some((_, alarm)) = &mut driver.alarm
            && alarm.poll_unpin(context).is_ready()
        {
            driver.alarm = None;
            fired = true;
        }
        if fired {
            self.wake_all();
        }
    }
}

fn after(clock: &Arc<dyn Clock>, duration: Duration) -> BoxFuture<'static, ()> {
    let clock = Arc::clone(clock);
    async move { clock.timeout(duration).await }.boxed()
}

/// Wakes all members.
impl<A: Aggregate> Wake for Lane<A> {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
}

/// A request of a lane.
struct Work<A> {
    lane: Arc<Lane<A>>,
    inner: Arc<Inner<A>>,
}

impl<A: Aggregate> Work<A> {
    /// Sends a request, and ends or goes on with the members that wait for it. A panic, which can only come from the
    /// aggregate or the store, is left to the members: each of them is executed alone then, and meets it or not.
    async fn carry_out(self, step: Step) {
        let done = AssertUnwindSafe(async {
            match step {
                Step::Load { deadline } => self.load(deadline).await,
                Step::Write { after, commits, deadline } => self.write(after, commits, deadline).await,
                Step::Confirm { deadline } => self.confirm(deadline).await,
                Step::PollAgain | Step::WakeAll => {}
            }
        });
        if done.catch_unwind().await.is_err() {
            self.lane.state().part();
        }
        self.lane.wake_all();
    }

    /// Loads the state: a cached one, which may be outdated, or one from the store.
    async fn load(&self, deadline: Deadline) {
        let (inner, stream) = (&*self.inner, self.lane.stream());
        if let Some(cached) = inner.cached(stream) {
            return self.lane.state().set_base(cached, 0);
        }
        let (request, mut fold) = (self.lane.state().next_request(), Fold::new());
        let loaded = inner.load_to_decide(&mut fold, stream, deadline).await;
        self.loaded(fold, loaded, if inner.eventual { 0 } else { request });
    }

    /// Reads whether the base is current. If it is not, all members decide again.
    async fn confirm(&self, deadline: Deadline) {
        let request = self.lane.state().next_request();
        let (mut fold, read) = self.read_on(deadline).await;
        let mut state = self.lane.state();
        match read {
            Ok(()) if state.base().is_some_and(|(base, _)| base.version == fold.version) => {
                state.add_cost(std::mem::take(&mut fold.cost));
                state.confirmed(request);
            }
            Err(error) => {
                state.add_cost(fold.cost);
                state.fail_refused(Failure::Store(error));
            }
            read => {
                drop(state);
                self.loaded(fold, read, request);
            }
        }
    }

    /// Reads the events after the base, into a copy of it.
    async fn read_on(&self, deadline: Deadline) -> (Fold<A>, Result<(), StoreError>) {
        let (inner, stream) = (&*self.inner, self.lane.stream());
        let mut fold = self.copy_of_base().unwrap_or_else(Fold::new);
        // A snapshot may replace the initial state.
        let read = match fold.version.is_none() {
            true => inner.load_cold(&mut fold, stream, deadline).await,
            false => inner.catch_up(&mut fold, stream, deadline).await,
        };
        if read.is_ok() {
            inner.remember(stream, &fold, fold.snapshot);
        }
        (fold, read)
    }

    fn copy_of_base(&self) -> Option<Fold<A>> {
        let (base, snapshot) = self.lane.state().base()?;
        let copy = base.try_clone()?;
        Some(Fold { snapshot, ..copy })
    }

    fn loaded(&self, mut fold: Fold<A>, read: Result<(), StoreError>, confirmed: u64) {
        let mut state = self.lane.state();
        state.add_cost(std::mem::take(&mut fold.cost));
        match read {
            Ok(()) => state.set_base(fold, confirmed),
            Err(error) => state.fail_undecided(Failure::Store(error)),
        }
    }

    async fn write(&self, after: Version, commits: Vec<NewCommit>, deadline: Deadline) {
        let count = commits.len();
        let mut commits = commits.into_iter();
        let Some(first) = commits.next() else { return };
        let append = Append::after_loaded(self.lane.stream().clone(), after, first).with_following(commits);
        let mut cost = Cost::ZERO;
        let send = async || Ok(self.inner.store.append(&append).await?.cost);
        let written = self.inner.retrying(deadline).write(&mut cost, send).await;
        self.lane.state().add_cost(cost);
        match written {
            Ok(()) => self.recorded(&append),
            Err(WriteError::Conflict(conflict)) => self.lost(conflict, deadline).await,
            // Executed alone, a command with an invalid commit is verified to be decided on the latest state.
            Err(WriteError::Store(StoreError::Invalid { .. })) => self.lane.state().part_sent(),
            Err(WriteError::Store(error)) if count == 1 || error.is_transient() => {
                self.lane.state().fail_sent(Failure::Store(error));
            }
            // One of the commits is at fault, and the others are not.
            Err(_) => self.lane.state().part_sent(),
        }
    }

    /// Ends the members of the group, and takes a snapshot if one is due.
    fn recorded(&self, append: &Append) {
        let (inner, stream) = (&*self.inner, self.lane.stream());
        let Some((fold, mut snapshot)) = self.lane.state().recorded(append.commits()) else { return };
        measure::group(A::NAME, append.commits().len());
        tracing::debug!(%stream, commits = append.commits().len(), version = %fold.version, "wrote commits together");
        snapshot = inner.take_snapshot(stream, &fold, snapshot);
        inner.remember(stream, &fold, snapshot);
        self.lane.state().set_snapshot(snapshot);
    }

    /// Goes on after the commits that won the race: with those that the conflict contains, or after a delay and a read.
    async fn lost(&self, conflict: Conflict, deadline: Deadline) {
        let inner = &*self.inner;
        measure::conflict(A::NAME);
        let (losers, followed) = self.lane.state().lost();
        if inner.retry.allows_another(1)
            && followed < MAX_FOLLOWED
            && let Some(mut fold) = self.copy_of_base()
            && fold.follow(&conflict.commits)
        {
            return self.lane.state().follow(fold);
        }
        let delay = {
            let mut state = self.lane.state();
            let delay = inner.retry.delay_after(state.next_round());
            state.end_losers(&losers, |rounds, deadline| {
                if !inner.retry.allows_another(rounds) {
                    return Some(Failure::Conflict(conflict.clone()));
                }
                let is_late = !deadline.allows(delay, &*inner.clock);
                is_late.then(|| Failure::Store(deadline.exceeded().with_last(conflict.clone()).into()))
            });
            delay
        };
        if !self.lane.state().is_waited_for() {
            return self.lane.state().forget();
        }
        self.lane.wake_all();
        inner.clock.sleep(delay).await;
        let request = self.lane.state().next_request();
        let (fold, read) = self.read_on(deadline).await;
        self.loaded(fold, read, request);
    }
}
