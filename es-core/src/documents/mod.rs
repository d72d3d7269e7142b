//! Small documents that consumers of the feed store: checkpoints, leases, rows of read models, timers.

mod change;
mod lease;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use change::{ChangeError, ChangeSet, DocumentChange, DocumentCondition, ExpectedDocument};
pub use lease::{ObservedLeases, fair_share};

use crate::ids::IdSource;
use crate::store::{MAX_ITEM_BYTES, StoreError};

/// The character that PostgreSQL cannot store.
const NULL: char = '\0';

/// The revision of a document. Each write assigns a new one.
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

/// A stored document.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Document {
    /// The revision.
    pub revision: Revision,
    /// The body, a JSON text.
    pub body: String,
}

impl Document {
    /// The maximum size of a document in bytes, including its key: the size of a DynamoDB item.
    /// [`DocumentChange::bytes`] computes it.
    pub const MAX_BYTES: u64 = MAX_ITEM_BYTES;

    /// Creates a document.
    #[must_use]
    pub fn new(revision: Revision, body: impl Into<String>) -> Self {
        Self { revision, body: body.into() }
    }
}

/// Prints the length of the body, not its content, which may be confidential.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("revision", &self.revision)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

/// A store of small documents in collections, in addition to the events.
///
/// ```
/// use es_core::MemoryStore;
/// use es_core::documents::{ChangeSet, DocumentKey, Documents, ExpectedDocument};
/// use es_core::uuid::Uuid;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
///
/// let store = MemoryStore::new();
/// let key = DocumentKey::new("settings", "theme");
/// let set = ChangeSet::new(Uuid::new_v4()).put(key.clone(), ExpectedDocument::Absent, r#""dark""#);
/// store.change(&set).await?;
/// assert_eq!(store.document(&key).await?.map(|document| document.body).as_deref(), Some(r#""dark""#));
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not store documents",
    label = "no documents",
    note = "pass a store, not a reference: a `DynamoStore`, a `PostgresStore`, a `MemoryStore`, or an `Arc<dyn Feed>`, whose clones share everything"
)]
#[async_trait]
pub trait Documents: fmt::Debug + Send + Sync + 'static {
    /// Reads one document with strong consistency.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be read.
    async fn document(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError>;

    /// Lists documents of a collection, with strong consistency unless the query is
    /// [eventual](DocumentQuery::eventual).
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the documents cannot be read or the query is not [valid](DocumentQuery::checked).
    async fn documents(&self, query: &DocumentQuery) -> Result<DocumentPage, StoreError>;

    /// Applies a set of changes atomically.
    ///
    /// # Idempotency
    ///
    /// Repeating a set succeeds if it was applied before and its documents have not been changed since. A set that
    /// writes a document is recognized by its [revision](ChangeSet::revision).
    ///
    /// A set that only deletes, or whose documents have all been changed since, cannot be recognized: repeating it
    /// may return [`Outdated`](ChangeError::Outdated) although an earlier call without a response applied it.
    /// Retries within one call are not affected: if a call returns `Outdated`, it did not apply the set.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Outdated`] if a document does not meet its condition. [`ChangeError::Refused`] if the
    /// condition of an additional write does not hold. [`ChangeError::Store`] otherwise, and if the set is not
    /// [valid](ChangeSet::checked).
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

/// The key of a document: its collection, and its name in the collection.
///
/// Both are arbitrary strings. A collection is not empty and has at most
/// [`MAX_COLLECTION_BYTES`](Self::MAX_COLLECTION_BYTES) bytes, and a name at most
/// [`MAX_NAME_BYTES`](Self::MAX_NAME_BYTES).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentKey {
    collection: String,
    name: String,
}

impl DocumentKey {
    /// The maximum length of a collection in bytes.
    pub const MAX_COLLECTION_BYTES: usize = 1024;
    /// The maximum length of a name in bytes. A DynamoDB sort key has at most 1,024.
    pub const MAX_NAME_BYTES: usize = 1000;

    /// Creates the key of the document `name` in `collection`.
    #[must_use]
    pub fn new(collection: impl Into<String>, name: impl Into<String>) -> Self {
        Self { collection: collection.into(), name: name.into() }
    }

