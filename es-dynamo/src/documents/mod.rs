//! Documents, each stored as one item.

mod change;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use es_core::StoreError;
use es_core::documents::{
    ChangeError, ChangeSet, Document, DocumentKey, DocumentPage, DocumentQuery, Revision,
};
use es_core::store::MAX_ITEM_BYTES;

use crate::table::{Item, ItemPage, Table, check_format, item_size, key, names, responses, translate};

impl Table {
    pub(crate) async fn document(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        let (found, _) = self.get(document_key(key)).await?;
        found.map(|found| document_from(key, found)).transpose()
    }

    pub(crate) async fn change(&self, set: &ChangeSet) -> Result<(), ChangeError> {
        match (set.changes(), set.additional_writes()) {
            ([change], []) => self.change_one(change, set.revision()).await,
            _ => self.change_all(set).await,
        }
    }
}

/// The start of a listing.
enum Start {
    /// The first document with the prefix.
    First,
    /// The document after this key.
    After(Item),
    /// The listing is empty: all documents with the prefix come before its start.
    Empty,
}

impl Table {
    pub(crate) async fn documents(&self, query: &DocumentQuery) -> Result<DocumentPage, StoreError> {
        let mut from = match start(query) {
            Start::First => None,
            Start::After(key) => Some(key),
            Start::Empty => return Ok(DocumentPage::default()),
        };
        let (condition, bounds) = condition(query);
        loop {
            let output = self
                .client
                .query()
                .table_name(&self.name)
                .key_condition_expression(condition)
                .set_expression_attribute_values(Some(bounds.clone()))
                .scan_index_forward(!query.descending)
                .limit(i32::try_from(query.limit).unwrap_or(i32::MAX).max(1))
                .consistent_read(!query.eventual)
                .set_exclusive_start_key(from)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await
                .map_err(|error| translate(&self.name, error))?;
            let partition = partition(&query.collection);
            let ItemPage { items, last_key, .. } = ItemPage::of_query(output, &self.name, &partition)?;
            from = last_key;
            if items.is_empty() && from.is_some() {
                continue;
            }
            let mut documents = Vec::with_capacity(items.len());
            for mut item in items {
                let name = name_of(query, item.remove(names::SORT_KEY))?;
                if !query.selects(&name) {
                    return Err(responses::of_another_request());
                }
                let document = document_from(&DocumentKey::new(&query.collection, &name), item)?;
                documents.push((name, document));
            }
            let next = documents.last().filter(|_| from.is_some()).map(|(name, _)| name.clone());
            return Ok(DocumentPage::new(documents, next));
        }
    }
}

/// Returns the start of a query's listing. DynamoDB rejects an exclusive start key that does not meet the key
/// condition, and a range whose bounds are reversed. DynamoDB Local also rejects a start key at the last name of the
/// range.
fn start(query: &DocumentQuery) -> Start {
    if let (Some(from), Some(until)) = (&query.from, &query.until)
        && from > until
    {
        return Start::Empty;
    }
    let Some(after) = query.after.as_deref() else { return Start::First };
    let last = if query.descending { &query.from } else { &query.until };
    if last.as_deref() == Some(after) {
        return Start::Empty;
    }
    if query.selects(after) {
        return Start::After(key(partition(&query.collection), sort_key(after)));
    }
    let lowest = query.from.as_deref().unwrap_or(&query.prefix);
    match (after < lowest) == query.descending {
        true => Start::Empty,
        false => Start::First,
    }
}

