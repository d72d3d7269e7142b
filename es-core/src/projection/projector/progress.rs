//! How far a projection is.

use super::delays::Delay;
use super::state::{Failure, Overview, Slot};
use super::{Inner, Projector};
use crate::feed::{Position, Slice};
use crate::projection::{Projection, ProjectorError};

/// How far a projection is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Progress {
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

async fn progress<P: Projection>(
    inner: &Inner<P>,
    overview: &Overview,
    build: u32,
) -> Result<Progress, ProjectorError> {
    let mut delays = overview.delays.clone();
    // Of this process, they are known better than stored.
    delays.extend(inner.delays.all());
    let mut slices = Vec::new();
    for slice in inner.store.slices().await?.iter() {
        let end = inner.store.feed_end(slice).await?;
        let slot = Slot { build, slice };
        let state = overview.slice(slot).value;
        let status = match (state.failure, delays.remove(&slot), state.owner) {
            (Some(failure), ..) => SliceStatus::Stopped(failure),
            (None, Some(delay), _) => SliceStatus::Delayed(delay),
            (None, None, Some(_)) => SliceStatus::Running,
            (None, None, None) => SliceStatus::Waiting,
        };
        slices.push(SliceProgress { slice, position: state.position, end, parked: state.parked, status });
    }
    Ok(Progress { slices, paused: overview.control.paused })
}
