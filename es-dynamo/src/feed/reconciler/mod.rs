//! The reconciler: adds missing commits to the feed, audits it, and sweeps the payload store.

mod audit;
pub(crate) mod scan;
pub(crate) mod state;
mod sweep;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use es_core::documents::{DocumentKey, Documents, ExpectedDocument, Revision};
use es_core::feed::Feed;
use es_core::{Cost, StoreError, StreamId, Version};
use futures_util::future;
use tokio::sync::Mutex;

use self::scan::Scan;
use self::state::ReconcileState;
use super::log::hint::Noted;
use super::{Ingest, gone};
use crate::store::DynamoStore;
use crate::table::retry::retrying;

pub use audit::AuditReport;
pub use sweep::{SweepOptions, SweepReport};

/// Adds missing commits to the feed, for example commits that are older than the feed, or that were missed during an
/// outage.
///
/// It scans the whole table, several segments concurrently, and may run at the same time as indexers and other
/// reconcilers. Commits that are already in the feed are skipped. An [indexer](crate::Indexer) automatically starts a
/// reconciliation if its checkpoint in the table's stream has expired.
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use es_dynamo::{DynamoStore, Reconciler};
///
/// let store = DynamoStore::embedded().await?;
/// let done = Reconciler::builder(&store).segments(8).build().run().await?;
/// assert_eq!(done.events_indexed, 0);
/// let report = Reconciler::builder(&store).build().audit().await?;
/// assert!(report.is_sound());
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
pub struct Reconciler {
    store: DynamoStore,
    segments: u32,
    name: Option<String>,
    on_progress: OnProgress,
}

type OnProgress = Arc<dyn Fn(&ReconcileProgress) + Send + Sync>;

/// The progress of a reconciliation in this process.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ReconcileProgress {
    /// The number of segments into which the table is divided.
    pub segments: u32,
    /// The number of segments that are finished.
    pub segments_done: u32,
    /// The number of pages that were read from the table.
    pub pages: u64,
    /// The number of items with commits in them.
    pub commits: u64,
    /// The number of events that were added to the feed.
    pub events_indexed: u64,
    /// The number of items that have the sort key of a commit, but not the name of a stream as their partition key.
    pub foreign_items: u64,
    /// Streams that cannot be decoded, and are not indexed any further.
    pub damaged: BTreeSet<StreamId>,
    /// Streams whose commits in the table differ from those in the feed, and which are not indexed any further.
    pub contradicting: BTreeSet<StreamId>,
    /// The cost of reading the table.
    pub cost: Cost,
}

/// Builds a [`Reconciler`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct ReconcilerBuilder(Reconciler);

impl Reconciler {
    /// Returns a builder for a reconciler of the table of `store`.
    pub fn builder(store: &DynamoStore) -> ReconcilerBuilder {
        ReconcilerBuilder(Self {
            store: store.clone(),
            segments: 4,
            name: None,
            on_progress: Arc::new(|_| {}),
        })
    }

    /// Adds the missing commits to the feed.
    ///
    /// A damaged stream does not affect other streams. It is returned in [`ReconcileProgress::damaged`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] if a request still fails after retries; with a [name](ReconcilerBuilder::name), the next run
    /// continues from the stored progress. [`StoreError::Invalid`] if another process has continued the reconciliation
    /// of this name.
    pub async fn run(&self) -> Result<ReconcileProgress, StoreError> {
        let table = &*self.store.table;
        let documents: &dyn Documents = &self.store;
        let kept = self.name.as_ref().map(|name| (documents, state::key(&format!("named/{name}"))));
        let feed = &*self.store.feed;
        let reconciliation = Reconciliation { table, feed, kept, on_progress: &*self.on_progress };
        match reconciliation.run(self.segments).await? {
            Ended::Done(progress) => Ok(progress),
            Ended::Superseded => Err(StoreError::invalid(
                "another process has continued the reconciliation of this name: run it in one process only",
            )),
        }
    }

    /// Makes all consumers pass over the commits of a stream up to version `through` that are not in the table,
    /// although the feed refers to them.
    ///
    /// Without this decision of an operator, a reference to such a commit stops the slice of each consumer, which an
    /// operator would have to [skip](es_core::Projector::skip) for each one. Their events are counted as skipped.
    /// Commits that are in the table are still delivered. The decision is stored in a document, and cannot be
    /// withdrawn.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the feed has no events of the stream, or not up to that version.
    pub async fn pass_over(&self, stream: &StreamId, through: Version) -> Result<(), StoreError> {
        let indexed = self.store.indexed(stream).await?;
        if indexed.is_none() {
            return Err(StoreError::invalid(format!(
                "the feed has no events of the stream `{stream}`: check its name"
            )));
        }
        if through > indexed {
            return Err(StoreError::invalid(format!(
                "the feed has the stream `{stream}` up to version {indexed}: choose a version up to that one"
            )));
        }
        gone::pass_over(&self.store, stream, through).await
    }
}

