//! Runs the reactions of a process. Each event takes effect exactly once.

use std::fmt;
use std::sync::Arc;

use tracing::Instrument;

use super::React;
use super::holder::{Holder, holder};
use super::reaction::{Done, Instance, RETENTION, Reaction};
use super::timers::Timers;
use super::turn::{Begun, Reached, Turn, reached_key, turn_key};
use crate::aggregate::Aggregate;
use crate::clock::Clock;
use crate::documents::{ChangeError, Documents};
use crate::event::EventKind;
use crate::events::Events;
use crate::feed::{Feed, Slice};
use crate::ids::IdSource;
use crate::keys::{short_name, shorten};
use crate::projection::timeout::{Due, Scheduled};
use crate::projection::{BoxError, EventContext, ProjectError, Tick};
use crate::repository::{ExecuteError, Repository};
use crate::spans::Operation;
use crate::store::{ClosedStream, EventStore, IdempotencyKey, StoreError, StreamState};
use crate::stream_id::StreamId;
use crate::version::{ExpectedVersion, Version};

/// The maximum length of the key of a reaction to a timeout, in bytes. It is a prefix of the keys of its commands
/// and timeouts.
const MAX_KEY_BYTES: usize = 256;

/// The maximum number of restarts of a reaction because its instance has changed.
const MAX_ATTEMPTS: u32 = 16;

/// Runs the reactions of a process. Generated code passes the events to it.
pub struct Reactor<S> {
    process: &'static str,
    store: Arc<dyn Feed>,
    states: Repository<S>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    /// The state for the current slice. A clone may work on another slice.
    work: Option<Work>,
}

/// The state of the work on one slice.
struct Work {
    slice: Slice,
    timers: Timers,
    /// The last event for which a turn had begun when the work on the slice began.
    reached: Option<Reached>,
}

/// The result of an attempt.
enum Attempted {
    /// The reaction is done.
    Done,
    /// The reaction had already been done, perhaps by another worker.
    DoneBefore,
    /// The instance has changed.
    Outdated,
}

impl Attempted {
    fn before(is_done: bool) -> Self {
        if is_done { Self::DoneBefore } else { Self::Outdated }
    }
}

impl<S: Aggregate> Reactor<S> {
    pub(super) fn new(
        process: &'static str,
        store: Arc<dyn Feed>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> Self {
        let states = Repository::builder(Arc::clone(&store) as Arc<dyn EventStore>);
        let states = states.equipped(Arc::clone(&clock), Arc::clone(&ids)).build();
        Self { process, store, states, clock, ids, work: None }
    }

    /// Returns a copy with another clock and another source of ids.
    pub(super) fn equipped(&self, clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>) -> Self {
        Self::new(self.process, Arc::clone(&self.store), clock, ids)
    }

    /// Runs the reaction of `process` to an event.
    ///
    /// # Errors
    ///
    /// [`ProjectError::Later`] while another reaction of the same instance holds the turn. Otherwise, the error of
    /// the reaction or of the store.
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
        if self.was_passed(ctx).await.map_err(failed)? {
            self.work(ctx.slice()).timers.look_again();
            return Ok(());
        }
        let Some(id) = process.instance(event, ctx).map_err(ProjectError::Handler)? else { return Ok(()) };
        let span = Operation::reaction(
            self.process,
            &id.to_string(),
            short_name::<E>(),
            ctx.timeout_key().is_some(),
        );
        let outcome = self.react_as(process, &id, event, ctx).instrument(span.span()).await;
        span.end(match &outcome {
            Ok(()) => "done",
            Err(ProjectError::Later(_)) => "waits",
            Err(ProjectError::Lost) => "lost",
            Err(_) => "failed",
        });
        outcome
    }

