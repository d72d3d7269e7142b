//! The engine that executes commands: load, decide, write, and repeat after a conflict.
//!
//! It works on [`Participants`]: the one aggregate of a [request](super::request), or those of a
//! [transaction](super::transaction). They decide between its steps, because a decision may be asynchronous.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::clock::later;
use crate::cost::Cost;
pub(super) use crate::keys::digest;
use crate::measure;
use crate::repository::ExecuteError;
use crate::repository::error::KeyReused;
use crate::repository::retry::Retrying;
use crate::store::{
    Append, Commit, Conflict, EventRange, EventStore, IdempotencyKey, IdempotencyRecord,
    NewIdempotencyRecord, StoreError, WriteError, WriteSet,
};
use crate::stream_id::StreamId;

/// The default retention of an idempotency key: 7 days.
pub(super) const DEFAULT_RETENTION: Duration = Duration::from_hours(7 * 24);

/// The maximum number of other writers' commits that are applied in a row without a read.
pub(super) const MAX_FOLLOWED: u32 = 3;

/// The aggregates that are loaded, decided on, and written together.
pub(super) trait Participants {
    /// The outcome of an earlier execution under the same idempotency key.
    type Outcome;

    /// Loads all states to decide on.
    async fn load(&mut self) -> Result<(), StoreError>;

    /// Brings all states up to date, and returns whether one has changed.
    async fn refresh(&mut self) -> Result<bool, StoreError>;

    /// Applies `commits`, which won the race for `stream`, to the state without a read. Returns `false` if the states
    /// must be read instead.
    fn follow(&mut self, stream: &StreamId, commits: &[Commit]) -> bool;

    /// Returns whether all states were read with strong consistency.
    fn are_fresh(&self) -> bool;

    /// Returns whether the commands create the aggregate of `stream`.
    fn creates(&self, stream: &StreamId) -> bool;

    /// Returns whether the decision has nothing to record.
    fn is_noop(&self) -> bool;

    /// Returns the commit of the decision if there is nothing else to write.
    fn only_append(&self) -> Option<&Append>;

    /// Returns the writes of the decision. A no-op is written too, to record its idempotency key.
    fn write_set(&mut self) -> Result<WriteSet, StoreError>;

    /// Returns the versions of the decision's events in each stream.
    fn ranges(&self) -> Vec<EventRange>;

    /// Returns a new id for the write of a no-op.
    fn new_id(&self) -> Uuid;

    /// Reads the outcome of the execution that wrote `record`; `None` if the record refers to other streams.
    async fn first_outcome(
        &mut self,
        record: &IdempotencyRecord,
    ) -> Result<Option<Self::Outcome>, StoreError>;
}

/// Commands while they are executed.
pub(super) struct Execution<'e, P> {
    pub(super) participants: P,
    store: &'e dyn EventStore,
    retrying: Retrying<'e>,
    idempotency: Option<Idempotency>,
    /// The number of times the commands were decided.
    pub(super) attempts: u32,
    /// The number of those decisions that were based on a read, including the first load.
    rounds: u32,
    /// The number of other writers' commits that were applied since the last read.
    followed: u32,
    /// The cost of the writes, and of reads that are not made by a participant.
    pub(super) cost: Cost,
}

/// The next step of an execution.
pub(super) enum Next<O> {
    /// Decide on the current states, for the first time or again after a conflict.
    Decide,
    Done(Done<O>),
}

/// How commands were executed.
pub(super) enum Done<O> {
    /// By the decision of this execution.
    Now,
    /// By an earlier execution under the same idempotency key.
    Before(O),
}

impl<'e, P: Participants> Execution<'e, P> {
    pub(super) fn new(
        participants: P,
        store: &'e dyn EventStore,
        retrying: Retrying<'e>,
        idempotency: Option<Idempotency>,
    ) -> Self {
        Self {
            participants,
            store,
            retrying,
            idempotency,
            attempts: 1,
            rounds: 1,
            followed: 0,
            cost: Cost::ZERO,
        }
    }

    /// Loads the states for the first decision.
    pub(super) async fn begin<E>(&mut self) -> Result<Next<P::Outcome>, ExecuteError<E>> {
        self.participants.load().await?;
        Ok(Next::Decide)
    }

    /// Records the decision, or returns the error that rejected the commands.
    ///
    /// Neither a rejection nor a no-op is verified by a write. If it was decided on states that may be outdated, the
    /// states are read again first.
    pub(super) async fn conclude<E>(
        &mut self,
        decided: Result<(), ExecuteError<E>>,
    ) -> Result<Next<P::Outcome>, ExecuteError<E>> {
        let refused = match decided {
            Ok(()) if !self.participants.is_noop() => return self.write().await,
            Ok(()) => None,
            Err(error @ ExecuteError::Store(_)) => return Err(error),
            Err(error) => Some(error),
        };
        // Boxed, here and below, to keep the future of a command small.
        if !self.participants.are_fresh() && Box::pin(self.participants.refresh()).await? {
            return Ok(Next::Decide);
        }
        match refused {
            Some(error) => Box::pin(self.unless_done_before(error)).await,
            None if self.idempotency.is_none() => Ok(Next::Done(Done::Now)),
            None => Box::pin(self.write()).await,
        }
    }

    async fn write<E>(&mut self) -> Result<Next<P::Outcome>, ExecuteError<E>> {
        let written = match self.participants.only_append().filter(|_| self.idempotency.is_none()) {
            Some(append) => {
                let request = async || Ok(self.store.append(append).await?.cost);
                self.retrying.write(&mut self.cost, request).await
            }
            None => Box::pin(self.write_set()).await,
        };
        match written {
            Ok(()) => Ok(Next::Done(Done::Now)),
            Err(error) => Box::pin(self.not_written(error)).await,
        }
    }

