//! Running reactions, once for each event in effect.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::React;
use super::reaction::{Done, Reaction};
use super::timers::{Timer, Timers};
use super::turn::{Found, Turn};
use crate::aggregate::Aggregate;
use crate::clock::Clock;
use crate::documents::{ChangeError, ChangeSet, DocumentKey, Documents, ExpectedDocument};
use crate::event::EventId;
use crate::feed::{Feed, Slice};
use crate::ids::{IdSource, RandomIds};
use crate::projection::{BoxError, EventContext, ProjectError};
use crate::repository::{ExecuteError, Repository};
use crate::store::{EventStore, OnceKey, StoreError};
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
    /// [`ProjectError::Later`] while another event of the same instance is reacted to; otherwise what the
    /// reaction failed with, and what the store did.
    pub async fn react<P, E>(
        &mut self,
        process: &P,
        event: &E,
        ctx: &EventContext,
    ) -> Result<(), ProjectError>
    where
        P: React<E, State = S>,
        E: Sync,
    {
        let Some(id) = process.instance(event, ctx) else { return Ok(()) };
        for _ in 0..MOST_ATTEMPTS {
            if self.attempt(process, &id, event, ctx).await? {
                return Ok(());
            }
        }
        let reason = format!("the instance `{id}` of the process changes faster than it can react");
        Err(ProjectError::Later(reason.into()))
    }

    /// Reacts to an event; says whether it is done, or the instance has changed meanwhile.
    async fn attempt<P, E>(
        &mut self,
        process: &P,
        id: &S::Id,
        event: &E,
        ctx: &EventContext,
    ) -> Result<bool, ProjectError>
    where
        P: React<E, State = S>,
        E: Sync,
    {
        let key = self.key(ctx);
        let turn = match self.turn(id, &key).await.map_err(ProjectError::Handler)? {
            Found::Turn(turn) => turn,
            Found::Taken(other) => {
                let reason = format!(
                    "the reaction `{other}` of the instance `{id}` has begun, and is not finished; if it never \
                     will be, because its event was skipped, call `abandon`"
                );
                return Err(ProjectError::Later(reason.into()));
            }
        };
        self.attempt_in(turn, &key, process, id, event, ctx).await.map_err(ProjectError::Handler)
    }

    async fn attempt_in<P, E>(
        &mut self,
        turn: Turn,
        key: &str,
        process: &P,
        id: &S::Id,
        event: &E,
        ctx: &EventContext,
    ) -> Result<bool, BoxError>
    where
        P: React<E, State = S>,
        E: Sync,
    {
        let once = OnceKey::new(Some(StreamId::new(S::NAME, id)?), key)?;
        if self.store.marker(&once).await?.marker.is_some() {
            turn.end().await?;
            return Ok(true);
        }
        let loaded = match turn.basis() {
            Some(basis) => self.states.load_at(id, basis).await?,
            None => self.states.load(id).await?,
        };
        let store = Arc::clone(&self.store) as Arc<dyn EventStore>;
        let mut reaction = Reaction::new(id, &loaded, ctx, key, &*store, turn);
        let events = process.react(event, &mut reaction).await;
        let Done { turn, is_outdated, timers } = reaction.finish();
        if is_outdated {
            turn.end().await?;
            return Ok(false);
        }
        let events = events?;
        if events.is_empty() && timers.is_empty() && turn.basis().is_none() {
            return Ok(true);
        }
        self.schedule(ctx.slice(), &timers).await?;
        let request = self
            .states
            .with(ctx.metadata().following(ctx.event_id()))
            .expecting(ExpectedVersion::Exact(loaded.version))
            .once_for(RETENTION, key);
        match request.record(id, events).await {
            Ok(_) => {}
            Err(ExecuteError::Outdated(_)) if turn.basis().is_none() => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        turn.end().await?;
        Ok(true)
    }

    /// Ends the turn of a reaction that will never be finished.
    pub(super) async fn abandon(&self, id: &S::Id) -> Result<(), StoreError> {
        let set = ChangeSet::new(self.ids.new_id()).delete(self.turn_key(id), ExpectedDocument::Any);
        match self.store.change(&set).await {
            Ok(()) => Ok(()),
            Err(ChangeError::Store(error)) => Err(error),
            Err(error) => Err(StoreError::invalid(error.to_string())),
        }
    }

    /// What identifies the reaction to an event.
    fn key(&self, ctx: &EventContext) -> String {
        match ctx.timeout_key() {
            Some(timer) => format!("{}/timeout", timer),
            None => reaction_key(self.process, ctx.event_id()),
        }
    }

    async fn turn(&self, id: &S::Id, key: &str) -> Result<Found, BoxError> {
        let store = Arc::clone(&self.store) as Arc<dyn Documents>;
        Turn::look(store, Arc::clone(&self.ids), self.turn_key(id), key).await
    }

    fn turn_key(&self, id: &S::Id) -> DocumentKey {
        DocumentKey::new(format!("process#{}#turn#{id}", self.process), "")
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
