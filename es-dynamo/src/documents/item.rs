//! The item of a document.

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::StoreError;
use es_core::documents::{Document, DocumentKey, Revision};

use crate::item::{Item, SIZE_LIMIT, item_size, key};
use crate::names;

/// The partition of a collection.
pub(super) fn partition(collection: &str) -> String {
    format!("{}{collection}", names::DOCUMENT_PREFIX)
}

/// The sort key of the document `name`, or what those of several start with.
pub(super) fn sort_key(name: &str) -> String {
    format!("{}{name}", names::DOCUMENT_KEY)
}

/// The key of a document.
pub(super) fn document_key(of: &DocumentKey) -> Item {
    key(partition(of.collection()), sort_key(of.name()))
}

/// The item of a document, if it is not too large for one.
pub(super) fn document_item(of: &DocumentKey, revision: Revision, body: &str) -> Result<Item, StoreError> {
    let mut item = document_key(of);
    item.insert(names::REVISION.to_owned(), AttributeValue::S(revision.to_string()));
    item.insert(names::BODY.to_owned(), AttributeValue::S(body.to_owned()));
    match item_size(&item) {
        bytes if bytes > SIZE_LIMIT => {
            Err(StoreError::too_large(format!("the document `{of}`"), bytes, SIZE_LIMIT))
        }
        _ => Ok(item),
    }
}

/// The revision that an item has.
pub(super) fn revision_of(of: &DocumentKey, item: &Item) -> Result<Revision, StoreError> {
    let damaged = |reason| damaged(of, names::REVISION, reason);
    let text = match item.get(names::REVISION) {
        Some(AttributeValue::S(text)) => text,
        Some(_) => return Err(damaged("is no text")),
        None => return Err(damaged("is missing")),
    };
    // Conditions compare texts: another spelling of the same UUID would never meet them.
    let revision = text.parse().ok().filter(|revision: &Revision| revision.to_string() == *text);
    revision.ok_or_else(|| damaged("is no UUID"))
}

/// The document that an item holds.
pub(super) fn document_from(of: &DocumentKey, mut item: Item) -> Result<Document, StoreError> {
    let revision = revision_of(of, &item)?;
    match item.remove(names::BODY) {
        Some(AttributeValue::S(body)) => Ok(Document::new(revision, body)),
        Some(_) => Err(damaged(of, names::BODY, "is no text")),
        None => Err(damaged(of, names::BODY, "is missing")),
    }
}

fn damaged(of: &DocumentKey, attribute: &str, reason: &str) -> StoreError {
    StoreError::damaged(format!("the document `{of}`"), format!("its attribute `{attribute}` {reason}"))
}
