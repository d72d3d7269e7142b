//! One aggregate in an execution: its state, and the decision made on it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::aggregate::Aggregate;
use crate::command::Context;
use crate::cost::Cost;
use crate::event::{CommitId, EncodeError, Event, EventData};
use crate::events::Events;
use crate::measure;
use crate::metadata::Metadata;
use crate::repository::lanes::Head;
use crate::repository::loading::{Fold, Until, decode};
use crate::repository::request::{Decided, MakeWrites};
use crate::repository::retry::Deadline;
use crate::repository::{ExecuteError, Inner, Outcome};
use crate::store::{
    AdditionalWrite, Append, ClaimChange, Commit, Conflict, EventRange, NewCommit, StoreError, WriteSet,
    is_reserved,
};
use crate::stream_id::StreamId;
use crate::version::{ExpectedVersion, Version};

/// The difference between the clocks of writers above which a warning is logged.
const USUAL_CLOCK_SKEW: Duration = Duration::from_secs(60);

/// An aggregate while commands are decided on it and their events are recorded.
pub(super) struct Participant<A: Aggregate> {
    inner: Arc<Inner<A>>,
    stream: StreamId,
    pub(super) deadline: Deadline,
    fold: Fold<A>,
    /// Whether the commands create the aggregate. If so, they are decided on its initial state without a load.
    creates: bool,
    /// Whether the state was read from the store, with strong consistency.
    fresh: bool,
    /// The number of the decision's events that are applied to the state, although they are not recorded yet.
    ahead: u64,
    decision: Decision<A>,
    /// The role of the first command on its stream.
    head: Option<Head<A>>,
}

/// The events and claims of the last decision.
struct Decision<A: Aggregate> {
    /// The encoded events, until the commit is created from them.
    data: Vec<EventData>,
    /// The events as they will be decoded, without retired ones.
    events: Vec<A::Event>,
    /// The number of `events` that are applied to the state.
    applied: usize,
    claims: Vec<ClaimChange>,
    commit: Option<CommitId>,
    append: Option<Append>,
}

impl<A: Aggregate> Decision<A> {
    fn none() -> Self {
        Self {
            data: Vec::new(),
            events: Vec::new(),
            applied: 0,
            claims: Vec::new(),
            commit: None,
            append: None,
        }
    }

    /// Returns the number of events, including retired ones.
    fn len(&self) -> u64 {
        let recorded = self.append.as_ref().map(Append::events);
        recorded.unwrap_or(self.data.len() as u64)
    }
}

impl<A: Aggregate> Participant<A> {
    /// Returns an aggregate that is not loaded yet, for commands with the given deadline.
    pub(super) fn new(inner: Arc<Inner<A>>, stream: StreamId, deadline: Deadline) -> Self {
        Self {
            inner,
            stream,
            deadline,
            fold: Fold::new(),
            creates: false,
            fresh: false,
            ahead: 0,
            decision: Decision::none(),
            head: None,
        }
    }

    /// Makes the commands create the aggregate: they are executed only if it does not exist.
    pub(super) fn create(&mut self) {
        self.creates = true;
    }

    /// Returns whether the commands create the aggregate.
    pub(super) fn creates(&self) -> bool {
        self.creates
    }

    pub(super) fn stream(&self) -> &StreamId {
        &self.stream
    }

    pub(super) fn state(&self) -> &A {
        &self.fold.state
    }

    /// Returns the version of the last event that is recorded.
    pub(super) fn version(&self) -> Version {
        self.fold.version
    }

    /// Returns whether the state was read from the store with strong consistency, so that a rejection needs no further
    /// check.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Returns the cost of the reads.
    pub(super) fn cost(&self) -> Cost {
        self.fold.cost
    }

