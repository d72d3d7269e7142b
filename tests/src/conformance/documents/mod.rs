//! Rules of documents.

pub mod content;
pub mod expected;
pub mod listing;
pub mod racing;
pub mod repetition;
pub mod set;

use es_core::documents::{
    ChangeError, ChangeSet, Document, DocumentKey, Documents, ExpectedDocument, Revision,
};
use uuid::Uuid;

use ExpectedDocument::{Absent, Any};

/// Returns a new collection, which no other test uses.
fn new_collection() -> String {
    format!("conformance-{}", Uuid::new_v4())
}

/// Returns keys of documents in a new collection.
fn new_keys<const N: usize>() -> [DocumentKey; N] {
    let collection = new_collection();
    std::array::from_fn(|n| DocumentKey::new(&collection, format!("document-{n}")))
}

/// Returns an empty set.
fn new_set() -> ChangeSet {
    ChangeSet::new(Uuid::new_v4())
}

/// Writes a document unconditionally, and returns its revision.
async fn write(documents: &dyn Documents, key: &DocumentKey, body: &str) -> Revision {
    let set = new_set().put(key.clone(), Any, body);
    documents.change(&set).await.expect("writes");
    set.revision()
}

async fn found(documents: &dyn Documents, key: &DocumentKey) -> Option<Document> {
    documents.document(key).await.expect("can be read")
}

async fn body(documents: &dyn Documents, key: &DocumentKey) -> Option<String> {
    found(documents, key).await.map(|document| document.body)
}

/// Applies a set, and retries while the store refuses temporarily.
async fn insist(documents: &dyn Documents, set: &ChangeSet) -> Result<(), ChangeError> {
    loop {
        match documents.change(set).await {
            Err(ChangeError::Store(error)) if error.is_retryable() => tokio::task::yield_now().await,
            result => return result,
        }
    }
}

/// Expects a set to be outdated because of `key`.
async fn is_outdated_by(documents: &dyn Documents, set: &ChangeSet, key: &DocumentKey) {
    match documents.change(set).await {
        Err(ChangeError::Outdated { key: by, .. }) => assert_eq!(&by, key, "another document is named"),
        other => panic!("expected that `{key}` is outdated, got {other:?}"),
    }
}
