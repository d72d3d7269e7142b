//! Errors of a feed that no retry resolves.

use super::{FeedAnchor, Position, Slice};
use crate::stream_id::StreamId;
use crate::version::Version;

/// The error for a position from which a feed cannot be read.
///
/// These errors are permanent: an operator has to decide how to proceed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The next commit cannot be delivered.
    #[error(transparent)]
    Missing(#[from] MissingCommit),
    /// The position is beyond the end of the slice.
    #[error(
        "slice {slice} of the feed ends at position {end}, before the checkpoint at position {position}: the feed was \
         restored to an earlier state or replaced; use `rebuild` or `reset` for a projection, and `seek` for a process"
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
    /// The position belongs to another page than when it was read.
    #[error(
        "slice {slice} of the feed was read up to position {position} in the page {expected}, and that position is now \
         in the page {found}: the feed was restored and has grown again; use `rebuild` or `reset` for a \
         projection, and `seek` for a process"
    )]
    #[non_exhaustive]
    Replaced {
        /// The slice.
        slice: Slice,
        /// The position after which to read.
        position: Position,
        /// The page that was read.
        expected: FeedAnchor,
        /// The page that holds the position now.
        found: FeedAnchor,
    },
    /// The slice no longer has the split after which its descendants were read.
    #[error(
        "slice {slice} of the feed no longer has its split at position {end}, after which slice {descendant} was read up \
         to position {position}: the feed was restored to an earlier state or replaced; use `rebuild` or `reset` for a \
         projection, and `seek` on slice {slice} for a process"
    )]
    #[non_exhaustive]
    SplitLost {
        /// The slice that was split.
        slice: Slice,
        /// The position at which it was split.
        end: Position,
        /// Its child, or another descendant, that was read.
        descendant: Slice,
        /// The position up to which the descendant was read.
        position: Position,
    },
}

impl FeedError {
    /// Creates the error for a position beyond `end`, the position of the last event of `slice`.
    #[must_use]
    pub fn beyond_end(slice: Slice, position: Position, end: Position) -> Self {
        Self::BeyondEnd { slice, position, end }
    }

    /// Creates the error for a position that belonged to `expected` and now belongs to `found`.
    #[must_use]
    pub fn replaced(slice: Slice, position: Position, expected: FeedAnchor, found: FeedAnchor) -> Self {
        Self::Replaced { slice, position, expected, found }
    }
}

/// A commit that the feed references but that the store cannot deliver: it was deleted or replaced, or it cannot
/// be decoded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "the commit of the events {first} to {last} of `{stream}`, at position {position} in slice {slice} of the feed, \
     cannot be read: {reason}; restore it, or skip it with `skip`"
)]
#[non_exhaustive]
pub struct MissingCommit {
    /// The slice.
    pub slice: Slice,
    /// The position of the commit's first event.
    pub position: Position,
    /// The anchor of the position.
    pub anchor: FeedAnchor,
    /// The stream.
    pub stream: StreamId,
    /// The version of the commit's first event.
    pub first: Version,
    /// The version of its last event.
    pub last: Version,
    /// The reason.
    pub reason: String,
}

impl MissingCommit {
    /// Creates the error for the commit of the events `first` to `last` of `stream`, whose first event is at
    /// `position` of `slice`.
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
