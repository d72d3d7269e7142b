//! Progress that is kept in documents, so that another process can continue.

use es_core::StoreError;
use es_core::documents::{ChangeError, ChangeSet, DocumentKey, Documents, ExpectedDocument, Revision};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::scan::ScanKey;

/// The most segments into which a table is divided.
pub(crate) const MAX_SEGMENTS: u32 = 1_000;

/// How far all segments have come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReconcileState {
    /// Whether there is something left to do.
    pub(crate) pending: bool,
    pub(crate) segments: Vec<Segment>,
}

/// How far a segment has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    pub(crate) after: Option<ScanKey>,
    pub(crate) done: bool,
}

impl ReconcileState {
    /// Nothing is done yet.
    pub(crate) fn new(segments: u32) -> Self {
        Self { pending: true, segments: vec![Segment::default(); segments as usize] }
    }
}

/// The document of a reconciliation.
pub(crate) fn key(name: &str) -> DocumentKey {
    DocumentKey::new(COLLECTION, format!("reconcile/{name}"))
}

/// The state that is kept under a key. One that cannot be read is one that has not begun.
///
/// # Errors
///
/// [`StoreError::Damaged`] when the number of segments is out of bounds: each one is a request at the same time.
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
            format!("it has {count} segments instead of 1 to {MAX_SEGMENTS}: delete it to begin again");
        return Err(StoreError::damaged(format!("the document `{key}`"), reason));
    }
    Ok(Some((state, document.revision)))
}

/// Writes the state on a condition; its new revision if the condition holds.
pub(crate) async fn write(
    documents: &dyn Documents,
    key: &DocumentKey,
    state: &ReconcileState,
    expected: ExpectedDocument,
) -> Result<Option<Revision>, StoreError> {
    put(documents, key.clone(), state, expected).await
}

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
