//! How far a projection is.

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
    /// What is being done about it.
    pub status: SliceStatus,
}

/// What is being done about a slice.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SliceStatus {
    /// A worker has it.
    Running,
    /// No worker has it.
    Waiting,
    /// It has stopped, and goes on when an operator says so: [`Projector::retry`], [`Projector::park`] or
    /// [`Projector::skip`].
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
            SliceStatus::Running | SliceStatus::Waiting => None,
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
    let mut slices = Vec::new();
    for slice in inner.store.slices().await?.iter() {
        let end = inner.store.feed_end(slice).await?;
        let state = overview.slice(Slot { build, slice }).value;
        let status = match (state.failure, state.owner) {
            (Some(failure), _) => SliceStatus::Stopped(failure),
            (None, Some(_)) => SliceStatus::Running,
            (None, None) => SliceStatus::Waiting,
        };
        slices.push(SliceProgress { slice, position: state.position, end, parked: state.parked, status });
    }
    Ok(Progress { slices, paused: overview.control.paused })
}
