//! Indexing on the embedded engine, which has an outbox where a table of DynamoDB has a stream.

use std::sync::Arc;
use std::time::Duration;

use es_core::StoreError;
use tokio::sync::watch;
use tokio::time::Instant;

use super::outages::Outages;
use super::progress::Progress;
use super::shard::pause;
use super::worker::Settings;
use crate::embedded::{Outbox, Unindexed};
use crate::feed::Ingest;
use crate::feed::log::hint::Noted;

/// The name of the one shard that there is.
const SHARD: &str = "outbox";

/// How many commits are indexed at once.
const MOST_COMMITS: usize = 1_000;

/// Indexes the commits of an outbox.
///
/// Any number may do so at once, in this process and in others with the same file: what another one has indexed is
/// no longer in the outbox, or is dropped by the log. So there is nothing to take over when one of them dies.
pub(crate) struct OutboxWorker {
    pub(crate) outbox: Outbox,
    pub(crate) feed: Arc<dyn Ingest>,
    pub(crate) settings: Settings,
    pub(crate) progress: Progress,
    pub(crate) stop: watch::Sender<bool>,
}

impl OutboxWorker {
    /// Runs until it is told to stop, and then indexes the rest of the outbox.
    pub(crate) async fn run(&self) -> Result<(), StoreError> {
        let patience = (self.settings.poll * 4).max(Duration::from_secs(2));
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
            let is_stopping = *self.stop.borrow();
            // Before the look, so that nothing is missed between the two.
            let written = self.outbox.written();
            match self.round(&mut indexed).await {
                Ok(_) if is_stopping => return Ok(()),
                Ok(is_empty) => {
                    outage.is_over();
                    if is_empty {
                        self.progress.update(|progress| progress.note_shard(SHARD, None));
                        // A commit of this process wakes it; those of other processes are looked for.
                        self.pause_until(self.settings.poll, written).await;
                    }
                }
                Err(error) if error.is_transient() => {
                    let wait = outage.failed(&error);
                    if is_stopping {
                        // The outbox keeps them.
                        return Ok(());
                    }
                    pause(&self.stop, wait).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Indexes some of the commits in the outbox, and removes them from it; whether there were none.
    async fn round(&self, indexed: &mut Option<Instant>) -> Result<bool, StoreError> {
        if self.outbox.is_empty().await? {
            return Ok(true);
        }
        // The first commit is indexed at once. Those that follow share their pages.
        if let Some(before) = indexed {
            pause(&self.stop, self.settings.linger.saturating_sub(before.elapsed())).await;
        }
        let Unindexed { commits, last, since } = self.outbox.read(MOST_COMMITS).await?;
        let records = commits.len() as u64;
        let (mut hints, mut foreign) = (Vec::with_capacity(commits.len()), 0);
        for (partition, item) in commits {
            match Noted::commit(&partition, &item) {
                Noted::Hint(hint) => hints.push(hint),
                Noted::Foreign => {
                    foreign += 1;
                    tracing::error!("an item looks like a commit, and is of no stream");
                }
                Noted::Nothing | Noted::Keyless => {}
            }
        }
        let done = self.feed.ingest(hints, Duration::ZERO).await?;
        self.outbox.remove(last).await?;
        *indexed = (records < MOST_COMMITS as u64).then(Instant::now);
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
