//! The items of claims and of idempotency keys.

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use chrono::DateTime;
use es_core::store::{
    Claim, EventRange, IdempotencyKey, IdempotencyRecord, NetChange, NewIdempotencyRecord, StoredKey,
};
use es_core::{StoreError, StreamId, Version};
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::table::{Item, ItemPage, Table, check_format, key, names, traced, translate};

impl Table {
    /// Scans the table for claims and idempotency records.
    pub(crate) fn stored_keys(&self) -> BoxStream<'_, Result<StoredKey, StoreError>> {
        let pages = stream::try_unfold(Some(None), move |after: Option<Option<Item>>| async move {
            let Some(after) = after else { return Ok(None) };
            let prefix = |prefix: &str| AttributeValue::S(prefix.to_owned());
            let request = self
                .client
                .scan()
                .table_name(&self.name)
                .filter_expression("begins_with(pk, :claims) OR begins_with(pk, :records)")
                .expression_attribute_values(":claims", prefix(names::CLAIM_PREFIX))
                .expression_attribute_values(":records", prefix(names::RECORD_PREFIX))
                .set_exclusive_start_key(after)
                .consistent_read(true)
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            let output = traced("Scan", &self.name, request.send()).await;
            let output = output.map_err(|error| translate(&self.name, error))?;
            let ItemPage { items, last_key, .. } = ItemPage::of_scan(output, &self.name)?;
            let keys: Vec<_> = items.iter().map(stored_key).collect();
            Ok::<_, StoreError>(Some((stream::iter(keys), last_key.map(Some))))
        });
        pages.try_flatten().boxed()
    }
}

/// Decodes the item of a claim or of an idempotency record.
fn stored_key(item: &Item) -> Result<StoredKey, StoreError> {
    let text = |name| item.get(name).and_then(|value| value.as_s().ok()).map_or("", String::as_str);
    let (partition, sort) = (text(names::PARTITION_KEY), text(names::SORT_KEY));
    let corrupt = || {
        let place = format!("the item with the sort key {sort:?}");
        StoreError::corrupt_item(place, "it is neither a claim nor the record of an idempotency key")
    };
    if let Some(claim) = partition.strip_prefix(names::CLAIM_PREFIX) {
        let (name, value) = claim.split_once('#').ok_or_else(corrupt)?;
        let claim = Claim::new(name, value)?;
        let stream = holder_of(&claim, item)?;
        return Ok(StoredKey::Claim { claim, stream });
    }
    let owner = partition.strip_prefix(names::RECORD_PREFIX).ok_or_else(corrupt)?;
    let key = match owner.strip_prefix(names::TRANSACTION) {
        Some(key) => IdempotencyKey::new(None, key)?,
        None => {
            let stream = owner.parse().map_err(|_| corrupt())?;
            IdempotencyKey::new(Some(stream), sort.strip_prefix(names::RECORD_KEY).ok_or_else(corrupt)?)?
        }
    };
    Ok(StoredKey::Idempotency { key, record: record_from(item)? })
}

/// Returns the key of a claim.
pub(crate) fn claim_key(claim: &Claim) -> Item {
    key(format!("{}{}#{}", names::CLAIM_PREFIX, claim.name(), claim.value()), names::CLAIM_KEY)
}

/// Returns the item of a claim that `holder` holds.
pub(crate) fn claim_item(change: &NetChange<'_>, holder: &StreamId) -> Item {
    let mut item = claim_key(change.claim);
    item.insert(names::HOLDER.to_owned(), AttributeValue::S(holder.as_str().to_owned()));
    item
}

/// Returns the stream that holds a claim, from the claim's item.
pub(crate) fn holder_of(claim: &Claim, item: &Item) -> Result<StreamId, StoreError> {
    check_format(item).map_err(|reason| {
        StoreError::corrupt_item(format!("the item of a claim `{}`", claim.name()), reason)
    })?;
    let holder = item.get(names::HOLDER).and_then(|value| value.as_s().ok());
    holder.and_then(|holder| holder.parse().ok()).ok_or_else(|| {
        StoreError::invalid(format!("the item of a claim `{}` names no stream as its holder", claim.name()))
    })
}

/// Returns the key of an idempotency record. The records of one stream share a partition; each record of a transaction
/// has a separate one.
///
/// The id of an aggregate may contain `#`, so the stream and the idempotency key are in different attributes.
pub(crate) fn record_key(once: &IdempotencyKey) -> Item {
    let (partition, sort) = match once.stream() {
        Some(stream) => (stream.as_str().to_owned(), once.key()),
        None => (format!("{}{}", names::TRANSACTION, once.key()), ""),
    };
    key(format!("{}{partition}", names::RECORD_PREFIX), format!("{}{sort}", names::RECORD_KEY))
}

/// Returns the item of an idempotency record.
pub(crate) fn record_item(once: &NewIdempotencyRecord) -> Item {
    let ranges = once.ranges.iter().map(|range| {
        AttributeValue::M(Item::from([
            (names::RANGE_STREAM.to_owned(), AttributeValue::S(range.stream.as_str().to_owned())),
            (names::RANGE_FIRST.to_owned(), AttributeValue::N(range.first.to_string())),
            (names::RANGE_LAST.to_owned(), AttributeValue::N(range.last.to_string())),
        ]))
    });
    let mut item = record_key(&once.key);
    item.insert(names::COMMIT_ID.to_owned(), AttributeValue::S(once.id.to_string()));
    item.insert(names::RANGES.to_owned(), AttributeValue::L(ranges.collect()));
    item.insert(names::TIME_TO_LIVE.to_owned(), AttributeValue::N(once.expires.timestamp().to_string()));
    if let Some(fingerprint) = &once.fingerprint {
        item.insert(names::COMMAND_FINGERPRINT.to_owned(), AttributeValue::S(fingerprint.clone()));
    }
    item
}

/// Decodes an idempotency record.
pub(crate) fn record_from(item: &Item) -> Result<IdempotencyRecord, StoreError> {
    check_format(item)
        .map_err(|reason| StoreError::corrupt_item("the record of an idempotency key", reason))?;
    read(item).ok_or_else(|| StoreError::invalid("the record of an idempotency key cannot be read"))
}

fn read(item: &Item) -> Option<IdempotencyRecord> {
    let id = item.get(names::COMMIT_ID)?.as_s().ok()?.parse().ok()?;
    let expires = item.get(names::TIME_TO_LIVE)?.as_n().ok()?.parse().ok()?;
    let ranges = item.get(names::RANGES)?.as_l().ok()?;
    let ranges = ranges.iter().map(|value| range(value.as_m().ok()?)).collect::<Option<_>>()?;
    let fingerprint = match item.get(names::COMMAND_FINGERPRINT) {
        Some(fingerprint) => Some(fingerprint.as_s().ok()?.clone()),
        None => None,
    };
    Some(
        IdempotencyRecord::new(id, ranges, DateTime::from_timestamp(expires, 0)?)
            .with_fingerprint(fingerprint),
    )
}

fn range(map: &Item) -> Option<EventRange> {
    let version = |name: &str| {
        let version = map.get(name)?.as_n().ok()?.parse().ok().map(Version::new)?;
        (version <= Version::MAX).then_some(version)
    };
    let stream = map.get(names::RANGE_STREAM)?.as_s().ok()?.parse().ok()?;
    let first = version(names::RANGE_FIRST).filter(|first| !first.is_none())?;
    Some(EventRange::new(stream, first, version(names::RANGE_LAST)?))
}
