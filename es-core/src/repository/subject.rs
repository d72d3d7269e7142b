//! An aggregate while commands are decided on it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::aggregate::Aggregate;
use crate::command::Context;
use crate::cost::Cost;
use crate::event::{CommitId, Event, EventData};
use crate::events::Events;
use crate::metadata::Metadata;
use crate::repository::fold::{Fold, decode};
use crate::repository::retrying::{Deadline, Retrying};
use crate::repository::writing::Sender;
use crate::repository::{Inner, Outcome};
use crate::store::{Append, ClaimChange, MarkerRead, NewCommit, OnceKey, Place, StoreError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// By how much the clocks of several writers may differ without a warning.
const USUAL_CLOCK_SKEW: Duration = Duration::from_secs(60);

/// An aggregate while commands are decided on it, and their events recorded.
pub(crate) struct Subject<A: Aggregate> {
    inner: Arc<Inner<A>>,
    stream: StreamId,
    deadline: Deadline,
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
    /// An aggregate that is not loaded yet, for commands that may take as long as `limit` from now.
    pub(crate) fn new(inner: Arc<Inner<A>>, stream: StreamId, limit: Option<Duration>) -> Self {
        let deadline = Deadline::after(limit, &*inner.clock);
        Self { inner, stream, deadline, fold: Fold::new(), fresh: false, ahead: 0 }
    }

    /// Loads the state to decide on, which may be behind: see [`is_fresh`](Self::is_fresh).
    pub(crate) async fn load(&mut self) -> Result<(), StoreError> {
        match self.inner.cached(&self.stream) {
            Some(fold) => self.fold = fold,
            None => {
                self.inner.load_to_decide(&mut self.fold, &self.stream, self.deadline).await?;
                self.fresh = !self.inner.eventual;
            }
        }
        Ok(())
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

    pub(crate) fn sender(&self) -> Sender<'_> {
        self.inner.sender(self.deadline)
    }

    pub(crate) fn retrying(&self) -> Retrying<'_> {
        self.inner.retrying(self.deadline)
    }

    pub(crate) async fn marker(&self, key: &OnceKey) -> Result<MarkerRead, StoreError> {
        self.inner.marker(key, self.deadline).await
    }

    /// The outcome of a command that was carried out before; the state is not to be used afterwards.
    pub(crate) async fn first_outcome(&mut self, place: &Place) -> Result<Outcome<A>, StoreError> {
        if self.ahead > 0 {
            // The state holds what was never recorded.
            self.fold.restart();
        }
        self.inner.first_outcome(&self.stream, place, &mut self.fold, self.deadline).await
    }

    /// Returns what a decision may know. Its time is never before the last commit's, however the clocks of
    /// several writers differ, so that the times in a stream never run backwards.
    ///
    /// # Errors
    ///
    /// When this clock is too far behind the last commit: one of the two clocks is wrong, and all later commits
    /// would have the time of that one.
    pub(crate) fn context(&self, id: &A::Id, metadata: &Arc<Metadata>) -> Result<Context<A>, StoreError> {
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
                "the stream `{}` ends with a commit of {last}, and this clock shows {now}: correct the clock, or \
                 allow more with `max_clock_skew`",
                self.stream
            );
            return Err(StoreError::setup(reason, None));
        }
        if behind > USUAL_CLOCK_SKEW && self.inner.skew_warnings.is_due(&*self.inner.clock) {
            tracing::warn!(stream = %self.stream, ?behind, "this clock is behind the last commit of the stream");
        }
        Ok(last)
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
            self.fold.restart();
            self.ahead = 0;
            self.inner.load_cold(&mut self.fold, &self.stream, self.deadline).await?;
        } else {
            self.inner.catch_up(&mut self.fold, &self.stream, self.deadline).await?;
        }
        self.inner.remember(&self.stream, &mut self.fold);
        self.fresh = true;
        Ok(self.fold.version > seen)
    }

    pub(crate) fn into_state(self) -> A {
        self.fold.state
    }
}
