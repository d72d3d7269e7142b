//! A worker: takes its part of the slices, and works on them at once.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::pin::pin;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_core::future::BoxFuture;
use futures_util::future::{Either, FutureExt, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use uuid::Uuid;

use super::Inner;
use super::consumer::{self, Ended, Running};
use super::state::{Names, Overview, Read, SliceState, Slot};
use super::stop::{Stop, either};
use crate::documents::{ChangeError, ChangeSet, ExpectedDocument, Revision};
use crate::feed::Slices;
use crate::projection::{Projection, ProjectorError};

/// Works until `stop`.
pub(super) async fn run<P: Projection>(inner: &Arc<Inner<P>>, stop: &Stop) -> Result<(), ProjectorError> {
    let names = inner.names()?;
    let Some(slices) = slices(inner, stop).await? else { return Ok(()) };
    let worker = Worker {
        inner: Arc::clone(inner),
        names,
        id: inner.settings.ids.new_id(),
        slices,
        seen: BTreeMap::new(),
        running: BTreeMap::new(),
    };
    worker.run(stop).await
}

/// The slices of the feed; `None` when the worker was asked to end before the store could tell.
async fn slices<P: Projection>(inner: &Inner<P>, stop: &Stop) -> Result<Option<Slices>, ProjectorError> {
    while !stop.is_set() {
        match inner.store.slices().await {
            Err(error) if error.is_retryable() => {
                stop.sleep(&*inner.settings.clock, inner.settings.poll).await;
            }
            slices => return Ok(Some(slices?)),
        }
    }
    Ok(None)
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
    slices: Slices,
    /// The last sign of each worker, and when it was seen first.
    seen: BTreeMap<Uuid, (Revision, DateTime<Utc>)>,
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
            let (looked, ended) = beside(&mut consumers, self.look()).await;
            // Of each, so that none is forgotten.
            let is_outdated =
                ended.into_iter().map(|ended| self.ended(ended)).fold(false, |any, look| any | look);
            match looked {
                Ok(slots) => consumers.extend(slots.into_iter().map(|(slot, state)| {
                    let running = Arc::new(Running::default());
                    self.running.insert(slot, Arc::clone(&running));
                    consumer::run(Arc::clone(&inner), id, slot, state, running)
                        .map(move |ended| (slot, ended))
                })),
                Err(ProjectorError::Store(error)) if error.is_retryable() => {
                    tracing::warn!(projection = inner.projection.name(), %error, "the store cannot be reached");
                }
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
        let projection = self.inner.projection.name();
        let (build, slice) = (slot.build, slot.slice.get());
        // It may be free again, or another one in its place.
        let look = matches!(ended, Ended::Lost | Ended::Contended | Ended::Released);
        match ended {
            Ended::Released => tracing::debug!(projection, build, slice, "left a slice to others"),
            Ended::Lost | Ended::Contended => {
                tracing::info!(projection, build, slice, "another worker has the slice");
            }
            Ended::Failed(reason) => {
                tracing::error!(projection, build, slice, reason = %reason, "a slice has stopped");
            }
            Ended::Error(error) => {
                tracing::error!(projection, build, slice, %error, "a slice cannot be worked on");
            }
        }
        look
    }

    /// Gives a sign, and looks what there is to do: the slots to start with. Those that are others' from here
    /// on are asked to end.
    async fn look(&mut self) -> Result<Vec<(Slot, Read<SliceState>)>, ProjectorError> {
        self.give_sign().await?;
        // Before the overview, which then knows of them.
        let taken = self.running.iter().filter(|(_, running)| running.is_taken());
        let taken: BTreeSet<Slot> = taken.map(|(slot, _)| *slot).collect();
        let overview = Overview::read(&*self.inner.store, &self.names).await?;
        self.watch(&overview).await;
        if overview.control.paused {
            self.stop_all();
            return Ok(Vec::new());
        }
        let builds = overview.control.builds();
        let slots: Vec<Slot> =
            builds.flat_map(|build| self.slices.iter().map(move |slice| Slot { build, slice })).collect();
        let share = self.share(slots.len());
        let mut working = 0;
        for (slot, running) in &self.running {
            let lost = taken.contains(slot) && overview.slice(*slot).value.owner != Some(self.id);
            if lost || !slots.contains(slot) || working >= share {
                running.stop.set();
            }
            working += usize::from(!running.stop.is_set());
        }
        let free = slots.into_iter().map(|slot| (slot, overview.slice(slot))).filter(|(slot, state)| {
            let owner = state.value.owner;
            let owned = owner.is_some_and(|owner| owner != self.id && self.seen.contains_key(&owner));
            !owned && state.value.failure.is_none() && !self.running.contains_key(slot)
        });
        Ok(free.take(share.saturating_sub(working)).collect())
    }

    /// Notes who gives signs. Who has not given one for as long as a lease is forgotten, by all.
    async fn watch(&mut self, overview: &Overview) {
        let now = self.inner.settings.clock.now();
        self.seen.retain(|worker, _| overview.workers.contains_key(worker));
        for (worker, revision) in &overview.workers {
            let seen = self.seen.entry(*worker).or_insert((*revision, now));
            if seen.0 != *revision {
                *seen = (*revision, now);
            }
        }
        let lease = chrono::Duration::from_std(self.inner.settings.lease).unwrap_or(chrono::Duration::MAX);
        let gone: Vec<_> = self
            .seen
            .iter()
            .filter(|(worker, (_, since))| **worker != self.id && now.signed_duration_since(since) > lease)
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
        let set = self.changes().put(self.names.worker(self.id), ExpectedDocument::Any, "{}");
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
