//! The projection of one slot, behind a guard: its panics and hangs are errors.

use super::Inner;
use super::pending::{Pending, Staged};
use super::state::Slot;
use crate::documents::DocumentChange;
use crate::event::EventData;
use crate::feed::EventFilter;
use crate::projection::guard::{caught, guarded};
use crate::projection::timeout::Due;
use crate::projection::{EventContext, Interrupted, ProjectError, Projection, Stage, Tick};

/// A clone of the projection, bound to a build. After a panic or a hang it may be broken, and has to be
/// [renewed](Self::renew).
pub(super) struct Guarded<'a, P: Projection> {
    inner: &'a Inner<P>,
    slot: Slot,
    projection: Option<P>,
    filter: EventFilter,
}

impl<'a, P: Projection> Guarded<'a, P> {
    /// Without a clone yet, since making one may panic.
    pub(super) fn new(inner: &'a Inner<P>, slot: Slot) -> Self {
        Self { inner, slot, projection: None, filter: EventFilter::none() }
    }

    /// Takes a fresh clone, which knows nothing of any event.
    pub(super) fn renew(&mut self) -> Result<(), Interrupted> {
        let (projection, filter) = caught(|| {
            let mut projection = self.inner.projection.clone();
            for stage in projection.stages() {
                stage.bind(&self.inner.name, self.slot.build);
            }
            let filter = projection.filter();
            // In here, because dropping the old one may panic, too.
            self.projection = None;
            (projection, filter)
        })?;
        (self.projection, self.filter) = (Some(projection), filter);
        Ok(())
    }

    /// The events that the projection takes.
    pub(super) fn filter(&self) -> &EventFilter {
        &self.filter
    }

    /// Hands an event to the projection. Keeps what it changed if that fits into one transaction with what is
    /// `pending`; otherwise, and after an error, undoes it. Returns why it does not fit.
    pub(super) async fn handle(
        &mut self,
        event: &EventData,
        ctx: &EventContext,
        pending: &Pending,
    ) -> Result<Option<String>, ProjectError> {
        let projection = bound(&mut self.projection);
        let code = async {
            let handled = projection.handle(event, ctx).await;
            let overload = pending.overload(staged(projection));
            let undo = handled.is_err() || overload.is_some();
            projection.stages().into_iter().for_each(if undo { Stage::undo } else { Stage::keep });
            handled.map(|()| overload)
        };
        guarded(&*self.inner.settings.clock, self.inner.settings.handler_timeout, code).await?
    }

    pub(super) async fn tick(&mut self, tick: Tick<'_>) -> Result<Due, ProjectError> {
        let code = bound(&mut self.projection).tick(tick);
        guarded(&*self.inner.settings.clock, self.inner.settings.handler_timeout, code).await?
    }

    pub(super) async fn flush(&mut self) -> Result<(), ProjectError> {
        let code = bound(&mut self.projection).flush();
        let flushed = guarded(&*self.inner.settings.clock, self.inner.settings.handler_timeout, code).await?;
        flushed.map_err(ProjectError::Handler)
    }

    /// The changes of all events since the last checkpoint.
    pub(super) async fn changes(&mut self) -> Result<Vec<DocumentChange>, ProjectError> {
        let projection = bound(&mut self.projection);
        let code = async {
            let mut changes = Vec::new();
            for stage in projection.stages() {
                changes.extend(stage.changes().await.map_err(ProjectError::Handler)?);
            }
            Ok(changes)
        };
        guarded(&*self.inner.settings.clock, self.inner.settings.handler_timeout, code).await?
    }

    /// What may have to be written for the events that were handled.
    pub(super) fn staged(&mut self) -> Result<Staged, Interrupted> {
        let projection = bound(&mut self.projection);
        caught(|| staged(projection))
    }

    /// Forgets all changes: they are written.
    pub(super) fn forget(&mut self) -> Result<(), ProjectError> {
        let projection = bound(&mut self.projection);
        Ok(caught(|| projection.stages().into_iter().for_each(Stage::forget))?)
    }
}

fn bound<P>(projection: &mut Option<P>) -> &mut P {
    projection.as_mut().expect("a projection is renewed before it is used")
}

fn staged(projection: &mut impl Projection) -> Staged {
    projection.stages().into_iter().fold(Staged::default(), |sum, stage| Staged {
        documents: sum.documents + stage.most_changes(),
        bytes: sum.bytes + stage.most_bytes(),
    })
}
