//! Documents beside the events: one item each.

mod change;
mod item;
mod listing;
mod transaction;

use async_trait::async_trait;
use es_core::StoreError;
use es_core::documents::{
    ChangeError, ChangeSet, Document, DocumentKey, DocumentPage, DocumentQuery, Documents,
};

use crate::store::{DynamoStore, Table};

#[async_trait]
impl Documents for DynamoStore {
    async fn document(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        self.table.document(key.checked()?).await
    }

    async fn documents(&self, query: &DocumentQuery) -> Result<DocumentPage, StoreError> {
        self.table.documents(query.checked()?).await
    }

    async fn change(&self, set: &ChangeSet) -> Result<(), ChangeError> {
        match (set.checked()?.changes(), set.joined_writes()) {
            ([change], []) => self.table.change_one(change, set.revision()).await,
            _ => self.table.change_all(set).await,
        }
    }
}

impl Table {
    async fn document(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        let (found, _) = self.get(item::document_key(key)).await?;
        found.map(|found| item::document_from(key, found)).transpose()
    }
}
