//! The reconciler: compares the table with its feed.

mod audit;
mod run;
pub(crate) mod scan;
pub(crate) mod state;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use es_core::documents::Documents;
use es_core::{Cost, StoreError, StreamId};

pub use audit::AuditReport;
pub(crate) use run::{Ended, Reconciliation, retrying};

use crate::store::DynamoStore;

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
        let reconciliation = Reconciliation { table, feed: table, kept, on_progress: &*self.on_progress };
        match reconciliation.run(self.segments).await? {
            Ended::Done(progress) => Ok(progress),
            Ended::Superseded => {
                Err(StoreError::invalid("another process goes on with the reconciliation of this name"))
            }
        }
    }
}

impl ReconcilerBuilder {
    /// Divides the table into so many segments that are read at once, 4 unless another number is given.
    pub fn segments(mut self, segments: u32) -> Self {
        self.0.segments = segments.clamp(1, 1_000);
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
