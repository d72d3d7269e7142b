//! References to commits that are gone from the table, and that consumers pass over by decision of an operator.

use es_core::documents::{DocumentKey, Documents};
use es_core::{StoreError, StreamId, Version};
use serde::{Deserialize, Serialize};

use super::TableFeed;
use super::log::reference::Reference;
use super::reconciler::state::put;

/// The collection of the decisions, with a document for each stream.
const COLLECTION: &str = "$gone";

/// The decision for a stream.
#[derive(Debug, Serialize, Deserialize)]
struct Gone {
    /// The version up to which missing commits are passed over.
    through: u64,
}

fn key(stream: &StreamId) -> DocumentKey {
    DocumentKey::new(COLLECTION, stream.as_str())
}

/// Stores the decision for a stream, unless it has been made up to a later version.
pub(super) async fn pass_over(
    documents: &dyn Documents,
    stream: &StreamId,
    through: Version,
) -> Result<(), StoreError> {
    let key = key(stream);
    loop {
        let found = documents.document(&key).await?;
        let known = found.as_ref().and_then(|found| serde_json::from_str::<Gone>(&found.body).ok());
        if known.is_some_and(|known| known.through >= through.get()) {
            return Ok(());
        }
        let expected = found.map(|found| found.revision).into();
        let gone = Gone { through: through.get() };
        // It fails if another operator was faster.
        if put(documents, key.clone(), &gone, expected).await?.is_some() {
            return Ok(());
        }
    }
}

impl TableFeed {
    /// Returns whether the commit of a reference is to be passed over if it is not in the table.
    pub(super) async fn is_passed_over(&self, reference: &Reference) -> Result<bool, StoreError> {
        let found = self.table.document(&key(&reference.stream)).await?;
        let gone = found.and_then(|found| serde_json::from_str::<Gone>(&found.body).ok());
        Ok(gone.is_some_and(|gone| reference.last.get() <= gone.through))
    }
}
