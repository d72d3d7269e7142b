//! What an indexer has done, and how far behind it is.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::Utc;
use es_core::StreamId;
use tokio::time::Instant;

use crate::feed::log::writer::Indexed;
use crate::feed::reconciler::ReconcileProgress;

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
    /// Streams of which the table has other commits than the feed, and which are not indexed any further: they were
    /// deleted and begin again, or the table was restored. The log says in what they differ.
    pub contradicting: BTreeSet<StreamId>,
    /// How far the feed is behind, at most: the age of the last record when it was read, zero when there was none left,
    /// of the shard that is furthest behind, plus the time for which that shard has not responded (from 2 seconds or
    /// four poll intervals on, whichever is longer). `None` before the first response.
    pub lag: Option<Duration>,
}

#[derive(Debug, Default)]
pub(crate) struct Noted {
    figures: IndexerProgress,
    pub(crate) reconciling: bool,
    pub(crate) reconciliation: Option<ReconcileProgress>,
    /// The shards that are read.
    shards: HashMap<String, ShardLag>,
}

/// How far a shard is behind.
#[derive(Debug)]
struct ShardLag {
    /// When it responded last, or was taken.
    responded: Instant,
    /// The age of the last record when it was read; `None` before the first response.
    behind: Option<Duration>,
    /// How long it may take until the next response.
    patience: Duration,
}

impl ShardLag {
    fn get(&self) -> Option<Duration> {
        let silent = self.responded.elapsed();
        let silent = if silent > self.patience { silent } else { Duration::ZERO };
        match self.behind {
            None => (!silent.is_zero()).then_some(silent),
            Some(behind) => Some(behind + silent),
        }
    }
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
        figures.lag = noted.shards.values().filter_map(ShardLag::get).max();
        figures
    }
}

impl Noted {
    pub(crate) fn note(&mut self, records: u64, foreign: u64, indexed: Indexed) {
        let figures = &mut self.figures;
        figures.records += records;
        figures.foreign_items += foreign;
        figures.events += indexed.events;
        figures.pages += indexed.pages;
        figures.unfounded += indexed.unfounded;
        indexed.log();
        figures.damaged.extend(indexed.damaged.into_iter().map(|(stream, _)| stream));
        figures.contradicting.extend(indexed.contradicting.into_iter().map(|(stream, _)| stream));
    }

    /// A shard is read from now on, and is to respond within `patience` from time to time.
    pub(crate) fn begin_shard(&mut self, shard: &str, patience: Duration) {
        let lag = ShardLag { responded: Instant::now(), behind: None, patience };
        self.shards.insert(shard.to_owned(), lag);
    }

    /// A shard has responded, and what it told is indexed: the last record was written then, if there was any.
    pub(crate) fn note_shard(&mut self, shard: &str, written: Option<i64>) {
        if let Some(lag) = self.shards.get_mut(shard) {
            let age = written.map(|written| Utc::now().timestamp_millis().saturating_sub(written));
            let age = Duration::from_millis(age.unwrap_or_default().try_into().unwrap_or_default());
            (lag.responded, lag.behind) = (Instant::now(), Some(age));
        }
    }

    pub(crate) fn forget_shard(&mut self, shard: &str) {
        self.shards.remove(shard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_lag_grows_while_a_shard_does_not_respond() {
        let progress = Progress::default();
        let second = Duration::from_secs(1);
        let lag = || progress.get().lag;
        assert_eq!(lag(), None);
        progress.update(|noted| noted.begin_shard("a", second * 2));
        assert_eq!(lag(), None);
        tokio::time::sleep(second * 5).await;
        assert_eq!(lag(), Some(second * 5), "not a word yet");
        progress.update(|noted| noted.note_shard("a", None));
        assert_eq!(lag(), Some(Duration::ZERO));
        tokio::time::sleep(second).await;
        assert_eq!(lag(), Some(Duration::ZERO), "that long is usual");
        tokio::time::sleep(second * 9).await;
        assert_eq!(lag(), Some(second * 10));
        progress.update(|noted| noted.begin_shard("b", second * 2));
        progress.update(|noted| noted.note_shard("b", None));
        assert_eq!(lag(), Some(second * 10), "the one that is furthest behind");
    }
}
