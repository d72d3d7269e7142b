//! An aggregate while commands are decided on it.

use std::sync::Arc;

use crate::aggregate::Aggregate;
use crate::command::Context;
use crate::cost::Cost;
use crate::event::{CommitId, Event, EventData};
use crate::events::Events;
use crate::metadata::Metadata;
use crate::repository::Inner;
use crate::repository::fold::{Fold, decode};
use crate::store::{Append, ClaimChange, NewCommit, StoreError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// An aggregate while commands are decided on it, and their events recorded.
pub(crate) struct Subject<A: Aggregate> {
    inner: Arc<Inner<A>>,
    stream: StreamId,
    fold: Fold<A>,
    /// Whether the state is known to be the stream's: read from the store, with strong consistency.
    fresh: bool,
    /// How many events the state holds that are not recorded yet.
    ahead: u64,
}

/// A decision, as it will be stored and as it will be read back.
pub(crate) struct Prepared<A: Aggregate> {
    pub(crate) data: Vec<EventData>,
    pub(crate) events: Vec<A::Event>,
    pub(crate) claims: Vec<ClaimChange>,
}

impl<A: Aggregate> Subject<A> {
    pub(crate) async fn load(inner: Arc<Inner<A>>, stream: StreamId) -> Result<Self, StoreError> {
        let (fold, fresh) = match inner.cached(&stream) {
            Some(fold) => (fold, false),
            None => (inner.load_to_decide(&stream).await?, !inner.eventual),
        };
        Ok(Self { inner, stream, fold, fresh, ahead: 0 })
    }

    pub(crate) fn inner(&self) -> &Inner<A> {
        &self.inner
    }

    pub(crate) fn stream(&self) -> &StreamId {
        &self.stream
    }

    pub(crate) fn state(&self) -> &A {
        &self.fold.state
    }

    /// The version of the last event that is recorded.
    pub(crate) fn version(&self) -> Version {
        self.fold.version
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    pub(crate) fn cost(&self) -> Cost {
        self.fold.cost
    }

    pub(crate) fn add_cost(&mut self, cost: Cost) {
        self.fold.cost += cost;
    }

    /// What a decision may know. Its time is never before the last commit's, however the clocks of
    /// several writers differ, so that the times in a stream never run backwards.
    pub(crate) fn context(&self, id: &A::Id, metadata: &Arc<Metadata>) -> Context<A> {
        let now = self.inner.clock.now();
        let now = self.fold.time.map_or(now, |last| now.max(last));
        Context::new(id.clone(), self.fold.version.plus(self.ahead), now, Arc::clone(&self.inner.ids))
            .with_metadata(Arc::clone(metadata))
    }

    /// The events as they will be stored, and as they will be read back.
    ///
    /// What is applied is what was read back: an event that does not survive its own encoding, a `NaN` say,
    /// is refused before it is stored, and a state never differs from the fold of its stream.
    pub(crate) fn prepare(&self, events: Events<A>) -> Result<Prepared<A>, StoreError> {
        let claims = events.claims(&self.stream)?;
        let events = events.into_vec();
        let mut data = Vec::with_capacity(events.len());
        let mut read_back = Vec::with_capacity(events.len());
        for (event, index) in events.into_iter().zip(1..) {
            let encoded = event.to_data()?;
            let version = self.fold.version.plus(self.ahead + index);
            let decoded =
                decode::<A>(&encoded).map_err(|error| StoreError::decode(&self.stream, version, error))?;
            data.push(encoded);
            read_back.extend(decoded);
        }
        Ok(Prepared { data, events: read_back, claims })
    }

    /// A commit of `data` after what is recorded.
    pub(crate) fn append(&self, data: Vec<EventData>, context: &Context<A>) -> Append {
        let commit = NewCommit::new(CommitId::new(self.inner.ids.new_id()), context.now(), data)
            .with_metadata(context.metadata().clone());
        Append::after_loaded(self.stream.clone(), self.fold.version, commit)
    }

    /// Applies the events of a decision, of which there are `count` with those that are skipped, before they
    /// are recorded: for whoever has to see the state after them.
    pub(crate) fn apply_ahead(&mut self, events: &[A::Event], count: usize) {
        for event in events {
            self.fold.state.apply_event(event);
        }
        self.ahead += count as u64;
    }

    /// Goes on to the state after `append`, which is recorded up to `last`.
    pub(crate) fn recorded(&mut self, append: &Append, events: &[A::Event], last: Version) {
        if self.ahead == 0 {
            self.apply_ahead(events, append.commit().events.len());
        }
        self.ahead = 0;
        self.fold.time = Some(append.commit().time);
        self.fold.version = last;
        self.fold.tail.add(&append.commit().events);
        self.inner.take_snapshot(&self.stream, &mut self.fold);
        self.inner.remember(&self.stream, &mut self.fold);
    }

    /// Reads what came since the state was seen; says whether anything did.
    pub(crate) async fn refresh(&mut self) -> Result<bool, StoreError> {
        let seen = self.fold.version;
        if self.ahead > 0 {
            // The state holds what was never recorded.
            let cost = self.fold.cost;
            self.fold = self.inner.load_cold(&self.stream).await?;
            self.fold.cost += cost;
            self.ahead = 0;
        } else {
            self.inner.catch_up(&mut self.fold, &self.stream).await?;
        }
        self.inner.remember(&self.stream, &mut self.fold);
        self.fresh = true;
        Ok(self.fold.version > seen)
    }

    pub(crate) fn into_state(self) -> A {
        self.fold.state
    }
}
