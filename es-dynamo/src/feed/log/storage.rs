//! The operations of the table that the log needs.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use es_core::feed::{Position, Slice};
use es_core::{Cost, StoreError, StreamId, Version};
use uuid::Uuid;

use super::marks::Mark;
use super::page::LogPage;
use super::reference::Reference;
use super::summary::node::Root;
use super::summary::part::{PartKey, Scope};
use crate::table::Consistency;

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

/// The pages to read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PageQuery {
    /// Pages whose first position is higher, in ascending order.
    After(Position),
    /// Pages whose first position is not higher, in descending order.
    Until(Position),
}

/// The root of a summary as it is stored.
#[derive(Clone, Debug)]
pub(crate) enum StoredRoot {
    None,
    Damaged,
    Root(Root),
}

impl StoredRoot {
    /// Returns the id of the root, if there is a sound one.
    pub(crate) fn id(&self) -> Option<Uuid> {
        match self {
            Self::Root(root) => Some(root.id),
            Self::None | Self::Damaged => None,
        }
    }
}

/// The outcome of writing a part of a summary.
#[derive(Debug)]
pub(crate) enum PutPart {
    /// It is written, by this attempt or by one whose response was lost.
    Written,
    /// The job with this number has written another part.
    Refused(u64),
}

/// The storage of logs, of their summaries, and of the streams to which they refer.
///
/// It is implemented by the table, and by a simulation.
#[async_trait]
pub(crate) trait Storage: Send + Sync {
    /// Writes a page if its position is free.
    async fn put_page(&self, page: &LogPage) -> Result<PutPage, StoreError>;

    /// Reads at most `limit` pages.
    async fn pages(
        &self,
        slice: Slice,
        query: PageQuery,
        limit: u32,
        consistency: Consistency,
    ) -> Result<Pages, StoreError>;

    /// Returns the slices that are listed as split, with strong consistency. The list may be incomplete or wrong: only
    /// the last page of a slice shows whether it was split.
    async fn splits(&self) -> Result<BTreeSet<Slice>, StoreError>;

    /// Lists a slice as split.
    async fn put_split(&self, slice: Slice) -> Result<(), StoreError>;

    /// Reads about `limit` references to items of a stream, starting with the first one after `after` and ending at
    /// `until`, with strong consistency.
    async fn commits(
        &self,
        stream: &StreamId,
        after: Version,
        until: Version,
        limit: usize,
    ) -> Result<Vec<Reference>, StoreError>;

    /// Reads the last commit of a stream that starts at `version` or before it, with strong consistency.
    async fn commit_until(&self, stream: &StreamId, version: Version) -> Result<Option<Mark>, StoreError>;

    /// Reads the root of the summary, with strong consistency.
    async fn root(&self, scope: &Scope) -> Result<StoredRoot, StoreError>;

    /// Replaces the root of the summary if it still has the id `expected`. `None` means that there is none, or that it
    /// is damaged. Returns whether it was replaced.
    async fn put_root(&self, scope: &Scope, expected: Option<Uuid>, root: &Root) -> Result<bool, StoreError>;

    /// Reads parts of the summary, as far as they exist.
    async fn parts(
        &self,
        slice: Slice,
        keys: &[PartKey],
        consistency: Consistency,
    ) -> Result<HashMap<PartKey, Vec<u8>>, StoreError>;

    /// Writes a part of the summary, unless a job with the same or a higher number has written another one.
    async fn put_part(
        &self,
        slice: Slice,
        key: PartKey,
        job: u64,
        bytes: Vec<u8>,
    ) -> Result<PutPart, StoreError>;
}
