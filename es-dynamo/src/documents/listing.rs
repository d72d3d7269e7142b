//! Listing the documents of a collection: one Query a page.

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use es_core::StoreError;
use es_core::documents::{DocumentKey, DocumentPage, DocumentQuery};

use super::item::{document_from, partition, sort_key};
use crate::error::translate;
use crate::item::{Item, key};
use crate::names;
use crate::response::ItemPage;
use crate::store::Table;

/// Where a listing starts.
enum Start {
    /// With the first document that fits.
    First,
    /// After this key.
    After(Item),
    /// Nowhere: all that fits comes before.
    Nowhere,
}

impl Table {
    pub(super) async fn documents(&self, query: &DocumentQuery) -> Result<DocumentPage, StoreError> {
        let mut from = match start(query) {
            Start::First => None,
            Start::After(key) => Some(key),
            Start::Nowhere => return Ok(DocumentPage::default()),
        };
        loop {
            let output = self
                .client
                .query()
                .table_name(&self.name)
                .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
                .expression_attribute_values(":pk", AttributeValue::S(partition(&query.collection)))
                .expression_attribute_values(":prefix", AttributeValue::S(sort_key(&query.prefix)))
                .scan_index_forward(!query.descending)
                .limit(i32::try_from(query.limit).unwrap_or(i32::MAX).max(1))
                .consistent_read(!query.eventual)
                .set_exclusive_start_key(from)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await
                .map_err(|error| translate(&self.name, error))?;
            let ItemPage { items, last_key, .. } = output.try_into()?;
            from = last_key;
            if items.is_empty() && from.is_some() {
                continue;
            }
            let mut documents = Vec::with_capacity(items.len());
            for mut item in items {
                let name = name_of(query, item.remove(names::SORT_KEY))?;
                let document = document_from(&DocumentKey::new(&query.collection, &name), item)?;
                documents.push((name, document));
            }
            let next = documents.last().filter(|_| from.is_some()).map(|(name, _)| name.clone());
            return Ok(DocumentPage::new(documents, next));
        }
    }
}

/// DynamoDB takes no start outside of what the condition asks for.
fn start(query: &DocumentQuery) -> Start {
    match query.after.as_deref() {
        None => Start::First,
        Some(after) if after.starts_with(&query.prefix) => {
            Start::After(key(partition(&query.collection), sort_key(after)))
        }
        Some(after) if (after < query.prefix.as_str()) == query.descending => Start::Nowhere,
        Some(_) => Start::First,
    }
}

fn name_of(query: &DocumentQuery, sort_key: Option<AttributeValue>) -> Result<String, StoreError> {
    let name = match &sort_key {
        Some(AttributeValue::S(sort_key)) => sort_key.strip_prefix(names::DOCUMENT_KEY),
        _ => None,
    };
    name.map(str::to_owned).ok_or_else(|| {
        let what = format!("a document in the collection `{}`", query.collection);
        StoreError::damaged(what, format!("its attribute `{}` names none", names::SORT_KEY))
    })
}
