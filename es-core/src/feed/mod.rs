//! The feed: the events of all streams, for projections, processes and publishing.

mod error;
mod filter;
mod position;

use std::sync::Arc;

use async_trait::async_trait;
use futures_core::future::BoxFuture;

pub use error::{FeedError, MissingCommit};
pub use filter::EventFilter;
pub use position::{FeedAnchor, Position, Slice, Slices};

use crate::cost::Cost;
use crate::documents::Documents;
use crate::store::{Commit, EventStore, StoreError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// A store whose events can be followed as they come: all streams, divided into slices.
///
/// # Order
///
/// Each event has one [`Position`] in one [`Slice`], for ever. Positions are dense: 1, 2, 3 and so on. The
/// events of one stream are in one slice, in the order of their versions, and the events of one commit
/// stand together. Events of different streams stand in the order in which the feed came to know them,
/// which no clock decides.
///
/// # Completeness
///
/// Every stored event gets its position, in a store that has to index them some time after it was
/// acknowledged. What a reader has once read up to a position never changes before it.
#[async_trait]
pub trait Feed: EventStore + Documents {
    /// Into how many slices the feed is divided.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store cannot tell.
    async fn slices(&self) -> Result<Slices, StoreError>;

    /// Reads a part of a slice.
    ///
    /// When there is nothing after the position yet, the page is empty and the last one. A page ends before a commit
    /// that cannot be delivered; a read from there is the error that names it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the part cannot be read. [`StoreError::Feed`] when it cannot be read on from this position:
    /// [`FeedError::BeyondEnd`] when the slice ends before it, [`FeedError::Replaced`] when it is in another part of
    /// the feed than the anchor says, [`FeedError::Missing`] when the next commit is gone from its stream, is another
    /// one, or cannot be decoded.
    async fn read_feed(&self, read: &FeedRead) -> Result<FeedPage, StoreError>;

    /// Returns the position of the last event of a slice, [`Position::NONE`] when it has none; strongly consistent.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store cannot tell.
    async fn feed_end(&self, slice: Slice) -> Result<Position, StoreError>;

    /// Returns the version up to which a stream is in the feed, [`Version::NONE`] when it is not at all.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store cannot tell.
    async fn indexed(&self, stream: &StreamId) -> Result<Version, StoreError>;

    /// Ends when the feed has grown after this call, so far as this process knows of it; perhaps never.
    ///
    /// Saves waiting where reader and writer are in one process. Readers look again after some time in any
    /// case.
    fn growth(&self) -> BoxFuture<'static, ()>;
}

/// Returns why a position that was read before, in the part `anchor`, is not a place in the feed as it is now;
/// `None` if it is one.
pub(crate) async fn mismatch(
    feed: &(impl Feed + ?Sized),
    slice: Slice,
    position: Position,
    anchor: Option<FeedAnchor>,
) -> Result<Option<FeedError>, StoreError> {
    if position == Position::NONE {
        return Ok(None);
    }
    let read = FeedRead::new(slice, position).anchored(anchor).limit(1).filter(EventFilter::none());
    match feed.read_feed(&read).await {
        Err(StoreError::Feed(error)) => match *error {
            // A commit that is missing after the position says nothing about the position.
            FeedError::Missing(_) => Ok(None),
            error => Ok(Some(error)),
        },
        page => page.map(|_| None),
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<F: Feed + ?Sized> Feed for Arc<F> {
    async fn slices(&self) -> Result<Slices, StoreError> {
        (**self).slices().await
    }

    async fn read_feed(&self, read: &FeedRead) -> Result<FeedPage, StoreError> {
        (**self).read_feed(read).await
    }

    async fn feed_end(&self, slice: Slice) -> Result<Position, StoreError> {
        (**self).feed_end(slice).await
    }

    async fn indexed(&self, stream: &StreamId) -> Result<Version, StoreError> {
        (**self).indexed(stream).await
    }

    fn growth(&self) -> BoxFuture<'static, ()> {
        (**self).growth()
    }
}

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
    /// Creates a page that tells all up to `through`, which is in the part `anchor`.
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

    /// Returns the position of the commit's last event.
    #[must_use]
    pub fn last(&self) -> Position {
        self.position.plus(self.commit.events.len() as u64).previous()
    }
}
