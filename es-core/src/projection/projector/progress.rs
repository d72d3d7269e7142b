//! The progress of a projection, and waiting for it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};

use super::accepted::PassedOver;
use super::failure::{Delay, Failure};
use super::lost_splits::lost_split;
use super::state::{Closed, Overview, SliceState, Slot};
use super::stop::{either, pause};
use super::{Inner, Projector};
use crate::error_text;
use crate::feed::{FeedEnd, Position, Slice, SliceTree, mismatch};
use crate::projection::{Projection, ProjectorError, WaitError};
use crate::store::StoreError;
use crate::stream_id::StreamId;
use crate::version::Version;

/// The progress of a projection.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// The build number. The first build is 1, and each [rebuild](Projector::rebuild) or [reset](Projector::reset)
    /// starts a new one.
    pub build: u32,
    /// The slices, in order, including closed ones: each follows its ancestors.
    pub slices: Vec<SliceProgress>,
    /// Whether the projection is paused.
    pub paused: bool,
}

/// The progress of a projection in one slice.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SliceProgress {
    /// The slice.
    pub slice: Slice,
    /// The slice that was split into this one and another, or `None` for an initial slice. The parent has to be handled
    /// up to its end before this slice is started.
    pub parent: Option<Slice>,
    /// Whether the slice was split, so that its end is final.
    pub is_closed: bool,
    /// The checkpoint: all events up to it are finished or parked.
    pub position: Position,
    /// The position of the slice's last event.
    pub end: Position,
    /// The number of parked events (dead letters).
    pub parked: u64,
    /// The number of events that an operator has [skipped](Projector::skip).
    pub skipped: u64,
    /// The number of events that were left out because they were erased: their streams are
    /// [deleted](crate::Repository::delete) or [archived](crate::Repository::archive). They may include events that the
    /// projection does not handle.
    pub erased: u64,
    /// Events that were [passed over](PassedOver) by code that does not list them. A [rebuild](Projector::rebuild)
    /// handles them.
    pub passed_over: Vec<PassedOver>,
    /// The number of positions that still have to be checked for such events.
    pub unchecked: u64,
    /// Whether a worker processes the slice, and why it makes no progress.
    pub status: SliceStatus,
}

/// The status of a slice: whether a worker processes it, and why it makes no progress.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SliceStatus {
    /// A worker processes it.
    Running,
    /// A worker processes it, and retries after a transient error of the store or a service. Workers report this
    /// with their heartbeats, three times per lease.
    Delayed(Delay),
    /// No worker processes it. It may also wait for its parent.
    Waiting,
    /// The slice was split, and nothing is left to do in it: its children continue.
    Finished,
    /// It stopped at a failure. A worker retries at [`Failure::retry_at`]. An operator may retry immediately, or
    /// decide about the event: [`Projector::retry`], [`Projector::park`], or [`Projector::skip`].
    Stopped(Failure),
}

impl Progress {
    /// Returns the number of events left to handle.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.slices.iter().map(|slice| slice.end.since(slice.position)).sum()
    }

    /// Returns the number of events that are finished or parked.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.slices.iter().map(|slice| slice.position.get()).sum()
    }

    /// Returns the total number of events.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.slices.iter().map(|slice| slice.end.get()).sum()
    }

    /// Returns the stopped slices with their failures.
    pub fn stopped(&self) -> impl Iterator<Item = (Slice, &Failure)> {
        self.slices.iter().filter_map(|slice| match &slice.status {
            SliceStatus::Stopped(failure) => Some((slice.slice, failure)),
            _ => None,
        })
    }

    /// Returns the events that were passed over, with their slices.
    pub fn passed_over(&self) -> impl Iterator<Item = (Slice, &PassedOver)> {
        self.slices.iter().flat_map(|slice| slice.passed_over.iter().map(|event| (slice.slice, event)))
    }

    /// Returns the delayed slices with their delays.
    pub fn delayed(&self) -> impl Iterator<Item = (Slice, &Delay)> {
        self.slices.iter().filter_map(|slice| match &slice.status {
            SliceStatus::Delayed(delay) => Some((slice.slice, delay)),
            _ => None,
        })
    }
}

