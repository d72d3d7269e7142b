//! Writes of documents.

use std::sync::{Arc, OnceLock};

use uuid::Uuid;

use super::{Document, DocumentKey, NULL, Revision};
use crate::personal::is_in_transit;
use crate::store::{AdditionalWrite, MAX_WRITE_BYTES, MAX_WRITE_ITEMS, StoreError};

/// An upper bound of the bytes that a store adds to a document's key and body: its revision, and attribute names.
const OVERHEAD: u64 = 64;

/// The condition on the document that a change replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedDocument {
    /// No condition.
    Any,
    /// The document does not exist.
    Absent,
    /// The document has this revision.
    At(Revision),
}

impl ExpectedDocument {
    /// Returns whether `found` meets the condition.
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

/// A change of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentChange {
    /// The document.
    pub key: DocumentKey,
    /// The condition on its current state.
    pub expected: ExpectedDocument,
    /// The new body, or `None` to delete the document.
    pub body: Option<String>,
}

impl DocumentChange {
    /// An upper bound of the size of a deletion in bytes, for any key.
    pub const MAX_DELETE_BYTES: u64 =
        (DocumentKey::MAX_COLLECTION_BYTES + DocumentKey::MAX_NAME_BYTES) as u64 + OVERHEAD;

    /// Creates or replaces the document unconditionally.
    #[must_use]
    pub fn put(key: DocumentKey, body: impl Into<String>) -> Self {
        Self { key, expected: ExpectedDocument::Any, body: Some(body.into()) }
    }

    /// Deletes the document if it exists.
    #[must_use]
    pub fn delete(key: DocumentKey) -> Self {
        Self { key, expected: ExpectedDocument::Any, body: None }
    }

    /// Returns the size of the change in bytes, as counted against [`Document::MAX_BYTES`] and
    /// [`ChangeSet::MAX_BYTES`]: collection, name, and body, plus a margin for what a store adds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let body = self.body.as_ref().map_or(0, String::len);
        (self.key.collection().len() + self.key.name().len() + body) as u64 + OVERHEAD
    }

    /// Returns the change if it is within the limits of all stores.
    ///
    /// # Errors
    ///
    /// As for [`DocumentKey::checked`]. [`StoreError::Invalid`] if the body contains U+0000. [`StoreError::TooLarge`]
    /// if the document is larger than [`Document::MAX_BYTES`]. [`StoreError::Setup`] if it contains
    /// [personal data](crate::personal) that is not sealed.
    pub fn checked(&self) -> Result<&Self, StoreError> {
        self.key.checked()?;
        if self.body.as_deref().is_some_and(|body| body.contains(NULL)) {
            return Err(StoreError::invalid(format!(
                "the document `{}` contains U+0000: escape it",
                self.key
            )));
        }
        if self.body.as_deref().is_some_and(is_in_transit) {
            return Err(StoreError::without_keyring());
        }
        match self.bytes() {
            bytes if bytes > Document::MAX_BYTES => {
                Err(StoreError::too_large(format!("the document `{}`", self.key), bytes, Document::MAX_BYTES))
            }
            _ => Ok(self),
        }
    }
}

/// A condition on a document, for use as an additional write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentCondition {
    /// The document.
    pub key: DocumentKey,
    /// The condition on its current state.
    pub expected: ExpectedDocument,
}

impl DocumentCondition {
    /// Returns the condition that the document `key` is in the state `expected`.
    #[must_use]
    pub fn new(key: DocumentKey, expected: ExpectedDocument) -> Self {
        Self { key, expected }
    }
}

/// Changes of several documents that are applied atomically.
///
/// ```
/// use es_core::MemoryStore;
/// use es_core::documents::{ChangeSet, DocumentKey, Documents, ExpectedDocument};
/// use es_core::uuid::Uuid;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = MemoryStore::new();
///
/// let (counter, log) = (DocumentKey::new("counters", "visits"), DocumentKey::new("log", "1"));
/// let first = ChangeSet::new(Uuid::new_v4())
///     .put(counter.clone(), ExpectedDocument::Absent, "1")
///     .put(log.clone(), ExpectedDocument::Any, "\"first\"");
/// store.change(&first).await?;
///
/// // Optimistic concurrency: the set is applied only if the counter has not changed.
/// let expected = ExpectedDocument::At(first.revision());
/// let second = ChangeSet::new(Uuid::new_v4()).put(counter, expected, "2").delete(log, ExpectedDocument::Any);
/// store.change(&second).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ChangeSet {
    revision: Revision,
    changes: Vec<DocumentChange>,
    additional: Vec<AdditionalWrite>,
    /// The changes with their personal data sealed, which all attempts share.
    sealed: Arc<OnceLock<ChangeSet>>,
}

