//! A process as a projection: what a projector runs.

use std::fmt;
use std::sync::Arc;

use super::Process;
use super::reactor::Reactor;
use crate::aggregate::Aggregate;
use crate::clock::Clock;
use crate::event::EventData;
use crate::feed::{EventFilter, Feed, Slice};
use crate::projection::{BoxError, EventContext, ProjectError, Projection, Projector, ProjectorBuilder};
use crate::store::StoreError;

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
        let reactor = Reactor::new(P::NAME, Arc::clone(&store));
        ProjectorBuilder::new(store, Reacting { process, reactor })
    }

    /// Lets the instance `id` go on, although a reaction of it has begun that will never be finished: its
    /// event was [skipped](Projector::skip). What it did is not undone.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store cannot do it.
    pub async fn abandon(&self, id: &<P::State as Aggregate>::Id) -> Result<(), StoreError> {
        self.projection().reactor.abandon(id).await
    }
}

impl<P: Process> Projection for Reacting<P> {
    const NAME: &'static str = P::NAME;
    const IS_REPLAYABLE: bool = false;

    fn filter(&self) -> EventFilter {
        self.process.filter()
    }

    async fn handle(&mut self, event: &EventData, ctx: &EventContext) -> Result<(), ProjectError> {
        self.process.handle(event, ctx, &mut self.reactor).await
    }

    async fn tick(&mut self, slice: Slice, clock: &dyn Clock) -> Result<(), BoxError> {
        loop {
            let due = self.reactor.due(slice, clock).await?;
            if due.is_empty() {
                return Ok(());
            }
            for timer in due {
                let (event, ctx) = timer.event(P::State::NAME, slice)?;
                match self.process.time_out(&event, &ctx, &mut self.reactor).await {
                    Err(ProjectError::Later(_)) => return Ok(()),
                    reacted => reacted?,
                }
                self.reactor.done(slice, &timer).await?;
            }
        }
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