impl<P: Projection> Projector<P> {
    /// Returns the progress of the active build.
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] if the state cannot be read.
    pub async fn progress(&self) -> Result<Progress, ProjectorError> {
        let overview = self.overview().await?;
        progress(&self.inner, &overview, overview.control.active).await
    }

    /// Returns the progress of the new build, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] if the state cannot be read.
    pub async fn rebuild_progress(&self) -> Result<Option<Progress>, ProjectorError> {
        let overview = self.overview().await?;
        match overview.control.building {
            Some(build) => Ok(Some(progress(&self.inner, &overview, build).await?)),
            None => Ok(None),
        }
    }
}

impl<P> Inner<P> {
    /// Returns the delayed slots, as reported by all workers.
    pub(super) fn delays_in(&self, overview: &Overview) -> BTreeMap<Slot, Delay> {
        let mut delays = overview.delays.clone();
        // Delays in this process are more recent than stored ones.
        delays.extend(self.delays.all());
        delays
    }
}

impl<P: Projection> Inner<P> {
    /// Returns the error if a checkpoint is not valid in the feed. `end` is an end of the slice that was read before.
    async fn impossible(
        &self,
        slice: Slice,
        state: &SliceState,
        end: FeedEnd,
    ) -> Result<Option<StoreError>, StoreError> {
        if end.is_at(state.position, state.anchor) {
            return Ok(None);
        }
        Ok(mismatch(&*self.store, slice, state.position, state.anchor).await?.map(StoreError::from))
    }
}

async fn progress<P: Projection>(
    inner: &Inner<P>,
    overview: &Overview,
    build: u32,
) -> Result<Progress, ProjectorError> {
    let mut delays = inner.delays_in(overview);
    let mut slices = Vec::new();
    let tree = inner.store.slice_tree().await?;
    for slice in tree.iter() {
        let end = inner.store.feed_end(slice).await?;
        let slot = Slot { build, slice };
        let state = overview.slice(slot).value;
        let impossible = match lost_split(&tree, overview, slot) {
            Some(lost) => Some(StoreError::from(lost)),
            None => inner.impossible(slice, &state, end).await?,
        };
        let impossible = impossible.map(|error| Failure {
            event: None,
            error: error_text(&error),
            at: inner.settings.clock.now(),
            attempts: 0,
            retry_at: None,
            unknown_version: None,
        });
        let SliceState {
            position,
            parked,
            skipped,
            erased,
            owner,
            failure,
            passed_over,
            unchecked,
            closed,
            ..
        } = state;
        let unchecked = unchecked.iter().map(|gap| gap.through.since(gap.after)).sum();
        let status = match (impossible.or(failure), delays.remove(&slot), owner) {
            (Some(failure), ..) => SliceStatus::Stopped(failure),
            (None, Some(delay), _) => SliceStatus::Delayed(delay),
            (None, None, Some(_)) => SliceStatus::Running,
            (None, None, None) if closed == Some(Closed::Finished) => SliceStatus::Finished,
            (None, None, None) => SliceStatus::Waiting,
        };
        slices.push(SliceProgress {
            slice,
            parent: tree.parent(slice),
            is_closed: tree.is_closed(slice),
            position,
            end: end.position,
            parked,
            skipped,
            erased,
            passed_over,
            unchecked,
            status,
        });
    }
    Ok(Progress { build, slices, paused: overview.control.paused })
}

/// The interval at which the progress of other processes is read.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The builds of a projection to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Builds {
    Active,
    /// The active one, and the new one during a rebuild.
    All,
}

impl<P: Projection> Projector<P> {
    /// Waits until all events that are in the feed at the time of the call are handled, and requested replays of
    /// parked events are done. Another worker has to [`run`](Self::run) the projection.
    ///
    /// A recent commit may not be in the feed yet: on DynamoDB, until the indexer has written it, and on PostgreSQL,
    /// while an older transaction is open. To wait for a certain event, use [`wait_for`](Self::wait_for).
    ///
    /// # Errors
    ///
    /// [`WaitError::Stopped`] if an event cannot be handled. [`WaitError::Projector`] if the progress cannot be
    /// read.
    pub async fn caught_up(&self) -> Result<(), WaitError> {
        let ends = self.ends().await?;
        self.reached(&ends, Builds::Active).await
    }

