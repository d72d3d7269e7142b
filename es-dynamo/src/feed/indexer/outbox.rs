//! Indexing on the embedded engine, which has an outbox instead of a stream.

use std::sync::Arc;
use std::time::Duration;

use es_core::StoreError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::outages::Outages;
use super::progress::Progress;
use super::shard::pause;
use super::worker::Settings;
use crate::embedded::{Outbox, Unindexed};
use crate::feed::Ingest;
use crate::feed::log::hint::Noted;

/// The name of the only shard.
const SHARD: &str = "outbox";

/// The maximum number of commits that are indexed at once.
const MAX_COMMITS: usize = 1_000;

/// Indexes the commits of an outbox.
///
/// Any number of workers may do so at once, in this process and in other processes with the same file: commits that
/// another worker has indexed are no longer in the outbox, or are skipped by the log. Therefore, workers need no
/// leases.
pub(crate) struct OutboxWorker {
    pub(crate) outbox: Outbox,
    pub(crate) feed: Arc<dyn Ingest>,
    pub(crate) settings: Settings,
    pub(crate) progress: Progress,
    pub(crate) stop: CancellationToken,
}

impl OutboxWorker {
    /// Runs until it is stopped, and then indexes the rest of the outbox.
    pub(crate) async fn run(&self) -> Result<(), StoreError> {
        let patience = self.settings.poll.saturating_mul(4).max(Duration::from_secs(2));
        self.progress.update(|progress| progress.begin_shard(SHARD, patience));
        let outcome = self.work().await;
        self.progress.update(|progress| progress.forget_shard(SHARD));
        outcome
    }

    async fn work(&self) -> Result<(), StoreError> {
        let outages = Outages::default();
        let mut outage = outages.of("indexing the commits of the embedded engine");
        let mut indexed: Option<Instant> = None;
        loop {
            let is_stopping = self.stop.is_cancelled();
            // Before the outbox is read, so that no commit between the two is missed.
            let written = self.outbox.written();
            match self.round(&mut indexed).await {
                Ok(_) if is_stopping => return Ok(()),
                Ok(is_empty) => {
                    outage.is_over();
                    if is_empty {
                        self.progress.update(|progress| progress.note_shard(SHARD, None));
                        // Commits of this process end the pause; those of other processes are polled for.
                        self.pause_until(self.settings.poll, written).await;
                    }
                }
                Err(error) if error.is_transient() => {
                    let wait = outage.failed(&error);
                    if is_stopping {
                        // The commits remain in the outbox.
                        return Ok(());
                    }
                    pause(&self.stop, wait).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Indexes some of the commits in the outbox, and removes them from it. Returns whether it was empty.
    async fn round(&self, indexed: &mut Option<Instant>) -> Result<bool, StoreError> {
        if self.outbox.is_empty().await? {
            return Ok(true);
        }
        // The first commit is indexed immediately. The commits that follow share pages.
        if let Some(before) = indexed {
            pause(&self.stop, self.settings.linger.saturating_sub(before.elapsed())).await;
        }
        let Unindexed { commits, last, since } = self.outbox.read(MAX_COMMITS).await?;
        let records = commits.len() as u64;
        let (mut hints, mut foreign) = (Vec::with_capacity(commits.len()), 0);
        for (partition, item) in commits {
            match Noted::commit(&partition, &item) {
                Noted::Hint(hint) => hints.push(hint),
                Noted::Foreign => {
                    foreign += 1;
                    tracing::error!(
                        "an item has the sort key of a commit, but no stream as its partition key"
                    );
                }
                Noted::Nothing | Noted::Keyless => {}
            }
        }
        let done = self.feed.ingest(hints, Duration::ZERO).await?;
        self.outbox.remove(last).await?;
        *indexed = (records < MAX_COMMITS as u64).then(Instant::now);
        self.progress.update(|progress| {
            progress.note(records, foreign, done);
            progress.note_shard(SHARD, since);
        });
        Ok(records == 0)
    }

    async fn pause_until(&self, longest: Duration, written: event_listener::EventListener) {
        let paused = std::pin::pin!(pause(&self.stop, longest));
        futures_util::future::select(paused, written).await;
    }
}