    /// Runs the reaction of the instance `id`.
    async fn react_as<P, E>(
        &mut self,
        process: &P,
        id: &S::Id,
        event: &E,
        ctx: &EventContext,
    ) -> Result<(), ProjectError>
    where
        P: React<E, State = S>,
        E: Sync,
    {
        let store = Arc::clone(&self.store) as Arc<dyn EventStore>;
        let instance = self.instance(id, ctx, &*store, P::TIMEOUTS).map_err(failed)?;
        for _ in 0..MAX_ATTEMPTS {
            let mut turn = self.look(&instance).await.map_err(ProjectError::Handler)?;
            if turn.reaction() != instance.key {
                if instance.is_done().await.map_err(failed)? {
                    self.work(ctx.slice()).timers.look_again();
                    return Ok(());
                }
                self.check_holder(&instance, &turn).await?;
                turn.end().await.map_err(ProjectError::Handler)?;
                continue;
            }
            if is_in_order(ctx) {
                turn = turn.reaching(reached_key(self.process, ctx.slice()), Reached::of(ctx));
            }
            match self.attempt(process, &instance, event, turn).await? {
                Attempted::Done => return Ok(()),
                Attempted::DoneBefore => {
                    // Another worker may have stored timeouts since the last query.
                    self.work(ctx.slice()).timers.look_again();
                    return Ok(());
                }
                Attempted::Outdated => {}
            }
        }
        let reason = format!(
            "the instance `{id}` of the process changes faster than it can react; the event is retried"
        );
        Err(ProjectError::Later(reason.into()))
    }

