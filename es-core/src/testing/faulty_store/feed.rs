//! The feed of a store that fails on purpose.

use async_trait::async_trait;
use futures_core::future::BoxFuture;

use super::FaultyStore;
use crate::feed::{Feed, FeedPage, FeedRead, Position, Slice, Slices};
use crate::store::StoreError;
use crate::stream_id::StreamId;
use crate::testing::Fault;
use crate::version::Version;

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: Feed> Feed for FaultyStore<S> {
    async fn slices(&self) -> Result<Slices, StoreError> {
        self.request(async || self.store.slices().await).await
    }

    async fn read_feed(&self, read: &FeedRead) -> Result<FeedPage, StoreError> {
        let fault = self.faults.next();
        let mut page = self.request_with(fault, async || self.store.read_feed(read).await).await?;
        if let Some(Fault::PageCut(part)) = fault
            && page.entries.len() > 1
        {
            let kept = 1 + ((page.entries.len() - 1) as f64 * part) as usize;
            if kept < page.entries.len() {
                page.entries.truncate(kept);
                page.is_last = false;
                let last = &page.entries[kept - 1];
                (page.through, page.anchor) = (last.last(), Some(last.anchor));
            }
        }
        Ok(page)
    }

    async fn feed_end(&self, slice: Slice) -> Result<Position, StoreError> {
        self.request(async || self.store.feed_end(slice).await).await
    }

    async fn indexed(&self, stream: &StreamId) -> Result<Version, StoreError> {
        self.request(async || self.store.indexed(stream).await).await
    }

    fn growth(&self) -> BoxFuture<'static, ()> {
        self.store.growth()
    }
}
