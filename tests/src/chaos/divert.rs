//! A store that diverts some of its requests.

use std::fmt;
use std::future::pending;
use std::sync::Arc;

use async_trait::async_trait;
use es_core::documents::{
    ChangeError, ChangeSet, Document, DocumentKey, DocumentPage, DocumentQuery, Documents,
};
use es_core::feed::{Feed, FeedEnd, FeedPage, FeedRead, Slice, SliceTree, Slices};
use es_core::snapshot::Snapshot;
use es_core::store::{
    Append, AppendError, Appended, Claim, Commit, Head, Holder, IdempotencyKey, IdempotencyLookup, Page,
    Read, StoreIdentity, WriteError, WriteSet, Written,
};
use es_core::{Cost, EventStore, StoreError, StreamId, Version};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;

/// The kind of a request.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Sent<'a> {
    /// Changes documents.
    Change(&'a ChangeSet),
    /// Reads the feed.
    ReadFeed,
    /// Any other request.
    Other,
}

impl Sent<'_> {
    /// Returns whether the request changes a document of a collection whose name contains `part`.
    #[must_use]
    pub fn changes(&self, part: &str) -> bool {
        let Self::Change(set) = self else { return false };
        set.changes().iter().any(|change| change.key.collection().contains(part))
    }
}

type Choice = dyn Fn(Sent<'_>) -> bool + Send + Sync;

/// A store that sends some of its requests to another store, such as one with faults, or never responds to them.
#[derive(Clone)]
pub struct Divert {
    store: Arc<dyn Feed>,
    other: Option<Arc<dyn Feed>>,
    is_diverted: Arc<Choice>,
}

impl Divert {
    /// Returns `store`, which sends the requests selected by `is_diverted` to `other`.
    pub fn to(
        store: impl Feed,
        other: impl Feed,
        is_diverted: impl Fn(Sent<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { store: Arc::new(store), other: Some(Arc::new(other)), is_diverted: Arc::new(is_diverted) }
    }

    /// Returns `store`, which never responds to the requests selected by `hangs`.
    pub fn hanging(store: impl Feed, hangs: impl Fn(Sent<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self { store: Arc::new(store), other: None, is_diverted: Arc::new(hangs) }
    }

    async fn choose(&self, sent: Sent<'_>) -> &dyn Feed {
        match &self.other {
            _ if !(self.is_diverted)(sent) => &*self.store,
            Some(other) => &**other,
            None => pending().await,
        }
    }
}

#[async_trait]
impl EventStore for Divert {
    async fn append(&self, append: &Append) -> Result<Appended, AppendError> {
        self.choose(Sent::Other).await.append(append).await
    }

    async fn write(&self, set: &WriteSet) -> Result<Written, WriteError> {
        self.choose(Sent::Other).await.write(set).await
    }

    async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError> {
        self.choose(Sent::Other).await.claim_holder(claim).await
    }

    async fn idempotency_record(&self, key: &IdempotencyKey) -> Result<IdempotencyLookup, StoreError> {
        self.choose(Sent::Other).await.idempotency_record(key).await
    }

    fn identity(&self) -> StoreIdentity {
        self.store.identity()
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        match &self.other {
            Some(other) if (self.is_diverted)(Sent::Other) => other.read(read),
            _ => self.store.read(read),
        }
    }

    async fn head(&self, stream: &StreamId) -> Result<Head, StoreError> {
        self.choose(Sent::Other).await.head(stream).await
    }

    async fn write_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError> {
        self.choose(Sent::Other).await.write_snapshot(stream, snapshot, replaces).await
    }

    async fn erase(&self, stream: &StreamId) -> Result<Cost, StoreError> {
        self.choose(Sent::Other).await.erase(stream).await
    }

    async fn restore(&self, commits: &[Commit], end: &Append) -> Result<Appended, AppendError> {
        self.choose(Sent::Other).await.restore(commits, end).await
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.store.spawn(task);
    }
}

#[async_trait]
impl Documents for Divert {
    async fn document(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        self.choose(Sent::Other).await.document(key).await
    }

    async fn documents(&self, query: &DocumentQuery) -> Result<DocumentPage, StoreError> {
        self.choose(Sent::Other).await.documents(query).await
    }

    async fn change(&self, set: &ChangeSet) -> Result<(), ChangeError> {
        self.choose(Sent::Change(set)).await.change(set).await
    }
}

#[async_trait]
impl Feed for Divert {
    async fn slices(&self) -> Result<Slices, StoreError> {
        self.choose(Sent::Other).await.slices().await
    }

    async fn slice_tree(&self) -> Result<SliceTree, StoreError> {
        self.choose(Sent::Other).await.slice_tree().await
    }

    async fn split(&self, slice: Slice) -> Result<[Slice; 2], StoreError> {
        self.choose(Sent::Other).await.split(slice).await
    }

    async fn read_feed(&self, read: &FeedRead) -> Result<FeedPage, StoreError> {
        self.choose(Sent::ReadFeed).await.read_feed(read).await
    }

    async fn feed_end(&self, slice: Slice) -> Result<FeedEnd, StoreError> {
        self.choose(Sent::Other).await.feed_end(slice).await
    }

    async fn indexed(&self, stream: &StreamId) -> Result<Version, StoreError> {
        self.choose(Sent::Other).await.indexed(stream).await
    }

    fn growth(&self) -> BoxFuture<'static, ()> {
        self.store.growth()
    }
}

impl fmt::Debug for Divert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Divert").field("store", &self.store).finish_non_exhaustive()
    }
}