    fn instance<'a>(
        &self,
        id: &'a S::Id,
        ctx: &'a EventContext,
        store: &'a dyn EventStore,
        timeouts: &'static [&'static [EventKind]],
    ) -> Result<Instance<'a, S>, StoreError> {
        let stream = StreamId::new(S::NAME, id)?;
        let key = self.key(ctx);
        let once = IdempotencyKey::new(Some(stream.clone()), &key)?;
        Ok(Instance { id, stream, ctx, key, once, store, timeouts })
    }

    /// Returns the turn of the instance if it has begun, and otherwise one for this reaction.
    async fn look(&self, instance: &Instance<'_, S>) -> Result<Turn, BoxError> {
        let (documents, ids) = (Arc::clone(&self.store) as Arc<dyn Documents>, Arc::clone(&self.ids));
        let key = turn_key(self.process, &instance.stream);
        Turn::look(documents, ids, key, &instance.key, instance.ctx).await
    }

    /// Returns whether a turn has begun for a later event of the slice. This event is then finished, because a
    /// slice is handled in order.
    ///
    /// Without this check, a reaction without effects would run again after a restart. It might then wait for a
    /// reaction in another slice that waits for one in this slice: a deadlock.
    async fn was_passed(&mut self, ctx: &EventContext) -> Result<bool, StoreError> {
        if !is_in_order(ctx) {
            return Ok(false);
        }
        let reached = match self.work(ctx.slice()).reached {
            Some(reached) => reached,
            None => {
                let reached = Reached::read(&*self.store, self.process, ctx).await?;
                *self.work(ctx.slice()).reached.insert(reached)
            }
        };
        Ok(reached.is_after(ctx))
    }

    /// Returns successfully if the reaction that holds the turn has finished.
    ///
    /// # Errors
    ///
    /// [`ProjectError::Later`] if it will finish; [`ProjectError::Handler`] if that requires an operator.
    async fn check_holder(&self, instance: &Instance<'_, S>, turn: &Turn) -> Result<(), ProjectError> {
        let (stream, reaction) = (&instance.stream, turn.reaction());
        let begun =
            format!("the reaction `{reaction}` of the instance `{stream}` has begun but not finished");
        match holder(&*self.store, self.process, stream, turn).await? {
            Holder::Finished => Ok(()),
            Holder::Pending => Err(ProjectError::Later(format!("{begun}: waiting for it").into())),
            // A timeout can wait for an operator without blocking others.
            Holder::Parked if instance.ctx.timeout_key().is_some() => {
                Err(ProjectError::Later(format!("{begun}, because it is parked").into()))
            }
            Holder::Parked => {
                let reason = format!(
                    "{begun}, because it is parked: call `replay_parked` or, to give it up, `abandon` for this instance"
                );
                Err(ProjectError::Handler(reason.into()))
            }
            Holder::Skipped => {
                let reason = format!("{begun}, because it was skipped: call `abandon` for this instance");
                Err(ProjectError::Handler(reason.into()))
            }
            Holder::Gone => {
                let reason = format!(
                    "{begun}, and its event is no longer in the feed, which was restored to an earlier state: let the \
                     reconciler add the event again, or, if it is lost, call `abandon` for this instance"
                );
                Err(ProjectError::Handler(reason.into()))
            }
        }
    }

    /// Returns the key of the reaction to an event, a prefix of the keys of its commands.
    fn key(&self, ctx: &EventContext) -> String {
        match ctx.timeout_key() {
            // Keys of chained timeouts would grow without bound.
            Some(timer) => shorten(format!("{timer}/timeout"), MAX_KEY_BYTES, "~"),
            None => format!("{}/{}", self.process, ctx.event_id()),
        }
    }

    fn work(&mut self, slice: Slice) -> &mut Work {
        let work = self.work.take().filter(|work| work.slice == slice).unwrap_or_else(|| Work {
            slice,
            timers: Timers::new(self.process, slice),
            reached: None,
        });
        self.work.insert(work)
    }

    /// Stores the timeouts of the reaction that holds the turn.
    async fn schedule(&mut self, slice: Slice, timers: &[Scheduled], turn: &Turn) -> Result<(), ChangeError> {
        let (store, ids) = (Arc::clone(&self.store), Arc::clone(&self.ids));
        let timeouts = &mut self.work(slice).timers;
        timeouts.store(&*store as &dyn Documents, &*ids, timers, &turn.condition()).await
    }

    /// Returns the next due timeouts.
    pub(super) async fn due(&mut self, tick: Tick<'_>) -> Result<Due, StoreError> {
        let store = Arc::clone(&self.store);
        self.work(tick.slice()).timers.due(&*store as &dyn Documents, tick.now()).await
    }

    /// Returns whether an earlier timeout of the same instance waits for another reaction.
    pub(super) fn is_waiting(&mut self, ctx: &EventContext) -> bool {
        let now = self.clock.now();
        !ctx.was_parked() && self.work(ctx.slice()).timers.is_waiting(ctx.stream(), now)
    }

    /// Records the result of the reaction to a timeout.
    pub(super) fn timed_out(&mut self, ctx: &EventContext, result: &Result<(), ProjectError>) {
        let now = self.clock.now();
        let timers = &mut self.work(ctx.slice()).timers;
        match result {
            Err(ProjectError::Later(_)) => timers.wait(ctx.stream(), now),
            _ => timers.go_on(ctx.stream()),
        }
    }
}

impl<S: Aggregate> Reactor<S> {
    /// Attempts the reaction to an event.
    async fn attempt<P, E>(
        &mut self,
        process: &P,
        instance: &Instance<'_, S>,
        event: &E,
        mut turn: Turn,
    ) -> Result<Attempted, ProjectError>
    where
        P: React<E, State = S>,
        E: Sync,
    {
        let ctx = instance.ctx;
        if turn.is_begun() {
            match turn.take().await.map_err(ProjectError::Handler)? {
                Begun::Yes => {}
                Begun::No => return Ok(Attempted::Outdated),
                Begun::Lost => return Err(ProjectError::Lost),
            }
            if instance.is_done().await.map_err(failed)? {
                turn.end().await.map_err(ProjectError::Handler)?;
                return Ok(Attempted::DoneBefore);
            }
        }
        let loaded = match self.states.load(instance.id).await {
            Err(StoreError::Closed(closed)) if is_passed_over(ctx, &closed) => {
                tracing::warn!(
                    process = self.process,
                    instance = %instance.id,
                    timeout = ctx.timeout_key(),
                    "passed over a timeout of a deleted instance"
                );
                turn.end().await.map_err(ProjectError::Handler)?;
                return Ok(Attempted::Done);
            }
            Err(StoreError::Closed(closed)) => return Err(ended(&closed)),
            loaded => loaded.map_err(failed)?,
        };
        let mut reaction = Reaction::new(instance, &loaded, turn);
        let mut events = process.react(event, &mut reaction).await;
        if events.is_ok() {
            events = reaction.claim_timers().await.and(events);
        }
        let Done { turn, is_outdated, is_lost, timers } = reaction.finish();
        if is_lost {
            return Err(ProjectError::Lost);
        }
        if is_outdated {
            turn.end().await.map_err(ProjectError::Handler)?;
            return Ok(Attempted::before(instance.is_done().await.map_err(failed)?));
        }
        let events = events.map_err(ProjectError::Handler)?;
        self.finish(instance, loaded.version, events, &timers, turn).await
    }

