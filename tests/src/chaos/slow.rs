//! A store with slow requests.

use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
use fastrand::Rng;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;

/// A store whose requests and responses are delayed. Some requests arrive when their sender is considered dead, or has
/// died.
#[derive(Clone, Debug)]
pub struct Slow {
    store: Arc<dyn Feed>,
    random: Arc<Mutex<Rng>>,
    late: f64,
    longest: Duration,
}

impl Slow {
    /// Returns `store`. A fraction `late` of the transmissions takes up to `longest`.
    #[must_use]
    pub fn new(store: Arc<dyn Feed>, late: f64, longest: Duration, random: Rng) -> Self {
        Self { store, random: Arc::new(Mutex::new(random)), late, longest }
    }

    async fn on_the_way(&self) {
        let (turns, late) = {
            let mut random = self.random.lock().expect("is not poisoned");
            (random.u8(..3), (random.f64() < self.late).then(|| self.longest.mul_f64(random.f64())))
        };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        if let Some(late) = late {
            tokio::time::sleep(late).await;
        }
    }

    async fn request<T>(&self, carry_out: impl Future<Output = T>) -> T {
        self.on_the_way().await;
        let answer = carry_out.await;
        self.on_the_way().await;
        answer
    }

    /// Sends a request that arrives even if its sender no longer waits for the response.
    async fn send<T: Send + 'static>(&self, carry_out: impl Future<Output = T> + Send + 'static) -> T {
        let slow = self.clone();
        let request = tokio::spawn(async move { slow.request(carry_out).await });
        request.await.expect("a request does not panic")
    }
}

#[async_trait]
impl EventStore for Slow {
    async fn append(&self, append: &Append) -> Result<Appended, AppendError> {
        let (store, append) = (Arc::clone(&self.store), append.clone());
        self.send(async move { store.append(&append).await }).await
    }

    async fn write(&self, set: &WriteSet) -> Result<Written, WriteError> {
        let (store, set) = (Arc::clone(&self.store), set.clone());
        self.send(async move { store.write(&set).await }).await
    }

    async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError> {
        self.request(self.store.claim_holder(claim)).await
    }

    async fn idempotency_record(&self, key: &IdempotencyKey) -> Result<IdempotencyLookup, StoreError> {
        self.request(self.store.idempotency_record(key)).await
    }

    fn identity(&self) -> StoreIdentity {
        self.store.identity()
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        let pages = self.store.read(read).then(|page| self.request(ready(page)));
        pages.boxed()
    }

    async fn head(&self, stream: &StreamId) -> Result<Head, StoreError> {
        self.request(self.store.head(stream)).await
    }

    async fn write_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError> {
        self.request(self.store.write_snapshot(stream, snapshot, replaces)).await
    }

    async fn erase(&self, stream: &StreamId) -> Result<Cost, StoreError> {
        self.request(self.store.erase(stream)).await
    }

    async fn restore(&self, commits: &[Commit], end: &Append) -> Result<Appended, AppendError> {
        self.request(self.store.restore(commits, end)).await
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.store.spawn(task);
    }
}

#[async_trait]
impl Documents for Slow {
    async fn document(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        self.request(self.store.document(key)).await
    }

    async fn documents(&self, query: &DocumentQuery) -> Result<DocumentPage, StoreError> {
        self.request(self.store.documents(query)).await
    }

    async fn change(&self, set: &ChangeSet) -> Result<(), ChangeError> {
        let (store, set) = (Arc::clone(&self.store), set.clone());
        self.send(async move { store.change(&set).await }).await
    }
}

#[async_trait]
impl Feed for Slow {
    async fn slices(&self) -> Result<Slices, StoreError> {
        self.request(self.store.slices()).await
    }

    async fn slice_tree(&self) -> Result<SliceTree, StoreError> {
        self.request(self.store.slice_tree()).await
    }

    async fn split(&self, slice: Slice) -> Result<[Slice; 2], StoreError> {
        self.request(self.store.split(slice)).await
    }

    async fn read_feed(&self, read: &FeedRead) -> Result<FeedPage, StoreError> {
        self.request(self.store.read_feed(read)).await
    }

    async fn feed_end(&self, slice: Slice) -> Result<FeedEnd, StoreError> {
        self.request(self.store.feed_end(slice)).await
    }

    async fn indexed(&self, stream: &StreamId) -> Result<Version, StoreError> {
        self.request(self.store.indexed(stream)).await
    }

    fn growth(&self) -> BoxFuture<'static, ()> {
        self.store.growth()
    }
}
