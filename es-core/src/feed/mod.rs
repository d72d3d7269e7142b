//! The feed: the events of all streams, in order, for projections, processes, and publishing.

mod error;
mod filter;
mod position;
mod tree;

use std::sync::Arc;

use async_trait::async_trait;
use futures_core::future::BoxFuture;

pub use error::{FeedError, MissingCommit};
pub use filter::EventFilter;
pub use position::{FeedAnchor, Position, Slice, Slices};
pub use tree::SliceTree;

use crate::cost::Cost;
use crate::documents::Documents;
use crate::store::{Commit, EventStore, StoreError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// A store whose events can be read across all streams, divided into slices.
///
/// # Order
///
/// Each event has one permanent [`Position`] in one [`Slice`]. Positions are dense: 1, 2, 3, and so on. The events
/// of one stream are in one slice, unless it is [split](#splits), in the order of their versions, and the events of one
/// commit are adjacent. Events of different streams are in the order in which the feed indexed them, which does not
/// depend on clocks.
///
/// # Splits
///
/// A slice can be [split](Self::split) while the feed grows. It is then closed: it keeps its events and positions, and
/// receives no more. Later events of its streams are in one of its two children, whose positions start again at 1. So a
/// stream's events are in the slices of its [path](SliceTree::path), in this order. Between a slice and its children,
/// the order is that of the split; a position says nothing about the order of events in different slices.
///
/// # Completeness
///
/// Every stored event gets a position, possibly some time after it was acknowledged if the store indexes
/// asynchronously. The part of a slice up to a position that was read never changes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no feed of its events",
    label = "no feed",
    note = "projections, processes, and publishing read the feed of a store",
    note = "pass a store, not a reference: a `DynamoStore`, a `PostgresStore`, a `MemoryStore`, or an `Arc<dyn Feed>`, whose clones share everything"
)]
#[async_trait]
pub trait Feed: EventStore + Documents {
    /// Returns the number of slices with which the feed began. [`slice_tree`](Self::slice_tree) returns all slices.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the request fails.
    async fn slices(&self) -> Result<Slices, StoreError>;

    /// Returns the slices of the feed, including closed ones (default: the initial slices, all open, for a store that
    /// cannot split them).
    ///
    /// Strongly consistent: the tree contains every slice with events, whichever process has split it. It also contains
    /// every split that a page or a tree has reported to this process before.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the request fails.
    async fn slice_tree(&self) -> Result<SliceTree, StoreError> {
        Ok(SliceTree::new(self.slices().await?))
    }

    /// Splits a slice in two while everything runs, and returns its children. The slice is closed: later events of its
    /// streams go to its children, about half of the streams to each. Its positions, and the events before the split,
    /// stay as they are. A split cannot be reversed.
    ///
    /// If the slice is closed already, its children are returned, so that a call can be repeated after an error.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if there is no such slice, if the numbers of its children would exceed [`Slice::MAX`],
    /// or if the store cannot split slices (the default). Otherwise, [`StoreError`] if a request fails.
    async fn split(&self, slice: Slice) -> Result<[Slice; 2], StoreError> {
        let _ = slice;
        Err(StoreError::invalid("this store cannot split the slices of its feed"))
    }

    /// Reads a part of a slice, open or closed.
    ///
    /// If there are no events after the position, the page is empty and [last](FeedPage::is_last). If the slice ends
    /// there because it was split, the page is also [closed](FeedPage::is_closed). A page ends
    /// before a commit that cannot be delivered. A read from there fails with an error that names the commit.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the part cannot be read. [`StoreError::Feed`] if the feed cannot be read from this position:
    /// [`FeedError::BeyondEnd`] if the slice ends before the position, [`FeedError::Replaced`] if the position does not
    /// belong to the expected anchor, and [`FeedError::Missing`] if the next commit was deleted or replaced, or cannot
    /// be decoded.
    async fn read_feed(&self, read: &FeedRead) -> Result<FeedPage, StoreError>;

    /// Returns the end of a slice: the position of its last event, the anchor of that position, and whether the slice was
    /// split there. Strongly consistent.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the request fails.
    async fn feed_end(&self, slice: Slice) -> Result<FeedEnd, StoreError>;

