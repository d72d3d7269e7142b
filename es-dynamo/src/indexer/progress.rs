//! What an indexer has done, and how far behind it is.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::Utc;
use es_core::StreamId;

use crate::feed::Indexed;
use crate::reconciler::ReconcileProgress;

/// What an indexer has done since it was made, and how far behind it is.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct IndexerProgress {
    /// Records of the table's stream that were read.
    pub records: u64,
    /// Events that are in the feed now and were not before.
    pub events: u64,
    /// Pages that were written for them.
    pub pages: u64,
    /// Records that hint at commits which are not in the table: those of streams that were deleted, say.
    pub unfounded: u64,
    /// Items that look like commits, and are of no stream that there can be.
    pub foreign_items: u64,
    /// Shards that are read at the moment.
    pub shards: usize,
    /// Whether the table is reconciled with its feed at the moment.
    pub reconciling: bool,
    /// How far the last reconciliation has come, if there was one. Its figures are not part of the others.
    pub reconciliation: Option<ReconcileProgress>,
    /// Streams that cannot be read, and so are not indexed any further.
    pub damaged: BTreeSet<StreamId>,
    /// How old the last record was when it was read, zero when there was none left in any shard; `None` before
    /// the first.
    pub lag: Option<Duration>,
}

#[derive(Debug, Default)]
pub(crate) struct Noted {
    figures: IndexerProgress,
    pub(crate) reconciling: bool,
    pub(crate) reconciliation: Option<ReconcileProgress>,
    /// The shards that are read, and whether there was nothing left in them.
    shards: HashMap<String, bool>,
}

/// The figures, shared by all that a worker does.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Noted>);

impl Progress {
    pub(crate) fn update(&self, update: impl FnOnce(&mut Noted)) {
        update(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn get(&self) -> IndexerProgress {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut figures = noted.figures.clone();
        figures.shards = noted.shards.len();
        figures.reconciling = noted.reconciling;
        figures.reconciliation.clone_from(&noted.reconciliation);
        if !noted.shards.is_empty() && noted.shards.values().all(|is_empty| *is_empty) {
            figures.lag = Some(Duration::ZERO);
        }
        figures
    }
}

impl Noted {
    pub(crate) fn note(&mut self, records: u64, foreign: u64, written: Option<i64>, indexed: Indexed) {
        let figures = &mut self.figures;
        figures.records += records;
        figures.foreign_items += foreign;
        figures.events += indexed.events;
        figures.pages += indexed.pages;
        figures.unfounded += indexed.unfounded;
        figures.damaged.extend(indexed.damaged_streams());
        if let Some(written) = written {
            let age = Utc::now().timestamp_millis().saturating_sub(written);
            figures.lag = Some(Duration::from_millis(age.try_into().unwrap_or_default()));
        }
    }

    pub(crate) fn note_shard(&mut self, shard: &str, is_empty: bool) {
        self.shards.insert(shard.to_owned(), is_empty);
    }

    pub(crate) fn forget_shard(&mut self, shard: &str) {
        self.shards.remove(shard);
    }
}