    /// Retries all stopped slices.
    pub(super) async fn retry_stopped(&self) -> Result<(), ProjectorError> {
        let names = self.inner.names()?;
        let overview = self.ask(|| Overview::read(&*self.inner.store, &names)).await?;
        for ((build, slice), state) in &overview.slices {
            if state.value.failure.is_some() && overview.control.builds().any(|worked_on| worked_on == *build)
            {
                let slot = Slot { build: *build, slice: Slice::new(*slice) };
                self.ask(|| {
                    self.change(slot, |state| {
                        state.failure = None;
                        Ok(())
                    })
                })
                .await?;
            }
        }
        Ok(())
    }

    /// Like [`caught_up`](Self::caught_up), for a new build as well.
    pub(super) async fn all_caught_up(&self) -> Result<(), WaitError> {
        let ends = self.ends().await?;
        self.reached(&ends, Builds::All).await
    }

    /// Checks that no slice has stopped.
    pub(super) async fn has_not_stopped(&self) -> Result<(), WaitError> {
        let names = self.inner.names()?;
        let overview = self.ask(|| Overview::read(&*self.inner.store, &names)).await?;
        let mut states = overview.control.builds().flat_map(|build| overview.slices_of(build));
        let stopped = states.find_map(|(slice, state)| Some((slice, state.failure.as_ref()?)));
        stopped.map_or(Ok(()), |(slice, failure)| Err(self.stopped_at(slice, failure)))
    }

    /// Returns the current end of each slice.
    async fn ends(&self) -> Result<Vec<(Slice, FeedEnd)>, WaitError> {
        let store = &self.inner.store;
        let tree = self.ask(|| async { Ok(store.slice_tree().await?) }).await?;
        let mut ends = Vec::new();
        for slice in tree.iter() {
            ends.push((slice, self.end(slice).await?));
        }
        Ok(ends)
    }

    /// Returns the current ends of the slices that may contain events of a stream. The end of a slice says whether the
    /// stream continues in a child, so the tree is not requested.
    async fn ends_on_path(&self, stream: &StreamId) -> Result<Vec<(Slice, FeedEnd)>, ProjectorError> {
        let slices = self.ask(|| async { Ok(self.inner.store.slices().await?) }).await?;
        let (mut tree, mut ends) = (SliceTree::new(slices), Vec::new());
        loop {
            let slice = tree.of(stream);
            let end = self.end(slice).await?;
            ends.push((slice, end));
            if !end.is_closed {
                return Ok(ends);
            }
            tree.close(slice, end.position)?;
        }
    }

    async fn end(&self, slice: Slice) -> Result<FeedEnd, ProjectorError> {
        self.ask(|| async { Ok(self.inner.store.feed_end(slice).await?) }).await
    }

    /// Repeats a request while its error is transient, as often as the retry policy allows.
    ///
    /// Not an `AsyncFn`, because the future of a caller that passes a borrowing closure would not be `Send`.
    async fn ask<T, F>(&self, ask: impl Fn() -> F) -> Result<T, ProjectorError>
    where
        F: Future<Output = Result<T, ProjectorError>>,
    {
        let settings = &self.inner.settings;
        let mut attempts = 0;
        loop {
            attempts += 1;
            match ask().await {
                Err(error) if error.is_transient() && settings.retry.allows_another(attempts) => {
                    pause(&*settings.clock, settings.retry.delay_after(attempts)).await;
                }
                answer => return answer,
            }
        }
    }

