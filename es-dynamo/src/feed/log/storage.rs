//! What the feed needs of the table.

use async_trait::async_trait;
use es_core::feed::{Position, Slice};
use es_core::{Cost, StoreError, StreamId, Version};

use super::marks::Mark;
use super::page::LogPage;
use super::reference::Reference;
use super::summary::Manifest;

/// What became of a page that was to be written.
#[derive(Debug)]
pub(crate) enum PutPage {
    /// It is written: now, or by an attempt whose answer was lost.
    Written,
    /// There is another one in its place.
    Taken,
}

/// Some pages.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    pub(crate) pages: Vec<LogPage>,
    /// Whether there may be more.
    pub(crate) more: bool,
    pub(crate) cost: Cost,
}

/// Which pages to read, at most so many.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PageQuery {
    /// Those whose first position is higher, upwards.
    After(Position),
    /// Those whose first position is not higher, downwards.
    Until(Position),
}

/// The log and its summaries, and the streams that it is about.
///
/// The table is one; the tests have another one that takes thousands of runs.
#[async_trait]
pub(crate) trait Storage: Send + Sync {
    /// Writes a page, if there is none in its place.
    async fn put_page(&self, page: &LogPage) -> Result<PutPage, StoreError>;

    /// Reads pages; strongly consistent unless `eventual`.
    async fn pages(
        &self,
        slice: Slice,
        query: PageQuery,
        limit: u32,
        eventual: bool,
    ) -> Result<Pages, StoreError>;

    /// The commits of a stream after `after`, up to `until`, strongly consistent: about `limit` of them, from
    /// the first one on.
    async fn commits(
        &self,
        stream: &StreamId,
        after: Version,
        until: Version,
        limit: usize,
    ) -> Result<Vec<Reference>, StoreError>;

    /// The last commit of a stream that begins at `version` or before it, strongly consistent.
    async fn commit_until(&self, stream: &StreamId, version: Version) -> Result<Option<Mark>, StoreError>;

    /// What the newest summary consists of; `None` when there is none, or it is damaged.
    async fn manifest(&self, slice: Slice) -> Result<Option<Manifest>, StoreError>;

    /// A chunk of a summary; `None` when it is missing.
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

    /// Makes a summary whose chunks are written the newest one, if it is newer. Then deletes the older chunks.
    async fn publish(&self, slice: Slice, manifest: Manifest) -> Result<(), StoreError>;
}