    /// Returns the version up to which the feed contains a stream, or [`Version::NONE`] if it contains no event of
    /// the stream.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the request fails.
    async fn indexed(&self, stream: &StreamId) -> Result<Version, StoreError>;

    /// Completes when this process sees the feed grow after this call. May never complete.
    ///
    /// Reduces latency if reader and writer run in one process. Readers poll as well.
    fn growth(&self) -> BoxFuture<'static, ()>;
}

/// The end of a slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeedEnd {
    /// The position of the last event, or [`Position::NONE`] if the slice is empty.
    pub position: Position,
    /// The anchor of that position; `None` if the slice is empty.
    pub anchor: Option<FeedAnchor>,
    /// Whether the slice was split there, so that this end is final.
    pub is_closed: bool,
}

impl FeedEnd {
    /// Creates the end of a slice whose last event is at `position`, with the anchor `anchor`.
    #[must_use]
    pub const fn new(position: Position, anchor: Option<FeedAnchor>) -> Self {
        Self { position, anchor, is_closed: false }
    }

    /// Sets whether the slice was split at this end.
    #[must_use]
    pub const fn with_closed(mut self, is_closed: bool) -> Self {
        self.is_closed = is_closed;
        self
    }

    /// Returns whether `position`, which was read with the anchor `anchor`, is this end.
    pub(crate) fn is_at(self, position: Position, anchor: Option<FeedAnchor>) -> bool {
        self.position == position && anchor.is_none_or(|anchor| self.anchor == Some(anchor))
    }
}

/// Returns the error if a position that was read before, with the anchor `anchor`, is no longer valid, and `None`
/// if it is valid.
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
            // A missing commit after the position does not invalidate the position.
            FeedError::Missing(_) => Ok(None),
            error => Ok(Some(error)),
        },
        // The child of a slice whose split was lost.
        Err(StoreError::Invalid { .. }) if !feed.slice_tree().await?.contains(slice) => {
            Ok(Some(FeedError::beyond_end(slice, position, Position::NONE)))
        }
        page => page.map(|_| None),
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<F: Feed + ?Sized> Feed for Arc<F> {
    async fn slices(&self) -> Result<Slices, StoreError> {
        (**self).slices().await
    }

    async fn slice_tree(&self) -> Result<SliceTree, StoreError> {
        (**self).slice_tree().await
    }

    async fn split(&self, slice: Slice) -> Result<[Slice; 2], StoreError> {
        (**self).split(slice).await
    }

    async fn read_feed(&self, read: &FeedRead) -> Result<FeedPage, StoreError> {
        (**self).read_feed(read).await
    }

    async fn feed_end(&self, slice: Slice) -> Result<FeedEnd, StoreError> {
        (**self).feed_end(slice).await
    }

    async fn indexed(&self, stream: &StreamId) -> Result<Version, StoreError> {
        (**self).indexed(stream).await
    }

    fn growth(&self) -> BoxFuture<'static, ()> {
        (**self).growth()
    }
}

/// A request for a part of a slice.
///
/// ```
/// use es_core::feed::{EventFilter, Feed, FeedRead, Position, Slice};
/// use es_core::MemoryStore;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = MemoryStore::new();
/// let mut read = FeedRead::new(Slice::new(0), Position::NONE).limit(500);
/// let page = store.read_feed(&read).await?;
/// // The next page is refused if the table was restored in the meantime.
/// (read.after, read.anchor) = (page.through, page.anchor);
/// # Ok::<_, es_core::StoreError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeedRead {
    /// The slice.
    pub slice: Slice,
    /// The position after which to read. If it is in the middle of a commit, the whole commit is returned.
    pub after: Position,
    /// The expected anchor of that position, or `None` to accept any.
    pub anchor: Option<FeedAnchor>,
    /// The approximate number of events to read. A page ends with a whole commit, and in some stores with all commits
    /// that were [appended](crate::store::Append) together, so it may contain a few more, and it may contain fewer.
    pub limit: u32,
    /// The approximate size of the events to read, in bytes. A page that reaches the limit ends with a whole
    /// commit. A store that does not know the size of a commit before reading it may exceed the limit by some
    /// commits.
    pub max_bytes: u64,
    /// The filter. Commits without a matching event are omitted.
    pub filter: EventFilter,
}

