//! The aggregates of a transaction, with their types erased.

use std::any::Any;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use futures_util::future::try_join_all;
use uuid::Uuid;

use crate::aggregate::Aggregate;
use crate::command::Context;
use crate::cost::Cost;
use crate::events::Events;
use crate::ids::{IdSource, RandomIds};
use crate::metadata::Metadata;
use crate::repository::execution::Participants;
use crate::repository::participant::Participant;
use crate::repository::report::{Numbers, Report};
use crate::repository::request::MakeWrites;
use crate::repository::retry::{Deadline, RetryTokens};
use crate::repository::{ExecuteError, Inner};
use crate::store::{AdditionalWrite, Append, Commit, EventRange, IdempotencyRecord, StoreError, WriteSet};
use crate::stream_id::StreamId;
use crate::version::ExpectedVersion;

use super::{Rejection, TransactionError};

type Rejected = Box<dyn Error + Send + Sync>;

/// A command of a transaction.
pub(super) struct PartyCommand<A: Aggregate> {
    pub(super) name: &'static str,
    #[expect(clippy::type_complexity)]
    pub(super) decide: Box<dyn Fn(&A, &Context<A>) -> Result<Events<A>, Rejected> + Send + Sync>,
}

/// The [`Outcome`](crate::repository::Outcome) of an aggregate of any type.
pub(super) type AnyOutcome = Box<dyn Any + Send + Sync>;

/// One aggregate of a transaction, with its type erased.
pub(super) trait AnyParty: Any + Send + Sync {
    fn stream(&self) -> &StreamId;

    /// Returns the names of its commands, in their order.
    fn commands(&self) -> Vec<&'static str>;

    /// Starts the spans of its commands, and sets its deadline to `limit` from now.
    fn begin(&mut self, limit: Option<Duration>);

    /// Returns the retry budget of its repository.
    fn tokens(&self) -> Arc<RetryTokens>;

    fn load(&mut self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Reads new events into the state, and returns whether there were any.
    fn refresh(&mut self) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Applies another writer's `commits` without a read. Returns `false` if that is not possible.
    fn follow(&mut self, commits: &[Commit]) -> bool;

    /// Returns whether all events in the state are recorded.
    fn is_recorded(&self) -> bool;

    fn is_fresh(&self) -> bool;

    /// Returns whether its commands create the aggregate.
    fn creates(&self) -> bool;

    /// Returns the cost of its reads.
    fn cost(&self) -> Cost;

    fn decide(&mut self, metadata: &Arc<Metadata>) -> Result<(), TransactionError>;

    /// Returns the commit of its decision.
    fn append(&self) -> Option<&Append>;

    fn range(&self) -> EventRange;

    /// Adds its writes to `set`.
    fn add_to(&self, set: WriteSet) -> Result<WriteSet, StoreError>;

    /// Records the outcome in the spans of its commands.
    fn report(&mut self, outcome: &'static str);

    /// Returns its outcome after its decision was recorded.
    fn recorded(self: Box<Self>) -> AnyOutcome;

    fn first_outcome<'s>(
        &'s mut self,
        range: &'s EventRange,
    ) -> BoxFuture<'s, Result<AnyOutcome, StoreError>>;
}

/// One aggregate of a transaction.
pub(super) struct Party<A: Aggregate> {
    id: A::Id,
    expected: ExpectedVersion,
    commands: Vec<PartyCommand<A>>,
    /// The span of each command, and the number of its events.
    reports: Vec<(Report, usize)>,
    writes: Vec<MakeWrites<'static, A>>,
    inner: Arc<Inner<A>>,
    participant: Participant<A>,
}

impl<A: Aggregate> Party<A> {
    pub(super) fn new(inner: Arc<Inner<A>>, id: A::Id, stream: StreamId) -> Self {
        let never = Deadline::after(None, &*inner.clock);
        Self {
            id,
            expected: ExpectedVersion::Any,
            commands: Vec::new(),
            reports: Vec::new(),
            writes: Vec::new(),
            inner: Arc::clone(&inner),
            participant: Participant::new(inner, stream, never),
        }
    }

    pub(super) fn expect(&mut self, version: ExpectedVersion) {
        self.expected = version;
    }

    pub(super) fn add(&mut self, command: PartyCommand<A>) {
        self.commands.push(command);
    }

    /// Makes the commands create the aggregate.
    pub(super) fn create(&mut self) {
        self.participant.create();
    }

    pub(super) fn add_writes(&mut self, make: MakeWrites<'static, A>) {
        self.writes.push(make);
    }
}

impl<A: Aggregate> AnyParty for Party<A> {
    fn stream(&self) -> &StreamId {
        self.participant.stream()
    }

    fn commands(&self) -> Vec<&'static str> {
        self.commands.iter().map(|command| command.name).collect()
    }

    fn begin(&mut self, limit: Option<Duration>) {
        let names = self.commands.iter().map(|command| command.name);
        self.reports = names.map(|name| (Report::part::<A>(&self.id, name), 0)).collect();
        self.participant.deadline = Deadline::after(limit, &*self.inner.clock);
    }

    fn tokens(&self) -> Arc<RetryTokens> {
        Arc::clone(&self.inner.tokens)
    }

    fn load(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.participant.load().boxed()
    }

