//! What can be wrong with a feed, or with a reader's place in it.

use super::{FeedAnchor, Position, Slice};
use crate::stream_id::StreamId;
use crate::version::Version;

/// Why a feed cannot be read on from a position.
///
/// None of these passes with time: an operator has to decide what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The commit that comes next cannot be delivered.
    #[error(transparent)]
    Missing(#[from] MissingCommit),
    /// The position is beyond the end of the slice.
    #[error(
        "slice {slice} of the feed ends at position {end}, before the checkpoint at position {position}: the feed was \
         restored to an earlier state, or is another one; start a projection again with `rebuild` or `reset`, and let a process \
         go on with `seek`"
    )]
    #[non_exhaustive]
    BeyondEnd {
        /// The slice.
        slice: Slice,
        /// The position after which to read.
        position: Position,
        /// The position of the slice's last event.
        end: Position,
    },
    /// The position is in another page than the one that was read before.
    #[error(
        "slice {slice} of the feed was read up to position {position} in the page {expected}, and that position is now \
         in the page {found}: the feed was restored and has grown again; start a projection again with `rebuild` or \
         `reset`, and let a process go on with `seek`"
    )]
    #[non_exhaustive]
    Replaced {
        /// The slice.
        slice: Slice,
        /// The position after which to read.
        position: Position,
        /// The page that was read before.
        expected: FeedAnchor,
        /// The page that holds the position now.
        found: FeedAnchor,
    },
}

impl FeedError {
    /// Creates the position after which to read is beyond `end`, the position of the last event of `slice`.
    #[must_use]
    pub fn beyond_end(slice: Slice, position: Position, end: Position) -> Self {
        Self::BeyondEnd { slice, position, end }
    }

    /// Creates the position after which to read was in the part `expected`, and is in `found`.
    #[must_use]
    pub fn replaced(slice: Slice, position: Position, expected: FeedAnchor, found: FeedAnchor) -> Self {
        Self::Replaced { slice, position, expected, found }
    }
}

/// A commit to which the feed refers, and which the store cannot deliver: it is gone, another commit is in its place,
/// or it cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "the commit of the events {first} to {last} of `{stream}`, at position {position} in slice {slice} of the feed, \
     cannot be read: {reason}; restore it, or pass over it with `skip`"
)]
#[non_exhaustive]
pub struct MissingCommit {
    /// The slice.
    pub slice: Slice,
    /// The position of the commit's first event.
    pub position: Position,
    /// The part of the feed that holds the position.
    pub anchor: FeedAnchor,
    /// The stream.
    pub stream: StreamId,
    /// The version of the commit's first event.
    pub first: Version,
    /// The version of its last event.
    pub last: Version,
    /// What is wrong.
    pub reason: String,
}

impl MissingCommit {
    /// Creates the commit of the events `first` to `last` of `stream`, whose first event is at `position` of `slice`.
    #[must_use]
    pub fn new(
        slice: Slice,
        (position, anchor): (Position, FeedAnchor),
        stream: StreamId,
        (first, last): (Version, Version),
        reason: impl Into<String>,
    ) -> Self {
        Self { slice, position, anchor, stream, first, last, reason: reason.into() }
    }

    /// Returns the position of the commit's last event.
    #[must_use]
    pub fn last_position(&self) -> Position {
        self.position.plus(self.last.since(self.first))
    }
}
