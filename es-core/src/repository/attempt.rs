//! One command on its way: load, decide, append, and again.

use std::sync::Arc;

use crate::aggregate::Aggregate;
use crate::command::Context;
use crate::cost::Cost;
use crate::event::{CommitId, Event, EventData};
use crate::events::Events;
use crate::metadata::Metadata;
use crate::repository::fold::{Fold, decode};
use crate::repository::{ExecuteError, Inner, Outcome};
use crate::store::{Append, AppendError, Appended, Conflict, NewCommit, StoreError};
use crate::stream_id::StreamId;

/// A command on its way through its attempts.
///
/// The caller decides between [`context`](Self::context) and [`conclude`](Self::conclude): decisions may be
/// synchronous or not, and this type need not know.
pub(crate) struct Attempt<'a, A: Aggregate> {
    inner: &'a Inner<A>,
    stream: StreamId,
    fold: Fold<A>,
    /// Whether the state was read from the store, not taken from the cache.
    fresh: bool,
    attempts: u32,
}

/// What became of a decision.
pub(crate) enum Conclusion<'a, A: Aggregate> {
    Done(Box<Outcome<A>>),
    /// Another writer came first: decide again, on the state as it is now.
    Again(Attempt<'a, A>),
}

impl<'a, A: Aggregate> Attempt<'a, A> {
    pub(crate) async fn start(inner: &'a Inner<A>, id: &A::Id) -> Result<Self, StoreError> {
        let stream = StreamId::new(A::NAME, id)?;
        let (fold, fresh) = match inner.cached(&stream) {
            Some(fold) => (fold, false),
            None => (inner.load_cold(&stream).await?, true),
        };
        Ok(Self { inner, stream, fold, fresh, attempts: 1 })
    }

    pub(crate) fn state(&self) -> &A {
        &self.fold.state
    }

    /// What the decision may know. Its time is never before the last commit's, however the clocks of
    /// several writers differ, so that the times in a stream never run backwards.
    pub(crate) fn context(&self, id: &A::Id, metadata: &Arc<Metadata>) -> Context<A> {
        let now = self.inner.clock.now();
        let now = self.fold.time.map_or(now, |last| now.max(last));
        Context::new(id.clone(), self.fold.version, now, Arc::clone(&self.inner.ids))
            .with_metadata(Arc::clone(metadata))
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn cost(&self) -> Cost {
        self.fold.cost
    }

    /// Records what was decided.
    pub(crate) async fn conclude<E>(
        mut self,
        decision: Result<Events<A>, E>,
        context: &Context<A>,
    ) -> Result<Conclusion<'a, A>, ExecuteError<E>> {
        let events = match decision {
            Ok(events) if !events.is_empty() => events,
            // No write verifies these two, so they stand only on a state that was read.
            _ if !self.fresh && self.refresh().await? => return Ok(Conclusion::Again(self)),
            Ok(_) => return Ok(Conclusion::Done(Box::new(self.outcome(Vec::new(), None)))),
            Err(error) => return Err(ExecuteError::Rejected(error)),
        };
        let (data, events) = self.encode(events.into_vec())?;
        let commit = NewCommit::new(CommitId::new(self.inner.ids.new_id()), context.now(), data)
            .with_metadata(context.metadata().clone());
        let commit_id = commit.id;
        let append = Append::after_loaded(self.stream.clone(), self.fold.version, commit);

        match self.append(&append).await {
            Ok(appended) => {
                self.fold.time = Some(append.commit().time);
                for event in &events {
                    self.fold.state.apply_event(event);
                }
                self.fold.version = appended.last;
                self.fold.tail.add(&append.commit().events);
                self.inner.take_snapshot(&self.stream, &mut self.fold);
                self.inner.remember(&self.stream, &mut self.fold);
                Ok(Conclusion::Done(Box::new(self.outcome(events, Some(commit_id)))))
            }
            Err(AppendError::Conflict(conflict)) => self.retry(conflict).await,
            Err(AppendError::Store(error)) => Err(error.into()),
        }
    }

    /// The events as they will be stored, and as they will be read back.
    ///
    /// What is applied is what was read back: an event that does not survive its own encoding, a `NaN` say,
    /// is refused before it is stored, and a state never differs from the fold of its stream.
    fn encode(&self, events: Vec<A::Event>) -> Result<(Vec<EventData>, Vec<A::Event>), StoreError> {
        let mut data = Vec::with_capacity(events.len());
        let mut read_back = Vec::with_capacity(events.len());
        for (event, index) in events.into_iter().zip(1..) {
            let encoded = event.to_data()?;
            let version = self.fold.version.plus(index);
            let decoded =
                decode::<A>(&encoded).map_err(|error| StoreError::decode(&self.stream, version, error))?;
            data.push(encoded);
            read_back.extend(decoded);
        }
        Ok((data, read_back))
    }

    /// Appends, repeating the very same commit while the store throttles or gives no answer.
    async fn append(&mut self, append: &Append) -> Result<Appended, AppendError> {
        let mut sent = 1;
        loop {
            match self.inner.store.append(append).await {
                Ok(appended) => {
                    self.fold.cost += appended.cost;
                    return Ok(appended);
                }
                Err(AppendError::Conflict(conflict)) => {
                    self.fold.cost += conflict.cost;
                    return Err(conflict.into());
                }
                Err(AppendError::Store(error)) => {
                    self.fold.cost += Cost { requests: 1, ..Cost::ZERO };
                    if !error.is_retryable() || !self.inner.retry.allows_another(sent) {
                        return Err(error.into());
                    }
                    tracing::debug!(stream = %self.stream, %error, sent, "repeating an append");
                    self.inner.wait(&self.inner.retry, sent).await;
                    sent += 1;
                }
            }
        }
    }

    async fn retry<E>(mut self, conflict: Conflict) -> Result<Conclusion<'a, A>, ExecuteError<E>> {
        if !self.inner.retry.allows_another(self.attempts) {
            return Err(ExecuteError::Conflict(conflict));
        }
        tracing::debug!(stream = %self.stream, attempts = self.attempts, "another writer came first");
        self.inner.wait(&self.inner.retry, self.attempts).await;
        self.attempts += 1;
        self.refresh().await?;
        Ok(Conclusion::Again(self))
    }

    /// Reads what came since the state was seen; says whether anything did.
    async fn refresh(&mut self) -> Result<bool, StoreError> {
        let seen = self.fold.version;
        self.inner.catch_up(&mut self.fold, &self.stream).await?;
        self.inner.remember(&self.stream, &mut self.fold);
        self.fresh = true;
        Ok(self.fold.version > seen)
    }

    fn outcome(self, events: Vec<A::Event>, commit: Option<CommitId>) -> Outcome<A> {
        Outcome {
            state: self.fold.state,
            version: self.fold.version,
            events,
            commit,
            attempts: self.attempts,
            cost: self.fold.cost,
        }
    }
}
