//! The handle that a reaction uses to issue commands and schedule timeouts.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_core::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::timers::scheduled;
use super::turn::{Begun, Turn};
use crate::aggregate::{Aggregate, IdFrom};
use crate::clock::is_storable;
use crate::command::Handle;
use crate::documents::ChangeError;
use crate::event::{Event, EventKind};
use crate::metadata::Metadata;
use crate::projection::timeout::Scheduled;
use crate::projection::{BoxError, EventContext};
use crate::repository::{ExecuteError, KeyReused, Loaded, Outcome, Repository, Request};
use crate::store::{EventStore, IdempotencyKey, StoreError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// The retention of idempotency records of reactions and commands.
pub(super) const RETENTION: Duration = Duration::from_hours(90 * 24);

/// The error of a command that a process can [ask](Reaction::ask): it is stored, so it must be serializable. Implemented
/// for all errors that meet the bounds.
#[diagnostic::on_unimplemented(
    message = "the error `{Self}` cannot be the answer to `ask`, because a process stores it",
    label = "must be stored",
    note = "add `#[derive(Debug, Serialize, Deserialize)]` to `{Self}`"
)]
pub trait StoredRejection: fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<E: fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static> StoredRejection for E {}

/// The reaction of a process to one event: gives access to the state, and issues commands.
pub struct Reaction<'a, S: Aggregate> {
    loaded: &'a Loaded<S>,
    metadata: Metadata,
    instance: &'a Instance<'a, S>,
    turn: Turn,
    /// Whether the turn is known to be held by this reaction on this version.
    is_certain: bool,
    is_outdated: bool,
    is_lost: bool,
    issued: u32,
    timers: Vec<Scheduled>,
}

/// An instance and the event to react to.
pub(super) struct Instance<'a, S: Aggregate> {
    pub(super) id: &'a S::Id,
    pub(super) stream: StreamId,
    pub(super) ctx: &'a EventContext,
    /// The key of the reaction.
    pub(super) key: String,
    /// The idempotency key under which its events are recorded.
    pub(super) once: IdempotencyKey,
    pub(super) store: &'a dyn EventStore,
    /// The kinds of the timeouts that the process lists.
    pub(super) timeouts: &'static [&'static [EventKind]],
}

/// Returns the error text for a timeout that the process does not list.
pub(crate) fn unlisted(timeout: &str) -> String {
    format!("the process does not list the timeout `{timeout}`: add it to `timeouts(…)`")
}

/// The result of a reaction, in addition to its events.
pub(super) struct Done {
    pub(super) turn: Turn,
    /// Whether the instance or the turn has changed.
    pub(super) is_outdated: bool,
    /// Whether another worker holds the lease of the slice.
    pub(super) is_lost: bool,
    pub(super) timers: Vec<Scheduled>,
}

impl<S: Aggregate> Instance<'_, S> {
    /// Returns whether the result of the reaction is recorded.
    pub(super) async fn is_done(&self) -> Result<bool, StoreError> {
        Ok(self.store.idempotency_record(&self.once).await?.record.is_some())
    }
}

