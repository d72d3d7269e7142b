//! Indexing the commits of this process, without waiting for their stream records.

use std::time::Duration;

use es_core::StoreError;
use tokio::time::{Instant, timeout};

use super::outages::bounded;
use super::worker::Worker;
use crate::feed::log::page::MAX_COMMITS;

impl Worker {
    /// Indexes the commits of this process until the indexer is stopped, and then those that are waiting, within
    /// `last_limit`.
    ///
    /// The first commit is indexed at once. While there are more, a page is written once per [`linger`], or when it is
    /// full. After an error, commits are left to their stream records.
    ///
    /// [`linger`]: super::IndexerBuilder::linger
    pub(crate) async fn index_commits(&self, last_limit: Option<Duration>) -> Result<(), StoreError> {
        let commits = self.committed.follow();
        let mut outage = self.outages.of("writing the feed");
        let mut indexed: Option<Instant> = None;
        loop {
            self.stop.run_until_cancelled(commits.wait_for(1)).await;
            if let Some(indexed) = indexed {
                let rest = self.settings.linger.saturating_sub(indexed.elapsed());
                let full = timeout(rest, commits.wait_for(MAX_COMMITS));
                self.stop.run_until_cancelled(full).await;
            }
            let is_stopping = self.stop.is_cancelled();
            let hints = commits.take();
            if !hints.is_empty() {
                indexed = Some(Instant::now());
                let limit = last_limit.filter(|_| is_stopping).unwrap_or(self.settings.lease);
                let attempt = self.feed.ingest(hints.clone(), Duration::ZERO);
                match bounded(limit.min(self.settings.lease), attempt).await {
                    Ok(done) => {
                        outage.is_over();
                        if done.is_complete() {
                            self.committed.set_indexed(&hints);
                        }
                        self.progress.update(|progress| progress.note(0, 0, done));
                    }
                    Err(error) if error.is_transient() => self.pause(outage.failed(&error)).await,
                    Err(error) => return Err(error),
                }
            }
            if is_stopping {
                return Ok(());
            }
        }
    }
}
