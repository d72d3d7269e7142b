//! Asking for a part of the feed, and the answer.

use super::{EventFilter, FeedAnchor, Position, Slice};
use crate::cost::Cost;
use crate::store::Commit;
use crate::stream_id::StreamId;

/// Which part of the feed to read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeedRead {
    /// The slice.
    pub slice: Slice,
    /// The position after which to read. A commit in the middle of which it lies is told whole.
    pub after: Position,
    /// The part of the feed that has to hold that position; any, if it is not known.
    pub anchor: Option<FeedAnchor>,
    /// About how many events to read: the page may have some more, so that it ends with a commit, and fewer.
    pub limit: u32,
    /// About how many bytes of events to read. A page that has reached the limit ends with a whole commit. A store
    /// that does not know the sizes of commits before it reads them may exceed the limit by some commits.
    pub max_bytes: u64,
    /// Commits without any such event are left out.
    pub filter: EventFilter,
}

impl FeedRead {
    /// The default of [`max_bytes`](Self::max_bytes): 4 MB.
    pub const DEFAULT_MAX_BYTES: u64 = 4 * 1024 * 1024;

    /// About 100 events of `slice` after the position `after`, of any kind, and about 4 MB.
    #[must_use]
    pub fn new(slice: Slice, after: Position) -> Self {
        let max_bytes = Self::DEFAULT_MAX_BYTES;
        Self { slice, after, anchor: None, limit: 100, max_bytes, filter: EventFilter::all() }
    }

    /// Verifies that the position is still in this part of the feed, as it was when it was read.
    #[must_use]
    pub fn anchored(mut self, anchor: Option<FeedAnchor>) -> Self {
        self.anchor = anchor;
        self
    }

    /// About `limit` events.
    #[must_use]
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit.max(1);
        self
    }

    /// About `bytes` bytes of events.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes.max(1);
        self
    }

    /// Without the commits that have no event which `filter` takes.
    #[must_use]
    pub fn filter(mut self, filter: EventFilter) -> Self {
        self.filter = filter;
        self
    }
}

/// A part of a slice, read at once.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FeedPage {
    /// The commits, in the order of the feed.
    pub entries: Vec<FeedEntry>,
    /// The position up to which the page tells all: at least the one after which it was read.
    pub through: Position,
    /// The part of the feed that holds that position; `None` at the start of a slice.
    pub anchor: Option<FeedAnchor>,
    /// Whether the slice ended there when it was read.
    pub is_last: bool,
    /// What it cost.
    pub cost: Cost,
}

impl FeedPage {
    /// A page that tells all up to `through`, which is in the part `anchor`.
    #[must_use]
    pub fn new(
        entries: Vec<FeedEntry>,
        through: Position,
        anchor: Option<FeedAnchor>,
        is_last: bool,
        cost: Cost,
    ) -> Self {
        Self { entries, through, anchor, is_last, cost }
    }
}

/// A commit in the feed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FeedEntry {
    /// The position of the commit's first event; the others follow.
    pub position: Position,
    /// The part of the feed that holds the commit.
    pub anchor: FeedAnchor,
    /// The stream.
    pub stream: StreamId,
    /// The commit.
    pub commit: Commit,
}

impl FeedEntry {
    /// `commit` of `stream`, whose first event is at `position`, as a part of the feed by itself.
    #[must_use]
    pub fn new(position: Position, stream: StreamId, commit: Commit) -> Self {
        let anchor = FeedAnchor::new(position, commit.id.as_uuid());
        Self { position, anchor, stream, commit }
    }

    /// The commit as a part of something larger.
    #[must_use]
    pub fn within(mut self, anchor: FeedAnchor) -> Self {
        self.anchor = anchor;
        self
    }

    /// The position of the commit's last event.
    #[must_use]
    pub fn last(&self) -> Position {
        self.position.plus(self.commit.events.len() as u64).previous()
    }
}
