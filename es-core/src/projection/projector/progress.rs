//! How far a projection is.

use std::collections::BTreeMap;

use super::accepted::PassedOver;
use super::delays::Delay;
use super::failure::Failure;
use super::state::{Overview, SliceState, Slot};
use super::{Inner, Projector};
use crate::error_text;
use crate::feed::{Position, Slice, mismatch};
use crate::projection::{Projection, ProjectorError};
use crate::store::StoreError;

/// How far a projection is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// The number of the build: the first one is 1, and each [rebuild](Projector::rebuild) or
    /// [reset](Projector::reset) begins another one.
    pub build: u32,
    /// Each slice, in order.
    pub slices: Vec<SliceProgress>,
    /// Whether the projection is paused.
    pub paused: bool,
}

/// How far a projection is in one slice.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SliceProgress {
    /// The slice.
    pub slice: Slice,
    /// The checkpoint: all events up to it are finished, or parked.
    pub position: Position,
    /// The position of the slice's last event.
    pub end: Position,
    /// How many events are parked.
    pub parked: u64,
    /// How many events an operator has [skipped](Projector::skip).
    pub skipped: u64,
    /// Events that code which did not accept them has [passed over](PassedOver): a [rebuild](Projector::rebuild)
    /// handles them.
    pub passed_over: Vec<PassedOver>,
    /// How many positions such code has passed where a worker is still looking for such events.
    pub unchecked: u64,
    /// Who works on it, and what keeps it from going on.
    pub status: SliceStatus,
}

/// Who works on a slice, and what keeps it from going on.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SliceStatus {
    /// A worker has it.
    Running,
    /// A worker has it, and waits for a transient error to pass: the store or a service does not respond. Workers
    /// report it with their signs of life, three times in each lease.
    Delayed(Delay),
    /// No worker has it.
    Waiting,
    /// It has stopped at a failure. A worker tries again at [`Failure::retry_at`]; an operator may let it try at
    /// once, or decide about the event: [`Projector::retry`], [`Projector::park`] or [`Projector::skip`].
    Stopped(Failure),
}

impl Progress {
    /// How many events are left to handle.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.slices.iter().map(|slice| slice.end.since(slice.position)).sum()
    }

    /// How many events are finished, or parked.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.slices.iter().map(|slice| slice.position.get()).sum()
    }

    /// How many events there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.slices.iter().map(|slice| slice.end.get()).sum()
    }

    /// The slices that have stopped, with the reasons.
    pub fn stopped(&self) -> impl Iterator<Item = (Slice, &Failure)> {
        self.slices.iter().filter_map(|slice| match &slice.status {
            SliceStatus::Stopped(failure) => Some((slice.slice, failure)),
            _ => None,
        })
    }

    /// The events that were passed over by code that did not accept them, with their slices.
    pub fn passed_over(&self) -> impl Iterator<Item = (Slice, &PassedOver)> {
        self.slices.iter().flat_map(|slice| slice.passed_over.iter().map(|event| (slice.slice, event)))
    }

    /// The slices that wait for a transient error to pass, with the errors.
    pub fn delayed(&self) -> impl Iterator<Item = (Slice, &Delay)> {
        self.slices.iter().filter_map(|slice| match &slice.status {
            SliceStatus::Delayed(delay) => Some((slice.slice, delay)),
            _ => None,
        })
    }
}

impl<P: Projection> Projector<P> {
    /// How far the projection is.
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] when the store cannot tell.
    pub async fn progress(&self) -> Result<Progress, ProjectorError> {
        let overview = Overview::read(&*self.inner.store, &self.inner.names()?).await?;
        progress(&self.inner, &overview, overview.control.active).await
    }

    /// How far the new build is; `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] when the store cannot tell.
    pub async fn rebuild_progress(&self) -> Result<Option<Progress>, ProjectorError> {
        let overview = Overview::read(&*self.inner.store, &self.inner.names()?).await?;
        match overview.control.building {
            Some(build) => Ok(Some(progress(&self.inner, &overview, build).await?)),
            None => Ok(None),
        }
    }
}

impl<P> Inner<P> {
    /// The slots that wait for a transient error to pass, as all workers say.
    pub(super) fn delays_in(&self, overview: &Overview) -> BTreeMap<Slot, Delay> {
        let mut delays = overview.delays.clone();
        // Of this process, they are known better than stored.
        delays.extend(self.delays.all());
        delays
    }
}

impl<P: Projection> Inner<P> {
    /// Why a checkpoint does not fit the feed, if it does not.
    pub(super) async fn impossible(
        &self,
        slice: Slice,
        state: &SliceState,
    ) -> Result<Option<StoreError>, StoreError> {
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
    for slice in inner.store.slices().await?.iter() {
        let end = inner.store.feed_end(slice).await?;
        let slot = Slot { build, slice };
        let state = overview.slice(slot).value;
        let impossible = inner.impossible(slice, &state).await?;
        let impossible = impossible.map(|error| Failure {
            event: None,
            error: error_text(&error),
            at: inner.settings.clock.now(),
            attempts: 0,
            retry_at: None,
            unknown_version: None,
        });
        let SliceState { position, parked, skipped, owner, failure, passed_over, unchecked, .. } = state;
        let unchecked = unchecked.iter().map(|gap| gap.through.since(gap.after)).sum();
        let status = match (impossible.or(failure), delays.remove(&slot), owner) {
            (Some(failure), ..) => SliceStatus::Stopped(failure),
            (None, Some(delay), _) => SliceStatus::Delayed(delay),
            (None, None, Some(_)) => SliceStatus::Running,
            (None, None, None) => SliceStatus::Waiting,
        };
        slices.push(SliceProgress { slice, position, end, parked, skipped, passed_over, unchecked, status });
    }
    Ok(Progress { build, slices, paused: overview.control.paused })
}
