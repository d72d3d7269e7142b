//! Writing a checkpoint, and with it all that has to happen at the same time.

use std::sync::Arc;

use super::consumer::{Consumer, Ended};
use super::state::{SliceState, encode};
use super::stop::pause;
use crate::documents::{ChangeError, ChangeSet, DocumentChange, DocumentCondition, ExpectedDocument};
use crate::projection::{Projection, Stage};

/// The most documents that a checkpoint may change besides itself.
const MOST_CHANGES: usize = ChangeSet::MAX_CHANGES - 1;

/// How many events may be parked in one checkpoint.
const MOST_PARKED: usize = MOST_CHANGES / 2;

/// The most bytes that a checkpoint may write besides itself.
const MOST_BYTES: u64 = ChangeSet::MAX_BYTES - 16 * 1024;

/// At least the bytes of deleting the document of a parked event.
const PARKED_BYTES: u64 = 4 * 1024;

/// What is to be written with the next checkpoint besides the read models: events that are parked, or no
/// longer.
#[derive(Debug, Default)]
pub(super) struct Commit {
    pub(super) changes: Vec<DocumentChange>,
    /// How many events are parked.
    pub(super) parked: u64,
    /// How many are parked no longer.
    pub(super) resumed: u64,
}

impl<P: Projection> Consumer<'_, P> {
    /// Returns why the changes since the last checkpoint do not fit into one transaction, `None` when they do.
    ///
    /// There is always room for the document of one parked event: so the same limit applies to an event that is
    /// handled for the first time and to one that is replayed.
    pub(super) fn overload(&mut self) -> Option<String> {
        let (staged, staged_bytes) = self.staged();
        let parked = &self.commit.changes;
        let parked_bytes = parked.iter().map(DocumentChange::bytes).sum::<u64>().max(PARKED_BYTES);
        if staged + parked.len().max(1) > MOST_CHANGES {
            let limit = MOST_CHANGES - 1;
            Some(format!(
                "it may change {staged} documents at once, rows and their places in indexes, and a transaction \
                 takes {limit}: change fewer rows for one event"
            ))
        } else if staged_bytes + parked_bytes > MOST_BYTES {
            let limit = MOST_BYTES - PARKED_BYTES;
            Some(format!(
                "it may write {staged_bytes} bytes at once, rows and their copies in indexes, and a transaction \
                 takes {limit}: change fewer or smaller rows for one event"
            ))
        } else {
            None
        }
    }

    /// Whether the next checkpoint can write one more document besides the read models.
    pub(super) fn has_room_for(&mut self, change: &DocumentChange) -> bool {
        let (staged, staged_bytes) = self.staged();
        let parked = &self.commit.changes;
        let bytes = staged_bytes + parked.iter().map(DocumentChange::bytes).sum::<u64>() + change.bytes();
        parked.len() < MOST_PARKED && staged + parked.len() < MOST_CHANGES && bytes <= MOST_BYTES
    }

    /// How many documents of read models may have to be changed now, and how many bytes that takes.
    fn staged(&mut self) -> (usize, u64) {
        let stages = self.projection.stages();
        let sum = |(documents, bytes), stage: &mut dyn Stage| {
            (documents + stage.most_changes(), bytes + stage.most_bytes())
        };
        stages.into_iter().fold((0, 0), sum)
    }

    /// Writes that everything up to `handled` is finished, and with it what this changed.
    pub(super) async fn checkpoint(&mut self) -> Result<(), Ended> {
        let mut attempts = 0;
        while let Err(error) = self.projection.flush().await {
            self.wait_after(&mut attempts, error).await?;
        }
        let mut changes = Vec::new();
        let mut attempts = 0;
        let mut stage = 0;
        while let Some(current) = self.projection.stages().into_iter().nth(stage) {
            match current.changes().await {
                Ok(more) => {
                    changes.extend(more);
                    stage += 1;
                }
                Err(error) => self.wait_after(&mut attempts, error).await?,
            }
        }
        let commit = std::mem::take(&mut self.commit);
        changes.extend(commit.changes);
        let mut next = self.state.clone();
        next.position = self.handled;
        next.parked = (next.parked + commit.parked).saturating_sub(commit.resumed);
        next.exception = next
            .exception
            .filter(|exception| exception.timeout.is_none() && exception.position > self.handled);
        self.write(next, changes).await?;
        self.projection.stages().into_iter().for_each(Stage::forget);
        self.pending = 0;
        self.rewinds = 0;
        self.inner.progressed.notify(usize::MAX);
        Ok(())
    }

    /// Makes `next` the slot's state, together with `changes`, unless somebody else has changed the state.
    pub(super) async fn write(
        &mut self,
        next: SliceState,
        changes: Vec<DocumentChange>,
    ) -> Result<(), Ended> {
        let set = ChangeSet::new(self.inner.settings.ids.new_id())
            .put(self.lease.key.clone(), self.lease.expected, encode(&next)?)
            .with(changes);
        let mut attempts = 0;
        loop {
            match self.inner.store.change(&set).await {
                Ok(()) => {
                    let expected = ExpectedDocument::At(set.revision());
                    self.lease = Arc::new(DocumentCondition { key: self.lease.key.clone(), expected });
                    self.state = next;
                    return Ok(());
                }
                Err(ChangeError::Store(error)) if error.is_retryable() => {
                    // Whether it was written is unknown: the same set again tells, so that this goes on even
                    // when the worker was asked to end.
                    attempts += 1;
                    if self.stop.is_set() && attempts > 3 {
                        return Err(Ended::Lost);
                    }
                    let delay = self.inner.settings.retry.delay_after(attempts);
                    pause(&*self.inner.settings.clock, delay).await;
                }
                Err(ChangeError::Store(error)) => return Err(error.into()),
                Err(ChangeError::Outdated { key }) if key != self.lease.key => {
                    return Err(Ended::Contended);
                }
                Err(_) => return Err(Ended::Lost),
            }
        }
    }

    /// Goes back to the last checkpoint: another slice has changed a row that this one read and wrote.
    pub(super) async fn rewind(&mut self) -> Result<(), Ended> {
        self.projection.stages().into_iter().for_each(Stage::forget);
        self.commit = Commit::default();
        self.handled = self.state.position;
        self.pending = 0;
        self.parked = self.parked_streams().await?;
        self.rewinds += 1;
        self.wait(self.rewinds).await
    }
}
