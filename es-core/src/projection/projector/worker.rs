//! A worker: takes its part of the slices, and works on them at once.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_util::future::{Either, FutureExt, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use uuid::Uuid;

use super::Inner;
use super::consumer::{self, Running};
use super::failure::Failure;
use super::held::Ended;
use super::names::Reservation;
use super::state::{Names, Overview, Read, Sign, SliceState, Slot, encode};
use super::stop::{Stop, either};
use crate::documents::{ChangeError, ChangeSet, ExpectedDocument, Revision};
use crate::error_text::error_text;
use crate::feed::{EventFilter, Slices};
use crate::projection::guard::caught;
use crate::projection::{Projection, ProjectorError};
use crate::store::StoreError;

/// For how many leases a slot that its own worker could not work on stays with the one that took it over.
const EXTRA_LEASES: u32 = 10;

/// Works until `stop`, and then for the shutdown timeout at most. What is dropped after that is as if the process had
/// died.
pub(super) async fn run<P: Projection>(inner: &Arc<Inner<P>>, stop: &Stop) -> Result<(), ProjectorError> {
    let work = pin!(work(inner, stop));
    let limit = pin!(async {
        stop.wait().await;
        inner.settings.clock.timeout(inner.settings.shutdown_timeout).await;
    });
    match select(work, limit).await {
        Either::Left((worked, _)) => worked,
        Either::Right(_) => {
            let timeout = inner.settings.shutdown_timeout;
            tracing::warn!(
                projection = inner.name,
                ?timeout,
                "a worker did not end in time after `shutdown` and is dropped: its slices are free after the lease"
            );
            Ok(())
        }
    }
}

async fn work<P: Projection>(inner: &Arc<Inner<P>>, stop: &Stop) -> Result<(), ProjectorError> {
    let names = inner.names()?;
    let reservation = Reservation::of(inner)?;
    let Some(slices) = slices(inner, stop).await? else { return Ok(()) };
    let worker = Worker {
        inner: Arc::clone(inner),
        names,
        id: inner.settings.ids.new_id(),
        reservation,
        slices,
        filter: caught(|| inner.projection.filter()).ok(),
        has_looked: false,
        seen: BTreeMap::new(),
        announced: BTreeMap::new(),
        stopped: BTreeMap::new(),
        free: BTreeMap::new(),
        avoided: BTreeMap::new(),
        running: BTreeMap::new(),
    };
    worker.run(stop).await
}

/// The slices of the feed; `None` when the worker was asked to end before the store could tell.
async fn slices<P: Projection>(inner: &Inner<P>, stop: &Stop) -> Result<Option<Slices>, ProjectorError> {
    let mut attempts = 0;
    while !stop.is_set() {
        match inner.store.slices().await {
            Err(error) if error.is_transient() => {
                attempts += 1;
                let wait = inner.settings.retry.delay_after(attempts).max(inner.settings.poll);
                wait_out(inner, &error.into(), wait);
                stop.sleep(&*inner.settings.clock, wait).await;
            }
            slices => {
                inner.delays.passed(None);
                return Ok(Some(slices?));
            }
        }
    }
    Ok(None)
}

/// Notes that a worker waits before it asks the store again.
fn wait_out<P: Projection>(inner: &Inner<P>, error: &ProjectorError, wait: Duration) {
    let error = error_text(error);
    if inner.delays.failed(None, None, &error, wait, &*inner.settings.clock) {
        tracing::warn!(projection = inner.name, error, "waiting for the store");
    }
}

