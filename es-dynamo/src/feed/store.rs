//! The contract of a feed, on the table.

use async_trait::async_trait;
use es_core::feed::{Feed, FeedPage, FeedRead, Position, Slice, Slices};
use es_core::{StoreError, StreamId, Version};
use futures_core::future::BoxFuture;
use futures_util::FutureExt;

use crate::store::DynamoStore;

/// # What operations do
///
/// | operation | requests | what they are |
/// |---|---|---|
/// | read a part of a slice | 1, and 1 for each 100 commits | a `Query` for pages, `BatchGetItem` for the commits that the filter takes, both eventually consistent |
/// | the same, from inside a page | 1 more | a `Query` for that page |
/// | the end of a slice | 1 | a `Query` of one item, strongly consistent |
/// | how far a stream is indexed | 1 where an indexer runs in this process, 2 or more elsewhere | a `Query` for the pages that are new; elsewhere the summary and the newest pages |
///
/// Events come into the feed by an `Indexer`, which follows the table's stream, or by a
/// [Lambda function](crate::lambda) that does.
#[async_trait]
impl Feed for DynamoStore {
    async fn slices(&self) -> Result<Slices, StoreError> {
        Ok(self.table.feed().await?.slices())
    }

    async fn read_feed(&self, read: &FeedRead) -> Result<FeedPage, StoreError> {
        self.table.read_feed(read).await
    }

    async fn feed_end(&self, slice: Slice) -> Result<Position, StoreError> {
        self.table.feed().await?.end(&*self.table, slice).await
    }

    async fn indexed(&self, stream: &StreamId) -> Result<Version, StoreError> {
        self.table.feed().await?.indexed(&*self.table, stream).await
    }

    fn growth(&self) -> BoxFuture<'static, ()> {
        self.table.grown.listen().boxed()
    }
}
