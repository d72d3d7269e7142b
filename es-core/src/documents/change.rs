//! Writing documents.

use uuid::Uuid;

use super::{Document, DocumentKey, Revision};
use crate::store::{JoinedWrite, MAX_WRITE_BYTES, MAX_WRITE_ITEMS, StoreError};

/// At least what a store keeps of a document besides its key and its content: its revision, and the names of
/// attributes.
const OVERHEAD: u64 = 64;

/// What a change requires of the document that it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedDocument {
    /// Nothing.
    Any,
    /// There is none.
    Absent,
    /// It has exactly this revision.
    At(Revision),
}

impl ExpectedDocument {
    /// Returns whether `found` meets the expectation.
    #[must_use]
    pub fn allows(self, found: Option<&Document>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => found.is_none(),
            Self::At(revision) => found.is_some_and(|found| found.revision == revision),
        }
    }
}

impl From<Option<Revision>> for ExpectedDocument {
    fn from(revision: Option<Revision>) -> Self {
        revision.map_or(Self::Absent, Self::At)
    }
}

/// What becomes of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentChange {
    /// The document.
    pub key: DocumentKey,
    /// What it has to be before.
    pub expected: ExpectedDocument,
    /// Its new content; `None` to delete it.
    pub body: Option<String>,
}

impl DocumentChange {
    /// At least the size of a change that deletes a document, whatever its key.
    pub const MAX_DELETE_BYTES: u64 =
        (DocumentKey::MAX_COLLECTION_BYTES + DocumentKey::MAX_NAME_BYTES) as u64 + OVERHEAD;

    /// Writes the document in any case.
    #[must_use]
    pub fn put(key: DocumentKey, body: impl Into<String>) -> Self {
        Self { key, expected: ExpectedDocument::Any, body: Some(body.into()) }
    }

    /// Deletes the document if it is there.
    #[must_use]
    pub fn delete(key: DocumentKey) -> Self {
        Self { key, expected: ExpectedDocument::Any, body: None }
    }

    /// Returns the size of the change in bytes, as it counts against [`Document::MAX_BYTES`] and
    /// [`ChangeSet::MAX_BYTES`]: collection, name, and content, and some bytes for what a store adds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let body = self.body.as_ref().map_or(0, String::len);
        (self.key.collection().len() + self.key.name().len() + body) as u64 + OVERHEAD
    }

    /// Returns the change if a store can make it.
    ///
    /// # Errors
    ///
    /// As [`DocumentKey::checked`]; [`StoreError::TooLarge`] when the document is larger than
    /// [`Document::MAX_BYTES`].
    pub fn checked(&self) -> Result<&Self, StoreError> {
        self.key.checked()?;
        match self.bytes() {
            bytes if bytes > Document::MAX_BYTES => {
                Err(StoreError::too_large(format!("the document `{}`", self.key), bytes, Document::MAX_BYTES))
            }
            _ => Ok(self),
        }
    }
}

/// What a document has to be for something else to be written: joined to a command, see
/// [`JoinedWrite`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentCondition {
    /// The document.
    pub key: DocumentKey,
    /// What it has to be.
    pub expected: ExpectedDocument,
}

/// Changes of several documents that are made together, or not at all.
#[derive(Clone, Debug)]
pub struct ChangeSet {
    revision: Revision,
    changes: Vec<DocumentChange>,
    joined: Vec<JoinedWrite>,
}

impl ChangeSet {
    /// How many changes every store takes at once, joined writes included.
    pub const MAX_CHANGES: usize = MAX_WRITE_ITEMS;
    /// The maximum size of a set in bytes, the sum over its [changes](DocumentChange::bytes) and joined writes.
    pub const MAX_BYTES: u64 = MAX_WRITE_BYTES;

    /// No changes yet; `id` is one that was never used before. Documents that the set writes have the
    /// revision `id`.
    #[must_use]
    pub fn new(id: Uuid) -> Self {
        Self { revision: Revision::new(id), changes: Vec::new(), joined: Vec::new() }
    }