    /// Loads the state for a decision, from the cache, where it may be outdated, or from the store. Creating an
    /// aggregate needs no load.
    pub(super) async fn load(&mut self) -> Result<(), StoreError> {
        if self.creates {
            return Ok(());
        }
        if let Some(fold) = self.inner.cached(&self.stream) {
            measure::loaded(A::NAME, "cache", 0);
            self.fold = fold;
            return Ok(());
        }
        self.inner.load_to_decide(&mut self.fold, &self.stream, self.deadline).await?;
        self.fresh = !self.inner.eventual;
        Ok(())
    }

    /// Reads the events since the last load, and returns whether there were any.
    pub(super) async fn refresh(&mut self) -> Result<bool, StoreError> {
        let seen = self.fold.version;
        if self.ahead > 0 || seen.is_none() {
            // Either the state contains events that were never recorded, or it is the initial state, which a snapshot
            // may replace.
            self.fold.restart();
            self.ahead = 0;
            self.inner.load_cold(&mut self.fold, &self.stream, self.deadline).await?;
        } else {
            self.inner.catch_up(&mut self.fold, &self.stream, self.deadline).await?;
        }
        self.inner.remember(&self.stream, &self.fold, self.fold.snapshot);
        self.fresh = true;
        Ok(self.fold.version > seen)
    }

    /// Applies `commits`, which another writer has recorded, without a read. Afterwards, the state may still be
    /// outdated. Returns `false` if the commits cannot be applied.
    pub(super) fn follow(&mut self, commits: &[Commit]) -> bool {
        if self.ahead > 0 || !self.fold.follow(commits) {
            return false;
        }
        self.fresh = false;
        true
    }

    /// Returns whether all events in the state are recorded.
    pub(super) fn is_recorded(&self) -> bool {
        self.ahead == 0
    }

    /// Fails if the aggregate is closed, is not at the `expected` version, or exists although the commands create it.
    pub(super) fn check<E>(&self, expected: ExpectedVersion) -> Result<(), ExecuteError<E>> {
        let version = self.fold.version;
        self.fold.check_open(&self.stream)?;
        let conflict = |expected| Conflict::new(self.stream.clone(), expected, Some(version), self.fold.cost);
        if self.creates && !version.is_none() {
            return Err(ExecuteError::AlreadyExists(conflict(ExpectedVersion::NoStream)));
        }
        match expected.allows(version) {
            true => Ok(()),
            false => Err(ExecuteError::Outdated(conflict(expected))),
        }
    }

    /// Returns the context of a decision on the current state.
    ///
    /// Its time is never before that of the last commit, so that the times in a stream never run backwards, even if
    /// the clocks of its writers differ.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if this clock is too far behind the last commit. One of the two clocks must be wrong, and
    /// all later commits would get the time of that commit.
    pub(super) fn context(&self, id: &A::Id, metadata: &Arc<Metadata>) -> Result<Context<A>, StoreError> {
        let now = self.inner.clock.now();
        let now = match self.fold.time {
            Some(last) if last > now => self.not_far_behind(now, last)?,
            _ => now,
        };
        let version = self.fold.version.plus(self.ahead);
        let context = Context::new(id.clone(), version, now, Arc::clone(&self.inner.ids));
        Ok(context.with_metadata(Arc::clone(metadata)))
    }

    /// Returns the time of the last commit, which is ahead of this clock.
    fn not_far_behind(&self, now: DateTime<Utc>, last: DateTime<Utc>) -> Result<DateTime<Utc>, StoreError> {
        let behind = (last - now).to_std().unwrap_or_default();
        if behind > self.inner.max_clock_skew {
            let reason = format!(
                "the last commit of the stream `{}` has the time {last}, but this clock shows {now}: correct the clock, \
                 or raise `max_clock_skew`",
                self.stream
            );
            return Err(StoreError::setup(reason, None));
        }
        if behind > USUAL_CLOCK_SKEW && self.inner.skew_warnings.is_due(&*self.inner.clock) {
            tracing::warn!(stream = %self.stream, ?behind, "this clock is behind the last commit of the stream");
        }
        Ok(last)
    }

