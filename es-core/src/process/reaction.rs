//! One reaction: what it knows, and what it can do.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::reactor::RETENTION;
use super::timers::scheduled;
use super::turn::{Begun, Turn};
use crate::aggregate::Aggregate;
use crate::clock::is_storable;
use crate::command::Handle;
use crate::documents::ChangeError;
use crate::event::{Event, EventKind};
use crate::metadata::Metadata;
use crate::projection::timeout::Scheduled;
use crate::projection::{BoxError, EventContext};
use crate::repository::{ExecuteError, Loaded, Outcome, Repository, Request};
use crate::store::{EventStore, IdempotencyKey, StoreError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// One reaction of a process to one event: its state, and the commands that it issues.
pub struct Reaction<'a, S: Aggregate> {
    loaded: &'a Loaded<S>,
    metadata: Metadata,
    instance: &'a Instance<'a, S>,
    turn: Turn,
    /// Whether the turn is known to be this reaction's, on this version.
    is_certain: bool,
    is_outdated: bool,
    is_lost: bool,
    issued: u32,
    timers: Vec<Scheduled>,
}

/// An instance, and the event that it is to react to.
pub(super) struct Instance<'a, S: Aggregate> {
    pub(super) id: &'a S::Id,
    pub(super) stream: StreamId,
    pub(super) ctx: &'a EventContext,
    /// What identifies the reaction.
    pub(super) key: String,
    /// Under which its events are recorded.
    pub(super) once: IdempotencyKey,
    pub(super) store: &'a dyn EventStore,
    /// The kinds of the timeouts that the process lists.
    pub(super) timeouts: &'static [&'static [EventKind]],
}

/// Says that a process does not list a timeout.
pub(crate) fn unlisted(timeout: &str) -> String {
    format!("the process does not list the timeout `{timeout}`: add it to `timeouts(…)`")
}

/// What a reaction did besides the events that it returned.
pub(super) struct Done {
    pub(super) turn: Turn,
    /// Whether the instance or the turn has changed meanwhile.
    pub(super) is_outdated: bool,
    /// Whether another worker has the slice.
    pub(super) is_lost: bool,
    pub(super) timers: Vec<Scheduled>,
}

