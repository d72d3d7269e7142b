//! Splits that the feed has lost, because it was restored to an earlier state.
//!
//! The checkpoint of a slice may be valid although its split is lost: the slice ended there, and now continues. Later
//! events of its streams were read in its children before. They are in the slice itself now, or in the children of
//! another split, and would be handled again.

use super::Inner;
use super::consumer::Consumer;
use super::held::Ended;
use super::state::{Closed, Overview, SliceState, Slot};
use crate::feed::{FeedError, Position, Slice, SliceTree};
use crate::projection::{Projection, ProjectorError};
use crate::store::StoreError;

/// Returns the error if the feed has lost the split of a slice whose descendants have been read. `tree` must have been
/// read after `overview`, or the split may be newer than the tree.
pub(super) fn lost_split(tree: &SliceTree, overview: &Overview, slot: Slot) -> Option<FeedError> {
    let Slot { slice, .. } = slot;
    let SliceState { closed, position: end, .. } = overview.slice(slot).value;
    if closed.is_none() || tree.end(slice) == Some(end) {
        return None;
    }
    let is_read = |state: &SliceState| state.position > Position::NONE || state.parked > 0;
    let mut descendants = overview.descendants(tree.initial(), slot);
    let (descendant, state) = descendants.find(|(_, state)| is_read(state))?;
    Some(FeedError::SplitLost { slice, end, descendant, position: state.position })
}

/// Returns whether slices were split at these positions.
fn are_at_end(tree: &SliceTree, mut slices: impl Iterator<Item = (Slice, Position)>) -> bool {
    slices.all(|(slice, position)| tree.end(slice) == Some(position))
}

impl<P: Projection> Inner<P> {
    /// Returns the error if the feed has lost one of the splits of these slots.
    pub(super) async fn lost_split(
        &self,
        overview: &Overview,
        slots: &[Slot],
    ) -> Result<Option<(Slice, FeedError)>, StoreError> {
        let tree = self.store.slice_tree().await?;
        Ok(slots.iter().find_map(|slot| Some((slot.slice, lost_split(&tree, overview, *slot)?))))
    }
}

impl<P: Projection> Consumer<'_, '_, P> {
    /// Returns whether events of the slice may be handled: the feed must contain it, and all of its ancestors must be
    /// finished. Otherwise, at most its timeouts are handled.
    ///
    /// Ancestors were at their ends before the slice was started for the first time. After a restore, the feed may lack
    /// their splits, or have split them again at later positions.
    ///
    /// Clears the mark of a split that the feed has lost if nothing after it was handled. Otherwise, a lost split is an
    /// error.
    pub(super) async fn is_ready(&mut self) -> Result<bool, Ended> {
        let (inner, slot) = (self.held.inner, self.held.slot);
        let closed = self.held.state.closed;
        if closed.is_none() && self.held.ancestors.is_empty() {
            return Ok(true);
        }
        let is_intact = |tree: &SliceTree, state: &SliceState| {
            state.closed.is_none() || tree.end(slot.slice) == Some(state.position)
        };
        let tree = self.held.persistently(|| inner.store.slice_tree()).await?;
        let ancestors = &self.held.ancestors;
        if is_intact(&tree, &self.held.state) && are_at_end(&tree, ancestors.iter().copied()) {
            return Ok(true);
        }
        let names = &self.held.names;
        let overview = self.held.persistently(|| Overview::read(&*inner.store, names)).await?;
        let tree = self.held.persistently(|| inner.store.slice_tree()).await?;
        let of = |slice| Slot { slice, ..slot };
        // The error names the slice that the feed still has.
        let slices = ancestors.iter().rev().map(|(slice, _)| *slice).chain([slot.slice]);
        if let Some(lost) = slices.map(of).find_map(|slot| lost_split(&tree, &overview, slot)) {
            return Err(Ended::Error(ProjectorError::Store(lost.into())));
        }
        let position = |slice| overview.slice(of(slice)).value.position;
        if !are_at_end(&tree, ancestors.iter().map(|(slice, _)| (*slice, position(*slice)))) {
            return Ok(false);
        }
        if !is_intact(&tree, &self.held.state) {
            self.forget_split().await?;
        }
        Ok(true)
    }

    /// Clears the mark of a lost split and releases the slice. Workers continue when the feed contains the slice.
    pub(super) async fn forget_split(&mut self) -> Result<Ended, Ended> {
        let next = SliceState { closed: None, ..self.held.state.clone() };
        self.held.write(next, Vec::new()).await?;
        Ok(Ended::Released)
    }
}

/// Returns the state of a slice that the feed has lost together with the split of its ancestor, after an operator has
/// decided where the ancestor continues. Timeouts of the slice may be left. If the ancestor is split again, the slice
/// starts at its beginning.
pub(super) fn forgotten(state: &SliceState) -> SliceState {
    let SliceState { skipped, erased, .. } = *state;
    SliceState { closed: Some(Closed::Draining), skipped, erased, ..SliceState::default() }
}
