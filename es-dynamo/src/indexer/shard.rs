//! Reading one shard.

use std::time::Duration;

use es_core::StoreError;
use es_core::documents::Revision;
use tokio::time::Instant;

use super::ledger::{self, ShardState};
use super::source::{Records, SourceError};
use super::worker::Worker;
use crate::backoff::Backoff;
use crate::feed::{Hint, Noted};

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
        let mut backoff = Backoff::default();
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
                    Err(error) => tracing::debug!(shard = lease.shard, %error, "no checkpoint was written"),
                }
            }
            let found = match iterator.take() {
                Some(iterator) => self.source.records(&iterator).await.map(Some),
                None => match self.source.iterator(&lease.shard, lease.state.after.as_deref()).await {
                    Ok(started) => {
                        iterator = Some(started);
                        Ok(None)
                    }
                    Err(error) => Err(error),
                },
            };
            let records = match found {
                Ok(None) => continue,
                Ok(Some(records)) => records,
                Err(SourceError::Expired) => continue,
                Err(SourceError::Trimmed) => return ShardEnd::Trimmed,
                Err(SourceError::Store(error)) if error.is_retryable() => {
                    tracing::debug!(shard = lease.shard, %error, "a shard could not be read");
                    self.pause(backoff.next()).await;
                    continue;
                }
                Err(SourceError::Store(error)) => return ShardEnd::Failed(error),
            };
            backoff.reset();
            let (is_empty, next) = (records.records.is_empty(), records.next.clone());
            match self.index(records).await {
                Ok(Some(last)) => lease.state.after = Some(last),
                Ok(None) => {}
                Err(error) => return ShardEnd::Failed(error),
            }
            self.progress.update(|progress| progress.note_shard(&lease.shard, is_empty));
            let Some(next) = next else {
                (lease.state.done, lease.state.owner) = (true, None);
                return match self.checkpoint(&mut lease).await {
                    Ok(_) => ShardEnd::Finished,
                    // Whoever reads it next finds out that it is at its end.
                    Err(_) => ShardEnd::Lost,
                };
            };
            iterator = Some(next);
            if is_empty {
                self.pause(self.settings.poll).await;
            }
        }
    }

    /// Indexes what records hint at; tells the last record. When it ends well, all of it is in the feed.
    async fn index(&self, records: Records) -> Result<Option<String>, StoreError> {
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
        let mut backoff = Backoff::default();
        let indexed = loop {
            match self.feed.ingest(hints.clone(), self.settings.linger).await {
                Err(error) if error.is_retryable() && !self.is_stopping() => {
                    tracing::warn!(%error, "the feed could not be written");
                    self.pause(backoff.next()).await;
                }
                other => break other?,
            }
        };
        self.progress.update(|progress| progress.note(count, foreign, records.written, indexed));
        Ok(last)
    }

    /// Writes how far the shard was read; whether it is still this worker's.
    async fn checkpoint(&self, lease: &mut Lease) -> Result<bool, StoreError> {
        let seen = Some(lease.revision);
        lease.state.at = (self.clock)();
        match ledger::write(&*self.documents, &lease.shard, &lease.state, seen).await? {
            Some(revision) => {
                lease.revision = revision;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Waits, but not when the indexer is to end.
    pub(crate) async fn pause(&self, duration: Duration) {
        let mut stop = self.stop.subscribe();
        let stopped = std::pin::pin!(async move {
            // An error would mean that nobody can stop it any more.
            if stop.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        let _ = tokio::time::timeout(duration, stopped).await;
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }
}