impl<S: Aggregate> Instance<'_, S> {
    /// Whether what the reaction led to is recorded.
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

    /// The id of the instance.
    #[must_use]
    pub fn id(&self) -> &S::Id {
        self.instance.id
    }

    /// What the instance remembers.
    #[must_use]
    pub fn state(&self) -> &S {
        &self.loaded.state
    }

    /// The version of what it remembers; [`Version::NONE`] when that is nothing yet.
    #[must_use]
    pub fn version(&self) -> Version {
        self.loaded.version
    }

    /// What is known about the event.
    #[must_use]
    pub fn context(&self) -> &EventContext {
        self.instance.ctx
    }

    /// When the event was recorded, or a timeout was due: the time to reckon with.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.instance.ctx.time()
    }

    /// Issues a command that has to be accepted, once.
    ///
    /// Its events record the metadata of the event that the process reacts to, with that as their causation.
    ///
    /// # Errors
    ///
    /// When it is rejected, or cannot be carried out: give it on with `?`. For a command that may be rejected,
    /// [`ask`](Self::ask).
    pub async fn execute<A, C>(
        &mut self,
        repository: &Repository<A>,
        id: &A::Id,
        command: C,
    ) -> Result<Outcome<A>, BoxError>
    where
        A: Handle<C, Error: Error + Send + Sync + 'static>,
        C: Send + Sync,
    {
        let key = self.issue().await?;
        let result = self.request(repository, key).execute(id, command).await;
        if matches!(result, Err(ExecuteError::Refused(_))) {
            self.lose_turn();
        }
        Ok(result?)
    }

    /// Issues a command once, and hears what the domain says to it.
    ///
    /// A rejection is remembered until the reaction is finished: when it has to run again, it hears the same.
    ///
    /// # Errors
    ///
    /// When the command cannot be carried out for another reason than that the domain says no, or when the rejection
    /// could not be read back: give it on with `?`.
    pub async fn ask<A, C>(
        &mut self,
        repository: &Repository<A>,
        id: &A::Id,
        command: C,
    ) -> Result<Result<Outcome<A>, A::Error>, BoxError>
    where
        A: Handle<C, Error: fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static>,
        C: Send + Sync,
    {
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
            Err(ExecuteError::Conflict(conflict) | ExecuteError::Outdated(conflict)) => Err(conflict.into()),
            Err(ExecuteError::Claimed(claimed)) => Err(claimed.into()),
            Err(ExecuteError::Refused(refused)) => {
                self.lose_turn();
                Err(refused.into())
            }
            Err(ExecuteError::KeyReused(reused)) => Err(reused.into()),
            Err(ExecuteError::Store(error)) => Err(error.into()),
        }
    }

    /// Lets the process react to `event` when `after` has passed since [`now`](Self::now). The event is listed
    /// in `#[process(timeouts(…))]`; its [`React`](super::React) finds the instance by
    /// [`EventContext::id`], as that of the events of the state.
    ///
    /// A timeout cannot be called off: when it is due and of no interest any more, ignore it.
    ///
    /// # Errors
    ///
    /// When the process does not list the event in `timeouts(…)`, the event could not be read back when it is due,
    /// or it is too large: a timeout has at most 384 KiB, with the metadata of the event that led to it.
    pub fn schedule<E: Event>(&mut self, after: Duration, event: E) -> Result<(), BoxError> {
        let name = event.kind().name();
        if !self.instance.timeouts.iter().copied().flatten().any(|kind| kind.answers_to(name)) {
            return Err(unlisted(name).into());
        }
        let after = chrono::Duration::from_std(after)?;
        let due = self.now().checked_add_signed(after).filter(|due| is_storable(*due));
        let due = due.ok_or("a timeout is due after the year 9999: schedule it for an earlier time")?;
        let number = self.timers.len();
        let Instance { stream, ctx, key, .. } = self.instance;
        self.timers.push(scheduled(due, format!("{key}/{number}"), stream, &event, ctx)?);
        Ok(())
    }

    /// A key for a request to a service elsewhere, different for each `name`, and the same when the reaction
    /// runs again.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.instance.key)
    }

    /// A request that is carried out once, and only while it is this reaction's turn.
    fn request<'r, A: Aggregate>(&self, repository: &'r Repository<A>, key: String) -> Request<'r, A> {
        let condition = self.turn.condition();
        // The key stands for the place in the reaction: renaming a command type must not stop one that runs again.
        let request =
            repository.with_metadata(self.metadata.clone()).fingerprint(&key).once_for(RETENTION, key);
        request.with_writes(move |_| [condition.clone()])
    }

    /// The turn is not what this reaction knows: another worker or an operator has changed it, or a write whose response
    /// was lost. The reaction runs again, and finds out.
    fn lose_turn(&mut self) {
        self.is_outdated = true;
    }

    /// The key of the next command. From the first on, it is this reaction's turn.
    async fn issue(&mut self) -> Result<String, BoxError> {
        self.issued += 1;
        self.begin().await?;
        Ok(format!("{}/{}", self.instance.key, self.issued))
    }

    /// Timeouts, too, are written in this reaction's turn only: before its events, which may be refused.
    pub(super) async fn claim_timers(&mut self) -> Result<(), BoxError> {
        if self.timers.is_empty() { Ok(()) } else { self.begin().await }
    }

    async fn begin(&mut self) -> Result<(), BoxError> {
        if !self.is_certain {
            let begun = if self.turn.is_begun() { Begun::Yes } else { self.turn.take().await? };
            match begun {
                // Only from here on is it known that nobody else finishes the same reaction, or changes the
                // instance.
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
            return Err("another worker has the slice".into());
        }
        if self.is_outdated {
            return Err("the instance of the process has changed: the reaction runs again".into());
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
