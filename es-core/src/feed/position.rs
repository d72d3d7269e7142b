//! Positions, slices, and anchors of the feed.

use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::stream_id::StreamId;

/// The position of an event in its slice of the feed. Positions start at 1 and have no gaps.
///
/// ```
/// use es_core::feed::Position;
///
/// let position = Position::NONE.plus(3);
/// assert_eq!((position.get(), position.next().get()), (3, 4));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(u64);

impl Position {
    /// The position before the first event.
    pub const NONE: Self = Self(0);

    /// Creates the position `number`.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the position as a number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the position after `events` more events, saturating.
    #[must_use]
    pub const fn plus(self, events: u64) -> Self {
        Self(self.0.saturating_add(events))
    }

    /// Returns the next position.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// Returns the previous position, or [`Position::NONE`] if there is none.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Returns the number of events after `earlier` up to this position, or 0 if `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A part of the feed.
///
/// An *open* slice grows. A [split](super::Feed::split) closes it, and two children continue. The events of a stream
/// are all in one slice and its descendants, in the order of their versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slice(u32);

impl Slice {
    /// The highest number of a slice.
    pub const MAX: u32 = 999_999;

    /// Creates the slice `number`, starting at 0.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Returns the number of the slice, starting at 0.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of slices with which a feed begins, from 1 to [`Slices::MAX`]. It is fixed when the feed is created.
/// [Splits](super::Feed::split) add slices to them: see [`SliceTree`](super::SliceTree).
///
/// ```
/// use es_core::StreamId;
/// use es_core::feed::Slices;
///
/// let slices = Slices::new(8).expect("not zero");
/// let stream = StreamId::new("order", "1001")?;
/// assert_eq!(slices.of(&stream), slices.of(&stream));
/// assert_eq!(slices.iter().count(), 8);
/// # Ok::<_, es_core::stream_id::InvalidStreamId>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slices(NonZeroU32);

impl Slices {
    /// The maximum number of slices.
    pub const MAX: u32 = 4_096;

    /// Creates a count of slices. Returns `None` if `count` is 0 or exceeds [`Slices::MAX`].
    #[must_use]
    pub const fn new(count: u32) -> Option<Self> {
        match NonZeroU32::new(count) {
            Some(number) if count <= Self::MAX => Some(Self(number)),
            _ => None,
        }
    }

    /// Returns the number of slices.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.0.get()
    }

    /// Returns the initial slice of a stream: the CRC-32 of its name, modulo the count. If that slice was split,
    /// [`SliceTree::of`](super::SliceTree::of) returns the descendant.
    #[must_use]
    pub fn of(self, stream: &StreamId) -> Slice {
        Slice(crc32(stream) % self.count())
    }

    /// Returns an iterator over the initial slices.
    pub fn iter(self) -> impl Iterator<Item = Slice> {
        (0..self.count()).map(Slice)
    }

    /// Returns the slices into which `slice` is split: the children of slice `s` of a feed that began with `n` slices
    /// are `n + 2s` and `n + 2s + 1`. Their numbers are computed rather than allocated, so no two splits can use the
    /// same ones, and every slice has a higher number than its ancestors.
    ///
    /// Returns `None` if the numbers would exceed [`Slice::MAX`].
    #[must_use]
    pub const fn children(self, slice: Slice) -> Option<[Slice; 2]> {
        let first = self.count() as u64 + 2 * slice.get() as u64;
        match first < Slice::MAX as u64 {
            true => Some([Slice(first as u32), Slice(first as u32 + 1)]),
            false => None,
        }
    }

    /// Returns the slice of which `slice` is a child, or `None` for an initial slice.
    #[must_use]
    pub const fn parent(self, slice: Slice) -> Option<Slice> {
        match slice.get().checked_sub(self.count()) {
            Some(number) => Some(Slice(number / 2)),
            None => None,
        }
    }

    /// Returns the slices of which `slice` is a descendant, its parent first.
    pub fn ancestors(self, slice: Slice) -> impl Iterator<Item = Slice> {
        std::iter::successors(self.parent(slice), move |slice| self.parent(*slice))
    }
}

/// Returns the CRC-32 of a stream's name.
pub(super) fn crc32(stream: &StreamId) -> u32 {
    crc32fast::hash(stream.as_str().as_bytes())
}

/// Identifies the part of a slice that contains a position, so that a reader detects when the feed has been
/// replaced: for example, after a restore, when other events have taken the positions of lost events.
///
/// A store whose feed consists of pages identifies the page; others identify the commit. Store the anchor with the
/// position, and pass it to [`FeedRead::anchored`](super::FeedRead::anchored) to continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FeedAnchor {
    first: Position,
    id: Uuid,
}

impl FeedAnchor {
    /// Creates the anchor of the part with the id `id`, whose first event is at `first`.
    #[must_use]
    pub const fn new(first: Position, id: Uuid) -> Self {
        Self { first, id }
    }

    /// Returns the position of the first event of the part.
    #[must_use]
    pub const fn first(self) -> Position {
        self.first
    }

    /// Returns the id of the part.
    #[must_use]
    pub const fn id(self) -> Uuid {
        self.id
    }
}

impl fmt::Display for FeedAnchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at position {}", self.id, self.first)
    }
}