impl FeedRead {
    /// The default of [`max_bytes`](Self::max_bytes): 4 MB.
    pub const DEFAULT_MAX_BYTES: u64 = 4 * 1024 * 1024;

    /// Creates a request for about 100 events of `slice` after the position `after`, and at most about 4 MB.
    #[must_use]
    pub fn new(slice: Slice, after: Position) -> Self {
        let max_bytes = Self::DEFAULT_MAX_BYTES;
        Self { slice, after, anchor: None, limit: 100, max_bytes, filter: EventFilter::all() }
    }

    /// Verifies that the position still belongs to this part of the feed.
    #[must_use]
    pub fn anchored(mut self, anchor: Option<FeedAnchor>) -> Self {
        self.anchor = anchor;
        self
    }

    /// Sets the approximate number of events to read (default: 100).
    #[must_use]
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit.max(1);
        self
    }

    /// Sets the approximate size of the events to read, in bytes (default: 4 MB).
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes.max(1);
        self
    }

    /// Omits commits without an event that matches `filter` (default: all match).
    #[must_use]
    pub fn filter(mut self, filter: EventFilter) -> Self {
        self.filter = filter;
        self
    }
}

/// A page of a slice.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FeedPage {
    /// The commits, in the order of the feed.
    pub entries: Vec<FeedEntry>,
    /// The position up to which the page is complete: at least the one after which it was read.
    pub through: Position,
    /// The anchor of that position; `None` at the start of a slice.
    pub anchor: Option<FeedAnchor>,
    /// Whether the slice ended there at the time of the read.
    pub is_last: bool,
    /// Whether the slice was split there: it is [last](Self::is_last), and the slice will never continue. Its children
    /// do.
    pub is_closed: bool,
    /// The number of events that were left out because their commits are gone, and an operator has decided to pass over
    /// them.
    pub passed_over: u64,
    /// The number of events that were left out because they were erased: their streams are deleted or archived. They
    /// may include events that would not have matched the filter.
    pub erased: u64,
    /// The cost of the read.
    pub cost: Cost,
}

impl FeedPage {
    /// Creates a page that is complete up to `through`, whose anchor is `anchor`.
    #[must_use]
    pub fn new(
        entries: Vec<FeedEntry>,
        through: Position,
        anchor: Option<FeedAnchor>,
        is_last: bool,
        cost: Cost,
    ) -> Self {
        Self { entries, through, anchor, is_last, is_closed: false, passed_over: 0, erased: 0, cost }
    }

    /// Sets whether the slice was split at the end of this page, which must be the last one.
    #[must_use]
    pub const fn with_closed(mut self, is_closed: bool) -> Self {
        self.is_closed = is_closed;
        self
    }

    /// Sets the number of events whose commits are gone and were passed over.
    #[must_use]
    pub const fn with_passed_over(mut self, events: u64) -> Self {
        self.passed_over = events;
        self
    }

    /// Sets the number of events that were left out because they were erased.
    #[must_use]
    pub const fn with_erased(mut self, events: u64) -> Self {
        self.erased = events;
        self
    }
}

/// A commit in the feed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FeedEntry {
    /// The position of the commit's first event. The positions of the others follow.
    pub position: Position,
    /// The anchor of the commit.
    pub anchor: FeedAnchor,
    /// The stream.
    pub stream: StreamId,
    /// The commit.
    pub commit: Commit,
}

impl FeedEntry {
    /// Creates an entry for `commit` of `stream`, whose first event is at `position`. The commit is its own
    /// anchor.
    #[must_use]
    pub fn new(position: Position, stream: StreamId, commit: Commit) -> Self {
        let anchor = FeedAnchor::new(position, commit.id.as_uuid());
        Self { position, anchor, stream, commit }
    }

    /// Sets the anchor, for commits that are stored as part of a page.
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
