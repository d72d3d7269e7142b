//! Workers: each takes its share of the slices and processes them concurrently.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures_core::future::BoxFuture;
use futures_util::future::{Either, FutureExt, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use uuid::Uuid;

use super::Inner;
use super::consumer::{self, Running};
use super::failure::Failure;
use super::held::{Ended, Open};
use super::reservation::Reservation;
use super::state::{Closed, Names, Overview, Revised, Sign, SliceState, Slot, encode};
use super::stop::{Signals, Stop, either};
use crate::documents::{ChangeError, ChangeSet, ExpectedDocument, ObservedLeases, Revision};
use crate::error_text::error_text;
use crate::feed::{EventFilter, Slice, Slices};
use crate::measure::{self, SliceGauges};
use crate::projection::guard::caught;
use crate::projection::{Projection, ProjectorError, registry};
use crate::store::StoreError;

/// The number of leases for which a worker avoids a slot that it could not process.
const AVOIDED_LEASES: u32 = 3;

/// The number of leases for which a slot does not count toward the share of a worker that takes it because no other
/// worker did.
const EXTRA_LEASES: u32 = 10;

/// Runs until a signal. After `stop`, it runs for `timeout` at most, if there is one: dropping the work has the effect
/// of a crash.
pub(super) async fn run<P: Projection>(
    inner: &Arc<Inner<P>>,
    signals: &Signals,
    timeout: Option<Duration>,
) -> Result<(), ProjectorError> {
    let work = work(inner, signals);
    let Some(timeout) = timeout else { return work.await };
    let limit = pin!(async {
        signals.stop.wait().await;
        inner.settings.clock.timeout(timeout).await;
    });
    match select(pin!(work), limit).await {
        Either::Left((worked, _)) => worked,
        Either::Right(_) => {
            tracing::warn!(
                projection = inner.name,
                ?timeout,
                "a worker did not stop within the shutdown timeout and is dropped; its slices are free when the lease expires"
            );
            Ok(())
        }
    }
}

async fn work<P: Projection>(inner: &Arc<Inner<P>>, signals: &Signals) -> Result<(), ProjectorError> {
    let names = inner.names()?;
    let reservation = Reservation::of(inner)?;
    let Some(initial) = prepare(inner, &signals.stop).await? else { return Ok(()) };
    let worker = Worker {
        inner: Arc::clone(inner),
        names,
        id: inner.settings.ids.new_id(),
        reservation,
        initial,
        slices: initial.iter().collect(),
        filter: caught(|| inner.projection.filter()).ok(),
        has_looked: false,
        active: 1,
        finished: BTreeSet::new(),
        seen: ObservedLeases::new(inner.settings.lease),
        announced: BTreeMap::new(),
        stopped: BTreeMap::new(),
        free: BTreeMap::new(),
        avoided: BTreeMap::new(),
        running: BTreeMap::new(),
    };
    worker.run(signals).await
}

/// Registers the projection, and returns the initial slices of the feed, or `None` if the worker was stopped before the
/// store responded.
async fn prepare<P: Projection>(inner: &Inner<P>, stop: &Stop) -> Result<Option<Slices>, ProjectorError> {
    let mut attempts = 0;
    while !stop.is_set() {
        match slices(inner).await {
            Err(error) if error.is_transient() => {
                attempts += 1;
                let wait = inner.settings.retry.delay_after(attempts).max(inner.settings.poll);
                wait_out(inner, &error, wait);
                stop.sleep(&*inner.settings.clock, wait).await;
            }
            slices => {
                inner.delays.passed(None);
                return slices.map(Some);
            }
        }
    }
    Ok(None)
}

async fn slices<P: Projection>(inner: &Inner<P>) -> Result<Slices, ProjectorError> {
    let id = inner.settings.ids.new_id();
    registry::register(&*inner.store, &inner.name, &inner.projection, id).await?;
    Ok(inner.store.slices().await?)
}

/// Records and logs that a worker waits before the next request.
fn wait_out<P: Projection>(inner: &Inner<P>, error: &ProjectorError, wait: Duration) {
    let error = error_text(error);
    if inner.delays.failed(None, None, &error, wait, &*inner.settings.clock) {
        tracing::warn!(projection = inner.name, error, "waiting for the store");
    }
}

/// Runs `work` while the consumers continue, because `work` may wait for their requests. Also returns the
/// consumers that ended.
async fn beside<F: Future<Output = (Slot, Ended)>, T>(
    consumers: &mut FuturesUnordered<F>,
    work: impl Future<Output = T>,
) -> (T, Vec<(Slot, Ended)>) {
    let mut work = pin!(work);
    let mut all = Vec::new();
    while !consumers.is_empty() {
        match select(work.as_mut(), consumers.next()).await {
            Either::Left((done, _)) => return (done, all),
            Either::Right((ended, _)) => all.extend(ended),
        }
    }
    (work.await, all)
}

struct Worker<P> {
    inner: Arc<Inner<P>>,
    names: Names,
    id: Uuid,
    reservation: Reservation,
    initial: Slices,
    /// The slices that the active build has reached.
    slices: Vec<Slice>,
    /// The events that its code accepts, unless determining them panics.
    filter: Option<EventFilter>,
    has_looked: bool,
    /// The active build.
    active: u32,
    /// The slots that were split and that this worker, with its code, has found finished.
    finished: BTreeSet<Slot>,
    // Points in time are of the monotonic clock, because the wall clock may step.
    /// The heartbeats of the workers, which are their leases.
    seen: ObservedLeases<Uuid>,
    /// The heartbeats of workers whose lease expiry was logged as awaited.
    announced: BTreeMap<Uuid, Revision>,
    /// The stopped slots, with their revision and when that was first seen.
    stopped: BTreeMap<Slot, (Option<Revision>, Duration)>,
    /// The slots without a worker, and the time since which they have none.
    free: BTreeMap<Slot, Duration>,
    /// The slots that this worker leaves to others, and the time until which it does.
    avoided: BTreeMap<Slot, Duration>,
    /// The slots of this worker, with their handles.
    running: BTreeMap<Slot, Arc<Running>>,
}

impl<P: Projection> Worker<P> {
    async fn run(mut self, Signals { stop, finish }: &Signals) -> Result<(), ProjectorError> {
        let inner = Arc::clone(&self.inner);
        let beat = inner.settings.lease / 3;
        let mut consumers = FuturesUnordered::new();
        // Whether the consumers were told to finish.
        let mut is_finishing = false;
        loop {
            let ordered: BoxFuture<'_, ()> = Box::pin(inner.ordered.listen());
            if stop.is_set() {
                break;
            }
            let finishes = finish.is_set();
            let (looked, ended) = beside(&mut consumers, self.look_in_time()).await;
            // Not `any`: every consumer must be recorded.
            let is_outdated =
                ended.into_iter().map(|ended| self.ended(ended)).fold(false, |any, look| any | look);
            match looked {
                Ok(taken) => {
                    if inner.delays.passed(None) {
                        tracing::info!(projection = inner.name, "the store responds again");
                    }
                    if !is_finishing {
                        consumers.extend(self.start(taken));
                    }
                }
                Err(error) if error.is_transient() => wait_out(&inner, &error, beat),
                Err(error) => {
                    self.wind_down(consumers).await;
                    return Err(error);
                }
            }
            if finishes && !is_finishing {
                is_finishing = true;
                self.running.values().for_each(|running| running.finish.set());
            }
            if is_finishing && consumers.is_empty() {
                break;
            }
            if is_outdated {
                continue;
            }
            let pause: BoxFuture<'_, ()> = Box::pin(async {
                let sleep = either(Box::pin(stop.sleep(&*inner.settings.clock, beat)), ordered);
                match is_finishing {
                    true => sleep.await,
                    false => either(Box::pin(sleep), Box::pin(finish.wait())).await,
                }
            });
            let rest = self.attend(&mut consumers, pause).await;
            if !is_finishing {
                rest.await;
            }
        }
        self.wind_down(consumers).await;
        Ok(())
    }

    /// Starts the consumers of slots.
    fn start(&mut self, taken: Vec<Taken>) -> Vec<impl Future<Output = (Slot, Ended)> + Send + use<P>> {
        let mut consumers = Vec::with_capacity(taken.len());
        for Taken { open, extra_until } in taken {
            let slot = open.slot;
            let running = Arc::new(Running::new(extra_until));
            self.running.insert(slot, Arc::clone(&running));
            let consumer = consumer::run(Arc::clone(&self.inner), self.id, open, running);
            consumers.push(consumer.map(move |ended| (slot, ended)));
        }
        consumers
    }

    /// Runs the consumers until `pause` is over, a slot may be free, or all of them have ended. Returns the rest of the
    /// pause.
    async fn attend<'a, F: Future<Output = (Slot, Ended)>>(
        &mut self,
        consumers: &mut FuturesUnordered<F>,
        mut pause: BoxFuture<'a, ()>,
    ) -> BoxFuture<'a, ()> {
        while !consumers.is_empty() {
            match select(consumers.next(), pause).await {
                Either::Left((ended, rest)) => {
                    pause = rest;
                    if ended.is_some_and(|ended| self.ended(ended)) {
                        pause = Box::pin(ready(()));
                    }
                }
                Either::Right(_) => return Box::pin(ready(())),
            }
        }
        pause
    }

    /// Stops the consumers, waits until they have ended, and leaves.
    async fn wind_down<F: Future<Output = (Slot, Ended)>>(&mut self, mut consumers: FuturesUnordered<F>) {
        self.stop_all();
        while let Some(ended) = consumers.next().await {
            let _ = self.ended(ended);
        }
        self.leave().await;
    }

    fn stop_all(&self) {
        self.running.values().for_each(|running| running.stop.set());
    }

    /// Records that the work on a slot ended. Returns whether to look for new work immediately.
    fn ended(&mut self, (slot, ended): (Slot, Ended)) -> bool {
        self.running.remove(&slot);
        let inner = Arc::clone(&self.inner);
        let projection = &inner.name;
        let (build, slice) = (slot.build, slot.slice.get());
        // The slot may be free again, or another slot instead.
        let look = matches!(ended, Ended::Lost | Ended::Contended | Ended::Released);
        let is_failure = !matches!(
            ended,
            Ended::Released | Ended::Lost | Ended::Contended | Ended::Interrupted(_) | Ended::Finished
        );
        if is_failure {
            measure::projection_failure(projection, ended.name());
        }
        match ended {
            Ended::Released => tracing::debug!(projection, build, slice, "released a slice"),
            Ended::Finished => {
                self.finished.insert(slot);
                tracing::info!(projection, build, slice, "finished a slice that was split");
            }
            Ended::Lost | Ended::Contended | Ended::Interrupted(_) => {
                tracing::info!(projection, build, slice, "another worker took over the slice");
            }
            Ended::Stalled(reason) => {
                self.avoid(slot);
                tracing::warn!(
                    projection,
                    build,
                    slice,
                    reason,
                    "a slice makes no progress and is released for other workers"
                );
            }
            Ended::Failed(failure) | Ended::Rejected(failure) => log_stopped(projection, slot, &failure),
            Ended::Panicked(error) => {
                self.avoid(slot);
                self.delay(slot, &error.to_string());
                tracing::error!(projection, build, slice, %error, "the work on a slice panicked");
            }
            Ended::Error(error) => {
                self.avoid(slot);
                let error = error_text(&error);
                self.delay(slot, &error);
                tracing::error!(projection, build, slice, error, "a slice cannot be processed");
            }
        }
        look
    }

    /// Leaves a slot to other workers for some leases, if there are any.
    fn avoid(&mut self, slot: Slot) {
        if self.seen.len() > 1 {
            let time = self.inner.settings.lease.saturating_mul(AVOIDED_LEASES);
            self.avoided.insert(slot, self.now().saturating_add(time));
        }
    }

    /// Records that a slot waits for the next attempt, which begins at a heartbeat.
    fn delay(&self, slot: Slot, error: &str) {
        let Inner { delays, settings, .. } = &*self.inner;
        delays.failed(Some(slot), None, error, settings.lease / 3, &*settings.clock);
    }

    fn now(&self) -> Duration {
        self.inner.settings.clock.monotonic()
    }

    /// Looks for work, for the duration of a lease at most, because a request may never be answered.
    async fn look_in_time(&mut self) -> Result<Vec<Taken>, ProjectorError> {
        let inner = Arc::clone(&self.inner);
        let lease = inner.settings.lease;
        match select(pin!(self.look()), inner.settings.clock.timeout(lease)).await {
            Either::Left((looked, _)) => looked,
            Either::Right(_) => {
                let reason = format!("a request has had no response for {lease:?}");
                Err(StoreError::unavailable(reason).into())
            }
        }
    }

    /// Sends a heartbeat and looks for work. Returns the slots to start, and stops those that now belong to other
    /// workers.
    async fn look(&mut self) -> Result<Vec<Taken>, ProjectorError> {
        self.measure_lag();
        self.give_sign().await?;
        // Read before the overview, which then includes them.
        let taken = self.running.iter().filter(|(_, running)| running.is_taken());
        let taken: BTreeSet<Slot> = taken.map(|(slot, _)| *slot).collect();
        let overview = Overview::read(&*self.inner.store, &self.names).await?;
        self.reservation.check(&overview.runs)?;
        self.watch(&overview).await;
        self.active = overview.control.active;
        self.slices = overview.reachable(self.initial, self.active);
        self.measure(&overview);
        if overview.control.paused {
            self.stop_all();
            return Ok(Vec::new());
        }
        let slots = self.slots(&overview);
        let now = self.now();
        // How many more slots this worker may process.
        let left = [Load::Open, Load::Draining].map(|load| {
            let count = slots.values().filter(|other| **other == load).count();
            (load, self.seen.share(&self.id, count))
        });
        let mut left: BTreeMap<Load, usize> = left.into();
        for (slot, running) in &self.running {
            running.set_has_others(self.seen.len() > 1);
            let lost = taken.contains(slot) && overview.slice(*slot).value.owner != Some(self.id);
            let load = slots.get(slot).filter(|_| running.extra_until <= now);
            let left = load.and_then(|load| left.get_mut(load));
            if lost || !slots.contains_key(slot) || left.as_ref().is_some_and(|left| **left == 0) {
                running.stop.set();
            }
            if let Some(left) = left.filter(|_| !running.stop.is_set()) {
                *left -= 1;
            }
        }
        let free = self.find_free(&slots, &overview, now);
        if free.len() < left.values().sum() {
            self.announce(&overview, now);
        }
        self.has_looked = true;
        Ok(self.choose(free, &slots, left, now))
    }

    /// Returns the slots to process.
    fn slots(&self, overview: &Overview) -> BTreeMap<Slot, Load> {
        let mut slots = BTreeMap::new();
        for build in overview.control.builds() {
            for slice in overview.reachable(self.initial, build) {
                let slot = Slot { build, slice };
                let state = overview.slice(slot).value;
                let load = match state.closed {
                    None => Load::Open,
                    Some(Closed::Finished) if !state.replay => Load::Finished,
                    Some(_) => Load::Draining,
                };
                if load != Load::Finished || !self.finished.contains(&slot) {
                    slots.insert(slot, load);
                }
            }
        }
        slots
    }

    /// Records the metrics of the slices that this worker processes, in the active build.
    fn measure_lag(&self) {
        if !cfg!(feature = "metrics") {
            return;
        }
        let projection = self.inner.name.as_str();
        let (now, mut processed) = (self.inner.settings.clock.now(), 0);
        for slice in self.slices.iter().copied() {
            let running = self.running.get(&Slot { build: self.active, slice });
            let oldest = running.and_then(|running| running.oldest());
            let lag = oldest.map_or(TimeDelta::zero(), |oldest| now - oldest);
            SliceGauges { projection, slice: slice.get() }.lag(lag);
            processed += usize::from(running.is_some());
        }
        measure::slices(projection, processed);
    }

    /// Records the metrics of all slices, in the active build.
    fn measure(&self, overview: &Overview) {
        if !cfg!(feature = "metrics") {
            return;
        }
        for slice in self.slices.iter().copied() {
            let gauges = SliceGauges { projection: &self.inner.name, slice: slice.get() };
            let state = overview.slice(Slot { build: self.active, slice }).value;
            gauges.parked(state.parked);
            gauges.stopped(state.failure.is_some());
        }
    }

    /// Returns the slots to take: those without a worker that are not stopped or are due for a retry.
    fn find_free(&mut self, slots: &BTreeMap<Slot, Load>, overview: &Overview, now: Duration) -> Vec<Taken> {
        let is_stopped = |slot: &Slot| overview.slice(*slot).value.failure.is_some();
        self.stopped.retain(|slot, _| is_stopped(slot));
        self.avoided.retain(|_, until| *until > now);
        let mut free = Vec::new();
        for slot in slots.keys() {
            let state = overview.slice(*slot);
            let owner = state.value.owner.filter(|owner| *owner != self.id);
            let is_owned = owner.is_some_and(|owner| self.seen.contains(&owner));
            if !is_owned && !self.running.contains_key(slot) && self.may_try(*slot, &state, now) {
                let parent = self.initial.parent(slot.slice).map(|slice| Slot { slice, ..*slot });
                let ancestors = self.initial.ancestors(slot.slice).map(|slice| {
                    let ancestor = Slot { slice, ..*slot };
                    (slice, overview.slice(ancestor).value.position)
                });
                let open = Open {
                    slot: *slot,
                    state,
                    parent: parent.map(|parent| (parent, overview.slice(parent))),
                    ancestors: ancestors.collect(),
                };
                free.push(Taken { open, extra_until: Duration::ZERO });
            }
        }
        let is_free = |slot: &Slot| free.iter().any(|free| free.open.slot == *slot);
        self.free.retain(|slot, _| is_free(slot));
        for Taken { open, .. } in &free {
            self.free.entry(open.slot).or_insert(now);
        }
        let is_others = |slot: Slot| {
            let owner = overview.slice(slot).value.owner;
            owner.is_some_and(|owner| owner != self.id && self.seen.contains(&owner))
        };
        self.inner.delays.retain(|slot| slots.contains_key(&slot) && !is_others(slot));
        free.retain(|free| !self.avoided.contains_key(&free.open.slot));
        free
    }

    /// Returns whether a slot is not stopped or is due for a retry. The time since it stopped is measured from
    /// when this worker first saw it, because clocks differ. A worker that starts retries immediately, because it
    /// may run different code. A slice that stopped at an event of a newer schema version waits for code that
    /// reads it.
    fn may_try(&mut self, slot: Slot, state: &Revised<SliceState>, now: Duration) -> bool {
        let Some(failure) = &state.value.failure else { return true };
        if let Some(is_read) = self.filter.as_ref().and_then(|filter| failure.is_read_by(filter)) {
            return is_read;
        }
        let seen = self.stopped.entry(slot).or_insert((state.revision, now));
        if seen.0 != state.revision {
            *seen = (state.revision, now);
        }
        let passed = now.saturating_sub(seen.1);
        !self.has_looked || failure.retry_after().is_some_and(|after| passed >= after)
    }

    /// Returns the slots to take: as many of each load as are `left` of the share, all that are finished, and those that
    /// no worker has taken for the duration of a lease.
    fn choose(
        &self,
        free: Vec<Taken>,
        slots: &BTreeMap<Slot, Load>,
        mut left: BTreeMap<Load, usize>,
        now: Duration,
    ) -> Vec<Taken> {
        let lease = self.inner.settings.lease;
        let mut chosen = Vec::new();
        for mut taken in free {
            let slot = taken.open.slot;
            let since = self.free.get(&slot).copied().unwrap_or(now);
            match slots.get(&slot).and_then(|load| left.get_mut(load)) {
                Some(left) if *left > 0 => *left -= 1,
                Some(_) if now.saturating_sub(since) < lease => continue,
                _ => taken.extra_until = now.saturating_add(lease.saturating_mul(EXTRA_LEASES)),
            }
            chosen.push(taken);
        }
        chosen
    }

    /// Logs each lease whose expiry this worker awaits, once.
    fn announce(&mut self, overview: &Overview, now: Duration) {
        let lease = self.inner.settings.lease;
        for (owner, revision, unchanged) in self.seen.iter(now) {
            // A live worker sends three heartbeats per lease.
            if *owner == self.id || unchanged <= lease / 2 {
                continue;
            }
            if self.announced.insert(*owner, revision) == Some(revision) {
                continue;
            }
            let slices = overview.slices.values().filter(|state| state.value.owner == Some(*owner)).count();
            if slices > 0 {
                tracing::info!(
                    projection = self.inner.name,
                    %owner,
                    slices,
                    time_left = ?lease.saturating_sub(unchanged),
                    "waiting for the lease of an unresponsive worker to expire"
                );
            }
        }
        self.announced.retain(|owner, _| self.seen.contains(owner));
    }

    /// Records heartbeats. A worker without a heartbeat for the duration of a lease is removed.
    async fn watch(&mut self, overview: &Overview) {
        let now = self.now();
        self.seen.observe(overview.workers.iter().map(|(worker, revision)| (*worker, *revision)), now);
        let expired = self.seen.expired(now).map(|(worker, revision)| (*worker, revision));
        let expired: Vec<_> = expired.filter(|(worker, _)| *worker != self.id).collect();
        for (worker, revision) in expired {
            self.seen.remove(&worker);
            let set = self.changes().delete(self.names.worker(worker), ExpectedDocument::At(revision));
            // If the worker is alive after all, its heartbeat has changed and is not deleted.
            let _ = self.inner.store.change(&set).await;
        }
    }

    async fn give_sign(&self) -> Result<(), ProjectorError> {
        let sign = encode(&Sign::new(self.reservation.run(), self.inner.delays.all()))?;
        let set = self.changes().put(self.names.worker(self.id), ExpectedDocument::Any, sign);
        Ok(self.inner.store.change(&set).await.map_err(ChangeError::into_store_error)?)
    }

    async fn leave(&mut self) {
        self.running.clear();
        self.measure_lag();
        let set = self.changes().delete(self.names.worker(self.id), ExpectedDocument::Any);
        if let Err(error) = self.inner.store.change(&set).await {
            tracing::debug!(%error, "a worker could not remove its heartbeat");
        }
    }

    fn changes(&self) -> ChangeSet {
        ChangeSet::new(self.inner.settings.ids.new_id())
    }
}

