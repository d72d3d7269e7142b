//! The pending timeouts of a process, for operators.

use chrono::{DateTime, Utc};

use super::Projector;
use crate::documents::{DocumentKey, DocumentQuery};
use crate::event::EventId;
use crate::feed::Slice;
use crate::projection::timeout::{self, Timeout};
use crate::projection::{Projection, ProjectorError};
use crate::stream_id::StreamId;

/// A timeout that a process has scheduled and not handled yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingTimeout {
    /// The due time. A timeout that is due is handled soon, unless the process is paused or its slice has stopped.
    pub due: DateTime<Utc>,
    /// The stream of the instance.
    pub instance: StreamId,
    /// The stored name of the event that the process will handle.
    pub name: String,
    /// The event whose reaction scheduled the timeout.
    pub cause: EventId,
    /// The slice.
    pub slice: Slice,
}

impl<P: Projection> Projector<P> {
    /// Returns the next pending timeouts of a process, ordered by due time: at most `limit`, which must be at least 1.
    /// Sends at least one request per slice.
    ///
    /// Parked timeouts are not included: see [`parked`](Self::parked).
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] if the timeouts cannot be read or decoded.
    pub async fn pending_timeouts(&self, limit: u32) -> Result<Vec<PendingTimeout>, ProjectorError> {
        let mut pending = Vec::new();
        let overview = self.overview().await?;
        let tree = self.inner.store.slice_tree().await?;
        for slice in overview.all_slices(&tree, overview.control.active) {
            let collection = timeout::collection(&self.inner.name, slice);
            let page = self.inner.store.documents(&DocumentQuery::new(&collection).limit(limit)).await?;
            for (name, document) in page.documents {
                let timeout = Timeout::decode(DocumentKey::new(&collection, &name), &document)?;
                let scheduled = timeout.scheduled();
                pending.push(PendingTimeout {
                    due: timeout.due(),
                    instance: timeout.stream().clone(),
                    name: scheduled.name.clone(),
                    cause: EventId::new(scheduled.commit, scheduled.cause),
                    slice,
                });
            }
        }
        pending.sort_by_key(|timeout| timeout.due);
        pending.truncate(limit as usize);
        Ok(pending)
    }
}
