//! The reconciler: compares the table with its feed.

mod audit;
pub(crate) mod scan;
pub(crate) mod state;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use es_core::documents::{DocumentKey, Documents, ExpectedDocument, Revision};
use es_core::{Cost, StoreError, StreamId};
use futures_util::future;
use tokio::sync::Mutex;

use self::scan::Scan;
use self::state::ReconcileState;
use super::Ingest;
use super::log::hint::Noted;
use crate::store::DynamoStore;
use crate::table::retry::retrying;

pub use audit::AuditReport;

/// Indexes what the feed does not have: of a table that was there before its feed, or after an outage.
///
/// It goes through the whole table, in segments at once, and may run beside indexers and other reconcilers. What
/// is in the feed already is left alone. The [indexer](crate::Indexer) runs one by itself when it finds that
/// its place in the table's stream is gone.
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

/// How far a reconciliation has come in this process.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ReconcileProgress {
    /// Into how many segments the table is divided.
    pub segments: u32,
    /// How many of them were finished.
    pub segments_done: u32,
    /// Pages of the table that were read.
    pub pages: u64,
    /// Commits in them.
    pub commits: u64,
    /// Events that are in the feed now and were not before.
    pub events_indexed: u64,
    /// Items that look like commits, and are of no stream that there can be.
    pub foreign_items: u64,
    /// Streams that cannot be read, and so are not indexed any further.
    pub damaged: BTreeSet<StreamId>,
    /// Streams of which the table has other commits than the feed, and which are not indexed any further.
    pub contradicting: BTreeSet<StreamId>,
    /// What reading the table cost.
    pub cost: Cost,
}

/// Settings of a [`Reconciler`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct ReconcilerBuilder(Reconciler);

impl Reconciler {
    /// Settings for a reconciler of the table of `store`.
    pub fn builder(store: &DynamoStore) -> ReconcilerBuilder {
        ReconcilerBuilder(Self {
            store: store.clone(),
            segments: 4,
            name: None,
            on_progress: Arc::new(|_| {}),
        })
    }

    /// Indexes what the feed does not have.
    ///
    /// A stream that is damaged stops no other; it is named in the outcome.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the table cannot be read or written any more; with a [name](ReconcilerBuilder::name),
    /// the next one goes on there. [`StoreError::Invalid`] when another process goes on under the same name.
    pub async fn run(&self) -> Result<ReconcileProgress, StoreError> {
        let table = &*self.store.table;
        let documents: &dyn Documents = &self.store;
        let kept = self.name.as_ref().map(|name| (documents, state::key(&format!("named/{name}"))));
        let feed = &*self.store.feed;
        let reconciliation = Reconciliation { table, feed, kept, on_progress: &*self.on_progress };
        match reconciliation.run(self.segments).await? {
            Ended::Done(progress) => Ok(progress),
            Ended::Superseded => {
                Err(StoreError::invalid("another process goes on with the reconciliation of this name"))
            }
        }
    }
}

impl ReconcilerBuilder {
    /// Sets into how many segments the table is divided, which are read at once (default: 4, from 1 to 1,000).
    pub fn segments(mut self, segments: u32) -> Self {
        self.0.segments = segments.clamp(1, state::MAX_SEGMENTS);
        self
    }

    /// Keeps how far it has come under a name, so that another process can go on there.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.0.name = Some(name.into());
        self
    }

    /// Calls `progress` after every page.
    pub fn on_progress(mut self, progress: impl Fn(&ReconcileProgress) + Send + Sync + 'static) -> Self {
        self.0.on_progress = Arc::new(progress);
        self
    }

    /// The reconciler.
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

/// What a reconciliation works on.
pub(crate) struct Reconciliation<'a> {
    pub(crate) table: &'a dyn Scan,
    pub(crate) feed: &'a dyn Ingest,
    /// Where its state is kept, if it is.
    pub(crate) kept: Option<(&'a dyn Documents, DocumentKey)>,
    pub(crate) on_progress: &'a (dyn Fn(&ReconcileProgress) + Send + Sync),
}

/// How a reconciliation ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Done(ReconcileProgress),
    /// Another process goes on with it, or it was ordered once more.
    Superseded,
}

/// What all segments share.
struct Shared {
    state: ReconcileState,
    revision: Option<Revision>,
    superseded: bool,
    progress: ReconcileProgress,
}

impl Reconciliation<'_> {
    /// Goes on where the state ends, or starts with `segments`.
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
            indexed.log();
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