    /// Returns the key if it is within the limits of all stores.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the collection is empty, or a part contains U+0000. [`StoreError::TooLarge`] if a
    /// part is too long.
    pub fn checked(&self) -> Result<&Self, StoreError> {
        if self.collection.is_empty() {
            return Err(StoreError::invalid(format!("the document `{self}` needs a collection")));
        }
        if self.collection.contains(NULL) || self.name.contains(NULL) {
            let key = self.to_string();
            return Err(StoreError::invalid(format!(
                "the document {key:?} has U+0000 in its key: remove it"
            )));
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

/// A query for documents of a collection, ordered by the bytes of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentQuery {
    /// The collection.
    pub collection: String,
    /// The prefix of the names. Must be empty if [`from`](Self::from) or [`until`](Self::until) is set.
    pub prefix: String,
    /// The lower bound of the names, inclusive.
    pub from: Option<String>,
    /// The upper bound of the names, inclusive.
    pub until: Option<String>,
    /// The name after which to continue: the [`next`](DocumentPage::next) of the previous page, or any other name.
    pub after: Option<String>,
    /// Whether to list in descending order.
    pub descending: bool,
    /// The maximum number of documents in a page.
    pub limit: u32,
    /// Whether to read with eventual consistency, at half the cost.
    pub eventual: bool,
}

impl DocumentQuery {
    /// Creates a query for all documents of `collection`, 100 per page.
    #[must_use]
    pub fn new(collection: impl Into<String>) -> Self {
        Self {
            collection: collection.into(),
            prefix: String::new(),
            from: None,
            until: None,
            after: None,
            descending: false,
            limit: 100,
            eventual: false,
        }
    }

    /// Restricts the query to names that start with `prefix`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Restricts the query to names that are at or after `from`, in the order of their bytes.
    #[must_use]
    pub fn from(mut self, from: Option<String>) -> Self {
        self.from = from;
        self
    }

    /// Restricts the query to names that are at or before `until`, in the order of their bytes. If it is before
    /// [`from`](Self::from), the query finds no documents.
    #[must_use]
    pub fn until(mut self, until: Option<String>) -> Self {
        self.until = until;
        self
    }

    /// Continues after the name `after`.
    #[must_use]
    pub fn after(mut self, after: Option<String>) -> Self {
        self.after = after;
        self
    }

    /// Lists in descending order (default: ascending).
    #[must_use]
    pub fn descending(mut self) -> Self {
        self.descending = true;
        self
    }

    /// Sets the maximum number of documents in a page (default: 100).
    #[must_use]
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit.max(1);
        self
    }

    /// Reads with eventual consistency.
    #[must_use]
    pub fn eventually(mut self) -> Self {
        self.eventual = true;
        self
    }

    /// Returns the query if it is within the limits of all stores.
    ///
    /// # Errors
    ///
    /// As for [`DocumentKey::checked`], for the collection with the prefix, with the bounds, and with the name after
    /// which to continue. [`StoreError::Invalid`] if the query has both a prefix and bounds.
    pub fn checked(&self) -> Result<&Self, StoreError> {
        DocumentKey::new(&self.collection, &self.prefix).checked()?;
        for name in [&self.from, &self.until, &self.after].into_iter().flatten() {
            DocumentKey::new(&self.collection, name).checked()?;
        }
        if !self.prefix.is_empty() && (self.from.is_some() || self.until.is_some()) {
            return Err(StoreError::invalid(
                "a query of documents has both a prefix and bounds: set one of them, or make the prefix part of the bounds",
            ));
        }
        Ok(self)
    }

    /// Returns whether the query selects the document `name`, on any of its pages.
    #[must_use]
    pub fn selects(&self, name: &str) -> bool {
        name.starts_with(&self.prefix)
            && self.from.as_deref().is_none_or(|from| name >= from)
            && self.until.as_deref().is_none_or(|until| name <= until)
    }
}

/// A page of documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentPage {
    /// The documents with their names, in order.
    pub documents: Vec<(String, Document)>,
    /// The name after which to continue, or `None` if this is the last page. If it is present, the next page may
    /// still be empty.
    pub next: Option<String>,
}

impl DocumentPage {
    /// Creates a page.
    #[must_use]
    pub fn new(documents: Vec<(String, Document)>, next: Option<String>) -> Self {
        Self { documents, next }
    }
}

/// Lists all documents of a query, page by page, and ends after the last page or the first error. Pages may be empty.
///
/// ```
/// # async fn example(store: es_core::MemoryStore) -> Result<(), es_core::StoreError> {
/// use es_core::documents::{DocumentQuery, pages};
/// use futures_util::TryStreamExt;
///
/// let mut pages = pages(&store, DocumentQuery::new("rates").prefix("EUR/"));
/// while let Some(page) = pages.try_next().await? {
///     for (name, document) in page.documents {
///         println!("{name}: {}", document.body);
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub fn pages<D: Documents + ?Sized>(
    store: &D,
    query: DocumentQuery,
) -> BoxStream<'_, Result<DocumentPage, StoreError>> {
    stream::try_unfold(Some(query), move |query| async move {
        let Some(query) = query else { return Ok(None) };
        let page = store.documents(&query).await?;
        let next = page.next.clone().map(|after| query.after(Some(after)));
        Ok(Some((page, next)))
    })
    .boxed()
}

/// Deletes all documents of a collection.
pub(crate) async fn delete_all(
    store: &(impl Documents + ?Sized),
    collection: &str,
    ids: &dyn IdSource,
) -> Result<(), StoreError> {
    let mut pages = pages(store, DocumentQuery::new(collection));
    while let Some(page) = pages.try_next().await? {
        if !page.documents.is_empty() {
            let keys = page.documents.into_iter().map(|(name, _)| DocumentKey::new(collection, name));
            let set = ChangeSet::new(ids.new_id()).with_changes(keys.map(DocumentChange::delete));
            store.change(&set).await.map_err(ChangeError::into_store_error)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::MemoryStore;
    use crate::ids::RandomIds;

    #[test]
    fn pages_are_followed_to_the_last_one() {
        let test = async {
            let store = MemoryStore::new();
            for name in ["a", "b", "c", "d", "e"] {
                let set = ChangeSet::new(RandomIds.new_id());
                let set = set.put(DocumentKey::new("rows", name), ExpectedDocument::Any, "{}");
                store.change(&set).await.expect("puts");
            }
            let query = DocumentQuery::new("rows").limit(2);
            let all: Vec<_> = pages(&store, query).try_collect().await.expect("lists");
            let names: Vec<_> =
                all.iter().flat_map(|page| &page.documents).map(|(name, _)| &**name).collect();
            assert_eq!(names, ["a", "b", "c", "d", "e"]);
            assert!(all.len() > 2);
        };
        test.now_or_never().expect("the store in memory does not wait");
    }
}
