//! The projection of one slot behind a guard, and the contents of its next checkpoint.

use std::error::Error;
use std::fmt;

use super::Inner;
use super::state::Slot;
use crate::documents::{ChangeSet, DocumentChange};
use crate::event::EventData;
use crate::feed::EventFilter;
use crate::projection::guard::{caught, guarded};
use crate::projection::timeout::Due;
use crate::projection::{
    BoxError, EventContext, Interrupted, ProjectError, Projection, Stage, Tick, Transient,
};
use crate::store::AdditionalWrite;

/// A clone of the projection, bound to a build. After a panic or a hang it may be inconsistent, and must be
/// [renewed](Self::renew).
pub(super) struct Guarded<'a, P: Projection> {
    inner: &'a Inner<P>,
    slot: Slot,
    projection: Option<P>,
    filter: EventFilter,
}

impl<'a, P: Projection> Guarded<'a, P> {
    /// Creates it without a clone, because cloning may panic.
    pub(super) fn new(inner: &'a Inner<P>, slot: Slot) -> Self {
        Self { inner, slot, projection: None, filter: EventFilter::none() }
    }

    /// Replaces the projection by a new clone without pending changes.
    pub(super) fn renew(&mut self) -> Result<(), Interrupted> {
        let (projection, filter) = caught(|| {
            let mut projection = self.inner.projection.clone();
            for stage in projection.stages() {
                stage.bind(&self.inner.name, self.slot.build);
            }
            let filter = projection.filter();
            (projection, filter)
        })?;
        // Dropping the previous clone may panic, which says nothing about the new one.
        let previous = self.projection.take();
        let _ = caught(|| drop(previous));
        (self.projection, self.filter) = (Some(projection), filter);
        Ok(())
    }

    /// Returns the events that the projection handles.
    pub(super) fn filter(&self) -> &EventFilter {
        &self.filter
    }

    /// Passes an event to the projection. Keeps its changes if they fit into one transaction with `pending`.
    /// Otherwise, and after an error, undoes them. Returns why they do not fit.
    pub(super) async fn handle(
        &mut self,
        event: &EventData,
        ctx: &EventContext,
        pending: &Pending,
    ) -> Result<Option<String>, ProjectError> {
        let projection = bound(&mut self.projection);
        let code = async {
            // Boxed, because a future of any size would be part of those of the worker, whose stack it could overflow.
            let handled = Box::pin(projection.handle(event, ctx)).await;
            let overload = pending.overload(staged(projection));
            let undo = handled.is_err() || overload.is_some();
            projection.stages().into_iter().for_each(if undo { Stage::undo } else { Stage::keep });
            handled.map(|()| overload).map_err(|error| marked(projection, error))
        };
        let handled = guarded(&*self.inner.settings.clock, self.inner.settings.handler_timeout, code).await?;
        handled.map_err(|error| match error {
            ProjectError::Handler(error) => ProjectError::Handler(HandlerError(Some(error)).into()),
            error => error,
        })
    }

    pub(super) async fn tick(&mut self, tick: Tick<'_>) -> Result<Due, ProjectError> {
        let code = Box::pin(bound(&mut self.projection).tick(tick));
        guarded(&*self.inner.settings.clock, self.inner.settings.handler_timeout, code).await?
    }

    pub(super) async fn flush(&mut self) -> Result<(), ProjectError> {
        let code = Box::pin(bound(&mut self.projection).flush());
        let flushed = guarded(&*self.inner.settings.clock, self.inner.settings.handler_timeout, code).await?;
        flushed.map_err(ProjectError::Handler)
    }

    /// Returns whether the changes since the last checkpoint were lost when an event was undone.
    pub(super) fn is_lost(&mut self) -> bool {
        let projection = bound(&mut self.projection);
        caught(|| projection.stages().iter().any(|stage| stage.is_lost())).unwrap_or(true)
    }

    /// Returns the changes of all events since the last checkpoint, and the transactions that they are part of.
    pub(super) async fn changes(
        &mut self,
    ) -> Result<(Vec<DocumentChange>, Vec<AdditionalWrite>), ProjectError> {
        let projection = bound(&mut self.projection);
        let code = async {
            let mut changes = Vec::new();
            for stage in projection.stages() {
                changes.extend(stage.changes().await.map_err(ProjectError::Handler)?);
            }
            let transactions = projection.stages().into_iter().filter_map(Stage::transaction).collect();
            Ok((changes, transactions))
        };
        guarded(&*self.inner.settings.clock, self.inner.settings.handler_timeout, code).await?
    }

