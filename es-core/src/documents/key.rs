//! Names of documents.

use std::fmt;

use crate::store::StoreError;

/// The name of a document: the collection it is in, and its name there.
///
/// Both may be any text; a collection is not empty. Together they have at most 1,000 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentKey {
    collection: String,
    name: String,
}

impl DocumentKey {
    /// The most bytes that collection and name may have together.
    pub const MAX_BYTES: usize = 1000;

    /// The document `name` of `collection`.
    #[must_use]
    pub fn new(collection: impl Into<String>, name: impl Into<String>) -> Self {
        Self { collection: collection.into(), name: name.into() }
    }

    /// The key, if a store can have it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] when the collection is empty, [`StoreError::TooLarge`] when it is too long.
    pub fn checked(&self) -> Result<&Self, StoreError> {
        if self.collection.is_empty() {
            return Err(StoreError::invalid(format!("the document `{self}` needs a collection")));
        }
        let bytes = self.collection.len() + self.name.len();
        if bytes > Self::MAX_BYTES {
            return Err(StoreError::too_large(
                "the name of a document",
                bytes as u64,
                Self::MAX_BYTES as u64,
            ));
        }
        Ok(self)
    }

    /// The collection.
    #[must_use]
    pub fn collection(&self) -> &str {
        &self.collection
    }

    /// The name in the collection.
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
