//! The documents of the in-memory store.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;

use super::MemoryStore;
use crate::documents::{
    ChangeError, ChangeSet, Document, DocumentCondition, DocumentKey, DocumentPage, DocumentQuery, Documents,
};
use crate::store::{AdditionalWrite, StoreError, WriteError, WriteRefused};

/// The documents by collection and name.
#[derive(Default)]
pub(super) struct DocumentContent {
    collections: HashMap<String, BTreeMap<String, Document>>,
}

impl DocumentContent {
    fn get(&self, key: &DocumentKey) -> Option<&Document> {
        self.collections.get(key.collection())?.get(key.name())
    }

    /// Returns whether the set was applied before.
    fn has(&self, set: &ChangeSet) -> bool {
        set.changes()
            .iter()
            .filter(|change| change.body.is_some())
            .any(|change| self.get(&change.key).is_some_and(|document| document.revision == set.revision()))
    }

    /// Checks the document conditions among the additional writes of a transaction, and rejects other additional
    /// writes.
    pub(super) fn check(&self, writes: &[AdditionalWrite]) -> Result<(), WriteError> {
        for (index, write) in writes.iter().enumerate() {
            let Some(condition) = write.downcast_ref::<DocumentCondition>() else {
                let reason = format!(
                    "the in-memory store does not support additional writes of type `{}`",
                    write.kind()
                );
                return Err(StoreError::invalid(reason).into());
            };
            if !condition.expected.allows(self.get(&condition.key)) {
                return Err(WriteRefused::new(index).into());
            }
        }
        Ok(())
    }

    fn change(&mut self, set: &ChangeSet) {
        for change in set.changes() {
            let collection = self.collections.entry(change.key.collection().to_owned()).or_default();
            match &change.body {
                Some(body) => {
                    let document = Document::new(set.revision(), body.clone());
                    collection.insert(change.key.name().to_owned(), document);
                }
                None => {
                    collection.remove(change.key.name());
                }
            }
        }
    }
}

#[async_trait]
impl Documents for MemoryStore {
    async fn document(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        Ok(self.content().documents.get(key.checked()?).cloned())
    }

    async fn documents(&self, query: &DocumentQuery) -> Result<DocumentPage, StoreError> {
        query.checked()?;
        let content = self.content();
        let Some(collection) = content.documents.collections.get(&query.collection) else {
            return Ok(DocumentPage::default());
        };
        let matching = collection.iter().filter(|(name, _)| query.selects(name));
        let entry = |(name, document): (&String, &Document)| (name.clone(), document.clone());
        let limit = query.limit.max(1) as usize;
        let after = query.after.as_deref();
        let mut documents: Vec<_> = if query.descending {
            let left = matching.rev().filter(|(name, _)| after.is_none_or(|after| name.as_str() < after));
            left.take(limit + 1).map(entry).collect()
        } else {
            let left = matching.filter(|(name, _)| after.is_none_or(|after| name.as_str() > after));
            left.take(limit + 1).map(entry).collect()
        };
        let more = documents.len() > limit;
        documents.truncate(limit);
        let next = documents.last().filter(|_| more).map(|(name, _)| name.clone());
        Ok(DocumentPage::new(documents, next))
    }

    async fn change(&self, set: &ChangeSet) -> Result<(), ChangeError> {
        set.checked()?;
        let mut content = self.content();
        if content.documents.has(set) {
            return Ok(());
        }
        for change in set.changes() {
            if !change.expected.allows(content.documents.get(&change.key)) {
                return Err(ChangeError::outdated(&change.key));
            }
        }
        content.documents.check(set.additional_writes()).map_err(|error| match error {
            WriteError::Refused(_) => ChangeError::Refused,
            WriteError::Store(error) => ChangeError::Store(error),
            error => ChangeError::Store(StoreError::invalid(error.to_string())),
        })?;
        content.documents.change(set);
        Ok(())
    }
}