/// Returns the key condition of a query, and its values.
fn condition(query: &DocumentQuery) -> (&'static str, Item) {
    let mut values = Item::from([(":pk".to_owned(), AttributeValue::S(partition(&query.collection)))]);
    let mut bound = |name: &str, value: &str| {
        values.insert(name.to_owned(), AttributeValue::S(sort_key(value)));
    };
    let condition = match (&query.from, &query.until) {
        (None, None) => {
            bound(":prefix", &query.prefix);
            "pk = :pk AND begins_with(sk, :prefix)"
        }
        (Some(from), None) => {
            bound(":from", from);
            "pk = :pk AND sk >= :from"
        }
        (None, Some(until)) => {
            bound(":until", until);
            "pk = :pk AND sk <= :until"
        }
        (Some(from), Some(until)) => {
            bound(":from", from);
            bound(":until", until);
            "pk = :pk AND sk BETWEEN :from AND :until"
        }
    };
    (condition, values)
}

/// Returns the name of a document, from its sort key.
fn name_of(query: &DocumentQuery, sort_key: Option<AttributeValue>) -> Result<String, StoreError> {
    let name = match &sort_key {
        Some(AttributeValue::S(sort_key)) => sort_key.strip_prefix(names::DOCUMENT_KEY),
        _ => None,
    };
    name.map(str::to_owned).ok_or_else(|| {
        let what = format!("a document in the collection `{}`", query.collection);
        StoreError::corrupt_item(
            what,
            format!("its attribute `{}` is not the sort key of a document", names::SORT_KEY),
        )
    })
}

/// Returns the partition key of a collection.
pub(crate) fn partition(collection: &str) -> String {
    format!("{}{collection}", names::DOCUMENT_PREFIX)
}

/// Returns the sort key of the document `name`, or the prefix of the sort keys of all documents whose names start with
/// `name`.
pub(crate) fn sort_key(name: &str) -> String {
    format!("{}{name}", names::DOCUMENT_KEY)
}

/// Returns the key of a document.
pub(crate) fn document_key(of: &DocumentKey) -> Item {
    key(partition(of.collection()), sort_key(of.name()))
}

/// Returns the item of a document.
///
/// # Errors
///
/// [`StoreError::TooLarge`] if it exceeds the maximum size of an item.
pub(crate) fn document_item(of: &DocumentKey, revision: Revision, body: &str) -> Result<Item, StoreError> {
    let mut item = document_key(of);
    item.insert(names::REVISION.to_owned(), AttributeValue::S(revision.to_string()));
    item.insert(names::BODY.to_owned(), AttributeValue::S(body.to_owned()));
    match item_size(&item) {
        bytes if bytes > MAX_ITEM_BYTES => {
            Err(StoreError::too_large(format!("the document `{of}`"), bytes, MAX_ITEM_BYTES))
        }
        _ => Ok(item),
    }
}

/// Returns the revision of a document.
pub(crate) fn revision_of(of: &DocumentKey, item: &Item) -> Result<Revision, StoreError> {
    check_format(item).map_err(|reason| StoreError::corrupt_item(format!("the document `{of}`"), reason))?;
    let damaged = |reason| damaged(of, names::REVISION, reason);
    let text = match item.get(names::REVISION) {
        Some(AttributeValue::S(text)) => text,
        Some(_) => return Err(damaged("is not a string")),
        None => return Err(damaged("is missing")),
    };
    // Conditions compare strings, so no condition would match a different spelling of the UUID.
    let revision = text.parse().ok().filter(|revision: &Revision| revision.to_string() == *text);
    revision.ok_or_else(|| damaged("is not a UUID in canonical form"))
}

/// Decodes a document.
fn document_from(of: &DocumentKey, mut item: Item) -> Result<Document, StoreError> {
    let revision = revision_of(of, &item)?;
    match item.remove(names::BODY) {
        Some(AttributeValue::S(body)) => Ok(Document::new(revision, body)),
        Some(_) => Err(damaged(of, names::BODY, "is not a string")),
        None => Err(damaged(of, names::BODY, "is missing")),
    }
}

fn damaged(of: &DocumentKey, attribute: &str, reason: &str) -> StoreError {
    StoreError::corrupt_item(format!("the document `{of}`"), format!("its attribute `{attribute}` {reason}"))
}
