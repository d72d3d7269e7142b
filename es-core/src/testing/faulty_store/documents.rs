//! The documents of a store that fails on purpose.

use async_trait::async_trait;

use super::FaultyStore;
use crate::documents::{
    ChangeError, ChangeSet, Document, DocumentKey, DocumentPage, DocumentQuery, Documents,
};
use crate::store::{EventStore, StoreError};
use crate::testing::Fault;

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: EventStore + Documents> Documents for FaultyStore<S> {
    async fn document(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        self.request(async || self.store.document(key).await).await
    }

    async fn documents(&self, query: &DocumentQuery) -> Result<DocumentPage, StoreError> {
        let fault = self.faults.next();
        let mut page = self.request_with(fault, async || self.store.documents(query).await).await?;
        if let Some(Fault::PageCut(part)) = fault
            && page.documents.len() > 1
        {
            let kept = 1 + ((page.documents.len() - 1) as f64 * part) as usize;
            if kept < page.documents.len() {
                page.documents.truncate(kept);
                page.next = page.documents.last().map(|(name, _)| name.clone());
            }
        }
        Ok(page)
    }

    async fn change(&self, set: &ChangeSet) -> Result<(), ChangeError> {
        let carry_out = async || self.store.change(set).await;
        match set.changes().len() + set.additional_writes().len() {
            0 | 1 => self.request(carry_out).await,
            _ => self.transaction(carry_out).await,
        }
    }
}
