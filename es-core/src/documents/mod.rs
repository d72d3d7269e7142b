//! Small documents that consumers of the feed keep: checkpoints, leases, rows of read models, timers.

mod change;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use change::{ChangeError, ChangeSet, DocumentChange, DocumentCondition, ExpectedDocument};

use crate::ids::IdSource;
use crate::store::{MAX_ITEM_BYTES, StoreError};

/// A state of a document: each write gives it another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(Uuid);

impl Revision {
    /// Creates the revision that the set of changes with the id `id` writes.
    #[must_use]
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// Returns the revision as a UUID.
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

    /// Creates a document with the content `body`.
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

/// The name of a document: the collection it is in, and its name there.
///
/// Both may be any text; a collection is not empty, and has at most
/// [`MAX_COLLECTION_BYTES`](Self::MAX_COLLECTION_BYTES) bytes, a name at most
/// [`MAX_NAME_BYTES`](Self::MAX_NAME_BYTES).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentKey {
    collection: String,
    name: String,
}

impl DocumentKey {
    /// The maximum length of a collection in bytes.
    pub const MAX_COLLECTION_BYTES: usize = 1024;
    /// The maximum length of a name in bytes. A sort key of DynamoDB has at most 1,024.
    pub const MAX_NAME_BYTES: usize = 1000;

    /// Creates the document `name` of `collection`.
    #[must_use]
    pub fn new(collection: impl Into<String>, name: impl Into<String>) -> Self {
        Self { collection: collection.into(), name: name.into() }
    }

    /// Returns the key, if a store can have it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] when the collection is empty, [`StoreError::TooLarge`] when it is too long.
    pub fn checked(&self) -> Result<&Self, StoreError> {
        if self.collection.is_empty() {
            return Err(StoreError::invalid(format!("the document `{self}` needs a collection")));
        }
        let parts = [
            ("the collection of a document", self.collection.len(), Self::MAX_COLLECTION_BYTES),
            ("the name of a document", self.name.len(), Self::MAX_NAME_BYTES),
        ];
        for (what, bytes, limit) in parts {
            if bytes > limit {
                return Err(StoreError::too_large(what, bytes as u64, limit as u64));
            }
        }
        Ok(self)
    }

    /// Returns the collection.
    #[must_use]
    pub fn collection(&self) -> &str {
        &self.collection
    }

    /// Returns the name in the collection.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for DocumentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.collection, self.name)
    }
}

impl fmt::Debug for DocumentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

/// Which documents of a collection to list, by the order of their names' bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentQuery {
    /// The collection.
    pub collection: String,
    /// What the names start with.
    pub prefix: String,
    /// The name after which to go on: the [`next`](DocumentPage::next) of the page before, or any other.
    pub after: Option<String>,
    /// From the last name to the first.
    pub descending: bool,
    /// The most documents to list at once; there may be fewer.
    pub limit: u32,
    /// Whether changes of the last moment may be missing, at half the price.
    pub eventual: bool,
}

impl DocumentQuery {
    /// Creates all documents of `collection`, a hundred at once.
    #[must_use]
    pub fn new(collection: impl Into<String>) -> Self {
        Self {
            collection: collection.into(),
            prefix: String::new(),
            after: None,
            descending: false,
            limit: 100,
            eventual: false,
        }
    }

    /// Those whose names start with `prefix`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Those after the name `after`.
    #[must_use]
    pub fn after(mut self, after: Option<String>) -> Self {
        self.after = after;
        self
    }

    /// From the last name to the first.
    #[must_use]
    pub fn descending(mut self) -> Self {
        self.descending = true;
        self
    }

    /// At most `limit` at once.
    #[must_use]
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit.max(1);
        self
    }

    /// Changes of the last moment may be missing.
    #[must_use]
    pub fn eventually(mut self) -> Self {
        self.eventual = true;
        self
    }

    /// Returns the query, if there can be such documents.
    ///
    /// # Errors
    ///
    /// As [`DocumentKey::checked`], of the collection with the prefix, and with the name after which to go on.
    pub fn checked(&self) -> Result<&Self, StoreError> {
        DocumentKey::new(&self.collection, &self.prefix).checked()?;
        if let Some(after) = &self.after {
            DocumentKey::new(&self.collection, after).checked()?;
        }
        Ok(self)
    }
}

/// Some documents of a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentPage {
    /// The documents with their names, in order.
    pub documents: Vec<(String, Document)>,
    /// The name after which to go on; `None` when there are no more. That there is one promises nothing: the next
    /// page may be empty.
    pub next: Option<String>,
}

impl DocumentPage {
    /// Creates a page, and the name after which to go on.
    #[must_use]
    pub fn new(documents: Vec<(String, Document)>, next: Option<String>) -> Self {
        Self { documents, next }
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