impl<'a, S: Aggregate> Reaction<'a, S> {
    pub(super) fn new(instance: &'a Instance<'a, S>, loaded: &'a Loaded<S>, turn: Turn) -> Self {
        Self {
            instance,
            loaded,
            metadata: instance.ctx.metadata().following(instance.ctx.event_id()),
            is_certain: turn.is_begun(),
            turn,
            is_outdated: false,
            is_lost: false,
            issued: 0,
            timers: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> Done {
        Done { turn: self.turn, is_outdated: self.is_outdated, is_lost: self.is_lost, timers: self.timers }
    }

    /// Returns the id of the instance.
    #[must_use]
    pub fn id(&self) -> &S::Id {
        self.instance.id
    }

    /// Returns the state of the instance.
    #[must_use]
    pub fn state(&self) -> &S {
        &self.loaded.state
    }

    /// Returns the version of the state, or [`Version::NONE`] if the instance is new.
    #[must_use]
    pub fn version(&self) -> Version {
        self.loaded.version
    }

    /// Returns the context of the event.
    #[must_use]
    pub fn context(&self) -> &EventContext {
        self.instance.ctx
    }

    /// Returns the time at which the event was recorded or the timeout was due. Use it instead of the system
    /// clock.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.instance.ctx.time()
    }

    /// Issues a command that must be accepted, exactly once.
    ///
    /// The events of the command inherit the metadata of the event that the process reacts to, which becomes their
    /// causation.
    ///
    /// # Errors
    ///
    /// An error if the command is rejected or fails. Return it with `?`. Use [`ask`](Self::ask) for a command that
    /// may be rejected.
    pub async fn execute<A, C, Q>(
        &mut self,
        repository: &Repository<A>,
        id: &Q,
        command: C,
    ) -> Result<Outcome<A>, BoxError>
    where
        A: Handle<C, Error: Error + Send + Sync + 'static>,
        C: Send + Sync,
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        let key = self.issue().await?;
        let result = self.request(repository, key).execute(id, command).await;
        if matches!(result, Err(ExecuteError::Refused(_))) {
            self.lose_turn();
        }
        result.map_err(|error| match error {
            ExecuteError::KeyReused(reused) => self.diverged(&reused),
            error => error.into(),
        })
    }