/// The work on a slot. Slots of each kind are shared between the workers, except for finished ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Load {
    /// Its events.
    Open,
    /// The slice was split and is at its end. Timeouts are left, or parked events to replay.
    Draining,
    /// Nothing. Each worker takes the slot once, because its code may accept other events.
    Finished,
}

/// A slot that a worker takes.
struct Taken {
    open: Open,
    /// The time until which it does not count toward the worker's share.
    extra_until: Duration,
}

fn log_stopped(projection: &str, slot: Slot, failure: &Failure) {
    let event = failure.event.as_ref();
    if let Some(event_version) = failure.unknown_version {
        // Normal in a rolling deployment.
        return tracing::warn!(
            projection,
            build = slot.build,
            slice = slot.slice.get(),
            event = event.map(tracing::field::display),
            event_version,
            "a slice waits for a worker whose code reads a newer version of an event"
        );
    }
    tracing::error!(
        projection,
        build = slot.build,
        slice = slot.slice.get(),
        stream = event.map(|event| event.stream.as_str()),
        version = event.map(|event| event.version.get()),
        event = event.and_then(|event| event.name()),
        position = event.map(|event| event.position.get()),
        attempts = failure.attempts,
        retry_at = failure.retry_at.map(tracing::field::display),
        error = failure.error,
        "a slice has stopped"
    );
}