    /// Returns an upper bound of the data to write for the handled events.
    pub(super) fn staged(&mut self) -> Result<Staged, Interrupted> {
        let projection = bound(&mut self.projection);
        caught(|| staged(projection))
    }

    /// Discards the pending changes after they were written.
    pub(super) fn forget(&mut self) -> Result<(), ProjectError> {
        let projection = bound(&mut self.projection);
        Ok(caught(|| projection.stages().into_iter().for_each(Stage::forget))?)
    }
}

/// The error of a handler. Dropping it may panic, because it is user code.
struct HandlerError(Option<BoxError>);

impl HandlerError {
    fn inner(&self) -> &BoxError {
        self.0.as_ref().expect("an error is taken only when it is dropped")
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.inner(), f)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.inner(), f)
    }
}

impl Error for HandlerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&**self.inner())
    }
}

impl Drop for HandlerError {
    fn drop(&mut self) {
        let error = self.0.take();
        let _ = caught(|| drop(error));
    }
}

fn bound<P>(projection: &mut Option<P>) -> &mut P {
    projection.as_mut().expect("a projection is renewed before it is used")
}

/// Marks the error of a handler as transient if a read model knows that it is.
fn marked(projection: &mut impl Projection, error: ProjectError) -> ProjectError {
    match error {
        ProjectError::Handler(cause)
            if projection.stages().iter().any(|stage| stage.is_transient(&*cause)) =>
        {
            ProjectError::Handler(Transient::new(cause).into())
        }
        error => error,
    }
}

fn staged(projection: &mut impl Projection) -> Staged {
    projection.stages().into_iter().fold(Staged::default(), |sum, stage| Staged {
        documents: sum.documents + stage.most_changes(),
        bytes: sum.bytes + stage.most_bytes(),
    })
}

/// The maximum number of documents that a checkpoint may change, excluding its own.
const MAX_CHANGES: usize = ChangeSet::MAX_CHANGES - 1;

/// The maximum number of events parked in one checkpoint.
const MAX_PARKED: usize = MAX_CHANGES / 2;

/// The maximum number of bytes that a checkpoint may write, excluding its own document.
const MAX_BYTES: u64 = ChangeSet::MAX_BYTES - 16 * 1024;

/// An upper bound of the bytes of deleting a parked event.
const PARKED_BYTES: u64 = 4 * 1024;

/// The contents of the next checkpoint other than the read models: newly parked and resumed events.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The number of events handled since the last checkpoint.
    pub(super) events: usize,
    pub(super) changes: Vec<DocumentChange>,
    /// The number of newly parked events.
    pub(super) parked: u64,
    /// The number of events and timeouts that were handled.
    pub(super) handled: u64,
    /// The number of events that are no longer parked.
    pub(super) resumed: u64,
    /// The number of events skipped by decision of an operator.
    pub(super) skipped: u64,
    /// The number of events that were left out because they were erased.
    pub(super) erased: u64,
}

/// Upper bounds of the documents of read models to change and of their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Staged {
    pub(super) documents: usize,
    pub(super) bytes: u64,
}

impl Pending {
    /// Returns why the changes since the last checkpoint do not fit into one transaction, or `None` if they do.
    ///
    /// Room for the document of one parked event is always reserved, so that the same limit applies to new and
    /// replayed events.
    pub(super) fn overload(&self, staged: Staged) -> Option<String> {
        let Staged { documents, bytes } = staged;
        if documents + self.changes.len().max(1) > MAX_CHANGES {
            let limit = MAX_CHANGES - 1;
            Some(format!(
                "it may change {documents} documents at once, rows and their places in indexes, and a transaction \
                 is limited to {limit}: change fewer rows for one event"
            ))
        } else if bytes + self.bytes().max(PARKED_BYTES) > MAX_BYTES {
            let limit = MAX_BYTES - PARKED_BYTES;
            Some(format!(
                "it may write {bytes} bytes at once, rows and their copies in indexes, and a transaction is limited to \
                 {limit}: change fewer or smaller rows for one event"
            ))
        } else {
            None
        }
    }

    /// Returns whether the next checkpoint can include one more document.
    pub(super) fn has_room_for(&self, change: &DocumentChange, staged: Staged) -> bool {
        let documents = staged.documents + self.changes.len();
        let bytes = staged.bytes + self.bytes() + change.bytes();
        self.changes.len() < MAX_PARKED && documents < MAX_CHANGES && bytes <= MAX_BYTES
    }

    fn bytes(&self) -> u64 {
        self.changes.iter().map(DocumentChange::bytes).sum()
    }
}
