//! Deleting stored data of a projection: of replaced builds, or all of it.

use std::time::Duration;

use uuid::Uuid;

use super::state::Slot;
use super::{Names, Projector};
use crate::documents::{ChangeError, ChangeSet, DocumentChange, Revision, delete_all};
use crate::projection::{Projection, ProjectorError, Stage, registry};
use crate::store::StoreError;

/// How many seconds to wait before the deletion of rows is continued after throttling, which the client has retried.
const THROTTLED: [u64; 5] = [1, 2, 4, 8, 16];

impl<P: Projection> Projector<P> {
    /// Returns the numbers of the replaced builds whose data is still stored, in ascending order.
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] if the state cannot be read.
    pub async fn replaced_builds(&self) -> Result<Vec<u32>, ProjectorError> {
        let mut replaced = self.overview().await?.control.replaced;
        replaced.sort_unstable();
        Ok(replaced)
    }

    /// Deletes the data of replaced builds: checkpoints, parked events, and rows.
    ///
    /// Readers may still use them for two seconds after a [`switch`](Self::switch).
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] if a request fails. The next call deletes the remaining data.
    pub async fn delete_replaced(&self) -> Result<(), ProjectorError> {
        for build in self.overview().await?.control.replaced {
            self.delete_build(build).await?;
            self.order(|control| {
                control.replaced.retain(|replaced| *replaced != build);
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Deletes everything that a retired projection has stored: the rows, checkpoints, and parked events of all builds,
    /// the heartbeats of its workers, and its [registration](crate::projection::registered). If the projection is run
    /// again, it starts at the first event.
    ///
    /// Stop all workers first. Heartbeats of workers that have crashed remain; if there are any, this call waits for
    /// one [lease](super::ProjectorBuilder::lease) to see whether they change.
    ///
    /// The projection is paused before anything is deleted, and stays paused if the call fails or is dropped. Call it
    /// again to delete the rest.
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] if a worker is running, and for a process, whose pending timeouts and idempotency
    /// would be lost. Other errors if a request fails.
    pub async fn remove(&self) -> Result<(), ProjectorError> {
        let name = &self.inner.name;
        if !P::IS_REPLAYABLE {
            return Err(ProjectorError::invalid(format!(
                "`{name}` is a process, and only a projection can be removed: `pause` a process that is no longer needed"
            )));
        }
        self.check_unattended().await?;
        self.pause().await?;
        let (names, overview) = (self.inner.names()?, self.overview().await?);
        for build in overview.control.builds().chain(overview.control.replaced.iter().copied()) {
            self.delete_build(build).await?;
        }
        for worker in overview.workers.keys() {
            self.apply([DocumentChange::delete(names.worker(*worker))]).await?;
        }
        // The last change, because tools find only registered projections, and a call may have to be repeated.
        let registration = DocumentChange::delete(registry::key(name));
        self.apply([DocumentChange::delete(names.control()), registration]).await?;
        tracing::info!(projection = name, "removed all data of a projection");
        Ok(())
    }

    /// Checks that no worker sends heartbeats.
    async fn check_unattended(&self) -> Result<(), ProjectorError> {
        let before = self.overview().await?.workers;
        if before.is_empty() {
            return Ok(());
        }
        let lease = self.inner.settings.lease;
        self.pass(lease).await;
        let after = self.overview().await?.workers;
        let is_live = |(worker, revision): &(&Uuid, &Revision)| before.get(*worker) != Some(*revision);
        let (workers, are, them) = match after.iter().filter(is_live).count() {
            0 => return Ok(()),
            1 => ("1 worker".to_owned(), "is", "it"),
            live => (format!("{live} workers"), "are", "them"),
        };
        let name = &self.inner.name;
        Err(ProjectorError::invalid(format!(
            "{workers} of `{name}` {are} running: stop {them}, or deploy a release without the projection, and remove it \
             then"
        )))
    }

    /// Deletes the checkpoints, parked events, and rows of a build.
    async fn delete_build(&self, build: u32) -> Result<(), ProjectorError> {
        let names = self.inner.names()?;
        // Delete the checkpoints first: without them, a worker that has not noticed the change cannot write.
        let (overview, tree) = (self.overview().await?, self.inner.store.slice_tree().await?);
        for slice in overview.all_slices(&tree, build) {
            self.delete_slot(&names, Slot { build, slice }).await?;
        }
        for stage in self.inner.projection.clone().stages() {
            self.delete_rows(stage, build).await?;
        }
        Ok(())
    }

    /// Deletes the rows of a build. Waits if the store throttles.
    async fn delete_rows(&self, stage: &mut dyn Stage, build: u32) -> Result<(), ProjectorError> {
        let mut waits = THROTTLED.into_iter();
        loop {
            let Err(error) = stage.delete(&self.inner.name, build).await else { return Ok(()) };
            match (error.downcast::<StoreError>(), waits.next()) {
                (Ok(error), Some(wait)) if matches!(*error, StoreError::Throttled(_)) => {
                    self.pass(Duration::from_secs(wait)).await;
                }
                (Ok(error), _) => return Err(ProjectorError::Store(*error)),
                (Err(error), _) => {
                    let reason = format!("the rows of build {build} cannot be deleted: {error}");
                    return Err(ProjectorError::invalid(reason));
                }
            }
        }
    }

    async fn delete_slot(&self, names: &Names, slot: Slot) -> Result<(), ProjectorError> {
        self.apply([DocumentChange::delete(names.slice(slot))]).await?;
        self.apply([DocumentChange::delete(names.accepted(slot))]).await?;
        let parked = names.parked(slot);
        Ok(delete_all(&*self.inner.store, &parked, &*self.inner.settings.ids).await?)
    }

    async fn apply(&self, changes: impl IntoIterator<Item = DocumentChange>) -> Result<(), ProjectorError> {
        let set = ChangeSet::new(self.inner.settings.ids.new_id()).with_changes(changes);
        Ok(self.inner.store.change(&set).await.map_err(ChangeError::into_store_error)?)
    }
}
