//! A store whose appends wait at a gate, and fail as planned: for commands that are executed at the same time.
//!
//! Each request lets other futures run first, even on a store that is always ready.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use async_trait::async_trait;
use es_core::snapshot::Snapshot;
use es_core::store::{
    Append, AppendError, Appended, Claim, Commit, Head, Holder, IdempotencyKey, IdempotencyLookup, Page,
    Read, StoreIdentity, WriteError, WriteSet, Written,
};
use es_core::{Cost, EventStore, StoreError, StreamId, Version};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use tokio::sync::watch;

/// Polls `future` once, and returns whether it is pending. A result is dropped.
pub async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context).is_pending())).await
}

/// How an append fails.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Trouble {
    /// The request never arrives.
    RequestLost,
    /// The commits are stored, but the response is lost.
    AnswerLost,
    /// The request is throttled.
    Throttled,
    /// Another writer appends to the same stream first.
    Overtaken(Box<Append>),
    /// The store panics.
    Panic,
}

/// A store with a gate for appends, which counts requests.
#[derive(Clone, Debug)]
pub struct Gate {
    store: Arc<dyn EventStore>,
    is_open: Arc<watch::Sender<bool>>,
    log: Arc<Mutex<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    /// The number of commits in each append.
    appends: Vec<usize>,
    reads: u32,
    cost: Cost,
    troubles: VecDeque<Option<Trouble>>,
}

impl Gate {
    /// Returns `store` with an open gate.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>) -> Self {
        Self { store, is_open: Arc::new(watch::Sender::new(true)), log: Arc::default() }
    }

    /// Lets appends wait.
    pub fn close(&self) {
        self.is_open.send_replace(false);
    }

    /// Lets all appends through.
    pub fn open(&self) {
        self.is_open.send_replace(true);
    }

    /// Plans the next appends: `None` lets one succeed.
    pub fn plan(&self, troubles: impl IntoIterator<Item = Option<Trouble>>) {
        self.log().troubles.extend(troubles);
    }

    /// Returns the number of commits in each append since the last call.
    #[must_use]
    pub fn appends(&self) -> Vec<usize> {
        std::mem::take(&mut self.log().appends)
    }

    /// Returns the number of pages that were read.
    #[must_use]
    pub fn reads(&self) -> u32 {
        self.log().reads
    }

    /// Returns the cost of all requests that had a response.
    #[must_use]
    pub fn cost(&self) -> Cost {
        self.log().cost
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("is not poisoned")
    }

    fn count(&self, cost: Cost) {
        self.log().cost += cost;
    }
}

#[async_trait]
impl EventStore for Gate {
    async fn append(&self, append: &Append) -> Result<Appended, AppendError> {
        let trouble = {
            let mut log = self.log();
            log.appends.push(append.commits().len());
            log.troubles.pop_front().flatten()
        };
        tokio::task::yield_now().await;
        let mut is_open = self.is_open.subscribe();
        is_open.wait_for(|is_open| *is_open).await.expect("the gate exists");
        match trouble {
            Some(Trouble::RequestLost) => {
                self.count(Cost::write(0.0));
                return Err(StoreError::unavailable("the request was lost").into());
            }
            Some(Trouble::AnswerLost) => {
                // A conflict is lost, too.
                let _ = self.store.append(append).await;
                self.count(Cost::write(0.0));
                return Err(StoreError::unavailable("the response was lost").into());
            }
            Some(Trouble::Throttled) => {
                self.count(Cost::write(0.0));
                return Err(StoreError::Throttled("slow down".into()).into());
            }
            Some(Trouble::Overtaken(winner)) => {
                self.store.append(&winner).await?;
            }
            Some(Trouble::Panic) => panic!("the store panics, as planned"),
            None => {}
        }
        let appended = self.store.append(append).await;
        tokio::task::yield_now().await;
        match &appended {
            Ok(appended) => self.count(appended.cost),
            Err(AppendError::Conflict(conflict)) => self.count(conflict.cost),
            Err(_) => self.count(Cost::write(0.0)),
        }
        appended
    }

    async fn write(&self, set: &WriteSet) -> Result<Written, WriteError> {
        self.store.write(set).await
    }

    async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError> {
        self.store.claim_holder(claim).await
    }

    async fn idempotency_record(&self, key: &IdempotencyKey) -> Result<IdempotencyLookup, StoreError> {
        self.store.idempotency_record(key).await
    }

    fn identity(&self) -> StoreIdentity {
        self.store.identity()
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        let count = async |page: Result<Page, StoreError>| {
            tokio::task::yield_now().await;
            self.log().reads += 1;
            self.count(page.as_ref().map_or(Cost::ZERO, |page| page.cost));
            page
        };
        self.store.read(read).then(count).boxed()
    }

    async fn head(&self, stream: &StreamId) -> Result<Head, StoreError> {
        self.store.head(stream).await
    }

    async fn write_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError> {
        self.store.write_snapshot(stream, snapshot, replaces).await
    }

    async fn erase(&self, stream: &StreamId) -> Result<Cost, StoreError> {
        self.store.erase(stream).await
    }

    async fn restore(&self, commits: &[Commit], end: &Append) -> Result<Appended, AppendError> {
        self.store.restore(commits, end).await
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.store.spawn(task);
    }
}
