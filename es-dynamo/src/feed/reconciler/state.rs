//! The stored progress of a reconciliation, from which another process can continue.

use es_core::StoreError;
use es_core::documents::{ChangeError, ChangeSet, DocumentKey, Documents, ExpectedDocument, Revision};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::scan::ScanKey;

/// The maximum number of segments of a table.
pub(crate) const MAX_SEGMENTS: u32 = 1_000;

/// The progress of all segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReconcileState {
    /// Whether the reconciliation is not finished.
    pub(crate) pending: bool,
    pub(crate) segments: Vec<Segment>,
}

/// The progress of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    pub(crate) after: Option<ScanKey>,
    pub(crate) done: bool,
}

impl ReconcileState {
    /// Returns the state before the first page.
    pub(crate) fn new(segments: u32) -> Self {
        Self { pending: true, segments: vec![Segment::default(); segments as usize] }
    }
}

/// Returns the key of the document of a reconciliation.
pub(crate) fn key(name: &str) -> DocumentKey {
    DocumentKey::new(COLLECTION, format!("reconcile/{name}"))
}

/// Reads a state. If it cannot be decoded, the reconciliation starts again.
///
/// # Errors
///
/// [`StoreError::Corrupt`] if the number of segments, each of which is a concurrent request, is out of range.
pub(crate) async fn read(
    documents: &dyn Documents,
    key: &DocumentKey,
    segments: u32,
) -> Result<Option<(ReconcileState, Revision)>, StoreError> {
    let Some(document) = documents.document(key).await? else { return Ok(None) };
    let state = serde_json::from_str(&document.body).unwrap_or_else(|_| ReconcileState::new(segments));
    let count = state.segments.len();
    if count == 0 || count > MAX_SEGMENTS as usize {
        let reason =
            format!("it has {count} segments instead of 1 to {MAX_SEGMENTS}: delete it to start again");
        return Err(StoreError::corrupt_item(format!("the document `{key}`"), reason));
    }
    Ok(Some((state, document.revision)))
}

/// Writes the state conditionally. Returns its new revision, or `None` if the condition failed.
pub(crate) async fn write(
    documents: &dyn Documents,
    key: &DocumentKey,
    state: &ReconcileState,
    expected: ExpectedDocument,
) -> Result<Option<Revision>, StoreError> {
    put(documents, key.clone(), state, expected).await
}

/// The collection of these documents.
pub(crate) const COLLECTION: &str = "$indexer";

/// Writes a document of the collection conditionally. Returns its new revision, or `None` if the condition failed.
pub(crate) async fn put(
    documents: &dyn Documents,
    key: DocumentKey,
    body: &impl Serialize,
    expected: ExpectedDocument,
) -> Result<Option<Revision>, StoreError> {
    let body = serde_json::to_string(body)
        .map_err(|_| StoreError::invalid("a checkpoint cannot be encoded as JSON"))?;
    let set = ChangeSet::new(Uuid::new_v4()).put(key, expected, body);
    outcome(documents.change(&set).await, set.revision())
}

/// Returns the new revision, or `None` if the condition failed.
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
