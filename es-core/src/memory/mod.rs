//! A store in memory.

mod content;
mod documents;
mod feed;
mod limits;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, stream};

use self::content::{Content, Stored};
use crate::cost::Cost;
use crate::snapshot::Snapshot;
use crate::store::{
    Append, AppendError, Appended, Claim, Conflict, Contiguity, EventStore, Head, Holder, MarkerRead,
    OnceKey, Page, Read, StoreError, StoreIdentity, WriteError, WriteSet, Written,
};
use crate::stream_id::StreamId;
use crate::version::Version;

/// How many commits a page holds. Small, so that tests on this store meet more than one page.
const COMMITS_A_PAGE: usize = 100;

/// A store that keeps everything in memory: the whole contract, for tests and first steps.
///
/// Clones share their content.
#[derive(Clone, Default)]
pub struct MemoryStore {
    content: Arc<Mutex<Content>>,
}

/// How far a read has come.
struct Progress {
    read: Read,
    contiguity: Contiguity,
    started: bool,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How far each stream is.
    #[cfg(feature = "testing")]
    pub(crate) fn versions(&self) -> std::collections::HashMap<StreamId, Version> {
        let streams = &self.content().streams;
        streams.iter().map(|(stream, stored)| (stream.clone(), stored.head())).collect()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_page(&self, progress: &mut Progress) -> Result<Option<Page>, StoreError> {
        let content = self.content();
        let empty = Stored::default();
        let stored = content.streams.get(progress.read.stream()).unwrap_or(&empty);
        let mut page = Page { cost: Cost::read(0.0), ..Page::default() };

        let first_page = !std::mem::replace(&mut progress.started, true);
        if first_page
            && let Some(request) = progress.read.snapshot()
            && let Some(snapshot) = &stored.snapshot
        {
            if snapshot.fits(request.fingerprint) && stored.has_commit_of(snapshot) {
                progress.contiguity = Contiguity::after(progress.read.stream().clone(), snapshot.version());
                page.snapshot = Some(snapshot.clone());
            } else {
                page.unusable_snapshot = Some(snapshot.version());
            }
        }

        let end = progress.read.end().unwrap_or(Version::MAX);
        let commits = stored.commits[stored.index_after(progress.contiguity.last())..]
            .iter()
            .take_while(|commit| commit.first <= end)
            .take(COMMITS_A_PAGE);
        for commit in commits {
            progress.contiguity.check(commit)?;
            page.commits.push(commit.clone());
        }
        Ok((first_page || !page.commits.is_empty()).then_some(page))
    }
}

#[async_trait]
impl EventStore for MemoryStore {
    async fn append(&self, append: &Append) -> Result<Appended, AppendError> {
        let mut content = self.content();
        let commit = append.commit();
        if let Some(stored) = content.streams.get(append.stream())
            && let Some(&place) = stored.places.get(&commit.id)
        {
            let earlier = &stored.commits[place];
            return Ok(Appended::new(earlier.first, earlier.last(), Cost::write(0.0)).repeated());
        }
        let head = content.head(append.stream());
        let last = append.last_version_after(head)?;
        limits::check_commit(append.stream(), head, commit)?;
        if !append.expected().allows(head) {
            let expected = append.expected();
            return Err(Conflict::new(append.stream().clone(), expected, Some(head), Cost::write(0.0)).into());
        }
        content.append(append.stream(), commit);
        Ok(Appended::new(head.next(), last, Cost::write(0.0)))
    }

    async fn write(&self, set: &WriteSet) -> Result<Written, WriteError> {
        let written = set.checked()?.at_cost(Cost::write(0.0));
        limits::check_set(set)?;
        let mut content = self.content();
        if content.has(set) {
            return Ok(written.repeated());
        }
        content.check(set)?;
        content.write(set)?;
        Ok(written)
    }

    async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError> {
        Ok(Holder::new(self.content().claims.get(claim).cloned(), Cost::read(0.0)))
    }

    async fn marker(&self, key: &OnceKey) -> Result<MarkerRead, StoreError> {
        Ok(MarkerRead::new(self.content().markers.get(key).cloned(), Cost::read(0.0)))
    }

    fn identity(&self) -> StoreIdentity {
        StoreIdentity::of(&self.content)
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        let contiguity = Contiguity::after(read.stream().clone(), read.start());
        stream::try_unfold(Progress { read, contiguity, started: false }, async |mut progress| {
            Ok(self.next_page(&mut progress)?.map(|page| (page, progress)))
        })
        .boxed()
    }

    async fn head(&self, stream: &StreamId) -> Result<Head, StoreError> {
        Ok(Head::new(self.content().head(stream), Cost::read(0.0)))
    }

    async fn write_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError> {
        limits::check_snapshot(stream, snapshot)?;
        let mut content = self.content();
        let stored = content.streams.entry(stream.clone()).or_default();
        let writable = stored.snapshot.as_ref().is_none_or(|existing| {
            existing.version() < snapshot.version() || Some(existing.version()) == replaces
        });
        if writable {
            stored.snapshot = Some(snapshot.clone());
        }
        Ok(Cost::write(0.0))
    }

    fn spawn(&self, mut task: BoxFuture<'static, ()>) {
        // What this store does is done at once; only a wrapper around it may have to wait.
        if (&mut task).now_or_never().is_none() {
            std::thread::spawn(move || futures_executor::block_on(task));
        }
    }
}

/// Shows how much is stored, not what.
impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("streams", &self.content().streams.len()).finish()
    }
}
