//! The status of a projection, which takes one listing.

use std::collections::BTreeMap;

use super::Projector;
use super::state::Slot;
use crate::feed::{Position, Slice};
use crate::projection::{Projection, ProjectorError};

/// The status of a projection, for an overview of many.
///
/// It takes one listing of small documents, in pages of a hundred slices and workers, while
/// [`Projector::progress`] also reads the end of each slice, and checks that the checkpoints are valid.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProjectionStatus {
    /// The number of the active build.
    pub build: u32,
    /// The number of the new build during a [rebuild](Projector::rebuild).
    pub building: Option<u32>,
    /// Whether the projection is paused.
    pub is_paused: bool,
    /// The number of parked events (dead letters) of the active build.
    pub parked: u64,
    /// The slices in which the active build has stopped, in ascending order.
    pub stopped: Vec<Slice>,
    /// The slices in which the active build is delayed by a transient error, in ascending order.
    pub delayed: Vec<Slice>,
    checkpoints: BTreeMap<Slice, Position>,
}

impl ProjectionStatus {
    /// Returns the number of events that are left to handle, given the ends of all slices. An overview reads the ends
    /// once for all projections.
    ///
    /// ```
    /// use es_core::Projector;
    /// use es_core::feed::Feed;
    /// use es_core::projection::{Projection, ProjectorError};
    ///
    /// /// Returns the lags of two projections. The ends of the slices are read once.
    /// async fn lags(
    ///     feed: &impl Feed,
    ///     first: &Projector<impl Projection>,
    ///     second: &Projector<impl Projection>,
    /// ) -> Result<[u64; 2], ProjectorError> {
    ///     let mut ends = Vec::new();
    ///     for slice in feed.slice_tree().await?.iter() {
    ///         ends.push((slice, feed.feed_end(slice).await?.position));
    ///     }
    ///     Ok([first.status().await?.lag(&ends), second.status().await?.lag(&ends)])
    /// }
    /// ```
    #[must_use]
    pub fn lag(&self, ends: &[(Slice, Position)]) -> u64 {
        let checkpoint = |slice| self.checkpoints.get(slice).copied().unwrap_or(Position::NONE);
        ends.iter().map(|(slice, end)| end.since(checkpoint(slice))).sum()
    }

    /// Returns the slices whose checkpoint is beyond the end of the slice, given their ends, which were read after this
    /// status. The feed was restored to an earlier state, and workers stop in these slices: [`Projector::progress`]
    /// says why.
    #[must_use]
    pub fn beyond(&self, ends: &[(Slice, Position)]) -> Vec<Slice> {
        let is_beyond =
            |(slice, end): &&(Slice, Position)| self.checkpoints.get(slice).is_some_and(|at| at > end);
        ends.iter().filter(is_beyond).map(|(slice, _)| *slice).collect()
    }
}

impl<P: Projection> Projector<P> {
    /// Returns the status of the active build, which takes fewer requests than [`progress`](Self::progress).
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] if the state cannot be read.
    pub async fn status(&self) -> Result<ProjectionStatus, ProjectorError> {
        let overview = self.overview().await?;
        let build = overview.control.active;
        let stopped: Vec<_> = overview
            .slices_of(build)
            .filter(|(_, state)| state.failure.is_some())
            .map(|(slice, _)| slice)
            .collect();
        let delays = self.inner.delays_in(&overview);
        let delayed = delays.keys().filter(|slot| slot.build == build).map(|Slot { slice, .. }| *slice);
        Ok(ProjectionStatus {
            build,
            building: overview.control.building,
            is_paused: overview.control.paused,
            parked: overview.slices_of(build).map(|(_, state)| state.parked).sum(),
            delayed: delayed.filter(|slice| !stopped.contains(slice)).collect(),
            stopped,
            checkpoints: overview.slices_of(build).map(|(slice, state)| (slice, state.position)).collect(),
        })
    }
}
