//! The feed: the events of all streams, for projections, processes and publishing.

mod anchor;
mod error;
mod filter;
mod page;
mod position;
mod slice;

use std::sync::Arc;

use async_trait::async_trait;
use futures_core::future::BoxFuture;

pub use anchor::FeedAnchor;
pub use error::{FeedError, MissingCommit};
pub use filter::EventFilter;
pub use page::{FeedEntry, FeedPage, FeedRead};
pub use position::Position;
pub use slice::{Slice, Slices};

use crate::documents::Documents;
use crate::store::{EventStore, StoreError};
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

    /// The position of the last event of a slice, [`Position::NONE`] when it has none; strongly consistent.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store cannot tell.
    async fn feed_end(&self, slice: Slice) -> Result<Position, StoreError>;

    /// The version up to which a stream is in the feed, [`Version::NONE`] when it is not at all.
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

/// Returns why a position that was read before, in the part `anchor`, is not a place in the feed as it is now; `None` if
/// it is one.
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
