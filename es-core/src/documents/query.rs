//! Listing documents.

use super::{Document, DocumentKey};
use crate::store::StoreError;

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
    /// All documents of `collection`, a hundred at once.
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

    /// The query, if there can be such documents.
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
    /// A page, and the name after which to go on.
    #[must_use]
    pub fn new(documents: Vec<(String, Document)>, next: Option<String>) -> Self {
        Self { documents, next }
    }
}