/// Does something while the consumers go on, since they may be in the middle of requests for which it waits; with
/// those that ended.
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
    slices: Slices,
    /// The events that its code accepts, unless finding that out panics.
    filter: Option<EventFilter>,
    has_looked: bool,
    // Moments are of the monotonic clock: the wall clock may step.
    /// The last sign of each worker, and when it was seen first.
    seen: BTreeMap<Uuid, (Revision, Duration)>,
    /// The signs of workers whose lease this one was said to wait for.
    announced: BTreeMap<Uuid, Revision>,
    /// The slots that have stopped, in which revision, and when that was seen first.
    stopped: BTreeMap<Slot, (Option<Revision>, Duration)>,
    /// The slots that nobody has, and since when.
    free: BTreeMap<Slot, Duration>,
    /// The slots that this worker leaves to others for the moment, and until when.
    avoided: BTreeMap<Slot, Duration>,
    /// The slots that this worker works on, and how to end that.
    running: BTreeMap<Slot, Arc<Running>>,
}

impl<P: Projection> Worker<P> {
    async fn run(mut self, stop: &Stop) -> Result<(), ProjectorError> {
        let (inner, id) = (Arc::clone(&self.inner), self.id);
        let beat = inner.settings.lease / 3;
        let mut consumers = FuturesUnordered::new();
        loop {
            let ordered: BoxFuture<'_, ()> = Box::pin(inner.ordered.listen());
            if stop.is_set() {
                break;
            }
            let (looked, ended) = beside(&mut consumers, self.look_in_time()).await;
            // Of each, so that none is forgotten.
            let is_outdated =
                ended.into_iter().map(|ended| self.ended(ended)).fold(false, |any, look| any | look);
            match looked {
                Ok(taken) => {
                    if inner.delays.passed(None) {
                        tracing::info!(projection = inner.name, "the store responds again");
                    }
                    consumers.extend(taken.into_iter().map(|Taken { slot, state, extra_until }| {
                        let running = Arc::new(Running::new(extra_until));
                        self.running.insert(slot, Arc::clone(&running));
                        consumer::run(Arc::clone(&inner), id, slot, state, running)
                            .map(move |ended| (slot, ended))
                    }));
                }
                Err(error) if error.is_transient() => wait_out(&inner, &error, beat),
                Err(error) => {
                    self.stop_all();
                    while consumers.next().await.is_some() {}
                    self.leave().await;
                    return Err(error);
                }
            }
            if is_outdated {
                continue;
            }
            let mut pause: BoxFuture<'_, ()> = Box::pin(async {
                either(Box::pin(stop.sleep(&*inner.settings.clock, beat)), ordered).await;
            });
            while !consumers.is_empty() {
                match select(consumers.next(), pause).await {
                    Either::Left((ended, rest)) => {
                        pause = rest;
                        if ended.is_some_and(|ended| self.ended(ended)) {
                            pause = Box::pin(ready(()));
                        }
                    }
                    Either::Right(_) => {
                        pause = Box::pin(ready(()));
                        break;
                    }
                }
            }
            pause.await;
        }
        self.stop_all();
        while let Some(ended) = consumers.next().await {
            let _ = self.ended(ended);
        }
        self.leave().await;
        Ok(())
    }

    fn stop_all(&self) {
        self.running.values().for_each(|running| running.stop.set());
    }

    /// Notes that a slot is not worked on any more; says whether to look at once what there is to do.
    fn ended(&mut self, (slot, ended): (Slot, Ended)) -> bool {
        self.running.remove(&slot);
        let inner = Arc::clone(&self.inner);
        let projection = &inner.name;
        let (build, slice) = (slot.build, slot.slice.get());
        // It may be free again, or another one in its place.
        let look = matches!(ended, Ended::Lost | Ended::Contended | Ended::Released);
        match ended {
            Ended::Released => tracing::debug!(projection, build, slice, "left a slice to others"),
            Ended::Lost | Ended::Contended | Ended::Interrupted(_) => {
                tracing::info!(projection, build, slice, "another worker has the slice");
            }
            Ended::Stalled(reason) => {
                self.avoid(slot);
                tracing::warn!(
                    projection,
                    build,
                    slice,
                    reason,
                    "a slice makes no progress and is left to others"
                );
            }
            Ended::Failed(failure) => log_stopped(projection, slot, &failure),
            Ended::Panicked(error) => {
                self.avoid(slot);
                tracing::error!(projection, build, slice, %error, "the work on a slice panicked");
            }
            Ended::Error(error) => {
                self.avoid(slot);
                let error = error_text(&error);
                tracing::error!(projection, build, slice, error, "a slice cannot be worked on");
            }
        }
        look
    }

    /// Leaves a slot to other workers for three leases, if there are any.
    fn avoid(&mut self, slot: Slot) {
        if self.seen.len() > 1 {
            self.avoided.insert(slot, self.now() + self.inner.settings.lease * 3);
        }
    }

    fn now(&self) -> Duration {
        self.inner.settings.clock.monotonic()
    }

    /// Looks what there is to do, for as long as a lease: a request may never be answered.
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

    /// Gives a sign, and looks what there is to do: the slots to start with. Those that are others' from here
    /// on are asked to end.
    async fn look(&mut self) -> Result<Vec<Taken>, ProjectorError> {
        self.give_sign().await?;
        // Before the overview, which then knows of them.
        let taken = self.running.iter().filter(|(_, running)| running.is_taken());
        let taken: BTreeSet<Slot> = taken.map(|(slot, _)| *slot).collect();
        let overview = Overview::read(&*self.inner.store, &self.names).await?;
        self.reservation.check(&overview.runs)?;
        self.watch(&overview).await;
        if overview.control.paused {
            self.stop_all();
            return Ok(Vec::new());
        }
        let builds = overview.control.builds();
        let slots: Vec<Slot> =
            builds.flat_map(|build| self.slices.iter().map(move |slice| Slot { build, slice })).collect();
        let now = self.now();
        let share = self.share(slots.len());
        let mut working = 0;
        for (slot, running) in &self.running {
            running.set_has_others(self.seen.len() > 1);
            let lost = taken.contains(slot) && overview.slice(*slot).value.owner != Some(self.id);
            let is_extra = running.extra_until > now;
            if lost || !slots.contains(slot) || (working >= share && !is_extra) {
                running.stop.set();
            }
            working += usize::from(!running.stop.is_set() && !is_extra);
        }
        let free = self.find_free(&slots, &overview, now);
        let open = share.saturating_sub(working);
        if free.len() < open {
            self.announce(&overview, now);
        }
        self.has_looked = true;
        Ok(self.choose(free, open, now))
    }

    /// The slots that may be taken: nobody works on them, and it is time to try again where they have stopped.
    fn find_free(&mut self, slots: &[Slot], overview: &Overview, now: Duration) -> Vec<Taken> {
        let is_stopped = |slot: &Slot| overview.slice(*slot).value.failure.is_some();
        self.stopped.retain(|slot, _| is_stopped(slot));
        self.avoided.retain(|_, until| *until > now);
        let mut free = Vec::new();
        for slot in slots {
            let state = overview.slice(*slot);
            let owner = state.value.owner.filter(|owner| *owner != self.id);
            let is_owned = owner.is_some_and(|owner| self.seen.contains_key(&owner));
            if !is_owned && !self.running.contains_key(slot) && self.may_try(*slot, &state, now) {
                free.push(Taken { slot: *slot, state, extra_until: Duration::ZERO });
            }
        }
        let is_free = |slot: &Slot| free.iter().any(|free| free.slot == *slot);
        self.free.retain(|slot, _| is_free(slot));
        for Taken { slot, .. } in &free {
            self.free.entry(*slot).or_insert(now);
        }
        let is_others = |slot: Slot| {
            let owner = overview.slice(slot).value.owner;
            owner.is_some_and(|owner| owner != self.id && self.seen.contains_key(&owner))
        };
        self.inner.delays.retain(|slot| slots.contains(&slot) && !is_others(slot));
        free.retain(|free| !self.avoided.contains_key(&free.slot));
        free
    }

    /// Whether a slot has not stopped, or is to try again now. It has stopped for as long as this worker has seen it
    /// so: clocks differ. At its start, a worker tries at once, since it may run other code. A slice that has stopped at
    /// an event of a newer schema version waits for code that reads it.
    fn may_try(&mut self, slot: Slot, state: &Read<SliceState>, now: Duration) -> bool {
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

    /// The slots to take: as many as are `open` for this worker, and those that nobody has taken for a lease.
    fn choose(&self, free: Vec<Taken>, open: usize, now: Duration) -> Vec<Taken> {
        let lease = self.inner.settings.lease;
        let mut chosen = Vec::new();
        for (index, mut taken) in free.into_iter().enumerate() {
            let since = self.free.get(&taken.slot).copied().unwrap_or(now);
            if index >= open && now.saturating_sub(since) < lease {
                continue;
            }
            if index >= open {
                taken.extra_until = now + lease * EXTRA_LEASES;
            }
            chosen.push(taken);
        }
        chosen
    }

    /// Logs for which leases this worker waits, each once.
    fn announce(&mut self, overview: &Overview, now: Duration) {
        let lease = self.inner.settings.lease;
        for (owner, (revision, since)) in &self.seen {
            let unchanged = now.saturating_sub(*since);
            // One that lives gives a sign three times in each lease.
            if *owner == self.id || unchanged <= lease / 2 {
                continue;
            }
            if self.announced.insert(*owner, *revision) == Some(*revision) {
                continue;
            }
            let slices = overview.slices.values().filter(|state| state.value.owner == Some(*owner)).count();
            if slices > 0 {
                tracing::info!(
                    projection = self.inner.name,
                    %owner,
                    slices,
                    time_left = ?lease.saturating_sub(unchanged),
                    "waiting for the lease of a worker that gives no signs"
                );
            }
        }
        self.announced.retain(|owner, _| self.seen.contains_key(owner));
    }

    /// Notes who gives signs. Who has not given one for as long as a lease is forgotten, by all.
    async fn watch(&mut self, overview: &Overview) {
        let now = self.now();
        self.seen.retain(|worker, _| overview.workers.contains_key(worker));
        for (worker, revision) in &overview.workers {
            let seen = self.seen.entry(*worker).or_insert((*revision, now));
            if seen.0 != *revision {
                *seen = (*revision, now);
            }
        }
        let lease = self.inner.settings.lease;
        let gone: Vec<_> = self
            .seen
            .iter()
            .filter(|(worker, (_, since))| **worker != self.id && now.saturating_sub(*since) > lease)
            .map(|(worker, (revision, _))| (*worker, *revision))
            .collect();
        for (worker, revision) in gone {
            self.seen.remove(&worker);
            let set = self.changes().delete(self.names.worker(worker), ExpectedDocument::At(revision));
            // If it lives after all, its sign stays.
            let _ = self.inner.store.change(&set).await;
        }
    }

    /// How many slots are this worker's part.
    fn share(&self, slots: usize) -> usize {
        let workers = self.seen.len().max(1);
        let before = self.seen.keys().filter(|worker| **worker < self.id).count();
        slots / workers + usize::from(before < slots % workers)
    }

    async fn give_sign(&self) -> Result<(), ProjectorError> {
        let sign = encode(&Sign::new(self.reservation.run(), self.inner.delays.all()))?;
        let set = self.changes().put(self.names.worker(self.id), ExpectedDocument::Any, sign);
        Ok(self.inner.store.change(&set).await.map_err(ChangeError::into_store_error)?)
    }

    async fn leave(&self) {
        let set = self.changes().delete(self.names.worker(self.id), ExpectedDocument::Any);
        if let Err(error) = self.inner.store.change(&set).await {
            tracing::debug!(%error, "a worker could not say that it has ended");
        }
    }

    fn changes(&self) -> ChangeSet {
        ChangeSet::new(self.inner.settings.ids.new_id())
    }
}

/// A slot that a worker takes.
struct Taken {
    slot: Slot,
    state: Read<SliceState>,
    /// Until when it is not counted as a part of the worker's share.
    extra_until: Duration,
}

fn log_stopped(projection: &str, slot: Slot, failure: &Failure) {
    let event = failure.event.as_ref();
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
