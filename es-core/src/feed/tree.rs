//! The tree of slices.

use std::collections::BTreeMap;

use super::position::crc32;
use super::{Position, Slice, Slices};
use crate::store::StoreError;
use crate::stream_id::StreamId;

/// The slices of a feed: those with which it began, and the children of those that were [split](super::Feed::split).
///
/// A slice that was split is *closed*: it ends at a position, and later events of its streams are in its children.
/// A tree only grows: no slice is ever reopened, removed, or renumbered.
///
/// # Assignment of streams
///
/// The initial slice of a stream is the CRC-32 of its name, modulo the number of initial slices. In each slice that is
/// closed, one bit of the stream's *route* selects the child: the highest bit in an initial slice, the next one in a
/// child, and so on; 0 selects the first child, 1 the second. The route is the CRC-32 of the name, mixed by the
/// finalizer of `MurmurHash3` (`fmix32`). Every store uses this assignment.
///
/// ```
/// use es_core::StreamId;
/// use es_core::feed::{Position, Slice, SliceTree, Slices};
///
/// let mut tree = SliceTree::new(Slices::new(1).expect("not zero"));
/// tree.close(Slice::new(0), Position::new(1_000))?;
///
/// let children = tree.children(Slice::new(0)).expect("is closed");
/// assert_eq!(children, [Slice::new(1), Slice::new(2)]);
/// assert!(children.contains(&tree.of(&StreamId::new("order", "1001")?)));
/// # Ok::<_, es_core::projection::BoxError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceTree {
    initial: Slices,
    /// The closed slices, with the positions of their last events.
    closed: BTreeMap<Slice, Position>,
}

impl SliceTree {
    /// Creates a tree of open slices.
    #[must_use]
    pub const fn new(initial: Slices) -> Self {
        Self { initial, closed: BTreeMap::new() }
    }

