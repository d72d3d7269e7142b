//! The operations of the table that the log needs.

use async_trait::async_trait;
use es_core::feed::{Position, Slice};
use es_core::{Cost, StoreError, StreamId, Version};

use super::marks::Mark;
use super::page::LogPage;
use super::reference::Reference;
use super::summary::Manifest;

/// The outcome of writing a page.
#[derive(Debug)]
pub(crate) enum PutPage {
    /// It is written, by this attempt or by one whose response was lost.
    Written,
    /// Another page has its position.
    Taken,
}

/// Consecutive pages.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    pub(crate) pages: Vec<LogPage>,
    /// Whether there may be more.
    pub(crate) more: bool,
    pub(crate) cost: Cost,
}

/// Which pages to read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PageQuery {
    /// Pages whose first position is higher, in ascending order.
    After(Position),
    /// Pages whose first position is not higher, in descending order.
    Until(Position),
}

/// The storage of logs, of their summaries, and of the streams to which they refer.
///
/// It is implemented by the table, and by a simulation.
#[async_trait]
pub(crate) trait Storage: Send + Sync {
    /// Writes a page if its position is free.
    async fn put_page(&self, page: &LogPage) -> Result<PutPage, StoreError>;

    /// Reads at most `limit` pages, with strong consistency unless `eventual`.
    async fn pages(
        &self,
        slice: Slice,
        query: PageQuery,
        limit: u32,
        eventual: bool,
    ) -> Result<Pages, StoreError>;

    /// Reads about `limit` references to items of a stream, starting with the first one after `after` and ending at `until`,
    /// with strong consistency.
    async fn commits(
        &self,
        stream: &StreamId,
        after: Version,
        until: Version,
        limit: usize,
    ) -> Result<Vec<Reference>, StoreError>;

    /// Reads the last commit of a stream that starts at `version` or before it, with strong consistency.
    async fn commit_until(&self, stream: &StreamId, version: Version) -> Result<Option<Mark>, StoreError>;

    /// Reads the manifest of the newest summary, or returns `None` if it is missing or damaged.
    async fn manifest(&self, slice: Slice) -> Result<Option<Manifest>, StoreError>;

    /// Reads a chunk of a summary, or returns `None` if it is missing.
    async fn chunk(
        &self,
        slice: Slice,
        manifest: Manifest,
        index: u32,
    ) -> Result<Option<Vec<u8>>, StoreError>;

    /// Writes a chunk of a summary.
    async fn put_chunk(
        &self,
        slice: Slice,
        manifest: Manifest,
        index: u32,
        bytes: Vec<u8>,
    ) -> Result<(), StoreError>;

    /// Publishes a summary whose chunks are written, unless there is a newer one, and deletes older chunks.
    async fn publish(&self, slice: Slice, manifest: Manifest) -> Result<(), StoreError>;
}
