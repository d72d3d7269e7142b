//! Reading one shard.

use std::time::Duration;

use es_core::documents::Revision;
use es_core::{StoreError, error_text};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::outages::bounded;
use super::plan;
use super::plan::ShardState;
use super::source::{Records, SourceError};
use super::worker::Worker;
use crate::feed::log::hint::{Hint, Noted};

/// The number of records without commits, such as those of heartbeats, from which a shard does not count as idle.
const BUSY_RECORDS: usize = 20;

/// How the reading of a shard ended.
#[derive(Debug)]
pub(crate) enum ShardEnd {
    /// The shard is closed, and was read to its end.
    Finished,
    /// Another worker has taken the shard over, or may reach it while this one cannot.
    Lost,
    /// Records after the checkpoint have expired.
    Trimmed,
    /// The indexer was stopped.
    Stopped,
    Failed(StoreError),
}

/// What the records of one read contained.
#[derive(Debug)]
struct Indexing {
    /// The number of commits that this process had not added to the feed before.
    new: usize,
    /// Whether there were neither commits nor many other records.
    is_idle: bool,
}

/// The lease of a worker on a shard.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) shard: String,
    pub(crate) state: ShardState,
    pub(crate) revision: Revision,
}

impl Worker {
    /// Reads a shard until it ends, its lease is lost, or the indexer is stopped.
    pub(crate) async fn follow(&self, mut lease: Lease) -> ShardEnd {
        let mut iterator: Option<String> = None;
        let mut outage = self.outages.of("reading the table's stream");
        let mut renewed = Instant::now();
        let mut pause = self.settings.poll;
        loop {
            let read = Instant::now();
            if self.stop.is_cancelled() {
                return self.release(lease).await;
            }
            if renewed.elapsed() >= self.settings.lease / 3 {
                match self.checkpoint(&mut lease).await {
                    Ok(true) => renewed = Instant::now(),
                    Ok(false) => return ShardEnd::Lost,
                    // A checkpoint is only a hint, so the next one suffices.
                    Err(error) => {
                        let (shard, error) = (&lease.shard, error_text(&error));
                        tracing::debug!(shard, error, "could not write the checkpoint of a shard");
                    }
                }
            }
            let records = match self.next_records(&lease, &mut iterator).await {
                Ok(Some(records)) => records,
                Ok(None) | Err(SourceError::Expired) => continue,
                Err(SourceError::Trimmed) => return ShardEnd::Trimmed,
                Err(SourceError::Store(error)) if error.is_transient() => {
                    if renewed.elapsed() >= self.settings.lease {
                        return unreachable(&lease, &error);
                    }
                    self.pause(outage.failed(&error)).await;
                    continue;
                }
                Err(SourceError::Store(error)) => return ShardEnd::Failed(error),
            };
            outage.is_over();
            let (next, written) = (records.next.clone(), records.written);
            let last = records.records.last().map(|record| record.sequence.clone());
            let hints = match self.index(records, renewed).await {
                Ok(hints) => hints,
                Err(error) => return ShardEnd::Failed(error),
            };
            lease.state.after = last.or(lease.state.after);
            let written = written.filter(|_| hints.new > 0);
            self.progress.update(|progress| progress.note_shard(&lease.shard, written));
            let Some(next) = next else { return self.finish(lease).await };
            iterator = Some(next);
            if hints.is_idle {
                self.pause(pause).await;
                pause = pause.saturating_mul(2).min(self.settings.longest_pause());
            } else {
                pause = self.settings.poll;
                self.pause(self.settings.read_interval().saturating_sub(read.elapsed())).await;
            }
        }
    }

    /// Releases the shard, because the indexer was stopped.
    async fn release(&self, mut lease: Lease) -> ShardEnd {
        lease.state.owner = None;
        let _ = self.checkpoint(&mut lease).await;
        ShardEnd::Stopped
    }