    async fn write_set(&mut self) -> Result<(), WriteError> {
        let mut set = self.participants.write_set()?;
        if let Some(idempotency) = &self.idempotency {
            let first = set.appends().first().map(|append| append.id().as_uuid());
            let id = first.unwrap_or_else(|| self.participants.new_id());
            // Not the time of the commit, which may be ahead of this clock.
            let now = self.retrying.clock.now();
            set = set.idempotent(idempotency.record(id, now, self.participants.ranges()));
        }
        let request = async || Ok(self.store.write(&set).await?.cost);
        self.retrying.write(&mut self.cost, request).await
    }

    async fn not_written<E>(&mut self, error: WriteError) -> Result<Next<P::Outcome>, ExecuteError<E>> {
        match error {
            WriteError::AlreadyDone(record) => self.done_before(&record).await,
            WriteError::Conflict(conflict) => self.again(conflict).await,
            WriteError::Claimed(claimed) => Err(ExecuteError::Claimed(claimed)),
            WriteError::Refused(refused) => Err(ExecuteError::Refused(refused)),
            WriteError::Store(error @ StoreError::Invalid { .. }) => self.unless_outdated(error).await,
            WriteError::Store(error) => Err(error.into()),
        }
    }

    /// Decides again if a write that is `invalid` was decided on an outdated state. A store refuses such a write, for
    /// example one with personal data of a forgotten subject, before it checks the expected version.
    async fn unless_outdated<E>(&mut self, invalid: StoreError) -> Result<Next<P::Outcome>, ExecuteError<E>> {
        if self.participants.are_fresh() || !self.participants.refresh().await? {
            return Err(invalid.into());
        }
        self.attempts += 1;
        Ok(Next::Decide)
    }

    async fn again<E>(&mut self, conflict: Conflict) -> Result<Next<P::Outcome>, ExecuteError<E>> {
        if self.participants.creates(&conflict.stream) {
            if conflict.is_erased() {
                let head = self.retrying.read(|| self.store.head(&conflict.stream)).await?;
                if !head.state.is_readable() {
                    return Err(ExecuteError::Closed(head.closed(&conflict.stream)));
                }
            }
            return Err(ExecuteError::AlreadyExists(conflict));
        }
        measure::conflict(conflict.stream.aggregate());
        if self.follows(&conflict) {
            self.followed += 1;
        } else {
            self.retrying.wait_after_conflict(conflict, self.rounds).await?;
            (self.rounds, self.followed) = (self.rounds + 1, 0);
            self.participants.refresh().await?;
        }
        self.attempts += 1;
        Ok(Next::Decide)
    }

    /// Applies the commits that won the race, if the conflict contains them. This takes no request, so the next write
    /// needs no delay. A stream that has won several times is busy, and is read after a delay instead.
    fn follows(&mut self, conflict: &Conflict) -> bool {
        let may_retry = self.retrying.policy.allows_another(1);
        may_retry
            && self.followed < MAX_FOLLOWED
            && self.participants.follow(&conflict.stream, &conflict.commits)
    }

    /// Returns the outcome of an earlier execution under the same key, or else the error that rejected the commands.
    async fn unless_done_before<E>(
        &mut self,
        error: ExecuteError<E>,
    ) -> Result<Next<P::Outcome>, ExecuteError<E>> {
        if let Some(idempotency) = &self.idempotency {
            let found = self.retrying.read(|| self.store.idempotency_record(&idempotency.key)).await?;
            self.cost += found.cost;
            let now = self.retrying.clock.now();
            if let Some(record) = found.record.filter(|record| record.is_valid_at(now)) {
                return self.done_before(&record).await;
            }
        }
        Err(error)
    }

    async fn done_before<E>(
        &mut self,
        record: &IdempotencyRecord,
    ) -> Result<Next<P::Outcome>, ExecuteError<E>> {
        let fingerprint =
            self.idempotency.as_ref().and_then(|idempotency| idempotency.fingerprint.as_deref());
        if record.matches(fingerprint) {
            let outcome = self.participants.first_outcome(record).await.map_err(StoreError::after_a_write)?;
            if let Some(outcome) = outcome {
                return Ok(Next::Done(Done::Before(outcome)));
            }
        }
        Err(ExecuteError::KeyReused(KeyReused::new(record.fingerprint.clone())))
    }
}

/// The idempotency key of a request, before it is checked.
#[derive(Clone)]
pub(super) struct KeyOption {
    pub(super) key: String,
    pub(super) retention: Duration,
}

/// Hides the key, which may be confidential.
impl fmt::Debug for KeyOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyOption").field("retention", &self.retention).finish_non_exhaustive()
    }
}

/// The idempotency key of an execution, and the fingerprint of its commands.
pub(super) struct Idempotency {
    key: IdempotencyKey,
    retention: Duration,
    fingerprint: Option<String>,
}

impl Idempotency {
    /// Returns the key of commands on `stream`, or of a transaction.
    pub(super) fn new(
        option: &KeyOption,
        stream: Option<StreamId>,
        fingerprint: Option<String>,
    ) -> Result<Self, StoreError> {
        let key = IdempotencyKey::new(stream, option.key.as_str())?;
        Ok(Self { key, retention: option.retention, fingerprint })
    }

    fn record(&self, id: Uuid, now: DateTime<Utc>, ranges: Vec<EventRange>) -> NewIdempotencyRecord {
        let expires = later(now, self.retention);
        NewIdempotencyRecord::new(self.key.clone(), id, now, expires, ranges)
            .with_fingerprint(self.fingerprint.clone())
    }
}
