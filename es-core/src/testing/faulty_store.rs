//! A store with injected faults.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Fault, Faults};
use crate::cost::Cost;
use crate::documents::{
    ChangeError, ChangeSet, Document, DocumentKey, DocumentPage, DocumentQuery, Documents,
};
use crate::feed::{Feed, FeedEnd, FeedPage, FeedRead, Slice, SliceTree, Slices};
use crate::snapshot::Snapshot;
use crate::store::{
    Append, AppendError, Appended, Claim, Commit, EventStore, Head, Holder, IdempotencyKey,
    IdempotencyLookup, Page, Read, StoreError, StoreIdentity, WriteError, WriteSet, Written,
};
use crate::stream_id::StreamId;
use crate::version::Version;
use crate::yielding::yield_now;

/// A store whose requests fail as planned by [`Faults`]. A delayed request yields to the executor once per
/// millisecond of the delay, and takes no time.
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
    /// The versions at which streams have ended, as far as this store has seen them. A stale read ends at one of them:
    /// between the commits of one append, no stream has ever ended.
    ends: Arc<Mutex<HashMap<StreamId, BTreeSet<Version>>>>,
}

impl<S: EventStore> FaultyStore<S> {
    /// Wraps `store` so that `faults` apply to it.
    #[must_use]
    pub fn new(store: S, faults: Faults) -> Self {
        Self { store, faults, ends: Arc::default() }
    }

    /// Notes that a stream has ended at `version`.
    fn note_end(&self, stream: &StreamId, version: Version) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.entry(stream.clone()).or_default().insert(version);
    }

    /// Removes up to `commits` commits from the end of a page that contains all of a read.
    fn make_stale(&self, stream: &StreamId, page: &mut Page, commits: u32) {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = |version| ends.get(stream).is_some_and(|ends| ends.contains(&version));
        let oldest = page.commits.len().saturating_sub(commits as usize);
        // Before the first commit is the start of the stream, or a version that was read before.
        let mut kept = oldest..page.commits.len();
        if let Some(kept) = kept.find(|kept| *kept == 0 || ended(page.commits[*kept - 1].last())) {
            page.commits.truncate(kept);
        }
    }

    /// Executes a request with the next planned fault.
    async fn request<T, E: From<StoreError>>(
        &self,
        carry_out: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.request_with(self.faults.next(), carry_out).await
    }

    /// Executes a transaction with the next planned fault.
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

    /// Executes a request with a fault.
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
            Some(Fault::Throttled) => Err(StoreError::Throttled("injected throttling".into()).into()),
            Some(Fault::InternalError) => Err(StoreError::unavailable("injected internal error").into()),
            Some(Fault::RequestLost) => Err(StoreError::unavailable("injected loss of the request").into()),
            Some(Fault::Refused(_)) => Err(StoreError::setup("injected rejection", None).into()),
            Some(Fault::AnswerUnreadable(which)) if which < 0.5 => {
                Err(StoreError::unavailable("injected unreadable response").into())
            }
            // In a real store, the client's timeout ends such a request.
            Some(Fault::AnswerLost | Fault::AnswerUnreadable(_) | Fault::Stalled) => {
                let _ = carry_out().await;
                Err(StoreError::unavailable("injected loss of the response").into())
            }
        }
    }
}

/// Yields to the executor once per millisecond. No timer is used, so that the order of requests depends only on
/// the seed.
pub(super) async fn hold_back(delay: Duration) {
    for _ in 0..delay.as_millis() {
        yield_now().await;
    }
}

/// The state of a read.
struct ReadState<'a> {
    stream: StreamId,
    eventual: bool,
    to_the_end: bool,
    /// The version of the last event of the last page.
    last: Version,
    pages: BoxStream<'a, Result<Page, StoreError>>,
    /// The rest of a page that was cut.
    rest: Option<Page>,
}

/// Returns all remaining pages as one.
async fn whole(pages: &mut BoxStream<'_, Result<Page, StoreError>>) -> Result<Option<Page>, StoreError> {
    let Some(mut all) = pages.try_next().await? else { return Ok(None) };
    while let Some(page) = pages.try_next().await? {
        all.commits.extend(page.commits);
        all.cost += page.cost;
    }
    Ok(Some(all))
}