    /// Drops the last decision.
    pub(super) fn start_decision(&mut self) {
        self.decision = Decision::none();
    }

    /// Adds the events of one command to the decision, and returns their number, not counting retired ones.
    ///
    /// Each event is encoded and decoded again. An event that does not survive the round trip, such as one with a
    /// `NaN`, is rejected before it is stored, so the state never differs from the fold of the stream.
    pub(super) fn add(&mut self, events: Events<A>) -> Result<usize, StoreError> {
        self.decision.claims.extend(events.claims(&self.stream)?);
        let events = events.into_vec();
        let Decision { data, events: read_back, .. } = &mut self.decision;
        let before = read_back.len();
        data.reserve_exact(events.len());
        read_back.reserve_exact(events.len());
        for event in events {
            let encoded = event.to_data()?;
            if is_reserved(encoded.name()) {
                return Err(StoreError::invalid(format!(
                    "the event `{}` cannot be recorded by a command: only the framework records it",
                    encoded.name()
                )));
            }
            let decoded =
                decode::<A>(&encoded).map_err(|error| EncodeError::not_readable(&encoded, error))?;
            data.push(encoded);
            read_back.extend(decoded);
        }
        Ok(read_back.len() - before)
    }

    /// Applies the decision's new events to the state before they are recorded, for a later command or an additional
    /// write that needs that state.
    pub(super) fn apply_ahead(&mut self) {
        for event in &self.decision.events[self.decision.applied..] {
            self.fold.state.apply_event(event);
        }
        self.decision.applied = self.decision.events.len();
        self.ahead = self.decision.len();
    }

    /// Creates the append of the decision's events, if there are any.
    pub(super) fn finish_decision(&mut self, context: &Context<A>) {
        let Some(commit) = self.new_commit(context) else { return };
        let stream = self.stream.clone();
        self.decision.append = Some(match self.creates {
            true => Append::new(stream, ExpectedVersion::NoStream, commit),
            false => Append::after_loaded(stream, self.fold.version, commit),
        });
    }

    /// Creates the commit of the decision's events, if there are any.
    fn new_commit(&mut self, context: &Context<A>) -> Option<NewCommit> {
        if self.decision.data.is_empty() {
            return None;
        }
        let (id, data) = (CommitId::new(self.inner.ids.new_id()), std::mem::take(&mut self.decision.data));
        self.decision.commit = Some(id);
        Some(NewCommit::new(id, context.now(), data).with_metadata(context.metadata().clone()))
    }

    /// Creates the commit of a decision that is recorded together with others, and takes the state after it. Returns
    /// `None` if there is nothing to record.
    pub(super) fn share(&mut self, context: &Context<A>) -> Option<(NewCommit, Fold<A>)> {
        let commit = self.new_commit(context)?;
        self.decision.events.iter().for_each(|event| self.fold.state.apply_event(event));
        self.fold.version = self.fold.version.plus(commit.events.len() as u64);
        self.fold.time = Some(commit.time);
        Some((commit, std::mem::replace(&mut self.fold, Fold::new())))
    }

    /// Continues from a state that other commands share.
    pub(super) fn continue_from(&mut self, fold: Fold<A>) {
        self.fold = fold;
    }

    /// Continues from a state that this command has [shared](Self::share), which is recorded.
    pub(super) async fn take_back<E>(&mut self, shared: Arc<Fold<A>>) -> Result<(), ExecuteError<E>> {
        let copied = Arc::try_unwrap(shared).or_else(|shared| shared.try_clone().ok_or(shared.version));
        match copied {
            Ok(fold) => self.fold = fold,
            // The aggregate could be copied before. The state is loaded instead.
            Err(version) => {
                let until = Until::Version(version);
                let loaded = self.inner.load_until(&mut self.fold, &self.stream, until, self.deadline).await;
                loaded.map_err(StoreError::after_a_write)?;
            }
        }
        Ok(())
    }

