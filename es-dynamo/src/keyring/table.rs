//! The table of the keys: one item per subject.

use std::fmt;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure};
use es_core::StoreError;
use es_core::personal::{KeyRecord, KeyTable, Subject, WrappedKey};
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::table::responses::write_cost;
use crate::table::{
    BatchGet, Consistency, Failed, Item, ItemPage, MAX_KEYS, PLACE_IS_FREE, traced, translate, watched,
};

/// The subject.
pub(super) const SUBJECT: &str = "pk";
/// The format of the item.
const FORMAT: &str = "f";
/// The wrapped key. An item without it is the tombstone of a subject that was forgotten.
const WRAPPED: &str = "k";
/// The id of the master key.
const MASTER_KEY: &str = "m";

/// A table of keys.
pub(super) struct Table {
    pub(super) client: Client,
    pub(super) name: String,
}

impl Table {
    /// Reads a page of all records.
    async fn page(&self, start: Option<Item>) -> Result<ItemPage, StoreError> {
        let page = self
            .client
            .scan()
            .table_name(&self.name)
            .consistent_read(true)
            .set_exclusive_start_key(start)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let page = traced("Scan", &self.name, page.send()).await;
        ItemPage::of_scan(page.map_err(|error| translate(&self.name, error))?, &self.name)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl KeyTable for Table {
    const MAX_SUBJECTS: usize = MAX_KEYS;

    fn read<'a>(&'a self, subjects: &'a [Subject]) -> BoxStream<'a, Result<KeyRecord, StoreError>> {
        let keys = subjects.iter().map(key).collect();
        let batch = BatchGet::new(&self.client, &self.name, Consistency::Strong, keys);
        let pages = stream::try_unfold(batch, async |mut batch| {
            let is_wanted = |item: &Item| {
                let found = item.get(SUBJECT).and_then(|value| value.as_s().ok());
                found.is_some_and(|found| subjects.iter().any(|subject| subject.as_str() == found))
            };
            let items = batch.next(is_wanted).await?;
            Ok::<_, StoreError>(items.map(|items| (items, batch)))
        });
        pages.map_ok(|items| stream::iter(items.iter().map(record).collect::<Vec<_>>())).try_flatten().boxed()
    }

    fn list(&self) -> BoxStream<'_, Result<KeyRecord, StoreError>> {
        let pages = stream::try_unfold(Some(None), async |start: Option<Option<Item>>| {
            let Some(start) = start else { return Ok(None) };
            let page = self.page(start).await?;
            Ok::<_, StoreError>(Some((page.items, page.last_key.map(Some))))
        });
        pages.map_ok(|items| stream::iter(items.iter().map(record).collect::<Vec<_>>())).try_flatten().boxed()
    }

    async fn insert(&self, subject: &Subject, wrapped: &WrappedKey) -> Result<Option<KeyRecord>, StoreError> {
        let request = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(item(subject, wrapped)))
            .condition_expression(PLACE_IS_FREE)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let failed: Failed<_> = match traced("PutItem", &self.name, watched(request.send())).await {
            // A response that is not from DynamoDB does not prove that the key is stored.
            Ok(output) => return write_cost("PutItem", &self.name, output.consumed_capacity()).map(|_| None),
            Err(failed) => failed,
        };
        let failed = failed.condition(&self.name)?;
        failed.check(&key(subject))?;
        record(&failed.item.unwrap_or_default()).map(Some)
    }

    async fn replace(
        &self,
        subject: &Subject,
        old: &WrappedKey,
        new: &WrappedKey,
    ) -> Result<bool, StoreError> {
        let request = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(item(subject, new)))
            .condition_expression("k = :k")
            .expression_attribute_values(":k", AttributeValue::S(old.text.clone()))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        match traced("PutItem", &self.name, watched(request.send())).await {
            Ok(output) => write_cost("PutItem", &self.name, output.consumed_capacity()).map(|_| true),
            // An earlier attempt without a response has the same effect.
            Err(failed) => failed.condition(&self.name).map(|_| false),
        }
    }

    async fn forget(&self, subject: &Subject) -> Result<(), StoreError> {
        let request = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(tombstone(subject)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let put = traced("PutItem", &self.name, watched(request.send())).await;
        let output = put.map_err(|failed| failed.translate(&self.name))?;
        write_cost("PutItem", &self.name, output.consumed_capacity()).map(drop)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Decodes an item.
fn record(item: &Item) -> Result<KeyRecord, StoreError> {
    let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok()).cloned();
    let subject = text(SUBJECT).unwrap_or_default();
    let what = format!("the key of the subject `{subject}`");
    let corrupt =
        |reason: &str| StoreError::corrupt_item(what.clone(), format!("{reason}: restore it from a backup"));
    match item.get(FORMAT).and_then(|value| value.as_n().ok()).map(String::as_str) {
        Some("1") => {}
        _ => return Err(corrupt("it has an unknown format")),
    }
    let key = match (text(WRAPPED), text(MASTER_KEY)) {
        (Some(text), Some(master_key)) => Some(WrappedKey::new(text, master_key)),
        (None, None) if !item.contains_key(WRAPPED) => None,
        _ => return Err(corrupt("its attributes are damaged")),
    };
    match subject.is_empty() {
        true => Err(corrupt("it has no subject")),
        false => Ok(KeyRecord::new(Subject::from_stored(subject), key)),
    }
}

/// Returns the item of a key.
fn item(subject: &Subject, key: &WrappedKey) -> Item {
    let mut item = tombstone(subject);
    item.insert(WRAPPED.to_owned(), AttributeValue::S(key.text.clone()));
    item.insert(MASTER_KEY.to_owned(), AttributeValue::S(key.master_key.clone()));
    item
}

/// Returns the key of a subject's item.
fn key(subject: &Subject) -> Item {
    Item::from([(SUBJECT.to_owned(), AttributeValue::S(subject.as_str().to_owned()))])
}

/// Returns the item of a subject that was forgotten.
fn tombstone(subject: &Subject) -> Item {
    let mut item = key(subject);
    item.insert(FORMAT.to_owned(), AttributeValue::N("1".to_owned()));
    item
}
