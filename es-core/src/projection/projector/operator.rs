//! Operations on a projection: pause, rebuild, retry, park, and skip.

use std::iter;

use super::failure::{FailedEvent, Parked};
use super::state::{
    Control, EndOfRebuild, Exception, Overview, Revised, SliceState, Slot, edit, encode, read,
};
use super::{Projector, parking};
use crate::documents::{ChangeError, ChangeSet, ExpectedDocument};
use crate::feed::Slice;
use crate::process::abandon;
use crate::projection::{Projection, ProjectorError};
use crate::stream_id::StreamId;

impl<P: Projection> Projector<P> {
    /// Pauses all workers, in all processes, until [`resume`](Self::resume).
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] if the request fails.
    pub async fn pause(&self) -> Result<(), ProjectorError> {
        self.order(|control| {
            control.paused = true;
            Ok(())
        })
        .await
    }

    /// Resumes all workers.
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] if the request fails.
    pub async fn resume(&self) -> Result<(), ProjectorError> {
        self.order(|control| {
            control.paused = false;
            Ok(())
        })
        .await
    }

    /// Restarts the projection at the first event with empty read models, which readers use immediately.
    ///
    /// To keep serving the previous rows until the new ones are complete, use [`rebuild`](Self::rebuild).
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] during a rebuild, and for a process.
    pub async fn reset(&self) -> Result<(), ProjectorError> {
        self.check_replayable()?;
        self.order(|control| {
            if control.building.is_some() {
                return Err(ProjectorError::invalid(
                    "the projection is being rebuilt: switch to the new build, or cancel it, before a reset",
                ));
            }
            let next = control.next_build()?;
            control.replaced.push(std::mem::replace(&mut control.active, next));
            Ok(())
        })
        .await
    }

    /// Starts a new build of the projection from the first event, while the active build continues.
    ///
    /// Workers process both builds. [`rebuild_progress`](Self::rebuild_progress) returns the progress, and
    /// [`switch`](Self::switch) activates the new build.
    ///
    /// Does nothing if there is a new build that has not handled an event yet, so that a call can be repeated after an
    /// error.
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] if a rebuild is in progress that has handled events, possibly with other code, and
    /// for a process.
    pub async fn rebuild(&self) -> Result<(), ProjectorError> {
        self.check_replayable()?;
        let overview = self.overview().await?;
        if let Some(building) = overview.control.building
            && !overview.has_begun(building)
        {
            return Ok(());
        }
        self.order(|control| {
            if let Some(building) = control.building {
                return Err(ProjectorError::invalid(format!(
                    "the projection is being rebuilt already, and build {building} has handled events: let it continue \
                     and switch to it, or cancel it"
                )));
            }
            let next = control.next_build()?;
            control.building = Some(next);
            Ok(())
        })
        .await
    }

    /// Activates the new build. Readers switch to it within two seconds.
    ///
    /// Does nothing if the last rebuild has ended in this way, so that a call can be repeated after an error.
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] if there is no new build, or if it is behind the active build, has stopped
    /// slices, or has parked events: rows would be missing or outdated. [`switch_anyway`](Self::switch_anyway)
    /// accepts that.
    pub async fn switch(&self) -> Result<(), ProjectorError> {
        let overview = self.overview().await?;
        if overview.control.has_ended(EndOfRebuild::Switched) {
            return Ok(());
        }
        let building = overview.control.new_build()?;
        let (mut parked, mut stopped) = (0, Vec::new());
        for (slice, state) in overview.slices_of(building) {
            parked += state.parked;
            stopped.extend(state.failure.as_ref().map(|_| slice.to_string()));
        }
        if parked > 0 || !stopped.is_empty() {
            let stopped = if stopped.is_empty() { "none".to_owned() } else { stopped.join(", ") };
            return Err(ProjectorError::invalid(format!(
                "the new build is incomplete (parked events: {parked}; stopped slices: {stopped}): `parked` and \
                 `rebuild_progress` say why. After a fix, call `replay_parked` and `retry`, or call `switch_anyway` \
                 to do without these events"
            )));
        }
        self.switch_to(building, &overview).await
    }

    /// Activates the new build like [`switch`](Self::switch), even if it has stopped slices or parked events.
    /// Their effects are missing until the events are [handled](Self::replay_parked).
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] if there is no new build, or if a slice that has not stopped is behind the
    /// active build.
    pub async fn switch_anyway(&self) -> Result<(), ProjectorError> {
        let overview = self.overview().await?;
        if overview.control.has_ended(EndOfRebuild::Switched) {
            return Ok(());
        }
        let building = overview.control.new_build()?;
        self.switch_to(building, &overview).await
    }

    async fn switch_to(&self, building: u32, overview: &Overview) -> Result<(), ProjectorError> {
        let tree = self.inner.store.slice_tree().await?;
        for slice in tree.iter() {
            let old = overview.slice(Slot { build: overview.control.active, slice }).value.position;
            let new = overview.slice(Slot { build: building, slice }).value;
            let has_stopped = |slice| overview.slice(Slot { build: building, slice }).value.failure.is_some();
            // A child waits for its parent.
            let is_stopped = iter::once(slice).chain(tree.ancestors(slice)).any(has_stopped);
            if new.position < old && !is_stopped {
                return Err(ProjectorError::invalid(format!(
                    "the new build is at position {} of slice {slice}, the one that is read at {old}: wait until it \
                     has caught up, or `reset` instead",
                    new.position
                )));
            }
        }
        self.order(|control| {
            let current = control.end_rebuild(EndOfRebuild::Switched)?;
            if current != building {
                return Err(ProjectorError::invalid(format!(
                    "build {building} has been replaced by build {current}: switch again when it has caught up"
                )));
            }
            control.replaced.push(std::mem::replace(&mut control.active, building));
            Ok(())
        })
        .await
    }

    /// Cancels the new build. Does nothing if the last rebuild was canceled, so that a call can be repeated after an
    /// error.
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] if there is none.
    pub async fn cancel_rebuild(&self) -> Result<(), ProjectorError> {
        self.order(|control| {
            if !control.has_ended(EndOfRebuild::Canceled) {
                let building = control.end_rebuild(EndOfRebuild::Canceled)?;
                control.replaced.push(building);
            }
            Ok(())
        })
        .await
    }

    /// Retries a stopped slice: of the active build or, if it has not stopped there, of the new build. Does nothing if
    /// it has not stopped, so that a call can be repeated after an error.
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] if the feed has no such slice.
    pub async fn retry(&self, slice: Slice) -> Result<(), ProjectorError> {
        self.decide(slice, Decision::Retry).await
    }

    /// Parks the event or timeout at which a slice has stopped (a dead letter), and the later events of its
    /// stream. Other events continue. [`replay_parked`](Self::replay_parked) retries them. The build is selected
    /// as for [`retry`](Self::retry).
    ///
    /// Also applies to a slice that is [delayed](super::SliceStatus::Delayed) at an event whose handler repeatedly
    /// fails with a transient error: [`Delay::event`](super::Delay::event).
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] if the slice is neither stopped nor delayed at an event, or if the commit of
    /// the event is missing.
    pub async fn park(&self, slice: Slice) -> Result<(), ProjectorError> {
        self.decide(slice, Decision::Park).await
    }

    /// Skips the event or timeout at which a slice has stopped or is delayed, as for [`park`](Self::park), or a
    /// missing commit: this build will never handle it. [`SliceProgress::skipped`](super::SliceProgress::skipped)
    /// counts skipped events. The build is selected as for [`retry`](Self::retry).
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] if the slice is neither stopped nor delayed at an event.
    pub async fn skip(&self, slice: Slice) -> Result<(), ProjectorError> {
        self.decide(slice, Decision::Skip).await
    }

    /// Returns the parked events and timeouts (dead letters) of the active build, followed by those of the new
    /// build, ordered by slice and position. In each slice, timeouts follow the events, ordered by due time.
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] if they cannot be read.
    pub async fn parked(&self) -> Result<Vec<Parked>, ProjectorError> {
        self.first_parked(usize::MAX).await
    }

    /// Returns the first `limit` parked events and timeouts, in the order of [`parked`](Self::parked).
    /// [`SliceProgress::parked`](super::SliceProgress::parked) counts all of them.
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] if they cannot be read.
    pub async fn first_parked(&self, limit: usize) -> Result<Vec<Parked>, ProjectorError> {
        let names = self.inner.names()?;
        let mut all = Vec::new();
        for slot in self.parked_slots().await? {
            let mut after = None;
            while all.len() < limit {
                let some = parking::parked(&*self.inner.store, &names, slot, after).await?;
                let Some((last, _)) = some.last() else { break };
                after = Some(last.clone());
                all.extend(some.into_iter().map(|(_, parked)| parked));
            }
        }
        all.truncate(limit);
        Ok(all)
    }

    /// Replays the parked events and timeouts of all builds, in order within each stream. Those that fail again
    /// remain parked. Those that fail with a [transient](crate::projection::Transient) error are replayed again later,
    /// until it has passed. In the meantime, the slice continues.
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] if the request fails.
    pub async fn replay_parked(&self) -> Result<(), ProjectorError> {
        for slot in self.parked_slots().await? {
            self.change(slot, |state| {
                state.replay = true;
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Returns the slots with parked events, of all builds.
    async fn parked_slots(&self) -> Result<Vec<Slot>, ProjectorError> {
        let overview = self.overview().await?;
        let mut slots = Vec::new();
        for build in overview.control.builds() {
            let parked = overview.slices_of(build).filter(|(_, state)| state.parked > 0);
            slots.extend(parked.map(|(slice, _)| Slot { build, slice }));
        }
        Ok(slots)
    }

    pub(super) async fn overview(&self) -> Result<Overview, ProjectorError> {
        Overview::read(&*self.inner.store, &self.inner.names()?).await
    }

    /// Removes passed-over events from the [progress](super::Progress::passed_over), for example after the missing
    /// commands of a process, which cannot be rebuilt, have been sent.
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] if the request fails.
    pub async fn dismiss_passed_over(&self) -> Result<(), ProjectorError> {
        let overview = self.overview().await?;
        for build in overview.control.builds() {
            for (slice, state) in overview.slices_of(build) {
                if !state.passed_over.is_empty() {
                    self.change(Slot { build, slice }, |state| {
                        state.passed_over.clear();
                        Ok(())
                    })
                    .await?;
                }
            }
        }
        Ok(())
    }

    fn check_replayable(&self) -> Result<(), ProjectorError> {
        if P::IS_REPLAYABLE {
            return Ok(());
        }
        let name = &self.inner.name;
        Err(ProjectorError::invalid(format!(
            "the process `{name}` cannot start again from the first event: it would issue its commands again"
        )))
    }

    async fn decide(&self, slice: Slice, decision: Decision) -> Result<(), ProjectorError> {
        let overview = self.overview().await?;
        let has_stopped = |build: &u32| overview.slice(Slot { build: *build, slice }).value.failure.is_some();
        if let Some(build) = overview.control.builds().find(has_stopped) {
            return self.decide_stopped(Slot { build, slice }, decision).await;
        }
        if decision == Decision::Retry {
            let exists = self.inner.store.slice_tree().await?.contains(slice);
            let missing = || ProjectorError::invalid(format!("the feed has no slice {slice}"));
            return exists.then_some(()).ok_or_else(missing);
        }
        let mut delays = self.inner.delays_in(&overview);
        let mut slots = overview.control.builds().map(|build| Slot { build, slice });
        if let Some((slot, delay)) = slots.find_map(|slot| Some((slot, delays.remove(&slot)?))) {
            let Some(event) = delay.event else { return Err(no_event(slice, &delay.error)) };
            return self.decide_delayed(slot, event, delay.error, decision).await;
        }
        // The call may be repeated because its response was lost.
        let has_decided = |build| {
            let exception = overview.slice(Slot { build, slice }).value.exception;
            exception.is_some_and(|exception| decision.leads_to(&exception))
        };
        if overview.control.builds().any(has_decided) { Ok(()) } else { Err(not_stopped(slice)) }
    }

    async fn decide_stopped(&self, slot: Slot, decision: Decision) -> Result<(), ProjectorError> {
        self.change(slot, |state| {
            let failure = state.failure.take();
            if decision == Decision::Retry {
                return Ok(());
            }
            let failure = failure.ok_or_else(|| not_stopped(slot.slice))?;
            let Some(event) = failure.event else {
                return Err(no_event(slot.slice, &failure.error));
            };
            if decision == Decision::Park && event.is_missing() {
                return Err(ProjectorError::invalid(format!("there is nothing to park: {}", failure.error)));
            }
            state.exception = Some(Exception::new(&event, decision == Decision::Park, failure.error));
            Ok(())
        })
        .await
    }

    /// Decides about the event at which a slot is delayed, unless it was handled in the meantime.
    async fn decide_delayed(
        &self,
        slot: Slot,
        event: FailedEvent,
        error: String,
        decision: Decision,
    ) -> Result<(), ProjectorError> {
        self.change(slot, |state| {
            if !event.is_after(state.position) {
                let Slot { slice, .. } = slot;
                return Err(ProjectorError::invalid(format!(
                    "slice {slice} is no longer delayed at {event}"
                )));
            }
            state.exception = Some(Exception::new(&event, decision == Decision::Park, error.clone()));
            Ok(())
        })
        .await
    }

    /// Changes the state of a slot, and releases it from its worker.
    pub(super) async fn change(
        &self,
        slot: Slot,
        mut change: impl FnMut(&mut SliceState) -> Result<(), ProjectorError>,
    ) -> Result<(), ProjectorError> {
        let key = self.inner.names()?.slice(slot);
        let ids = &self.inner.settings.ids;
        let release = |state: &mut SliceState| {
            state.owner = None;
            change(state)
        };
        edit(&*self.inner.store, &key, || ids.new_id(), release).await?;
        self.inner.ordered.notify(usize::MAX);
        Ok(())
    }

    pub(super) async fn order(
        &self,
        order: impl FnMut(&mut Control) -> Result<(), ProjectorError>,
    ) -> Result<(), ProjectorError> {
        let ids = &self.inner.settings.ids;
        edit(&*self.inner.store, &self.inner.names()?.control(), || ids.new_id(), order).await?;
        self.inner.ordered.notify(usize::MAX);
        Ok(())
    }
}

/// The decision of an operator about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Retry,
    Park,
    Skip,
}

impl Decision {
    fn leads_to(self, exception: &Exception) -> bool {
        self != Self::Retry && exception.park == (self == Self::Park)
    }
}

fn not_stopped(slice: Slice) -> ProjectorError {
    ProjectorError::invalid(format!("slice {slice} has not stopped"))
}

fn no_event(slice: Slice, error: &str) -> ProjectorError {
    ProjectorError::invalid(format!(
        "slice {slice} has not stopped at an event, but because of this: {error}"
    ))
}

impl<P: Projection> Projector<P> {
    /// Discards a parked event or timeout: it will never be handled, and counts as
    /// [skipped](super::SliceProgress::skipped). Use it if the event cannot be replayed because its commit is
    /// missing. If a reaction to it has begun, `abandon` its instance.
    ///
    /// Later events of its stream remain parked. [`replay_parked`](Self::replay_parked) handles them. Does nothing if
    /// it is no longer parked, so that a call can be repeated after an error.
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] if a request fails.
    pub async fn discard_parked(&self, parked: &Parked) -> Result<(), ProjectorError> {
        let (store, names) = (&*self.inner.store, self.inner.names()?);
        let slot = Slot { build: parked.build, slice: parked.slice };
        let (key, document) = (names.slice(slot), parking::document(&names, slot, parked));
        loop {
            let Revised { value: state, revision } = read::<SliceState>(store, &key).await?;
            let Some(found) = store.document(&document).await? else { return Ok(()) };
            let next = SliceState {
                owner: None,
                parked: state.parked.saturating_sub(1),
                skipped: state.skipped.saturating_add(1),
                ..state
            };
            let set = ChangeSet::new(self.inner.settings.ids.new_id())
                .put(key.clone(), revision.into(), encode(&next)?)
                .delete(document.clone(), ExpectedDocument::At(found.revision));
            if self.changed(&set).await? {
                return Ok(());
            }
        }
    }

    /// Unblocks the instance of a process with the stream `instance`, like
    /// [`abandon`](Projector::abandon) without the types of the process: for tools. Returns whether a reaction was
    /// abandoned.
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] if the reaction may still finish. [`ProjectorError::Store`] if the store fails.
    pub async fn abandon_instance(&self, instance: &StreamId) -> Result<bool, ProjectorError> {
        abandon(&self.inner.store, &self.inner.settings.ids, &self.inner.name, instance).await
    }

    /// Applies the changes and notifies the workers. Returns `false` if the documents were changed concurrently.
    pub(super) async fn changed(&self, set: &ChangeSet) -> Result<bool, ProjectorError> {
        match self.inner.store.change(set).await {
            Ok(()) => {
                self.inner.ordered.notify(usize::MAX);
                Ok(true)
            }
            Err(ChangeError::Store(error)) => Err(error.into()),
            Err(_) => Ok(false),
        }
    }
}