    fn refresh(&mut self) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.participant.refresh().boxed()
    }

    fn follow(&mut self, commits: &[Commit]) -> bool {
        self.participant.follow(commits)
    }

    fn is_recorded(&self) -> bool {
        self.participant.is_recorded()
    }

    fn is_fresh(&self) -> bool {
        self.participant.is_fresh()
    }

    fn creates(&self) -> bool {
        self.participant.creates()
    }

    fn cost(&self) -> Cost {
        self.participant.cost()
    }

    /// Decides all commands in order, each on the state after the previous one.
    fn decide(&mut self, metadata: &Arc<Metadata>) -> Result<(), TransactionError> {
        let participant = &mut self.participant;
        participant.start_decision();
        participant.check(self.expected)?;
        let first = participant.context(&self.id, metadata)?;
        // A single command is applied when it is recorded, unless additional writes need the state earlier.
        let state_is_used = self.commands.len() > 1 || !self.writes.is_empty();
        for (command, (report, events)) in self.commands.iter().zip(&mut self.reports) {
            let context = participant.context(&self.id, metadata)?;
            let decided = report.span().in_scope(|| (command.decide)(participant.state(), &context));
            let decided = decided.map_err(|error| {
                ExecuteError::Rejected(Rejection::new(participant.stream().clone(), error))
            })?;
            *events = participant.add(decided)?;
            if state_is_used {
                participant.apply_ahead();
            }
        }
        participant.finish_decision(&first);
        Ok(())
    }

    fn append(&self) -> Option<&Append> {
        self.participant.append()
    }

    fn range(&self) -> EventRange {
        self.participant.range()
    }

    fn add_to(&self, set: WriteSet) -> Result<WriteSet, StoreError> {
        let set = self.participant.add_to(set)?;
        if self.append().is_none() {
            return Ok(set);
        }
        let writes = self.writes.iter().flat_map(|make| self.participant.additional_writes(&self.id, make));
        Ok(set.with_additional(writes))
    }

    fn report(&mut self, outcome: &'static str) {
        let is_accepted = outcome == "accepted";
        let version = if is_accepted { self.participant.version_after() } else { self.participant.version() };
        for (report, events) in &mut self.reports {
            let events = if is_accepted { *events } else { 0 };
            report.end(outcome, Numbers { version, events, ..Numbers::default() });
        }
    }

    fn recorded(mut self: Box<Self>) -> AnyOutcome {
        self.participant.recorded();
        // The attempts and the cost are those of the whole transaction.
        Box::new(self.participant.into_outcome(1, Cost::ZERO))
    }

    fn first_outcome<'s>(
        &'s mut self,
        range: &'s EventRange,
    ) -> BoxFuture<'s, Result<AnyOutcome, StoreError>> {
        async { Ok(Box::new(self.participant.first_outcome(range).await?) as AnyOutcome) }.boxed()
    }
}

/// All aggregates of a transaction, and the writes that were added to it.
pub(super) struct Parties {
    pub(super) all: Vec<Box<dyn AnyParty>>,
    pub(super) writes: Vec<AdditionalWrite>,
}

impl Parties {
    /// Decides all commands.
    pub(super) fn decide(&mut self, metadata: &Arc<Metadata>) -> Result<(), TransactionError> {
        self.all.iter_mut().try_for_each(|party| party.decide(metadata))
    }

    /// Fails if there are additional writes, but no events to record with them.
    pub(super) fn check_writes(&self) -> Result<(), StoreError> {
        if self.is_noop() && !self.writes.is_empty() {
            return Err(StoreError::invalid("the transaction has additional writes, but no events"));
        }
        Ok(())
    }
}

impl Participants for Parties {
    type Outcome = Vec<(StreamId, AnyOutcome)>;

    async fn load(&mut self) -> Result<(), StoreError> {
        try_join_all(self.all.iter_mut().map(|party| party.load())).await?;
        Ok(())
    }

    async fn refresh(&mut self) -> Result<bool, StoreError> {
        let changed = try_join_all(self.all.iter_mut().map(|party| party.refresh())).await?;
        Ok(changed.contains(&true))
    }

    fn follow(&mut self, stream: &StreamId, commits: &[Commit]) -> bool {
        // All commands are decided again, so none of the states may have events that were not recorded.
        let is_possible = self.all.iter().all(|party| party.is_recorded());
        let party = self.all.iter_mut().find(|party| party.stream() == stream);
        is_possible && party.is_some_and(|party| party.follow(commits))
    }

    fn are_fresh(&self) -> bool {
        self.all.iter().all(|party| party.is_fresh())
    }

    fn creates(&self, stream: &StreamId) -> bool {
        self.all.iter().any(|party| party.creates() && party.stream() == stream)
    }

    fn is_noop(&self) -> bool {
        self.all.iter().all(|party| party.append().is_none())
    }

    fn only_append(&self) -> Option<&Append> {
        None
    }

    fn write_set(&mut self) -> Result<WriteSet, StoreError> {
        self.check_writes()?;
        let set = WriteSet::new().with_additional(self.writes.iter().cloned());
        self.all.iter().try_fold(set, |set, party| party.add_to(set))
    }

    fn ranges(&self) -> Vec<EventRange> {
        self.all.iter().map(|party| party.range()).collect()
    }

    fn new_id(&self) -> Uuid {
        RandomIds.new_id()
    }

    async fn first_outcome(
        &mut self,
        record: &IdempotencyRecord,
    ) -> Result<Option<Self::Outcome>, StoreError> {
        if record.ranges.len() != self.all.len() {
            return Ok(None);
        }
        let mut outcomes = Vec::with_capacity(self.all.len());
        for party in &mut self.all {
            let Some(range) = record.range_of(party.stream()) else { return Ok(None) };
            let outcome = party.first_outcome(range).await?;
            outcomes.push((party.stream().clone(), outcome));
        }
        Ok(Some(outcomes))
    }
}
