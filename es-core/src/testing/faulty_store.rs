//! A store that fails on purpose.

use std::future;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Fault, Faults};
use crate::cost::Cost;
use crate::snapshot::Snapshot;
use crate::store::{
    Append, AppendError, Appended, Claim, EventStore, Head, Holder, MarkerRead, OnceKey, Page, Read,
    StoreError, StoreIdentity, WriteError, WriteSet, Written,
};
use crate::stream_id::StreamId;
use crate::version::Version;

/// A store whose requests fail as [`Faults`] plans it. One that is delayed waits for so many turns of the
/// executor as the delay has milliseconds, and takes no time.
///
/// ```
/// use es_core::MemoryStore;
/// use es_core::testing::{Faults, FaultyStore};
///
/// let store = FaultyStore::new(MemoryStore::new(), Faults::seeded(1).lost_answers(0.5));
/// ```
#[derive(Clone, Debug)]
pub struct FaultyStore<S> {
    store: S,
    faults: Faults,
}

impl<S: EventStore> FaultyStore<S> {
    /// `store`, with `faults`.
    #[must_use]
    pub fn new(store: S, faults: Faults) -> Self {
        Self { store, faults }
    }

    /// Carries out a request as the plan has it.
    async fn request<T, E: From<StoreError>>(
        &self,
        carry_out: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        match self.faults.next() {
            None => carry_out().await,
            Some(Fault::Delayed(delay)) => {
                hold_back(delay).await;
                carry_out().await
            }
            Some(Fault::Throttled) => Err(StoreError::Throttled("throttled on purpose".into()).into()),
            Some(Fault::InternalError) => Err(StoreError::Unavailable("failed on purpose".into()).into()),
            Some(Fault::RequestLost) => Err(StoreError::Unavailable("request lost on purpose".into()).into()),
            Some(Fault::AnswerLost) => {
                let _ = carry_out().await;
                Err(StoreError::Unavailable("answer lost on purpose".into()).into())
            }
        }
    }
}

/// Lets everything else go on, once for each millisecond: not by a timer, so that the order in which
/// requests arrive follows from the seed alone.
async fn hold_back(delay: Duration) {
    for _ in 0..delay.as_millis() {
        let mut yielded = false;
        future::poll_fn(|context| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: EventStore> EventStore for FaultyStore<S> {
    async fn append(&self, append: &Append) -> Result<Appended, AppendError> {
        self.request(async || self.store.append(append).await).await
    }

    async fn write(&self, set: &WriteSet) -> Result<Written, WriteError> {
        self.request(async || self.store.write(set).await).await
    }

    async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError> {
        self.request(async || self.store.claim_holder(claim).await).await
    }

    async fn marker(&self, key: &OnceKey) -> Result<MarkerRead, StoreError> {
        self.request(async || self.store.marker(key).await).await
    }

    fn identity(&self) -> StoreIdentity {
        self.store.identity()
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        // Every page is a request of its own.
        let pages = self.store.read(read);
        stream::try_unfold(pages, async |mut pages| {
            let page = self.request(async || pages.try_next().await).await?;
            Ok(page.map(|page| (page, pages)))
        })
        .boxed()
    }

    async fn head(&self, stream: &StreamId) -> Result<Head, StoreError> {
        self.request(async || self.store.head(stream).await).await
    }

    async fn write_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError> {
        self.request(async || self.store.write_snapshot(stream, snapshot, replaces).await).await
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.store.spawn(task);
    }
}
