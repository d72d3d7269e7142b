//! What the next checkpoint writes besides the read models, and whether all of it fits into one transaction.

use crate::documents::{ChangeSet, DocumentChange};

/// The most documents that a checkpoint may change besides itself.
const MOST_CHANGES: usize = ChangeSet::MAX_CHANGES - 1;

/// How many events may be parked in one checkpoint.
const MOST_PARKED: usize = MOST_CHANGES / 2;

/// The most bytes that a checkpoint may write besides itself.
const MOST_BYTES: u64 = ChangeSet::MAX_BYTES - 16 * 1024;

/// At least the bytes of deleting the document of a parked event.
const PARKED_BYTES: u64 = 4 * 1024;

/// What the next checkpoint writes besides the read models: events that are parked, or no longer.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// How many events were handled since the last checkpoint.
    pub(super) events: usize,
    pub(super) changes: Vec<DocumentChange>,
    /// How many events are parked.
    pub(super) parked: u64,
    /// How many are parked no longer.
    pub(super) resumed: u64,
    /// How many are skipped, as an operator decided.
    pub(super) skipped: u64,
}

/// How many documents of read models may have to be changed, and how many bytes that takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Staged {
    pub(super) documents: usize,
    pub(super) bytes: u64,
}

impl Pending {
    /// Returns why the changes since the last checkpoint do not fit into one transaction, `None` when they do.
    ///
    /// There is always room for the document of one parked event: so the same limit applies to an event that is
    /// handled for the first time and to one that is replayed.
    pub(super) fn overload(&self, staged: Staged) -> Option<String> {
        let Staged { documents, bytes } = staged;
        if documents + self.changes.len().max(1) > MOST_CHANGES {
            let limit = MOST_CHANGES - 1;
            Some(format!(
                "it may change {documents} documents at once, rows and their places in indexes, and a transaction \
                 takes {limit}: change fewer rows for one event"
            ))
        } else if bytes + self.bytes().max(PARKED_BYTES) > MOST_BYTES {
            let limit = MOST_BYTES - PARKED_BYTES;
            Some(format!(
                "it may write {bytes} bytes at once, rows and their copies in indexes, and a transaction takes \
                 {limit}: change fewer or smaller rows for one event"
            ))
        } else {
            None
        }
    }

    /// Whether the next checkpoint can write one more document besides the read models.
    pub(super) fn has_room_for(&self, change: &DocumentChange, staged: Staged) -> bool {
        let documents = staged.documents + self.changes.len();
        let bytes = staged.bytes + self.bytes() + change.bytes();
        self.changes.len() < MOST_PARKED && documents < MOST_CHANGES && bytes <= MOST_BYTES
    }

    fn bytes(&self) -> u64 {
        self.changes.iter().map(DocumentChange::bytes).sum()
    }
}
