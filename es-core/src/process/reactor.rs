//! Running reactions, once for each event in effect.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::React;
use super::reaction::Instance;
use super::timers::{Timer, Timers};
use super::turn::Turn;
use crate::aggregate::Aggregate;
use crate::clock::Clock;
use crate::documents::{ChangeError, ChangeSet, DocumentKey, Documents, ExpectedDocument};
use crate::feed::{Feed, Slice};
use crate::ids::IdSource;
use crate::projection::{BoxError, EventContext, ProjectError, Tick};
use crate::repository::Repository;
use crate::store::{EventStore, OnceKey, StoreError};
use crate::stream_id::StreamId;

/// For how long it is remembered which events were reacted to, and which commands were issued.
pub(super) const RETENTION: Duration = Duration::from_hours(90 * 24);

/// How often a reaction begins anew when its instance has changed meanwhile.
const MOST_ATTEMPTS: u32 = 16;

/// What runs the reactions of a process: the generated code hands the events to it.
pub struct Reactor<S: Aggregate> {
    process: &'static str,
    pub(super) store: Arc<dyn Feed>,
    pub(super) states: Repository<S>,
    ids: Arc<dyn IdSource>,
    timers: Option<(Slice, Timers)>,
}

impl<S: Aggregate> Reactor<S> {
    pub(super) fn new(
        process: &'static str,
        store: Arc<dyn Feed>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> Self {
        let states = Repository::builder(Arc::clone(&store) as Arc<dyn EventStore>);
        let states = states.equipped(clock, Arc::clone(&ids)).build();
        Self { process, store, states, ids, timers: None }
    }

    /// The same with another clock and other ids.
    pub(super) fn equipped(&self, clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>) -> Self {
        Self::new(self.process, Arc::clone(&self.store), clock, ids)
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
            let (documents, ids) = (Arc::clone(&self.store) as Arc<dyn Documents>, Arc::clone(&self.ids));
            let turn = Turn::look(documents, ids, self.turn_key(&id), &instance.key, ctx).await;
            let turn = turn.map_err(ProjectError::Handler)?;
            if turn.reaction() != instance.key {
                if turn.is_after(ctx) {
                    return Ok(());
                }
                let reason = format!(
                    "the reaction `{}` of the instance `{id}` has begun, and is not finished; if it never will be, \
                     because its event was skipped, call `abandon`",
                    turn.reaction()
                );
                return Err(ProjectError::Later(reason.into()));
            }
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

    /// Ends the turn of a reaction that will never be finished.
    pub(super) async fn abandon(&self, id: &S::Id) -> Result<(), StoreError> {
        let set = ChangeSet::new(self.ids.new_id()).delete(self.turn_key(id), ExpectedDocument::Any);
        self.store.change(&set).await.map_err(ChangeError::into_store_error)
    }

    /// What identifies the reaction to an event: a part of the keys of its commands.
    fn key(&self, ctx: &EventContext) -> String {
        match ctx.timeout_key() {
            Some(timer) => format!("{timer}/timeout"),
            None => format!("{}/{}", self.process, ctx.event_id()),
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

    /// Stores the timeouts of a reaction whose turn it is.
    pub(super) async fn schedule(
        &mut self,
        slice: Slice,
        timers: &[Timer],
        turn: &Turn,
    ) -> Result<(), BoxError> {
        let (store, ids) = (Arc::clone(&self.store), Arc::clone(&self.ids));
        self.timers(slice).store(&*store as &dyn Documents, &*ids, timers, &turn.condition()).await
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
    pub(super) async fn done(&mut self, tick: Tick<'_>, timer: &Timer) -> Result<(), ProjectError> {
        let (store, ids) = (Arc::clone(&self.store), Arc::clone(&self.ids));
        self.timers(tick.slice()).done(&*store as &dyn Documents, &*ids, timer, tick.lease()).await
    }
}

pub(super) fn failed(error: StoreError) -> ProjectError {
    ProjectError::Handler(error.into())
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
