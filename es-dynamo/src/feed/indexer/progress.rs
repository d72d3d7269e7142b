//! The progress of an indexer, and its lag.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::Utc;
use es_core::StreamId;
use tokio::time::Instant;

use crate::feed::log::writer::Indexed;
use crate::feed::reconciler::ReconcileProgress;

/// The progress of an indexer since it was created, and its lag.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct IndexerProgress {
    /// The number of records that were read from the table's stream.
    pub records: u64,
    /// The number of events that were added to the feed.
    pub events: u64,
    /// The number of pages that were written for them.
    pub pages: u64,
    /// The number of records whose commits are not in the table, for example because their streams were deleted.
    pub unfounded: u64,
    /// The number of items that have the sort key of a commit, but not the name of a stream as their partition key.
    pub foreign_items: u64,
    /// The number of shards that the indexer owns.
    pub shards: usize,
    /// Whether a reconciliation is running.
    pub reconciling: bool,
    /// The progress of the last reconciliation, if there was one. The other figures do not include it.
    pub reconciliation: Option<ReconcileProgress>,
    /// Streams that cannot be decoded, and are not indexed any further.
    pub damaged: BTreeSet<StreamId>,
    /// Streams whose commits in the table differ from those in the feed, and which are not indexed any further: they
    /// were deleted and created again, or the table was restored. The log has the details.
    pub contradicting: BTreeSet<StreamId>,
    /// An upper bound for the lag of the feed, which is that of the shard that is furthest behind: the age of the last
    /// record when it was read (zero if no records were left, or if all of their commits were in the feed already),
    /// plus the time since the last response of the shard if that exceeds 2 seconds, and the longest pause between two
    /// reads by four poll intervals. `None` before the first response.
    pub lag: Option<Duration>,
}

#[derive(Debug, Default)]
pub(crate) struct Noted {
    figures: IndexerProgress,
    pub(crate) reconciling: bool,
    pub(crate) reconciliation: Option<ReconcileProgress>,
    /// The lags of the shards that the indexer owns.
    shards: HashMap<String, ShardLag>,
}

/// The lag of a shard.
#[derive(Debug)]
struct ShardLag {
    /// The time of the last response, or of the acquisition.
    responded: Instant,
    /// The age of the last record when it was read; `None` before the first response.
    behind: Option<Duration>,
    /// How long the next response usually takes at most.
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

/// The figures of a worker, shared by its tasks.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Noted>);

impl Progress {
    pub(crate) fn update(&self, update: impl FnOnce(&mut Noted)) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        update(&mut noted);
        noted.measure();
    }

    /// Records the metrics again. The lag grows while a shard does not respond.
    pub(crate) fn measure(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).measure();
    }

    /// Returns the lag of a shard that the indexer owns.
    pub(crate) fn shard_lag(&self, shard: &str) -> Option<Duration> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.shards.get(shard).and_then(ShardLag::get)
    }

    pub(crate) fn get(&self) -> IndexerProgress {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut figures = noted.figures.clone();
        figures.shards = noted.shards.len();
        figures.reconciling = noted.reconciling;
        figures.reconciliation.clone_from(&noted.reconciliation);
        figures.lag = noted.lag();
        figures
    }
}

impl Noted {
    fn lag(&self) -> Option<Duration> {
        self.shards.values().filter_map(ShardLag::get).max()
    }

    fn measure(&self) {
        #[cfg(feature = "metrics")]
        {
            use es_core::metrics::{INDEXER_DAMAGED, INDEXER_LAG};

            let IndexerProgress { damaged, contradicting, .. } = &self.figures;
            INDEXER_LAG.set([], self.lag().unwrap_or_default().as_secs_f64());
            INDEXER_DAMAGED.set([], (damaged.len() + contradicting.len()) as f64);
        }
    }

    pub(crate) fn note(&mut self, records: u64, foreign: u64, indexed: Indexed) {
        let figures = &mut self.figures;
        figures.records += records;
        figures.foreign_items += foreign;
        figures.events += indexed.events;
        #[cfg(feature = "metrics")]
        es_core::metrics::INDEXER_EVENTS.add([], indexed.events);
        figures.pages += indexed.pages;
        figures.unfounded += indexed.unfounded;
        indexed.log(|stream| figures.damaged.contains(stream) || figures.contradicting.contains(stream));
        figures.damaged.extend(indexed.damaged.into_iter().map(|(stream, _)| stream));
        figures.contradicting.extend(indexed.contradicting.into_iter().map(|(stream, _)| stream));
    }

    /// Adds a shard, which is expected to respond within `patience`.
    pub(crate) fn begin_shard(&mut self, shard: &str, patience: Duration) {
        let lag = ShardLag { responded: Instant::now(), behind: None, patience };
        self.shards.insert(shard.to_owned(), lag);
    }

    /// Records that a response of a shard was indexed. Its last record, if it had any, was written at `written`.
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
        assert_eq!(lag(), Some(second * 5), "no response yet");
        progress.update(|noted| noted.note_shard("a", None));
        assert_eq!(lag(), Some(Duration::ZERO));
        tokio::time::sleep(second).await;
        assert_eq!(lag(), Some(Duration::ZERO), "within the usual time");
        tokio::time::sleep(second * 9).await;
        assert_eq!(lag(), Some(second * 10));
        progress.update(|noted| noted.begin_shard("b", second * 2));
        progress.update(|noted| noted.note_shard("b", None));
        assert_eq!(lag(), Some(second * 10), "the shard that is furthest behind");
    }
}