impl ReconcilerBuilder {
    /// Sets how many segments of the table are scanned concurrently (default: 4, from 1 to 1,000).
    pub fn segments(mut self, segments: u32) -> Self {
        self.0.segments = segments.clamp(1, state::MAX_SEGMENTS);
        self
    }

    /// Stores the progress under a name, so that another run can continue from there (default: not stored).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.0.name = Some(name.into());
        self
    }

    /// Calls `progress` after each page of the table.
    pub fn on_progress(mut self, progress: impl Fn(&ReconcileProgress) + Send + Sync + 'static) -> Self {
        self.0.on_progress = Arc::new(progress);
        self
    }

    /// Returns the reconciler.
    #[must_use]
    pub fn build(self) -> Reconciler {
        self.0
    }
}

impl fmt::Debug for Reconciler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconciler")
            .field("store", &self.store)
            .field("segments", &self.segments)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ReconcilerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A running reconciliation.
pub(crate) struct Reconciliation<'a> {
    pub(crate) table: &'a dyn Scan,
    pub(crate) feed: &'a dyn Ingest,
    /// The document with its state, if it is kept.
    pub(crate) kept: Option<(&'a dyn Documents, DocumentKey)>,
    pub(crate) on_progress: &'a (dyn Fn(&ReconcileProgress) + Send + Sync),
}

/// The end of a reconciliation.
#[derive(Debug)]
pub(crate) enum Ended {
    Done(ReconcileProgress),
    /// Another process has continued it, or it was requested again.
    Superseded,
}

/// The state that all segments share.
struct Shared {
    state: ReconcileState,
    revision: Option<Revision>,
    superseded: bool,
    progress: ReconcileProgress,
}

impl Reconciliation<'_> {
    /// Continues from the stored state, or starts with `segments`.
    pub(crate) async fn run(&self, segments: u32) -> Result<Ended, StoreError> {
        let mut found = None;
        if let Some((documents, key)) = &self.kept {
            found = state::read(*documents, key, segments).await?;
        }
        let (state, revision) = match found {
            Some((state, revision)) if state.pending => (state, Some(revision)),
            Some((_, revision)) => (ReconcileState::new(segments), Some(revision)),
            None => (ReconcileState::new(segments), None),
        };
        let count = state.segments.len() as u32;
        let progress = ReconcileProgress { segments: count, ..ReconcileProgress::default() };
        let shared = Mutex::new(Shared { state, revision, superseded: false, progress });
        let all = (0..count).map(|segment| self.segment(segment, count, &shared));
        future::try_join_all(all).await?;
        let mut shared = shared.lock().await;
        shared.state.pending = false;
        self.keep(&mut shared).await?;
        Ok(match shared.superseded {
            true => Ended::Superseded,
            false => Ended::Done(shared.progress.clone()),
        })
    }

    async fn segment(&self, segment: u32, segments: u32, shared: &Mutex<Shared>) -> Result<(), StoreError> {
        let index = segment as usize;
        let mut at = shared.lock().await.state.segments[index].clone();
        while !at.done {
            let page = retrying(|| self.table.scan(segment, segments, at.after.as_ref())).await?;
            let mut hints = Vec::with_capacity(page.noted.len());
            let mut foreign = 0;
            for noted in page.noted {
                match noted {
                    Noted::Hint(hint) => hints.push(hint),
                    Noted::Nothing | Noted::Keyless => {}
                    Noted::Foreign => foreign += 1,
                }
            }
            let commits = hints.len() as u64;
            let indexed = retrying(|| self.feed.ingest(hints.clone(), Duration::ZERO)).await?;
            (at.done, at.after) = (page.next.is_none(), page.next);

            let mut shared = shared.lock().await;
            let progress = &mut shared.progress;
            progress.pages += 1;
            progress.commits += commits;
            progress.events_indexed += indexed.events;
            progress.foreign_items += foreign;
            progress.segments_done += u32::from(at.done);
            progress.cost += page.cost;
            indexed
                .log(|stream| progress.damaged.contains(stream) || progress.contradicting.contains(stream));
            progress.damaged.extend(indexed.damaged.into_iter().map(|(stream, _)| stream));
            progress.contradicting.extend(indexed.contradicting.into_iter().map(|(stream, _)| stream));
            (self.on_progress)(progress);
            shared.state.segments[index] = at.clone();
            self.keep(&mut shared).await?;
            if shared.superseded {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn keep(&self, shared: &mut Shared) -> Result<(), StoreError> {
        let Some((documents, key)) = &self.kept else { return Ok(()) };
        if shared.superseded {
            return Ok(());
        }
        let expected = ExpectedDocument::from(shared.revision);
        let written = retrying(|| state::write(*documents, key, &shared.state, expected)).await?;
        match written {
            Some(revision) => shared.revision = Some(revision),
            None => shared.superseded = true,
        }
        Ok(())
    }
}