impl ChangeSet {
    /// The maximum number of changes, including additional writes.
    pub const MAX_CHANGES: usize = MAX_WRITE_ITEMS;
    /// The maximum size in bytes: the sum of the [changes](DocumentChange::bytes).
    pub const MAX_BYTES: u64 = MAX_WRITE_BYTES;

    /// Creates an empty set. `id` must be unique: it becomes the revision of the documents that the set writes.
    #[must_use]
    pub fn new(id: Uuid) -> Self {
        Self {
            revision: Revision::new(id),
            changes: Vec::new(),
            additional: Vec::new(),
            sealed: Arc::default(),
        }
    }

    /// Adds a put of a document.
    #[must_use]
    pub fn put(mut self, key: DocumentKey, expected: ExpectedDocument, body: impl Into<String>) -> Self {
        self.changes.push(DocumentChange { key, expected, body: Some(body.into()) });
        self
    }

    /// Adds a deletion of a document. Deleting a missing document succeeds unless `expected` requires it to exist.
    #[must_use]
    pub fn delete(mut self, key: DocumentKey, expected: ExpectedDocument) -> Self {
        self.changes.push(DocumentChange { key, expected, body: None });
        self
    }

    /// Adds changes.
    #[must_use]
    pub fn with_changes(mut self, changes: impl IntoIterator<Item = DocumentChange>) -> Self {
        self.changes.extend(changes);
        self
    }

    /// Adds store-specific writes to the transaction.
    #[must_use]
    pub fn with_additional(mut self, writes: impl IntoIterator<Item = AdditionalWrite>) -> Self {
        self.additional.extend(writes);
        self
    }

    /// Returns the revision of the documents that the set writes.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the changes, in insertion order.
    #[must_use]
    pub fn changes(&self) -> &[DocumentChange] {
        &self.changes
    }

    /// Returns the additional writes.
    #[must_use]
    pub fn additional_writes(&self) -> &[AdditionalWrite] {
        &self.additional
    }

    /// Returns the set with its personal data sealed, if an attempt has [kept](Self::keep_sealed) it.
    pub(crate) fn sealed(&self) -> Option<&Self> {
        self.sealed.get()
    }

    /// Keeps the sealed form of the changes for all attempts, unless a concurrent attempt has kept one. Returns the set
    /// that was kept.
    pub(crate) fn keep_sealed(&self, changes: Vec<DocumentChange>) -> &Self {
        self.sealed.get_or_init(|| {
            let additional = self.additional.clone();
            Self { revision: self.revision, changes, additional, sealed: Arc::default() }
        })
    }

    /// Returns the set if it is within the limits of all stores.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the set is empty, has more than [`MAX_CHANGES`](Self::MAX_CHANGES) changes, or
    /// changes a document twice. [`StoreError::TooLarge`] if it is larger than [`MAX_BYTES`](Self::MAX_BYTES). As
    /// for [`DocumentChange::checked`] if a document is too large or has an invalid key.
    pub fn checked(&self) -> Result<&Self, StoreError> {
        if self.changes.is_empty() {
            return Err(StoreError::invalid("a set of changes needs at least one document"));
        }
        let changes = self.changes.len() + self.additional.len();
        if changes > Self::MAX_CHANGES {
            return Err(StoreError::invalid(format!(
                "a set of {changes} changes and additional writes exceeds the limit of {}",
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
                Err(StoreError::invalid(format!("the document `{}` is changed twice in one set", pair[0])))
            }
            None => Ok(self),
        }
    }
}

/// An error from changing documents.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// A document does not meet its condition, and this call changed nothing. For sets whose response was lost, see
    /// [idempotency](super::Documents::change).
    #[error("the document `{key}` was changed concurrently")]
    #[non_exhaustive]
    Outdated {
        /// The document.
        key: DocumentKey,
    },
    /// The condition of an additional write does not hold. Nothing was changed.
    #[error("the condition of an additional write does not hold")]
    Refused,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ChangeError {
    /// Creates the error for a document that does not meet its condition.
    #[must_use]
    pub fn outdated(key: &DocumentKey) -> Self {
        Self::Outdated { key: key.clone() }
    }

    /// Converts the error of an unconditional set to an error of the store.
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

    /// Returns whether a document was changed concurrently.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        matches!(self, Self::Outdated { .. })
    }
}