    /// Waits until the event at `version` of `stream` is handled, for read-your-writes consistency. Parked and
    /// skipped events count as handled.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] after `timeout`. [`WaitError::Stopped`] if the projection stopped before the event.
    pub async fn wait_for(
        &self,
        stream: &StreamId,
        version: Version,
        timeout: Duration,
    ) -> Result<(), WaitError> {
        let is_in_feed = AtomicBool::new(false);
        let wait = Box::pin(async {
            let store = &self.inner.store;
            loop {
                let growth = store.growth();
                if self.ask(|| async { Ok(store.indexed(stream).await?) }).await? >= version {
                    break;
                }
                either(growth, self.inner.settings.clock.sleep(LOOK_AGAIN)).await;
            }
            is_in_feed.store(true, Ordering::Relaxed);
            // The event is at or before the end of one of these slices. If a split follows, it stays where it is.
            let ends = self.ends_on_path(stream).await?;
            self.reached(&ends, Builds::Active).await
        });
        match select(wait, Box::pin(self.pass(timeout))).await {
            Either::Left((reached, _)) => reached,
            Either::Right(_) => {
                let is_in_feed = is_in_feed.load(Ordering::Relaxed);
                let (projection, stream) = (self.inner.name.clone(), stream.clone());
                Err(WaitError::TimedOut { projection, stream, version, is_in_feed })
            }
        }
    }

    /// Waits for `duration` in small steps, because a test clock may advance with each sleep.
    pub(super) async fn pass(&self, duration: Duration) {
        let mut left = duration;
        while !left.is_zero() {
            let part = left.min(LOOK_AGAIN);
            pause(&*self.inner.settings.clock, part).await;
            left -= part;
        }
    }

    /// Waits until the checkpoints of `awaited` reach `ends`.
    async fn reached(&self, ends: &[(Slice, FeedEnd)], awaited: Builds) -> Result<(), WaitError> {
        let names = self.inner.names()?;
        loop {
            let progressed = self.inner.progressed.listen();
            let overview = self.ask(|| Overview::read(&*self.inner.store, &names)).await?;
            let control = &overview.control;
            let builds = control.builds().filter(|build| awaited == Builds::All || *build == control.active);
            let awaited = builds.flat_map(|build| ends.iter().map(move |end| (build, end)));
            let mut is_there = true;
            let mut reached = Vec::new();
            for (build, (slice, end)) in awaited {
                let slot = Slot { build, slice: *slice };
                let state = overview.slice(slot).value;
                if state.position >= end.position && !state.replay {
                    reached.push((slot, state, *end));
                    continue;
                }
                is_there = false;
                if let Some(failure) = state.failure {
                    return Err(self.stopped_at(*slice, failure));
                }
            }
            if is_there {
                return self.possible(&overview, &reached).await;
            }
            either(Box::pin(progressed), self.inner.settings.clock.sleep(LOOK_AGAIN)).await;
        }
    }

    /// Checks that checkpoints are valid in the feed.
    async fn possible(
        &self,
        overview: &Overview,
        checkpoints: &[(Slot, SliceState, FeedEnd)],
    ) -> Result<(), WaitError> {
        for (Slot { slice, .. }, state, end) in checkpoints {
            let check = || async { Ok(self.inner.impossible(*slice, state, *end).await?) };
            if let Some(error) = self.ask(check).await? {
                return Err(self.stopped_at(*slice, error));
            }
        }
        let is_intact = |state: &SliceState, end: FeedEnd| {
            state.closed.is_none() || (end.is_closed && end.position == state.position)
        };
        let uncertain = checkpoints.iter().filter(|(_, state, end)| !is_intact(state, *end));
        let slots: Vec<_> = uncertain.map(|(slot, ..)| *slot).collect();
        if slots.is_empty() {
            return Ok(());
        }
        match self.ask(|| async { Ok(self.inner.lost_split(overview, &slots).await?) }).await? {
            Some((slice, lost)) => Err(self.stopped_at(slice, lost)),
            None => Ok(()),
        }
    }

    /// Returns the error of waiting for a slice that has stopped.
    fn stopped_at(&self, slice: Slice, reason: impl Display) -> WaitError {
        WaitError::Stopped { projection: self.inner.name.clone(), slice, reason: reason.to_string() }
    }
}