    /// Records that `slice` was split after the event at position `end`, [`Position::NONE`] if it was empty. Does
    /// nothing if that is known already.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if there is no such slice, if it was split at another position, or if the numbers of its
    /// children would exceed [`Slice::MAX`].
    pub fn close(&mut self, slice: Slice, end: Position) -> Result<(), StoreError> {
        self.checked_children(slice)?;
        match self.closed.insert(slice, end) {
            Some(earlier) if earlier != end => {
                self.closed.insert(slice, earlier);
                Err(StoreError::invalid(format!(
                    "slice {slice} was split at position {earlier}, and not at {end}"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Checks that there is such a slice.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if there is none.
    pub fn check(&self, slice: Slice) -> Result<(), StoreError> {
        match self.contains(slice) {
            true => Ok(()),
            false => Err(StoreError::invalid(format!("the feed has no slice {slice}"))),
        }
    }

    /// Returns the number of initial slices.
    #[must_use]
    pub const fn initial(&self) -> Slices {
        self.initial
    }

    /// Returns whether there is such a slice, open or closed.
    #[must_use]
    pub fn contains(&self, slice: Slice) -> bool {
        self.parent(slice).map_or(slice.get() < self.initial.count(), |parent| self.is_closed(parent))
    }

    /// Returns whether a slice was split.
    #[must_use]
    pub fn is_closed(&self, slice: Slice) -> bool {
        self.closed.contains_key(&slice)
    }

    /// Returns the position of the last event of a closed slice, and `None` for an open one.
    #[must_use]
    pub fn end(&self, slice: Slice) -> Option<Position> {
        self.closed.get(&slice).copied()
    }

    /// Returns the children of a closed slice, and `None` for an open one.
    #[must_use]
    pub fn children(&self, slice: Slice) -> Option<[Slice; 2]> {
        self.is_closed(slice).then(|| self.initial.children(slice)).flatten()
    }

    /// Returns the slices into which `slice` is split, or can be split if it is open.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if there is no such slice, or if the numbers of its children would exceed
    /// [`Slice::MAX`].
    pub fn checked_children(&self, slice: Slice) -> Result<[Slice; 2], StoreError> {
        self.check(slice)?;
        self.initial.children(slice).ok_or_else(|| {
            StoreError::invalid(format!(
                "slice {slice} cannot be split: the numbers of its children would exceed {}",
                Slice::MAX
            ))
        })
    }

    /// Returns the slice of which `slice` is a child, or `None` for an initial slice.
    #[must_use]
    pub const fn parent(&self, slice: Slice) -> Option<Slice> {
        self.initial.parent(slice)
    }

    /// Returns the ancestors of a slice, its parent first.
    pub fn ancestors(&self, slice: Slice) -> impl Iterator<Item = Slice> + use<> {
        self.initial.ancestors(slice)
    }

    /// Returns the open slice of a stream, which its next event belongs to.
    #[must_use]
    pub fn of(&self, stream: &StreamId) -> Slice {
        self.path(stream).last().unwrap_or_else(|| self.initial.of(stream))
    }

    /// Returns the slices that may contain events of a stream: its initial slice, and one descendant per split down to
    /// the open slice. This is also the order of the stream's events.
    pub fn path(&self, stream: &StreamId) -> impl Iterator<Item = Slice> {
        let mut route = route(stream);
        std::iter::successors(Some(self.initial.of(stream)), move |slice| {
            let [first, second] = self.children(*slice)?;
            let is_second = route >> 31 == 1;
            route <<= 1;
            Some(if is_second { second } else { first })
        })
    }

    /// Returns all slices in ascending order, so each slice follows its ancestors.
    pub fn iter(&self) -> impl Iterator<Item = Slice> {
        let children = self.closed.keys().filter_map(|slice| self.initial.children(*slice));
        self.initial.iter().chain(children.flatten())
    }

    /// Returns the open slices in ascending order.
    pub fn open(&self) -> impl Iterator<Item = Slice> {
        self.iter().filter(|slice| !self.is_closed(*slice))
    }
}

/// Returns the bits that select the slice of a stream among the descendants of its initial slice.
fn route(stream: &StreamId) -> u32 {
    // The finalizer of MurmurHash3. The bits of a CRC of similar names are not independent of each other.
    let mut bits = crc32(stream);
    bits ^= bits >> 16;
    bits = bits.wrapping_mul(0x85eb_ca6b);
    bits ^= bits >> 13;
    bits = bits.wrapping_mul(0xc2b2_ae35);
    bits ^ (bits >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices(count: u32) -> Slices {
        Slices::new(count).expect("in bounds")
    }

    fn numbers(slices: impl IntoIterator<Item = Slice>) -> Vec<u32> {
        slices.into_iter().map(Slice::get).collect()
    }

    fn stream(number: u32) -> StreamId {
        StreamId::new("order", number).expect("is valid")
    }

    #[test]
    fn children_have_unique_numbers_above_their_ancestors() {
        for count in [1, 2, 3, 4, 4_096] {
            let initial = slices(count);
            let mut tree = SliceTree::new(initial);
            for slice in (0..20_000).map(Slice::new) {
                let children = initial.children(slice).expect("in bounds");
                assert!(children.iter().all(|child| child.get() > slice.get()));
                assert!(children.iter().all(|child| initial.parent(*child) == Some(slice)));
                tree.close(slice, Position::NONE).expect("exists");
            }
            let all = numbers(tree.iter());
            assert_eq!(all, (0..count + 40_000).collect::<Vec<_>>(), "a gap, a repetition, or another order");
        }
    }

    #[test]
    fn a_feed_can_be_split_at_least_seven_times_over() {
        for (count, levels) in [(1, 18), (4, 16), (4_096, 6)] {
            let last = (0..).scan(slices(count).iter().last(), |slice, level| {
                *slice = slices(count).children((*slice)?).map(|[_, second]| second);
                slice.map(|_| level + 1)
            });
            assert_eq!(last.last(), Some(levels), "{count} slices");
        }
    }

    #[test]
    fn half_of_the_streams_of_a_slice_move_to_each_child() {
        let mut tree = SliceTree::new(slices(2));
        for slice in [0, 1, 2, 5, 6].map(Slice::new) {
            let before = tree.clone();
            tree.close(slice, Position::new(7)).expect("is open");
            let [first, second] = tree.children(slice).expect("is closed");
            let mut counts = [0, 0];
            for stream in (0..20_000).map(stream) {
                if before.of(&stream) != slice {
                    assert_eq!(tree.of(&stream), before.of(&stream), "a stream of another slice has moved");
                    continue;
                }
                counts[usize::from(tree.of(&stream) == second)] += 1;
                assert!([first, second].contains(&tree.of(&stream)));
            }
            let total = f64::from(counts[0] + counts[1]);
            assert!((f64::from(counts[0]) / total - 0.5).abs() < 0.05, "slice {slice}: {counts:?}");
        }
    }

    /// The expected values were computed by another implementation, from the documentation of [`SliceTree`].
    #[test]
    fn the_assignment_of_streams_never_changes() {
        let mut tree = SliceTree::new(slices(2));
        for slice in [0, 1, 2, 3, 4, 5].map(Slice::new) {
            tree.close(slice, Position::NONE).expect("is open");
        }
        let paths: Vec<_> = (1001..1007).map(|number| numbers(tree.path(&stream(number)))).collect();
        assert_eq!(paths, [[0, 2, 7], [0, 3, 8], [0, 2, 7], [1, 4, 11], [1, 5, 12], [1, 5, 13]]);
    }

    #[test]
    fn a_tree_refuses_contradictions() {
        let mut tree = SliceTree::new(slices(1));
        let [parent, child, grandchild] = [0, 1, 3].map(Slice::new);
        assert!(tree.close(child, Position::NONE).is_err(), "its parent is open");
        tree.close(parent, Position::new(3)).expect("is open");
        tree.close(parent, Position::new(3)).expect("is repeatable");
        assert!(tree.close(parent, Position::new(4)).is_err(), "its end cannot change");
        assert_eq!(tree.end(parent), Some(Position::new(3)));
        assert!(!tree.contains(grandchild));
        tree.close(child, Position::NONE).expect("is open");
        assert_eq!(numbers(tree.ancestors(grandchild)), [1, 0]);
        assert_eq!((numbers(tree.iter()), numbers(tree.open())), (vec![0, 1, 2, 3, 4], vec![2, 3, 4]));
    }
}