    /// Writes a document.
    #[must_use]
    pub fn put(mut self, key: DocumentKey, expected: ExpectedDocument, body: impl Into<String>) -> Self {
        self.changes.push(DocumentChange { key, expected, body: Some(body.into()) });
        self
    }

    /// Deletes a document; one that is not there counts as deleted, unless `expected` says otherwise.
    #[must_use]
    pub fn delete(mut self, key: DocumentKey, expected: ExpectedDocument) -> Self {
        self.changes.push(DocumentChange { key, expected, body: None });
        self
    }

    /// Makes more changes.
    #[must_use]
    pub fn with(mut self, changes: impl IntoIterator<Item = DocumentChange>) -> Self {
        self.changes.extend(changes);
        self
    }

    /// Makes writes of the caller's own in the same transaction.
    #[must_use]
    pub fn join(mut self, writes: impl IntoIterator<Item = JoinedWrite>) -> Self {
        self.joined.extend(writes);
        self
    }

    /// Returns the revision of what the set writes.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the changes, in the order in which they were given. No document occurs twice in a set that a store
    /// takes.
    #[must_use]
    pub fn changes(&self) -> &[DocumentChange] {
        &self.changes
    }

    /// Writes of the caller's own.
    #[must_use]
    pub fn joined_writes(&self) -> &[JoinedWrite] {
        &self.joined
    }

    /// Returns the set, if a store can carry it out.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] when it is empty or has more than [`MAX_CHANGES`](Self::MAX_CHANGES), or a document
    /// occurs twice; [`StoreError::TooLarge`] when it has more than [`MAX_BYTES`](Self::MAX_BYTES); as
    /// [`DocumentChange::checked`] when a document is too large or has an impossible name.
    pub fn checked(&self) -> Result<&Self, StoreError> {
        if self.changes.is_empty() {
            return Err(StoreError::invalid("a set of changes needs at least one document"));
        }
        let changes = self.changes.len() + self.joined.len();
        if changes > Self::MAX_CHANGES {
            return Err(StoreError::invalid(format!(
                "a set of {changes} changes and joined writes is too large, the limit is {}",
                Self::MAX_CHANGES
            )));
        }
        let mut bytes = 0;
        for change in &self.changes {
            bytes += change.checked()?.bytes();
        }
        if bytes > Self::MAX_BYTES {
            return Err(StoreError::too_large(format!("a set of {changes} changes"), bytes, Self::MAX_BYTES));
        }
        let mut keys: Vec<&DocumentKey> = self.changes.iter().map(|change| &change.key).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => {
                Err(StoreError::invalid(format!("the document `{}` is changed twice at once", pair[0])))
            }
            None => Ok(self),
        }
    }
}

/// Why documents were not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// A document is not what the change expects; nothing was changed this time. Of a set whose answer was lost
    /// before, see [repetition](super::Documents::change).
    #[error("the document `{key}` has been changed by another")]
    #[non_exhaustive]
    Outdated {
        /// The document.
        key: DocumentKey,
    },
    /// The condition of a joined write does not hold; nothing was changed.
    #[error("the condition of a joined write does not hold")]
    Refused,
    /// The store could not change them.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ChangeError {
    /// Creates a document that is not what the change expects.
    #[must_use]
    pub fn outdated(key: &DocumentKey) -> Self {
        Self::Outdated { key: key.clone() }
    }

    /// Returns the same as an error of the store, for a set that expects nothing.
    pub(crate) fn into_store_error(self) -> StoreError {
        match self {
            Self::Store(error) => error,
            error => StoreError::invalid(error.to_string()),
        }
    }

    /// Returns whether the condition may pass: see [`StoreError::is_transient`].
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }

    /// Returns whether another one changed a document first.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        matches!(self, Self::Outdated { .. })
    }
}