    /// Records that the shard was read to its end.
    async fn finish(&self, mut lease: Lease) -> ShardEnd {
        (lease.state.done, lease.state.owner) = (true, None);
        match self.checkpoint(&mut lease).await {
            Ok(_) => ShardEnd::Finished,
            // The next owner of the shard finds its end again.
            Err(_) => ShardEnd::Lost,
        }
    }

    /// Reads the next records. Returns `None` if it had to get an iterator first.
    async fn next_records(
        &self,
        lease: &Lease,
        iterator: &mut Option<String>,
    ) -> Result<Option<Records>, SourceError> {
        let limit = self.settings.lease / 3;
        match iterator.take() {
            Some(iterator) => bounded(limit, self.source.records(&iterator)).await.map(Some),
            None => {
                let started = self.source.iterator(&lease.shard, lease.state.after.as_deref());
                *iterator = Some(bounded(limit, started).await?);
                Ok(None)
            }
        }
    }

    /// Indexes the commits of records. Returns once all of them are in the feed.
    ///
    /// Transient errors are retried until twice the lease duration has passed since `renewed`, because another worker
    /// may reach the table.
    async fn index(&self, records: Records, renewed: Instant) -> Result<Indexing, StoreError> {
        let count = records.records.len();
        let mut hints: Vec<Hint> = Vec::new();
        let mut foreign = 0;
        for record in records.records {
            let sequence = record.sequence.clone();
            match record.noted() {
                Noted::Hint(hint) => hints.push(hint),
                Noted::Nothing => {}
                Noted::Keyless => {
                    tracing::warn!(sequence, "skipped a record without keys, which cannot be a commit");
                }
                Noted::Foreign => {
                    foreign += 1;
                    tracing::error!(
                        sequence,
                        "an item has the sort key of a commit, but no stream as its partition key"
                    );
                }
            }
        }
        let is_idle = hints.is_empty() && count < BUSY_RECORDS;
        hints.retain(|hint| !self.committed.is_indexed(hint));
        let found = Indexing { new: hints.len(), is_idle };
        let mut outage = self.outages.of("writing the feed");
        let indexed = loop {
            let attempt = self.feed.ingest(hints.clone(), self.settings.linger);
            match bounded(self.settings.lease.saturating_add(self.settings.linger), attempt).await {
                Err(error)
                    if error.is_transient()
                        && !self.stop.is_cancelled()
                        && renewed.elapsed() < self.settings.lease.saturating_mul(2) =>
                {
                    self.pause(outage.failed(&error)).await;
                }
                other => break other?,
            }
        };
        outage.is_over();
        self.progress.update(|progress| progress.note(count as u64, foreign, indexed));
        Ok(found)
    }

    /// Writes the checkpoint, which renews the lease. Returns `false` if another worker has taken the shard over.
    async fn checkpoint(&self, lease: &mut Lease) -> Result<bool, StoreError> {
        let seen = Some(lease.revision);
        lease.state.at = (self.clock)();
        let lag = self.progress.shard_lag(&lease.shard);
        lease.state.lag = lag.and_then(|lag| lag.as_millis().try_into().ok());
        let written = plan::write_shard(&*self.documents, &lease.shard, &lease.state, seen);
        match bounded(self.settings.lease / 3, written).await? {
            Some(revision) => {
                lease.revision = revision;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Waits for `duration`, or until the indexer is stopped.
    pub(crate) async fn pause(&self, duration: Duration) {
        pause(&self.stop, duration).await;
    }
}

/// Gives up a shard that has not responded for the lease duration.
fn unreachable(lease: &Lease, error: &StoreError) -> ShardEnd {
    let (shard, error) = (&lease.shard, error_text(error));
    tracing::info!(shard, error, "released a shard that does not respond: another indexer may reach it");
    ShardEnd::Lost
}

/// Waits for `duration`, or until `stop` is cancelled.
pub(crate) async fn pause(stop: &CancellationToken, duration: Duration) {
    stop.run_until_cancelled(tokio::time::sleep(duration)).await;
}
