//! What an operator may do with a projection.

use super::failure::{FailedEvent, Parked};
use super::state::{Control, Exception, Overview, SliceState, Slot, edit};
use super::{Projector, parking};
use crate::documents::{ChangeError, ChangeSet, DocumentChange};
use crate::feed::Slice;
use crate::projection::{Projection, ProjectorError};

impl<P: Projection> Projector<P> {
    /// Lets all workers rest, wherever they run, until [`resume`](Self::resume).
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] when the store cannot do it.
    pub async fn pause(&self) -> Result<(), ProjectorError> {
        self.order(|control| {
            control.paused = true;
            Ok(())
        })
        .await
    }

    /// Lets the workers go on.
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] when the store cannot do it.
    pub async fn resume(&self) -> Result<(), ProjectorError> {
        self.order(|control| {
            control.paused = false;
            Ok(())
        })
        .await
    }

    /// Starts from the first event again, with empty read models, which are to be read at once.
    ///
    /// To keep the old ones until the new ones are complete, [`rebuild`](Self::rebuild).
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] while it is being rebuilt, and for a process.
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

    /// Begins to build the projection anew, from the first event, beside the build that is read.
    ///
    /// The workers work on both. [`rebuild_progress`](Self::rebuild_progress) says how far it is;
    /// [`switch`](Self::switch) lets the new build take the old one's place.
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] when it is being rebuilt already, and for a process.
    pub async fn rebuild(&self) -> Result<(), ProjectorError> {
        self.check_replayable()?;
        self.order(|control| {
            if control.building.is_some() {
                return Err(ProjectorError::invalid(
                    "the projection is being rebuilt already: switch to the new build, or cancel it",
                ));
            }
            let next = control.next_build()?;
            control.building = Some(next);
            Ok(())
        })
        .await
    }

    /// Makes the new build the one that is read. Readers notice within two seconds.
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] when there is no new build, it is not as far as the old one, or it has stopped or
    /// has parked events: then rows would be missing or out of date. [`switch_anyway`](Self::switch_anyway) accepts
    /// that.
    pub async fn switch(&self) -> Result<(), ProjectorError> {
        let overview = self.overview().await?;
        let building = overview.control.building.ok_or_else(nothing_built)?;
        let (mut parked, mut stopped) = (0, Vec::new());
        for slice in self.inner.store.slices().await?.iter() {
            let state = overview.slice(Slot { build: building, slice }).value;
            parked += state.parked;
            stopped.extend(state.failure.map(|_| slice.to_string()));
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

    /// Makes the new build the one that is read, as [`switch`](Self::switch) does, even if it has stopped or has
    /// parked events. Events of slices that have stopped, and parked ones, are missing from what is read until they
    /// are [handled](Self::replay_parked).
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] when there is no new build, or a slice that has not stopped is not as far as in the
    /// old one.
    pub async fn switch_anyway(&self) -> Result<(), ProjectorError> {
        let overview = self.overview().await?;
        let building = overview.control.building.ok_or_else(nothing_built)?;
        self.switch_to(building, &overview).await
    }

    async fn switch_to(&self, building: u32, overview: &Overview) -> Result<(), ProjectorError> {
        for slice in self.inner.store.slices().await?.iter() {
            let old = overview.slice(Slot { build: overview.control.active, slice }).value.position;
            let new = overview.slice(Slot { build: building, slice }).value;
            if new.position < old && new.failure.is_none() {
                return Err(ProjectorError::invalid(format!(
                    "the new build is at position {} of slice {slice}, the one that is read at {old}: wait until it \
                     has caught up, or `reset` instead",
                    new.position
                )));
            }
        }
        self.order(|control| {
            if control.building != Some(building) {
                return Err(nothing_built());
            }
            control.replaced.push(std::mem::replace(&mut control.active, building));
            control.building = None;
            Ok(())
        })
        .await
    }

    /// Gives up the new build.
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] when there is none.
    pub async fn cancel_rebuild(&self) -> Result<(), ProjectorError> {
        self.order(|control| {
            let building = control.building.take().ok_or_else(nothing_built)?;
            control.replaced.push(building);
            Ok(())
        })
        .await
    }

    /// Deletes what is stored of builds that were replaced: their checkpoints, parked events and rows.
    ///
    /// Readers may still be reading them for two seconds after a [`switch`](Self::switch).
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] when the store cannot do it; what is left is deleted by the next call.
    pub async fn delete_replaced(&self) -> Result<(), ProjectorError> {
        let (names, overview) = (self.inner.names()?, self.overview().await?);
        let mut projection = self.inner.projection.clone();
        for build in overview.control.replaced {
            // The checkpoints first: without them, no worker that has not noticed yet writes anything any more.
            for slice in self.inner.store.slices().await?.iter() {
                let slot = Slot { build, slice };
                self.delete(DocumentChange::delete(names.slice(slot))).await?;
                self.delete(DocumentChange::delete(names.accepted(slot))).await?;
                let collection = names.parked(slot);
                crate::documents::delete_all(&*self.inner.store, &collection, &*self.inner.settings.ids)
                    .await?;
            }
            for stage in projection.stages() {
                stage.delete(&self.inner.name, build).await.map_err(|error| {
                    ProjectorError::invalid(format!("the rows of build {build} cannot be deleted: {error}"))
                })?;
            }
            self.order(|control| {
                control.replaced.retain(|replaced| *replaced != build);
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Lets a slice that has stopped try again: of the build that is read or, when it has not stopped there, of
    /// the new one.
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] when it has not stopped.
    pub async fn retry(&self, slice: Slice) -> Result<(), ProjectorError> {
        self.decide(slice, Decision::Retry).await
    }

    /// Sets aside the event or the timeout at which a slice has stopped, and the later events of its stream; others go
    /// on. [`replay_parked`](Self::replay_parked) tries them again. Which build, as for [`retry`](Self::retry).
    ///
    /// The slice may also be [delayed](super::SliceStatus::Delayed) at the event, whose handler fails with a transient
    /// error again and again: [`Delay::event`](super::Delay::event) is the event then.
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] when the slice has not stopped at an event and is not delayed at one, or the commit
    /// of the event is missing.
    pub async fn park(&self, slice: Slice) -> Result<(), ProjectorError> {
        self.decide(slice, Decision::Park).await
    }

    /// Skips the event or the timeout at which a slice has stopped or is delayed, as for [`park`](Self::park), or a
    /// commit that is missing: this build will never handle it.
    /// [`SliceProgress::skipped`](super::SliceProgress::skipped) counts the events. Which build, as for
    /// [`retry`](Self::retry).
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] when the slice has not stopped at an event and is not delayed at one.
    pub async fn skip(&self, slice: Slice) -> Result<(), ProjectorError> {
        self.decide(slice, Decision::Skip).await
    }

    /// The events that are parked, of the build that is read and then of the new one, each in the order of the slices
    /// and positions; in each slice, the timeouts that are parked come after them, in the order of their due times.
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] when they cannot be read.
    pub async fn parked(&self) -> Result<Vec<Parked>, ProjectorError> {
        let names = self.inner.names()?;
        let mut all = Vec::new();
        for slot in self.parked_slots().await? {
            let mut after = None;
            loop {
                let some = parking::parked(&*self.inner.store, &names, slot, after).await?;
                let Some((last, _)) = some.last() else { break };
                after = Some(last.clone());
                all.extend(some.into_iter().map(|(_, parked)| parked));
            }
        }
        Ok(all)
    }

    /// Tries the parked events and timeouts again, each stream's in order, also those of a new build. What fails again
    /// stays parked.
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] when the store cannot do it.
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

    /// The slots of all builds that have events parked.
    async fn parked_slots(&self) -> Result<Vec<Slot>, ProjectorError> {
        let overview = self.overview().await?;
        let mut slots = Vec::new();
        for build in overview.control.builds() {
            for slice in self.inner.store.slices().await?.iter() {
                let slot = Slot { build, slice };
                if overview.slice(slot).value.parked > 0 {
                    slots.push(slot);
                }
            }
        }
        Ok(slots)
    }

    async fn overview(&self) -> Result<Overview, ProjectorError> {
        Overview::read(&*self.inner.store, &self.inner.names()?).await
    }

    /// Removes events that were passed over from the [progress](super::Progress::passed_over), once they are dealt
    /// with: those of a process for example, which cannot be rebuilt.
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] when the store cannot do it.
    pub async fn dismiss_passed_over(&self) -> Result<(), ProjectorError> {
        let overview = self.overview().await?;
        for build in overview.control.builds() {
            for slice in self.inner.store.slices().await?.iter() {
                let slot = Slot { build, slice };
                if !overview.slice(slot).value.passed_over.is_empty() {
                    self.change(slot, |state| {
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
        if decision != Decision::Retry {
            let mut delays = self.inner.delays_in(&overview);
            let builds = overview.control.builds();
            let delay = builds
                .map(|build| Slot { build, slice })
                .find_map(|slot| Some((slot, delays.remove(&slot)?)));
            if let Some((slot, delay)) = delay {
                let Some(event) = delay.event else { return Err(no_event(slice, &delay.error)) };
                return self.decide_delayed(slot, event, delay.error, decision).await;
            }
        }
        Err(not_stopped(slice))
    }

    async fn decide_stopped(&self, slot: Slot, decision: Decision) -> Result<(), ProjectorError> {
        self.change(slot, |state| {
            let failure = state.failure.take().ok_or_else(|| not_stopped(slot.slice))?;
            if decision == Decision::Retry {
                return Ok(());
            }
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
                    "slice {slice} is delayed no longer at {event}"
                )));
            }
            state.exception = Some(Exception::new(&event, decision == Decision::Park, error.clone()));
            Ok(())
        })
        .await
    }

    /// Changes the state of a slot, and takes it from whoever works on it.
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

    async fn order(
        &self,
        order: impl FnMut(&mut Control) -> Result<(), ProjectorError>,
    ) -> Result<(), ProjectorError> {
        let ids = &self.inner.settings.ids;
        edit(&*self.inner.store, &self.inner.names()?.control(), || ids.new_id(), order).await?;
        self.inner.ordered.notify(usize::MAX);
        Ok(())
    }

    async fn delete(&self, change: DocumentChange) -> Result<(), ProjectorError> {
        let set = ChangeSet::new(self.inner.settings.ids.new_id()).with_changes([change]);
        Ok(self.inner.store.change(&set).await.map_err(ChangeError::into_store_error)?)
    }
}

/// What an operator decides about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Retry,
    Park,
    Skip,
}

fn not_stopped(slice: Slice) -> ProjectorError {
    ProjectorError::invalid(format!("slice {slice} has not stopped"))
}

fn no_event(slice: Slice, error: &str) -> ProjectorError {
    ProjectorError::invalid(format!(
        "slice {slice} has not stopped at an event, but because of this: {error}"
    ))
}

fn nothing_built() -> ProjectorError {
    ProjectorError::invalid("the projection is not being rebuilt: `rebuild` begins a new build")
}
