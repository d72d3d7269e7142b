//! A store that fails on purpose.

mod documents;
mod feed;

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
    Append, AppendError, Appended, Claim, EventStore, Head, Holder, IdempotencyKey, IdempotencyLookup, Page,
    Read, StoreError, StoreIdentity, WriteError, WriteSet, Written,
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
        self.request_with(self.faults.next(), carry_out).await
    }

    /// Carries out a request that is a transaction as the plan has it.
    async fn transaction<T, E: From<StoreError>>(
        &self,
        carry_out: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let fault = match self.faults.next() {
            Some(Fault::TransactionConflict) => Some(Fault::Throttled),
            fault => fault,
        };
        self.request_with(fault, carry_out).await
    }

    /// Carries out a request with a fault.
    async fn request_with<T, E: From<StoreError>>(
        &self,
        fault: Option<Fault>,
        carry_out: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        match fault {
            None | Some(Fault::TransactionConflict | Fault::PageCut(_) | Fault::Stale(_)) => {
                carry_out().await
            }
            Some(Fault::Delayed(delay)) => {
                hold_back(delay).await;
                carry_out().await
            }
            Some(Fault::Throttled) => Err(StoreError::Throttled("throttled on purpose".into()).into()),
            Some(Fault::InternalError) => Err(StoreError::unavailable("failed on purpose").into()),
            Some(Fault::RequestLost) => Err(StoreError::unavailable("request lost on purpose").into()),
            Some(Fault::Refused(_)) => Err(StoreError::setup("refused on purpose", None).into()),
            Some(Fault::AnswerUnreadable(which)) if which < 0.5 => {
                Err(StoreError::unavailable("answered by something else on purpose").into())
            }
            // A store ends a request without a response by its timeouts.
            Some(Fault::AnswerLost | Fault::AnswerUnreadable(_) | Fault::Stalled) => {
                let _ = carry_out().await;
                Err(StoreError::unavailable("answer lost on purpose").into())
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

/// All the pages that are left as one, without the last `commits`.
async fn behind(
    pages: &mut BoxStream<'_, Result<Page, StoreError>>,
    commits: u32,
) -> Result<Option<Page>, StoreError> {
    let Some(mut all) = pages.try_next().await? else { return Ok(None) };
    while let Some(page) = pages.try_next().await? {
        all.commits.extend(page.commits);
        all.cost += page.cost;
    }
    let kept = all.commits.len().saturating_sub(commits as usize);
    all.commits.truncate(kept);
    Ok(Some(all))
}

/// Cuts a page after a part of its commits; gives back the rest.
fn cut(page: &mut Page, part: f64) -> Option<Page> {
    let kept = (page.commits.len() as f64 * part) as usize;
    let commits = page.commits.split_off(kept);
    (!commits.is_empty()).then(|| Page { commits, ..Page::default() })
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: EventStore> EventStore for FaultyStore<S> {
    async fn append(&self, append: &Append) -> Result<Appended, AppendError> {
        self.request(async || self.store.append(append).await).await
    }

    async fn write(&self, set: &WriteSet) -> Result<Written, WriteError> {
        self.transaction(async || self.store.write(set).await).await
    }

    async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError> {
        self.request(async || self.store.claim_holder(claim).await).await
    }

    async fn idempotency_record(&self, key: &IdempotencyKey) -> Result<IdempotencyLookup, StoreError> {
        self.request(async || self.store.idempotency_record(key).await).await
    }

    fn identity(&self) -> StoreIdentity {
        self.store.identity()
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        // Every page is a request of its own.
        let eventual = read.is_eventual();
        let progress = (self.store.read(read), None, eventual);
        type Progress<'a> = (BoxStream<'a, Result<Page, StoreError>>, Option<Page>, bool);
        stream::try_unfold(progress, async |(mut pages, rest, eventual): Progress<'_>| {
            let fault = self.faults.next();
            if let Some(Fault::Stale(commits)) = fault
                && eventual
                && rest.is_none()
            {
                // All at once, so that it is known which commits are the last.
                let page = behind(&mut pages, commits).await?;
                return Ok(page.map(|page| (page, (stream::empty().boxed(), None, false))));
            }
            let page = self.request_with(fault, async || match rest {
                Some(rest) => Ok(Some(rest)),
                None => pages.try_next().await,
            });
            let Some(mut page) = page.await? else { return Ok(None) };
            let rest = match fault {
                Some(Fault::PageCut(part)) => cut(&mut page, part),
                _ => None,
            };
            Ok(Some((page, (pages, rest, eventual))))
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