    /// Records the result of a reaction.
    async fn finish(
        &mut self,
        instance: &Instance<'_, S>,
        basis: Version,
        events: Events<S>,
        timers: &[Scheduled],
        turn: Turn,
    ) -> Result<Attempted, ProjectError> {
        let is_begun = turn.is_begun();
        if events.is_empty() && !is_begun {
            return Ok(Attempted::Done);
        }
        let ctx = instance.ctx;
        if !timers.is_empty() {
            match self.schedule(ctx.slice(), timers, &turn).await {
                Ok(()) => {}
                Err(ChangeError::Refused) => return Ok(Attempted::Outdated),
                Err(error) => return Err(ProjectError::Handler(error.into())),
            }
        }
        // A turn that has begun already proves that this worker holds the lease of the slice.
        let lease = ctx.lease().filter(|_| !is_begun).cloned();
        let conditions: Vec<_> = lease.into_iter().chain([turn.condition()]).collect();
        let asked = conditions.len();
        let request = self
            .states
            .with_metadata(ctx.metadata().following(ctx.event_id()))
            .expected_version(ExpectedVersion::Exact(basis))
            .once_for(RETENTION, &instance.key)
            .with_writes(move |_| conditions.clone());
        match request.record(instance.id, events).await {
            Ok(_) => {}
            Err(ExecuteError::Refused(refused)) if !is_begun && refused.index + 1 < asked => {
                return Err(ProjectError::Lost);
            }
            Err(ExecuteError::Outdated(_) | ExecuteError::Refused(_)) => return Ok(Attempted::Outdated),
            Err(ExecuteError::Closed(closed)) => return Err(ended(&closed)),
            Err(error) => return Err(ProjectError::Handler(error.into())),
        }
        turn.end().await.map_err(ProjectError::Handler)?;
        Ok(Attempted::Done)
    }
}

/// Returns whether the event is handled in the order of its slice.
fn is_in_order(ctx: &EventContext) -> bool {
    ctx.timeout_key().is_none() && !ctx.was_parked()
}

/// Returns whether nothing is left to do at the end of the instance: a timeout concerns the instance only, and the
/// events of deleted streams are passed over, too.
fn is_passed_over(ctx: &EventContext, closed: &ClosedStream) -> bool {
    ctx.timeout_key().is_some() && closed.state == StreamState::Deleted
}

/// Returns the error of a reaction of an instance whose own stream accepts no events.
fn ended(closed: &ClosedStream) -> ProjectError {
    let (stream, state) = (
        &closed.stream,
        match closed.state {
            StreamState::Deleted => "deleted",
            StreamState::Archived { .. } => "archived",
            StreamState::Open | StreamState::Closed => "closed",
        },
    );
    let reason = format!(
        "the stream `{stream}` of the instance is {state}, so it can no longer react: skip the event or timeout, or \
         discard it if it is parked"
    );
    ProjectError::Handler(reason.into())
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
            clock: Arc::clone(&self.clock),
            ids: Arc::clone(&self.ids),
            work: None,
        }
    }
}

impl<S: Aggregate> fmt::Debug for Reactor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor").field("process", &self.process).finish_non_exhaustive()
    }
}
