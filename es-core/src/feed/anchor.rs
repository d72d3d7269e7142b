//! What identifies the part of a feed that a reader has reached.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Position;

/// Identifies the part of a slice that holds a position, so that a reader notices when the feed is no longer the one
/// that it has read: after a restore, say, when other events have taken the positions of events that were lost.
///
/// A store whose feed consists of pages identifies the page; others identify the commit. Keep it with the position, and
/// pass it to [`FeedRead::anchored`](super::FeedRead::anchored) to read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FeedAnchor {
    first: Position,
    id: Uuid,
}

impl FeedAnchor {
    /// The part with the id `id`, whose first event is at `first`.
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
