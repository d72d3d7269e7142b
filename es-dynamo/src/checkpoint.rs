//! Checkpoints: documents of the indexer and of the reconciler.

use es_core::StoreError;
use es_core::documents::{ChangeError, ChangeSet, DocumentKey, Documents, ExpectedDocument, Revision};
use serde::Serialize;
use uuid::Uuid;

/// The collection of all of them.
pub(crate) const COLLECTION: &str = "$indexer";

/// Writes a document of the collection on a condition; its new revision if the condition holds.
pub(crate) async fn put(
    documents: &dyn Documents,
    key: DocumentKey,
    body: &impl Serialize,
    expected: ExpectedDocument,
) -> Result<Option<Revision>, StoreError> {
    let body =
        serde_json::to_string(body).map_err(|_| StoreError::invalid("a checkpoint has no JSON form"))?;
    let set = ChangeSet::new(Uuid::new_v4()).put(key, expected, body);
    outcome(documents.change(&set).await, set.revision())
}

/// The new revision, unless the condition did not hold.
pub(crate) fn outcome(
    result: Result<(), ChangeError>,
    revision: Revision,
) -> Result<Option<Revision>, StoreError> {
    match result {
        Ok(()) => Ok(Some(revision)),
        Err(ChangeError::Store(error)) => Err(error),
        Err(_) => Ok(None),
    }
}
