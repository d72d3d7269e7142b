//! Small documents that consumers of the feed keep: checkpoints, leases, rows of read models, timers.

mod change;
mod key;
mod query;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use change::{ChangeError, ChangeSet, DocumentChange, DocumentCondition, ExpectedDocument};
pub use key::DocumentKey;
pub use query::{DocumentPage, DocumentQuery};

use crate::ids::IdSource;
use crate::store::{MAX_ITEM_BYTES, StoreError};

/// A state of a document: each write gives it another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(Uuid);

impl Revision {
    /// The revision that the set of changes with the id `id` writes.
    #[must_use]
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// The revision as a UUID.
    #[must_use]
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl FromStr for Revision {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A document as it is stored.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Document {
    /// Its revision.
    pub revision: Revision,
    /// Its content, a JSON text.
    pub body: String,
}

impl Document {
    /// The maximum size of a document in bytes, its key included: what fits into an item of DynamoDB.
    /// [`DocumentChange::bytes`] is the size.
    pub const MAX_BYTES: u64 = MAX_ITEM_BYTES;

    /// A document with the content `body`.
    #[must_use]
    pub fn new(revision: Revision, body: impl Into<String>) -> Self {
        Self { revision, body: body.into() }
    }
}

/// Shows the length of the content, not the content: it may be confidential.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("revision", &self.revision)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

/// A store of small documents in collections, beside the events.
#[async_trait]
pub trait Documents: fmt::Debug + Send + Sync + 'static {
    /// Reads one document, strongly consistent.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when it cannot be read.
    async fn document(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError>;

    /// Lists documents of a collection, strongly consistent unless the query says otherwise.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when they cannot be read, one of them cannot, or the query is not
    /// [sound](DocumentQuery::checked).
    async fn documents(&self, query: &DocumentQuery) -> Result<DocumentPage, StoreError>;

    /// Changes documents: all of the set, or nothing.
    ///
    /// # Repetition
    ///
    /// To carry out the same set again is safe while nobody else has changed its documents: it is a success
    /// when it was carried out already. A set that writes a document is known by the
    /// [revision](ChangeSet::revision) there.
    ///
    /// Where all of that has been changed since, and in a set that only deletes, there is nothing to know it by: a
    /// repetition may then be outdated although an earlier call, one that ended without an answer, carried the set
    /// out. What a store repeats by itself within one call is no such repetition: if the call says that the set is
    /// outdated, it was not carried out.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Outdated`] when a document is not what the set expects, [`ChangeError::Refused`] when
    /// the condition of a joined write does not hold; [`ChangeError::Store`] otherwise, and when the set is
    /// not [sound](ChangeSet::checked) or too large.
    async fn change(&self, set: &ChangeSet) -> Result<(), ChangeError>;
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<D: Documents + ?Sized> Documents for Arc<D> {
    async fn document(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        (**self).document(key).await
    }

    async fn documents(&self, query: &DocumentQuery) -> Result<DocumentPage, StoreError> {
        (**self).documents(query).await
    }

    async fn change(&self, set: &ChangeSet) -> Result<(), ChangeError> {
        (**self).change(set).await
    }
}

/// Deletes all documents of a collection.
pub(crate) async fn delete_all(
    store: &(impl Documents + ?Sized),
    collection: &str,
    ids: &dyn IdSource,
) -> Result<(), StoreError> {
    let mut query = DocumentQuery::new(collection);
    loop {
        let page = store.documents(&query).await?;
        if !page.documents.is_empty() {
            let keys = page.documents.into_iter().map(|(name, _)| DocumentKey::new(collection, name));
            let set = ChangeSet::new(ids.new_id()).with(keys.map(DocumentChange::delete));
            store.change(&set).await.map_err(ChangeError::into_store_error)?;
        }
        if page.next.is_none() {
            return Ok(());
        }
        query = query.after(page.next);
    }
}
