//! Names of documents.

use std::fmt;

use crate::store::StoreError;

/// The name of a document: the collection it is in, and its name there.
///
/// Both may be any text; a collection is not empty, and has at most [`MAX_COLLECTION_BYTES`](Self::MAX_COLLECTION_BYTES)
/// bytes, a name at most [`MAX_NAME_BYTES`](Self::MAX_NAME_BYTES).
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
