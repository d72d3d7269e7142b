//! The items of claims and of idempotency keys.

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::DateTime;
use es_core::store::{Claim, EventRange, IdempotencyKey, IdempotencyRecord, NetChange, NewIdempotencyRecord};
use es_core::{StoreError, StreamId, Version};

use crate::table::{Item, key, names};

/// The key of a claim.
pub(crate) fn claim_key(claim: &Claim) -> Item {
    key(format!("{}{}#{}", names::CLAIM_PREFIX, claim.name(), claim.value()), names::CLAIM_KEY)
}

/// The item of a claim that `holder` has.
pub(crate) fn claim_item(change: &NetChange<'_>, holder: &StreamId) -> Item {
    let mut item = claim_key(change.claim);
    item.insert(names::HOLDER.to_owned(), AttributeValue::S(holder.as_str().to_owned()));
    item
}

/// The stream that holds a claim, by its item.
pub(crate) fn holder_of(claim: &Claim, item: &Item) -> Result<StreamId, StoreError> {
    let holder = item.get(names::HOLDER).and_then(|value| value.as_s().ok());
    holder.and_then(|holder| holder.parse().ok()).ok_or_else(|| {
        StoreError::invalid(format!("the item of a claim `{}` names no stream that holds it", claim.name()))
    })
}

/// The key of a marker: those of one stream stand side by side, those of transactions each alone.
///
/// An id may contain `#`, so stream and key are never put into one text.
pub(crate) fn marker_key(once: &IdempotencyKey) -> Item {
    let (partition, sort) = match once.stream() {
        Some(stream) => (stream.as_str().to_owned(), once.key()),
        None => (format!("{}{}", names::TRANSACTION, once.key()), ""),
    };
    key(format!("{}{partition}", names::MARKER_PREFIX), format!("{}{sort}", names::MARKER_KEY))
}

pub(crate) fn marker_item(once: &NewIdempotencyRecord) -> Item {
    let places = once.ranges.iter().map(|place| {
        AttributeValue::M(Item::from([
            (names::PLACE_STREAM.to_owned(), AttributeValue::S(place.stream.as_str().to_owned())),
            (names::PLACE_FIRST.to_owned(), AttributeValue::N(place.first.to_string())),
            (names::PLACE_LAST.to_owned(), AttributeValue::N(place.last.to_string())),
        ]))
    });
    let mut item = marker_key(&once.key);
    item.insert(names::COMMIT_ID.to_owned(), AttributeValue::S(once.id.to_string()));
    item.insert(names::PLACES.to_owned(), AttributeValue::L(places.collect()));
    item.insert(names::TIME_TO_LIVE.to_owned(), AttributeValue::N(once.expires.timestamp().to_string()));
    if let Some(fingerprint) = &once.fingerprint {
        item.insert(names::COMMAND_FINGERPRINT.to_owned(), AttributeValue::S(fingerprint.clone()));
    }
    item
}

pub(crate) fn marker_from(item: &Item) -> Result<IdempotencyRecord, StoreError> {
    read(item).ok_or_else(|| StoreError::invalid("the record of an idempotency key cannot be read"))
}

fn read(item: &Item) -> Option<IdempotencyRecord> {
    let id = item.get(names::COMMIT_ID)?.as_s().ok()?.parse().ok()?;
    let expires = item.get(names::TIME_TO_LIVE)?.as_n().ok()?.parse().ok()?;
    let places = item.get(names::PLACES)?.as_l().ok()?;
    let places = places.iter().map(|value| place(value.as_m().ok()?)).collect::<Option<_>>()?;
    let fingerprint = match item.get(names::COMMAND_FINGERPRINT) {
        Some(fingerprint) => Some(fingerprint.as_s().ok()?.clone()),
        None => None,
    };
    Some(
        IdempotencyRecord::new(id, places, DateTime::from_timestamp(expires, 0)?)
            .with_fingerprint(fingerprint),
    )
}

fn place(map: &Item) -> Option<EventRange> {
    let version = |name: &str| {
        let version = map.get(name)?.as_n().ok()?.parse().ok().map(Version::new)?;
        (version <= Version::MAX).then_some(version)
    };
    Some(EventRange {
        stream: map.get(names::PLACE_STREAM)?.as_s().ok()?.parse().ok()?,
        first: version(names::PLACE_FIRST).filter(|first| !first.is_none())?,
        last: version(names::PLACE_LAST)?,
    })
}
