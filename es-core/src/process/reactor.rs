//! Running reactions, once for each event in effect.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::React;
use super::reaction::{Done, Instance, Reaction};
use super::timers::{Timer, Timers};
use super::turn::{Begun, Found, Turn};
use crate::aggregate::Aggregate;
use crate::documents::{ChangeError, ChangeSet, DocumentKey, Documents, ExpectedDocument};
use crate::event::EventId;
use crate::events::Events;
use crate::feed::{Feed, Slice};
use crate::ids::{IdSource, RandomIds};
use crate::projection::{BoxError, EventContext, ProjectError, Tick};
use crate::repository::{ExecuteError, Repository};
use crate::store::{EventStore, OnceKey, StoreError};
use crate::stream_id::StreamId;
use crate::version::{ExpectedVersion, Version};

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
        let store = Arc::clone(&self.store) as Arc<dyn EventStore>;
        let instance = self.instance(&id, ctx, &*store).map_err(failed)?;
        for _ in 0..MOST_ATTEMPTS {
            let turn = match self.turn(&instance).await.map_err(ProjectError::Handler)? {
                Some(Found::Turn(turn)) => turn,
                Some(Found::Taken(other)) if other.is_after(ctx) => return Ok(()),
                Some(Found::Taken(other)) => {
                    let reason = format!(
                        "the reaction `{}` of the instance `{id}` has begun, and is not finished; if it never will \
                         be, because its event was skipped, call `abandon`",
                        other.reaction()
                    );
                    return Err(ProjectError::Later(reason.into()));
                }
                None => continue,
            };
            if self.attempt(process, &instance, event, turn).await? {
                return Ok(());
            }
        }
        let reason = format!("the instance `{id}` of the process changes faster than it can react");
        Err(ProjectError::Later(reason.into()))
    }

    fn instance<'a>(
        &self,
        id: &'a S::Id,
        ctx: &'a EventContext,
        store: &'a dyn EventStore,
    ) -> Result<Instance<'a, S>, StoreError> {
        let stream = StreamId::new(S::NAME, id)?;
        let key = self.key(ctx);
        let once = OnceKey::new(Some(stream.clone()), &key)?;
        Ok(Instance { id, stream, ctx, key, once, store })
    }

    /// Whose turn it is; `None` when that has just changed.
    async fn turn(&self, instance: &Instance<'_, S>) -> Result<Option<Found>, BoxError> {
        let store = Arc::clone(&self.store) as Arc<dyn Documents>;
        let ids = Arc::clone(&self.ids);
        let found = Turn::look(store, ids, self.turn_key(instance.id), &instance.key, instance.ctx).await?;
        if let Found::Taken(other) = &found {
            // A worker that was replaced may have begun what was finished, or what has no basis any more, and
            // died. While a turn is a valid one, nothing but its own events can follow its basis.
            let once = OnceKey::new(Some(instance.stream.clone()), other.reaction())?;
            let is_valid = self.store.marker(&once).await?.marker.is_none()
                && other.basis() == Some(self.store.head(&instance.stream).await?.version);
            if is_valid {
                return Ok(Some(found));
            }
        }
        match found {
            Found::Taken(over) => {
                over.end().await?;
                Ok(None)
            }
            Found::Turn(turn) => Ok(Some(Found::Turn(turn))),
        }
    }

    /// Reacts to an event; says whether it is done, or the instance has changed meanwhile.
    async fn attempt<P, E>(
        &mut self,
        process: &P,
        instance: &Instance<'_, S>,
        event: &E,
        mut turn: Turn,
    ) -> Result<bool, ProjectError>
    where
        P: React<E, State = S>,
        E: Sync,
    {
        let loaded = match turn.basis() {
            Some(basis) => {
                match turn.take_over().await.map_err(ProjectError::Handler)? {
                    Begun::Yes => {}
                    Begun::No => return Ok(false),
                    Begun::Lost => return Err(ProjectError::Lost),
                }
                let is_done = self.is_done(instance).await?;
                let head = self.store.head(&instance.stream).await;
                // With another version it was never the turn to issue anything.
                if is_done || head.map_err(failed)?.version != basis {
                    turn.end().await.map_err(ProjectError::Handler)?;
                    return Ok(is_done);
                }
                self.states.load_at(instance.id, basis).await
            }
            None => self.states.load(instance.id).await,
        };
        let loaded = loaded.map_err(failed)?;
        let mut reaction = Reaction::new(instance, &loaded, turn);
        let events = process.react(event, &mut reaction).await;
        let Done { turn, is_outdated, is_lost, timers } = reaction.finish();
        if is_lost {
            return Err(ProjectError::Lost);
        }
        if is_outdated {
            turn.end().await.map_err(ProjectError::Handler)?;
            return self.is_done(instance).await;
        }
        let events = events.map_err(ProjectError::Handler)?;
        self.finish(instance, loaded.version, events, &timers, turn).await
    }

    async fn is_done(&self, instance: &Instance<'_, S>) -> Result<bool, ProjectError> {
        Ok(self.store.marker(&instance.once).await.map_err(failed)?.marker.is_some())
    }

    /// Records what a reaction led to.
    async fn finish(
        &mut self,
        instance: &Instance<'_, S>,
        basis: Version,
        events: Events<S>,
        timers: &[Timer],
        turn: Turn,
    ) -> Result<bool, ProjectError> {
        let is_begun = turn.basis().is_some();
        if events.is_empty() && timers.is_empty() && !is_begun {
            return Ok(true);
        }
        let ctx = instance.ctx;
        self.schedule(ctx.slice(), timers).await.map_err(ProjectError::Handler)?;
        // Nothing but a turn that has begun proves that the slice is still this worker's.
        let lease = ctx.lease().filter(|_| !is_begun).cloned();
        let conditions: Vec<_> = lease.into_iter().chain([turn.condition()]).collect();
        let asked = conditions.len();
        let request = self
            .states
            .with(ctx.metadata().following(ctx.event_id()))
            .expecting(ExpectedVersion::Exact(basis))
            .once_for(RETENTION, &instance.key)
            .joining(move |_| conditions.clone());
        match request.record(instance.id, events).await {
            Ok(_) => {}
            Err(ExecuteError::Refused(refused)) if !is_begun && refused.index + 1 < asked => {
                return Err(ProjectError::Lost);
            }
            Err(ExecuteError::Outdated(_) | ExecuteError::Refused(_)) if !is_begun => return Ok(false),
            Err(error) => return Err(ProjectError::Handler(error.into())),
        }
        turn.end().await.map_err(ProjectError::Handler)?;
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
    pub(super) async fn due(&mut self, tick: Tick<'_>) -> Result<Vec<Timer>, BoxError> {
        let (store, slice, now) = (Arc::clone(&self.store), tick.slice(), tick.now());
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

fn failed(error: StoreError) -> ProjectError {
    ProjectError::Handler(error.into())
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
