//! Reading one shard.

use std::time::Duration;

use es_core::documents::Revision;
use es_core::{StoreError, error_text};
use tokio::sync::watch;
use tokio::time::Instant;

use super::outages::bounded;
use super::plan;
use super::plan::ShardState;
use super::source::{Records, SourceError};
use super::worker::Worker;
use crate::feed::log::hint::{Hint, Noted};

/// How the reading of a shard ended.
#[derive(Debug)]
pub(crate) enum ShardEnd {
    /// It is closed, and read to its end.
    Finished,
    /// Another worker has it now.
    Lost,
    /// Records after the checkpoint are gone.
    Trimmed,
    /// The indexer is to end.
    Stopped,
    Failed(StoreError),
}

/// A shard that a worker has taken.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) shard: String,
    pub(crate) state: ShardState,
    pub(crate) revision: Revision,
}

impl Worker {
    /// Reads a shard until it ends, or is lost.
    pub(crate) async fn follow(&self, mut lease: Lease) -> ShardEnd {
        let mut iterator: Option<String> = None;
        let mut outage = self.outages.of("reading the table's stream");
        let mut renewed = Instant::now();
        loop {
            if self.is_stopping() {
                lease.state.owner = None;
                let _ = self.checkpoint(&mut lease).await;
                return ShardEnd::Stopped;
            }
            if renewed.elapsed() >= self.settings.lease / 3 {
                match self.checkpoint(&mut lease).await {
                    Ok(true) => renewed = Instant::now(),
                    Ok(false) => return ShardEnd::Lost,
                    // It is a hint only: the next one will do.
                    Err(error) => {
                        tracing::debug!(
                            shard = lease.shard,
                            error = error_text(&error),
                            "no checkpoint was written"
                        );
                    }
                }
            }
            let records = match self.ask(&lease, &mut iterator).await {
                Ok(Some(records)) => records,
                Ok(None) | Err(SourceError::Expired) => continue,
                Err(SourceError::Trimmed) => return ShardEnd::Trimmed,
                Err(SourceError::Store(error)) if error.is_transient() => {
                    if renewed.elapsed() >= self.settings.lease {
                        let error = error_text(&error);
                        tracing::info!(
                            shard = lease.shard,
                            error,
                            "gave up a shard: another indexer may reach it"
                        );
                        return ShardEnd::Lost;
                    }
                    self.pause(outage.failed(&error)).await;
                    continue;
                }
                Err(SourceError::Store(error)) => return ShardEnd::Failed(error),
            };
            outage.is_over();
            let (is_empty, next) = (records.records.is_empty(), records.next.clone());
            let written = records.written;
            match self.index(records, renewed).await {
                Ok(Some(last)) => lease.state.after = Some(last),
                Ok(None) => {}
                Err(error) => return ShardEnd::Failed(error),
            }
            self.progress.update(|progress| progress.note_shard(&lease.shard, written));
            let Some(next) = next else {
                (lease.state.done, lease.state.owner) = (true, None);
                return match self.checkpoint(&mut lease).await {
                    Ok(_) => ShardEnd::Finished,
                    // The next reader of the shard finds its end again.
                    Err(_) => ShardEnd::Lost,
                };
            };
            iterator = Some(next);
            if is_empty {
                self.pause(self.settings.poll).await;
            }
        }
    }

    /// Reads on, or begins to: then there are no records yet.
    async fn ask(
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

    /// Indexes what records hint at; tells the last record. When it ends well, all of it is in the feed.
    ///
    /// It is tried until the lease, which was renewed then, is over: another worker may reach the table.
    async fn index(&self, records: Records, renewed: Instant) -> Result<Option<String>, StoreError> {
        let last = records.records.last().map(|record| record.sequence.clone());
        let count = records.records.len() as u64;
        let mut hints: Vec<Hint> = Vec::new();
        let mut foreign = 0;
        for record in records.records {
            let sequence = record.sequence.clone();
            match record.noted() {
                Noted::Hint(hint) => hints.push(hint),
                Noted::Nothing => {}
                Noted::Keyless => {
                    tracing::warn!(sequence, "passed over a record without keys: it cannot be a commit");
                }
                Noted::Foreign => {
                    foreign += 1;
                    tracing::error!(sequence, "an item looks like a commit, and is of no stream");
                }
            }
        }
        let mut outage = self.outages.of("writing the feed");
        let indexed = loop {
            let attempt = self.feed.ingest(hints.clone(), self.settings.linger);
            match bounded(self.settings.lease + self.settings.linger, attempt).await {
                Err(error)
                    if error.is_transient()
                        && !self.is_stopping()
                        && renewed.elapsed() < self.settings.lease * 2 =>
                {
                    self.pause(outage.failed(&error)).await;
                }
                other => break other?,
            }
        };
        outage.is_over();
        self.progress.update(|progress| progress.note(count, foreign, indexed));
        Ok(last)
    }

    /// Writes how far the shard was read; whether it is still this worker's.
    async fn checkpoint(&self, lease: &mut Lease) -> Result<bool, StoreError> {
        let seen = Some(lease.revision);
        lease.state.at = (self.clock)();
        let written = plan::write_shard(&*self.documents, &lease.shard, &lease.state, seen);
        match bounded(self.settings.lease / 3, written).await? {
            Some(revision) => {
                lease.revision = revision;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Waits, but not when the indexer is to end.
    pub(crate) async fn pause(&self, duration: Duration) {
        pause(&self.stop, duration).await;
    }

    /// Waits until the indexer is to end.
    pub(crate) async fn stopped(&self) {
        stopped(&self.stop).await;
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

/// Waits, but not when the indexer is to end.
pub(crate) async fn pause(stop: &watch::Sender<bool>, duration: Duration) {
    let _ = tokio::time::timeout(duration, stopped(stop)).await;
}

async fn stopped(stop: &watch::Sender<bool>) {
    // An error would mean that it cannot be stopped any more.
    if stop.subscribe().wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