/// Cuts a page after a fraction of its commits, and returns the rest.
fn cut(page: &mut Page, part: f64) -> Option<Page> {
    let kept = (page.commits.len() as f64 * part) as usize;
    let commits = page.commits.split_off(kept);
    (!commits.is_empty()).then(|| Page::new(commits, Cost::default()))
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: EventStore> EventStore for FaultyStore<S> {
    async fn append(&self, append: &Append) -> Result<Appended, AppendError> {
        let appended = async || {
            let appended = self.store.append(append).await?;
            self.note_end(append.stream(), appended.last);
            Ok(appended)
        };
        self.request(appended).await
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
        // Each page is a separate request.
        let state = ReadState {
            stream: read.stream().clone(),
            eventual: read.is_eventual(),
            to_the_end: read.end().is_none(),
            last: read.start(),
            pages: self.store.read(read),
            rest: None,
        };
        stream::try_unfold(state, async |mut state: ReadState<'_>| {
            let fault = self.faults.next();
            if let Some(Fault::Stale(commits)) = fault
                && state.eventual
                && state.rest.is_none()
            {
                // Read everything first, to know which commits are the last.
                let Some(mut page) = whole(&mut state.pages).await? else { return Ok(None) };
                self.make_stale(&state.stream, &mut page, commits);
                let state = ReadState { pages: stream::empty().boxed(), eventual: false, ..state };
                return Ok(Some((page, ReadState { to_the_end: false, ..state })));
            }
            let page = self.request_with(fault, async || match state.rest.take() {
                Some(rest) => Ok(Some(rest)),
                None => state.pages.try_next().await,
            });
            let Some(mut page) = page.await? else {
                if state.to_the_end {
                    self.note_end(&state.stream, state.last);
                }
                return Ok(None);
            };
            state.rest = match fault {
                Some(Fault::PageCut(part)) => cut(&mut page, part),
                _ => None,
            };
            state.last = page.commits.last().map_or(state.last, Commit::last);
            Ok(Some((page, state)))
        })
        .boxed()
    }

    async fn head(&self, stream: &StreamId) -> Result<Head, StoreError> {
        let head = self.request(async || self.store.head(stream).await).await?;
        self.note_end(stream, head.version);
        Ok(head)
    }

    async fn write_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError> {
        self.request(async || self.store.write_snapshot(stream, snapshot, replaces).await).await
    }

    async fn erase(&self, stream: &StreamId) -> Result<Cost, StoreError> {
        self.request(async || self.store.erase(stream).await).await
    }

    async fn restore(&self, commits: &[Commit], end: &Append) -> Result<Appended, AppendError> {
        self.request(async || self.store.restore(commits, end).await).await
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.store.spawn(task);
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: EventStore + Documents> Documents for FaultyStore<S> {
    async fn document(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        self.request(async || self.store.document(key).await).await
    }

    async fn documents(&self, query: &DocumentQuery) -> Result<DocumentPage, StoreError> {
        let fault = self.faults.next();
        let mut page = self.request_with(fault, async || self.store.documents(query).await).await?;
        if let Some(Fault::PageCut(part)) = fault
            && page.documents.len() > 1
        {
            let kept = 1 + ((page.documents.len() - 1) as f64 * part) as usize;
            if kept < page.documents.len() {
                page.documents.truncate(kept);
                page.next = page.documents.last().map(|(name, _)| name.clone());
            }
        }
        Ok(page)
    }

    async fn change(&self, set: &ChangeSet) -> Result<(), ChangeError> {
        let carry_out = async || self.store.change(set).await;
        match set.changes().len() + set.additional_writes().len() {
            0 | 1 => self.request(carry_out).await,
            _ => self.transaction(carry_out).await,
        }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: Feed> Feed for FaultyStore<S> {
    async fn slices(&self) -> Result<Slices, StoreError> {
        self.request(async || self.store.slices().await).await
    }

    async fn slice_tree(&self) -> Result<SliceTree, StoreError> {
        self.request(async || self.store.slice_tree().await).await
    }

    async fn split(&self, slice: Slice) -> Result<[Slice; 2], StoreError> {
        self.request(async || self.store.split(slice).await).await
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
                (page.is_last, page.is_closed) = (false, false);
                let last = &page.entries[kept - 1];
                (page.through, page.anchor) = (last.last(), Some(last.anchor));
            }
        }
        Ok(page)
    }

    async fn feed_end(&self, slice: Slice) -> Result<FeedEnd, StoreError> {
        self.request(async || self.store.feed_end(slice).await).await
    }

    async fn indexed(&self, stream: &StreamId) -> Result<Version, StoreError> {
        self.request(async || self.store.indexed(stream).await).await
    }

    fn growth(&self) -> BoxFuture<'static, ()> {
        self.store.growth()
    }
}
