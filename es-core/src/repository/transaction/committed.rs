//! What a transaction came to.

use std::error::Error;
use std::fmt;

use super::participant::AnyOutcome;
use crate::aggregate::Aggregate;
use crate::cost::Cost;
use crate::repository::Outcome;
use crate::stream_id::StreamId;

/// A transaction that was carried out.
#[non_exhaustive]
pub struct Committed {
    /// How many times it was decided; more than once when other writers came first.
    pub attempts: u32,
    /// What all the attempts cost together.
    pub cost: Cost,
    /// Whether these are the outcomes of an earlier transaction under the same key.
    pub repeated: bool,
    outcomes: Vec<(StreamId, AnyOutcome)>,
}

impl Committed {
    pub(super) fn new(attempts: u32, cost: Cost, repeated: bool) -> Self {
        Self { attempts, cost, repeated, outcomes: Vec::new() }
    }

    pub(super) fn add(&mut self, stream: StreamId, outcome: AnyOutcome) {
        self.outcomes.push((stream, outcome));
    }

    /// What became of the aggregate `id`: its state, and the events of all its commands together. `None` when
    /// it had no part in the transaction.
    ///
    /// Attempts and cost are those of the whole transaction, and not told for each aggregate.
    #[must_use]
    pub fn outcome<A: Aggregate>(&self, id: &A::Id) -> Option<&Outcome<A>> {
        let stream = StreamId::new(A::NAME, id).ok()?;
        let (_, outcome) = self.outcomes.iter().find(|(known, _)| *known == stream)?;
        outcome.downcast_ref()
    }

    /// The same, to keep: it is no longer here afterwards.
    pub fn take_outcome<A: Aggregate>(&mut self, id: &A::Id) -> Option<Outcome<A>> {
        let stream = StreamId::new(A::NAME, id).ok()?;
        let is_it =
            |(known, outcome): &(StreamId, AnyOutcome)| *known == stream && outcome.is::<Outcome<A>>();
        let index = self.outcomes.iter().position(is_it)?;
        let (_, outcome) = self.outcomes.remove(index);
        outcome.downcast().ok().map(|outcome| *outcome)
    }

    /// The streams that took part, in the order of their first commands.
    pub fn streams(&self) -> impl Iterator<Item = &StreamId> {
        self.outcomes.iter().map(|(stream, _)| stream)
    }
}

impl fmt::Debug for Committed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams: Vec<_> = self.streams().collect();
        f.debug_struct("Committed")
            .field("streams", &streams)
            .field("attempts", &self.attempts)
            .field("cost", &self.cost)
            .field("repeated", &self.repeated)
            .finish()
    }
}

/// The rejection of one command of a transaction. Its text is the stream and the domain's error.
#[derive(Debug)]
pub struct Rejection {
    stream: StreamId,
    error: Box<dyn Error + Send + Sync>,
}

impl Rejection {
    pub(super) fn new(stream: StreamId, error: Box<dyn Error + Send + Sync>) -> Self {
        Self { stream, error }
    }

    /// Returns the stream of the aggregate that rejected the command.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// The domain's error, if it is of the type `E`.
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.error.downcast_ref()
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.stream, self.error)
    }
}

impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.error)
    }
}
