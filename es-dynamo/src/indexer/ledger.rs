//! What workers keep about shards: documents, which are hints only.
//!
//! To lose one is harmless: its shard is read again, and what was read before is dropped by the log.

use std::collections::HashMap;

use es_core::StoreError;
use es_core::documents::{
    ChangeSet, Document, DocumentKey, DocumentQuery, Documents, ExpectedDocument, Revision,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::checkpoint::{COLLECTION, outcome, put};

/// What the names of shards' documents start with.
const SHARD: &str = "shard/";

/// How far a shard was read, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardState {
    /// The last record that is indexed; none of them yet when it is missing.
    pub(crate) after: Option<String>,
    /// Whether that was the last one that there will be.
    pub(crate) done: bool,
    /// The worker that reads it.
    pub(crate) owner: Option<Uuid>,
    /// When it was written, in milliseconds since 1970, by its writer's clock. Only to tell a day from a moment.
    pub(crate) at: i64,
}

/// All that is known of shards.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) shards: HashMap<String, (ShardState, Revision)>,
}

fn shard_key(shard: &str) -> DocumentKey {
    DocumentKey::new(COLLECTION, format!("{SHARD}{shard}"))
}

/// Reads the ledger. A document that cannot be read counts as lost.
pub(crate) async fn read(documents: &dyn Documents) -> Result<Ledger, StoreError> {
    let mut ledger = Ledger::default();
    let mut after = None;
    loop {
        let page = documents.documents(&DocumentQuery::new(COLLECTION).prefix(SHARD).after(after)).await?;
        for (name, document) in page.documents {
            let Some(shard) = name.strip_prefix(SHARD) else { continue };
            if let Some(state) = decode(&document) {
                ledger.shards.insert(shard.to_owned(), (state, document.revision));
            } else {
                // It can be overwritten by whoever starts the shard from its beginning.
                ledger.shards.insert(shard.to_owned(), (ShardState::default(), document.revision));
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(ledger);
        }
    }
}

fn decode(document: &Document) -> Option<ShardState> {
    serde_json::from_str(&document.body).ok()
}

/// Writes what is known of a shard, unless someone else has since `seen`; its new revision if it was written.
pub(crate) async fn write(
    documents: &dyn Documents,
    shard: &str,
    state: &ShardState,
    seen: Option<Revision>,
) -> Result<Option<Revision>, StoreError> {
    put(documents, shard_key(shard), state, seen.into()).await
}

/// Forgets a shard, unless someone has written it since.
pub(crate) async fn forget(documents: &dyn Documents, shard: &str, seen: Revision) -> Result<(), StoreError> {
    let set = ChangeSet::new(Uuid::new_v4()).delete(shard_key(shard), ExpectedDocument::At(seen));
    outcome(documents.change(&set).await, seen).map(drop)
}
