//! What an operator may do with a projection.

use super::state::{Control, Exception, Overview, Parked, SliceState, Slot, edit};
use super::{Projector, parking};
use crate::documents::{ChangeError, ChangeSet, DocumentChange};
use crate::feed::Slice;
use crate::projection::{Projection, ProjectorError, timeout};

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
    /// [`ProjectorError::Invalid`] when there is no new build, or it is not as far as the old one.
    pub async fn switch(&self) -> Result<(), ProjectorError> {
        let names = self.inner.names()?;
        let overview = Overview::read(&*self.inner.store, &names).await?;
        let Some(building) = overview.control.building else { return Err(nothing_built()) };
        for slice in self.inner.store.slices().await?.iter() {
            let old = overview.slice(Slot { build: overview.control.active, slice }).value.position;
            let new = overview.slice(Slot { build: building, slice }).value.position;
            if new < old {
                return Err(ProjectorError::invalid(format!(
                    "the new build is at position {new} of slice {slice}, the one that is read at {old}: wait until \
                     it has caught up, or `reset` instead"
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
        let names = self.inner.names()?;
        let overview = Overview::read(&*self.inner.store, &names).await?;
        let mut projection = self.inner.projection.clone();
        for build in overview.control.replaced {
            // The checkpoints first: without them, no worker that has not noticed yet writes anything any more.
            for slice in self.inner.store.slices().await?.iter() {
                let slot = Slot { build, slice };
                self.delete(DocumentChange::delete(names.slice(slot))).await?;
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
        self.decide(slice, None).await
    }

    /// Sets aside the event or the timeout at which a slice has stopped, and the later events of its stream; others go
    /// on. [`replay_parked`](Self::replay_parked) tries them again. Which build, as for [`retry`](Self::retry).
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] when the slice has not stopped at an event, or the commit of the event is missing.
    pub async fn park(&self, slice: Slice) -> Result<(), ProjectorError> {
        self.decide(slice, Some(true)).await
    }

    /// Skips the event or the timeout at which a slice has stopped, or a commit that is missing: this build will never
    /// handle it. [`SliceProgress::skipped`](super::SliceProgress::skipped) counts the events. Which build, as for
    /// [`retry`](Self::retry).
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] when the slice has not stopped at an event.
    pub async fn skip(&self, slice: Slice) -> Result<(), ProjectorError> {
        self.decide(slice, Some(false)).await
    }

    /// The events that are parked, in the order of their slices and positions; in each slice, the timeouts that are
    /// parked come after them, in the order of their due times.
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] when they cannot be read.
    pub async fn parked(&self) -> Result<Vec<Parked>, ProjectorError> {
        let names = self.inner.names()?;
        let overview = Overview::read(&*self.inner.store, &names).await?;
        let mut all = Vec::new();
        for slice in self.inner.store.slices().await?.iter() {
            let slot = Slot { build: overview.control.active, slice };
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

    /// Tries the parked events and timeouts again, each stream's in order. What fails again stays parked.
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] when the store cannot do it.
    pub async fn replay_parked(&self) -> Result<(), ProjectorError> {
        let overview = Overview::read(&*self.inner.store, &self.inner.names()?).await?;
        for slice in self.inner.store.slices().await?.iter() {
            let slot = Slot { build: overview.control.active, slice };
            if overview.slice(slot).value.parked > 0 {
                self.change(slot, |state| {
                    state.replay = true;
                    Ok(())
                })
                .await?;
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

    async fn decide(&self, slice: Slice, park: Option<bool>) -> Result<(), ProjectorError> {
        let overview = Overview::read(&*self.inner.store, &self.inner.names()?).await?;
        let has_stopped = |build: &u32| overview.slice(Slot { build: *build, slice }).value.failure.is_some();
        let Some(build) = overview.control.builds().find(has_stopped) else {
            return Err(ProjectorError::invalid(format!("slice {slice} has not stopped")));
        };
        self.change(Slot { build, slice }, |state| {
            let Some(failure) = state.failure.take() else {
                return Err(ProjectorError::invalid(format!("slice {slice} has not stopped")));
            };
            if let Some(park) = park {
                let Some(event) = failure.event else {
                    return Err(ProjectorError::invalid(format!(
                        "slice {slice} has not stopped at an event, but because of this: {}",
                        failure.error
                    )));
                };
                if park && event.is_missing() {
                    return Err(ProjectorError::invalid(format!(
                        "there is nothing to park: {}",
                        failure.error
                    )));
                }
                let error = failure.error;
                let timeout = event.timeout.map(|it| timeout::document(it.due, &it.key));
                state.exception = Some(Exception { position: event.position, timeout, park, error });
            }
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
        let set = ChangeSet::new(self.inner.settings.ids.new_id()).with([change]);
        Ok(self.inner.store.change(&set).await.map_err(ChangeError::into_store_error)?)
    }
}

fn nothing_built() -> ProjectorError {
    ProjectorError::invalid("the projection is not being rebuilt: `rebuild` begins a new build")
}
