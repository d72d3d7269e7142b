//! A process as a projection: what a projector runs.

use std::fmt;
use std::sync::Arc;

use super::Process;
use super::reactor::{Reactor, failed};
use crate::aggregate::Aggregate;
use crate::clock::{Clock, SystemClock};
use crate::event::EventData;
use crate::feed::{EventFilter, Feed};
use crate::ids::{IdSource, RandomIds};
use crate::projection::{
    Due, EventContext, ProjectError, Projection, Projector, ProjectorBuilder, ProjectorError, Tick,
};

/// A process that a [`Projector`] runs: made by [`Projector::of_process`].
pub struct Reacting<P: Process> {
    process: P,
    reactor: Reactor<P::State>,
}

impl<P: Process> Projector<Reacting<P>> {
    /// Runs the process `process` on `store`, with the default settings.
    #[must_use]
    pub fn of_process(store: impl Feed, process: P) -> Self {
        Self::process_builder(store, process).build()
    }

    /// Settings for running the process `process` on `store`.
    pub fn process_builder(store: impl Feed, process: P) -> ProjectorBuilder<Reacting<P>> {
        let store: Arc<dyn Feed> = Arc::new(store);
        let reactor = Reactor::new(P::NAME, Arc::clone(&store), Arc::new(SystemClock), Arc::new(RandomIds));
        ProjectorBuilder::new(store, Reacting { process, reactor })
    }

    /// Lets the instance `id` go on, although a reaction of it has begun that will never be finished: its event or
    /// timeout was [skipped](Projector::skip), or is [parked](Projector::park) and not to be replayed. What it did
    /// is not undone.
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] when the reaction is still to be finished, [`ProjectorError::Store`] when the
    /// store cannot do it.
    pub async fn abandon(&self, id: &<P::State as Aggregate>::Id) -> Result<(), ProjectorError> {
        self.projection().reactor.abandon(id).await
    }
}

#[diagnostic::do_not_recommend]
impl<P: Process> Projection for Reacting<P> {
    const NAME: &'static str = P::NAME;
    const IS_REPLAYABLE: bool = false;

    fn equip(&mut self, clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>) {
        self.reactor = self.reactor.equipped(clock, ids);
    }

    fn filter(&self) -> EventFilter {
        self.process.filter()
    }

    async fn handle(&mut self, event: &EventData, ctx: &EventContext) -> Result<(), ProjectError> {
        if ctx.timeout_key().is_none() {
            return self.process.handle(event, ctx, &mut self.reactor).await;
        }
        if self.reactor.is_waiting(ctx) {
            return Err(ProjectError::Later("an earlier timeout of the instance waits".into()));
        }
        let result = self.process.time_out(event, ctx, &mut self.reactor).await;
        self.reactor.timed_out(ctx, &result);
        result
    }

    async fn tick(&mut self, tick: Tick<'_>) -> Result<Due, ProjectError> {
        self.reactor.due(tick).await.map_err(failed)
    }
}

impl<P: Process> Clone for Reacting<P> {
    fn clone(&self) -> Self {
        Self { process: self.process.clone(), reactor: self.reactor.clone() }
    }
}

impl<P: Process> fmt::Debug for Reacting<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reacting").field("process", &P::NAME).finish_non_exhaustive()
    }
}