    /// Issues a command that may be rejected, exactly once. Returns the outcome or the rejection.
    ///
    /// A rejection is stored until the reaction is finished, so that a repeated reaction gets the same result.
    ///
    /// # Errors
    ///
    /// An error if the command fails for a reason other than a rejection, or if the rejection could not be decoded
    /// again. Return it with `?`.
    // A missing implementation is reported once: the future does not repeat the bounds, as that of an `async fn` does.
    #[expect(clippy::type_complexity)]
    pub fn ask<'r, A, C, Q>(
        &'r mut self,
        repository: &'r Repository<A>,
        id: &'r Q,
        command: C,
    ) -> BoxFuture<'r, Result<Result<Outcome<A>, A::Error>, BoxError>>
    where
        A: Handle<C, Error: StoredRejection>,
        C: Send + Sync + 'r,
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        Box::pin(async move {
            let key = self.issue().await?;
            if let Some(rejection) = self.turn.rejection(self.issued)? {
                return Ok(Err(rejection));
            }
            match self.request(repository, key).execute(id, command).await {
                Ok(outcome) => Ok(Ok(outcome)),
                Err(ExecuteError::Rejected(rejection)) => {
                    let remembered = self.turn.reject(self.issued, &rejection).await;
                    if let Err(error) = &remembered
                        && let Some(ChangeError::Outdated { .. }) = error.downcast_ref()
                    {
                        self.lose_turn();
                    }
                    Ok(Err(remembered?))
                }
                Err(
                    ExecuteError::Conflict(conflict)
                    | ExecuteError::AlreadyExists(conflict)
                    | ExecuteError::Outdated(conflict),
                ) => Err(conflict.into()),
                Err(ExecuteError::Claimed(claimed)) => Err(claimed.into()),
                Err(ExecuteError::Closed(closed)) => Err(closed.into()),
                Err(ExecuteError::Refused(refused)) => {
                    self.lose_turn();
                    Err(refused.into())
                }
                Err(ExecuteError::KeyReused(reused)) => Err(self.diverged(&reused)),
                Err(ExecuteError::Store(error)) => Err(error.into()),
            }
        })
    }

    /// Schedules a timeout: the process reacts to `event` once `after` has passed since [`now`](Self::now). The
    /// event must be listed in `#[process(timeouts(…))]`. Its [`React`](super::React) finds the instance by
    /// [`EventContext::id`], as for the events of the state.
    ///
    /// A timeout cannot be canceled. If it is obsolete by the time it is due, ignore it.
    ///
    /// # Errors
    ///
    /// An error if the process does not list the event in `timeouts(…)`, if the event could not be decoded when it is
    /// due, or if it is larger than 384 KiB, including the metadata of the event that caused it.
    pub fn schedule<E: Event>(&mut self, after: Duration, event: E) -> Result<(), BoxError> {
        let name = event.kind().name();
        if !self.instance.timeouts.iter().copied().flatten().any(|kind| kind.matches(name)) {
            return Err(unlisted(name).into());
        }
        let due =
            chrono::Duration::from_std(after).ok().and_then(|after| self.now().checked_add_signed(after));
        let due = due.filter(|due| is_storable(*due));
        let due = due.ok_or("a timeout is due after the year 9999: schedule it for an earlier time")?;
        let number = self.timers.len();
        let Instance { stream, ctx, key, .. } = self.instance;
        self.timers.push(scheduled(due, format!("{key}/{number}"), stream, &event, ctx)?);
        Ok(())
    }

    /// Returns an idempotency key for a request to another service. It differs for each `name`, and does not change
    /// when the reaction runs again.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.instance.key)
    }

    /// Returns a request that takes effect once, and only while this reaction holds the turn.
    fn request<'r, A: Aggregate>(&self, repository: &'r Repository<A>, key: String) -> Request<'r, A> {
        let condition = self.turn.condition();
        let request = repository.with_metadata(self.metadata.clone()).once_for(RETENTION, key);
        request.with_writes(move |_| [condition.clone()])
    }

    /// Returns the error of a reaction that has taken another path than when it ran before.
    fn diverged(&self, reused: &KeyReused) -> BoxError {
        let (number, before) = (self.issued, reused.first.as_deref().unwrap_or("another command"));
        format!(
            "the reaction has taken another path than when it ran before: its command {number} was `{before}`; deploy the \
             code that began it, or make it depend only on the event, the state, and the results of its commands"
        )
        .into()
    }

    /// Records that another worker, an operator, or a write whose response was lost has changed the turn. The reaction
    /// runs again and finds out which.
    fn lose_turn(&mut self) {
        self.is_outdated = true;
    }

    /// Returns the key of the next command. The first command takes the turn for this reaction.
    async fn issue(&mut self) -> Result<String, BoxError> {
        self.issued += 1;
        self.begin().await?;
        Ok(format!("{}/{}", self.instance.key, self.issued))
    }

    /// Takes the turn if the reaction schedules timeouts: they are written before the events, which may still be
    /// rejected.
    pub(super) async fn claim_timers(&mut self) -> Result<(), BoxError> {
        if self.timers.is_empty() { Ok(()) } else { self.begin().await }
    }

    async fn begin(&mut self) -> Result<(), BoxError> {
        if !self.is_certain {
            let begun = if self.turn.is_begun() { Begun::Yes } else { self.turn.take().await? };
            match begun {
                // From here on, no other worker can finish this reaction or change the instance.
                Begun::Yes => {
                    let Instance { store, stream, .. } = self.instance;
                    self.is_outdated = self.instance.is_done().await?
                        || store.head(stream).await?.version != self.loaded.version;
                }
                Begun::No => self.is_outdated = true,
                Begun::Lost => self.is_lost = true,
            }
            self.is_certain = true;
        }
        if self.is_lost {
            return Err("another worker holds the lease of the slice".into());
        }
        if self.is_outdated {
            return Err("the instance of the process has changed; the reaction runs again".into());
        }
        Ok(())
    }
}

impl<S: Aggregate> fmt::Debug for Reaction<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reaction")
            .field("state", &S::NAME)
            .field("id", &self.instance.id.to_string())
            .field("version", &self.loaded.version)
            .field("issued", &self.issued)
            .finish_non_exhaustive()
    }
}
