//! Running reactions, once for each event in effect.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::React;
use super::journal::Journal;
use super::reaction::{Done, Reaction};
use super::timers::{Timer, Timers};
use crate::aggregate::Aggregate;
use crate::clock::Clock;
use crate::documents::{DocumentKey, Documents};
use crate::event::EventId;
use crate::feed::{Feed, Slice};
use crate::ids::{IdSource, RandomIds};
use crate::projection::{BoxError, EventContext};
use crate::repository::{ExecuteError, Repository};
use crate::store::{EventStore, OnceKey};
use crate::stream_id::StreamId;
use crate::version::ExpectedVersion;

/// For how long it is remembered which events were reacted to, and which commands were issued.
pub(super) const RETENTION: Duration = Duration::from_hours(90 * 24);

/// How often a reaction begins anew when its instance has changed meanwhile.
const MOST_ATTEMPTS: u32 = 16;

/// What runs the reactions of a process: the generated code hands the events to it.
pub struct Reactor<S: Aggregate> {
    process: &'static str,
    store: Arc<dyn Feed>,
    states: Repository<S>,
    ids: Arc<dyn IdSource>,
    timers: Option<(Slice, Timers)>,
}

impl<S: Aggregate> Reactor<S> {
    pub(super) fn new(process: &'static str, store: Arc<dyn Feed>) -> Self {
        let states = Repository::new(Arc::clone(&store) as Arc<dyn EventStore>);
        Self { process, store, states, ids: Arc::new(RandomIds), timers: None }
    }

    /// Lets `process` react to an event.
    ///
    /// # Errors
    ///
    /// What the reaction failed with, and what the store did.
    pub async fn react<P, E>(&mut self, process: &P, event: &E, ctx: &EventContext) -> Result<(), BoxError>
    where
        P: React<E, State = S>,
        E: Sync,
    {
        let Some(id) = process.instance(event, ctx) else { return Ok(()) };
        let key = self.key(ctx);
        let once = OnceKey::new(Some(StreamId::new(S::NAME, &id)?), &key)?;
        for _ in 0..MOST_ATTEMPTS {
            let marker = self.store.marker(&once).await?.marker;
            if marker.is_some() {
                return Ok(());
            }
            let journal = self.journal(&id, &key).await?;
            let loaded = self.states.load(&id).await?;
            let mut reaction = Reaction::new(&id, &loaded, ctx, &key, journal);
            let events = process.react(event, &mut reaction).await?;
            let Done { journal, timers, issued } = reaction.finish();
            if events.is_empty() && timers.is_empty() && issued == 0 {
                return Ok(());
            }
            self.schedule(ctx.slice(), &timers).await?;
            let request = self
                .states
                .with(ctx.metadata().following(ctx.event_id()))
                .expecting(ExpectedVersion::Exact(loaded.version))
                .once_for(RETENTION, &key);
            match request.record(&id, events).await {
                Ok(_) => return journal.close().await,
                // Another event of the same instance came in between, from another slice.
                Err(ExecuteError::Outdated(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(format!("the instance `{id}` of the process changes faster than it can react").into())
    }

    /// What identifies the reaction to an event.
    fn key(&self, ctx: &EventContext) -> String {
        match ctx.timeout_key() {
            Some(timer) => format!("{}/timeout", timer),
            None => reaction_key(self.process, ctx.event_id()),
        }
    }

    async fn journal(&self, id: &S::Id, key: &str) -> Result<Journal, BoxError> {
        let collection = format!("process#{}#journal#{id}", self.process);
        let store = Arc::clone(&self.store) as Arc<dyn Documents>;
        Journal::open(store, Arc::clone(&self.ids), DocumentKey::new(collection, key)).await
    }

    fn timers(&mut self, slice: Slice) -> &mut Timers {
        let known = self.timers.take().filter(|(known, _)| *known == slice);
        let timers = known.unwrap_or_else(|| (slice, Timers::new(self.process, slice)));
        &mut self.timers.insert(timers).1
    }

    async fn schedule(&mut self, slice: Slice, timers: &[Timer]) -> Result<(), BoxError> {
        let (store, ids) = (Arc::clone(&self.store), Arc::clone(&self.ids));
        self.timers(slice).store(&*store as &dyn Documents, &*ids, timers).await
    }

    /// The timeouts that are due now.
    pub(super) async fn due(&mut self, slice: Slice, clock: &dyn Clock) -> Result<Vec<Timer>, BoxError> {
        let (store, now) = (Arc::clone(&self.store), clock.now());
        let timers = self.timers(slice);
        if !timers.may_be_due(now) {
            return Ok(Vec::new());
        }
        timers.due(&*store as &dyn Documents, now).await
    }

    /// Deletes a timeout that was reacted to.
    pub(super) async fn done(&mut self, slice: Slice, timer: &Timer) -> Result<(), BoxError> {
        let (store, ids) = (Arc::clone(&self.store), Arc::clone(&self.ids));
        self.timers(slice).done(&*store as &dyn Documents, &*ids, timer).await
    }
}

/// The key of the reaction of a process to an event: a part of those of its commands.
fn reaction_key(process: &str, event: EventId) -> String {
    format!("{process}/{event}")
}

impl<S: Aggregate> Clone for Reactor<S> {
    fn clone(&self) -> Self {
        Self {
            process: self.process,
            store: Arc::clone(&self.store),
            states: self.states.clone(),
            ids: Arc::clone(&self.ids),
            timers: None,
        }
    }
}

impl<S: Aggregate> fmt::Debug for Reactor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor").field("process", &self.process).finish_non_exhaustive()
    }
}
