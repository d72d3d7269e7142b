//! A store in memory.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, stream};

use crate::cost::Cost;
use crate::event::CommitId;
use crate::snapshot::Snapshot;
use crate::store::{
    Append, AppendError, Appended, Commit, Conflict, Contiguity, EventStore, Head, Page, Read, StoreError,
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
    streams: Arc<Mutex<HashMap<StreamId, Stored>>>,
}

#[derive(Default)]
struct Stored {
    commits: Vec<Commit>,
    places: HashMap<CommitId, usize>,
    snapshot: Option<Snapshot>,
}

impl Stored {
    fn head(&self) -> Version {
        self.commits.last().map_or(Version::NONE, Commit::last)
    }

    /// The place of the first commit after `version`.
    fn index_after(&self, version: Version) -> usize {
        self.commits.partition_point(|commit| commit.first <= version)
    }
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

    fn streams(&self) -> MutexGuard<'_, HashMap<StreamId, Stored>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_page(&self, progress: &mut Progress) -> Result<Option<Page>, StoreError> {
        let streams = self.streams();
        let empty = Stored::default();
        let stored = streams.get(progress.read.stream()).unwrap_or(&empty);
        let mut page = Page { cost: Cost::read(0.0), ..Page::default() };

        let first_page = !std::mem::replace(&mut progress.started, true);
        if first_page
            && let Some(request) = progress.read.snapshot()
            && let Some(snapshot) = &stored.snapshot
        {
            if snapshot.fits(request.fingerprint) && snapshot.version() <= stored.head() {
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
        let mut streams = self.streams();
        let stored = streams.entry(append.stream().clone()).or_default();
        let commit = append.commit();
        if let Some(&place) = stored.places.get(&commit.id) {
            let earlier = &stored.commits[place];
            return Ok(Appended::new(earlier.first, earlier.last(), Cost::write(0.0)).repeated());
        }
        let head = stored.head();
        let last = append.last_version_after(head)?;
        if !append.expected().allows(head) {
            let expected = append.expected();
            return Err(Conflict::new(append.stream().clone(), expected, Some(head), Cost::write(0.0)).into());
        }
        stored.places.insert(commit.id, stored.commits.len());
        stored.commits.push(Commit {
            id: commit.id,
            first: head.next(),
            time: commit.time,
            metadata: Arc::new(commit.metadata.clone()),
            events: commit.events.clone(),
        });
        Ok(Appended::new(head.next(), last, Cost::write(0.0)))
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        let contiguity = Contiguity::after(read.stream().clone(), read.start());
        stream::try_unfold(Progress { read, contiguity, started: false }, async |mut progress| {
            Ok(self.next_page(&mut progress)?.map(|page| (page, progress)))
        })
        .boxed()
    }

    async fn head(&self, stream: &StreamId) -> Result<Head, StoreError> {
        let version = self.streams().get(stream).map_or(Version::NONE, Stored::head);
        Ok(Head::new(version, Cost::read(0.0)))
    }

    async fn write_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError> {
        let mut streams = self.streams();
        let stored = streams.entry(stream.clone()).or_default();
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
        f.debug_struct("MemoryStore").field("streams", &self.streams().len()).finish()
    }
}