    /// Makes the command the first one on its stream, for whose state others wait.
    pub(super) fn lead(&mut self, head: Head<A>) {
        self.head = Some(head);
    }

    /// Hands the state over to the commands that wait for it.
    pub(super) fn hand_over(&mut self) {
        if self.is_recorded()
            && let Some(head) = self.head.take()
        {
            head.hand_over(&self.fold);
        }
    }

    /// Returns the id of the decision's commit; `None` if there is nothing to record.
    pub(super) fn commit(&self) -> Option<CommitId> {
        self.decision.commit
    }

    /// Returns the append of the decision; `None` if there is nothing to record.
    pub(super) fn append(&self) -> Option<&Append> {
        self.decision.append.as_ref()
    }

    pub(super) fn has_claims(&self) -> bool {
        !self.decision.claims.is_empty()
    }

    /// Returns the version that the aggregate will have once the decision is recorded.
    pub(super) fn version_after(&self) -> Version {
        self.fold.version.plus(self.decision.len())
    }

    /// Returns the versions that the decision's events will have.
    pub(super) fn range(&self) -> EventRange {
        let (first, last) = (self.fold.version.next(), self.version_after());
        EventRange { stream: self.stream.clone(), first, last }
    }

    /// Adds the decision's commit and claims to a write.
    pub(super) fn add_to(&self, set: WriteSet) -> Result<WriteSet, StoreError> {
        match &self.decision.append {
            Some(append) => {
                append.last_version_after(self.fold.version)?;
                Ok(set.append(append.clone()).claims(self.decision.claims.iter().cloned()))
            }
            None => Ok(set.unchanged(self.stream.clone(), self.fold.version)),
        }
    }

    /// Creates the additional writes of the decision. Its events must be applied [ahead](Self::apply_ahead).
    pub(super) fn additional_writes(&self, id: &A::Id, make: &MakeWrites<'_, A>) -> Vec<AdditionalWrite> {
        let (state, version) = (&self.fold.state, self.version_after());
        make(&Decided { id, state, version, events: &self.decision.events })
    }

    /// Applies the recorded decision to the state, and takes a snapshot if one is due.
    pub(super) fn recorded(&mut self) {
        let Some(append) = &self.decision.append else { return };
        let (last, commit) = (self.version_after(), &append.commits()[0]);
        for event in &self.decision.events[self.decision.applied..] {
            self.fold.state.apply_event(event);
        }
        self.ahead = 0;
        self.fold.time = Some(commit.time);
        self.fold.version = last;
        self.fold.snapshot.add(&commit.events);
        self.fold.snapshot = self.inner.take_snapshot(&self.stream, &self.fold, self.fold.snapshot);
        self.inner.remember(&self.stream, &self.fold, self.fold.snapshot);
    }

    /// Reads the outcome of an earlier execution, whose events are in `range`, and adds the cost of the reads to this
    /// aggregate. The state must not be used afterwards.
    pub(super) async fn first_outcome(&mut self, range: &EventRange) -> Result<Outcome<A>, StoreError> {
        if self.ahead > 0 {
            // The state contains events that were never recorded.
            self.fold.restart();
        }
        let (inner, stream) = (&self.inner, &self.stream);
        let mut outcome = inner.first_outcome(stream, range, &mut self.fold, self.deadline).await?;
        self.fold.cost += std::mem::take(&mut outcome.cost);
        Ok(outcome)
    }

    /// Returns the outcome of the decision after it was [recorded](Self::recorded), or had nothing to record.
    pub(super) fn into_outcome(self, attempts: u32, cost: Cost) -> Outcome<A> {
        let Self { fold, decision, .. } = self;
        let (state, version, events) = (fold.state, fold.version, decision.events);
        Outcome { state, version, events, commit: decision.commit, repeated: false, attempts, cost }
    }
}
