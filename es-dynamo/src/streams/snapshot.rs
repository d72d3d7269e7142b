//! Snapshots: their item, and the conditional `PutItem` that writes it.

use std::borrow::Cow;

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::{Cost, StoreError, StreamId, Version};

use super::compression::{LARGE, compressed, decompressed};
use super::item::Attributes;
use crate::table::responses::write_units;
use crate::table::{Item, SIZE_LIMIT, Table, Written, item_size, names, responses};

/// The condition that the stored snapshot is missing, older, or without a valid version. Two writers may race, and the
/// writer of the older snapshot may be the later one.
const IS_NEWER: &str = "attribute_not_exists(v) OR v < :v OR NOT attribute_type(v, :n) OR v > :max";

impl Table {
    pub(crate) async fn write_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError> {
        snapshot.check_sealed()?;
        let item = snapshot_item(stream, snapshot);
        let bytes = item_size(&item);
        if bytes > SIZE_LIMIT {
            return Err(StoreError::too_large(
                format!("a snapshot of the stream `{stream}`"),
                bytes,
                SIZE_LIMIT,
            ));
        }
        let item = match snapshot.state().len() < LARGE {
            true => compressed_if_cheaper(item, snapshot),
            false => {
                let snapshot = snapshot.clone();
                let compression = tokio::task::spawn_blocking(move || compressed_if_cheaper(item, &snapshot));
                compression.await.map_err(|error| StoreError::Backend(error.into()))?
            }
        };
        let bytes = item_size(&item);
        let mut put = self
            .put_request(item)
            .condition_expression(IS_NEWER)
            .expression_attribute_values(":v", AttributeValue::N(snapshot.version().to_string()))
            .expression_attribute_values(":n", AttributeValue::S("N".to_owned()))
            .expression_attribute_values(":max", AttributeValue::N(Version::MAX.to_string()));
        if let Some(version) = replaces {
            put = put
                .condition_expression(format!("{IS_NEWER} OR v = :replaces"))
                .expression_attribute_values(":replaces", AttributeValue::N(version.to_string()));
        }
        match self.put(put).await? {
            Written::Done(cost) => Ok(cost),
            Written::Refused(_) => Ok(responses::failed_write_cost("PutItem", bytes, 0)),
        }
    }
}

/// The format of a snapshot whose state is compressed.
const COMPRESSED: &str = "2";

/// Replaces the state of a snapshot's item by the compressed one if the item then takes fewer write units.
pub(crate) fn compressed_if_cheaper(item: Item, snapshot: &Snapshot) -> Item {
    let units = write_units(item_size(&item));
    if units <= 1.0 {
        return item;
    }
    let mut smaller = item.clone();
    smaller.remove(names::STATE);
    smaller.insert(names::FORMAT.to_owned(), AttributeValue::N(COMPRESSED.to_owned()));
    smaller.insert(names::COMPRESSED_STATE.to_owned(), AttributeValue::B(compressed(snapshot.state())));
    smaller.insert(names::STATE_LENGTH.to_owned(), AttributeValue::N(snapshot.state().len().to_string()));
    if write_units(item_size(&smaller)) < units { smaller } else { item }
}

/// The state of a snapshot as its item contains it.
pub(crate) struct StoredState<'a> {
    pub(crate) format: Option<Cow<'a, str>>,
    pub(crate) state: Option<Cow<'a, str>>,
    pub(crate) compressed: Option<Vec<u8>>,
    pub(crate) length: Option<u64>,
}

impl StoredState<'_> {
    /// Returns the state, or `None` if it is damaged, or stored in an unknown format.
    pub(crate) fn decode(self) -> Option<String> {
        match self.format.as_deref() {
            None | Some("1") => self.state.map(Cow::into_owned),
            // No state is larger than an item.
            Some(COMPRESSED) => decompressed(&self.compressed?, self.length?, SIZE_LIMIT),
            Some(_) => None,
        }
    }
}

/// Returns the item of `snapshot`, with the state as text.
pub(crate) fn snapshot_item(stream: &StreamId, snapshot: &Snapshot) -> Item {
    Item::from([
        (names::PARTITION_KEY.to_owned(), AttributeValue::S(stream.as_str().to_owned())),
        (names::SORT_KEY.to_owned(), AttributeValue::S(names::SNAPSHOT_KEY.to_owned())),
        (names::SNAPSHOT_VERSION.to_owned(), AttributeValue::N(snapshot.version().to_string())),
        (names::TIME.to_owned(), AttributeValue::N(snapshot.time().timestamp_millis().to_string())),
        (names::FINGERPRINT.to_owned(), AttributeValue::S(format!("{:016x}", snapshot.fingerprint().get()))),
        (names::CHECKSUM.to_owned(), AttributeValue::N(snapshot.checksum().to_string())),
        (names::STATE.to_owned(), AttributeValue::S(snapshot.state().to_owned())),
    ])
}

/// Decodes a snapshot. If that fails, returns its version, if at least that can be read.
pub(crate) fn snapshot_from(mut attributes: Attributes<'_>) -> Result<Snapshot, Option<Version>> {
    let version = attributes.version(names::SNAPSHOT_VERSION).map_err(|_| None)?;
    if version.is_none() {
        // There are no events before this version that could result in a state.
        return Err(Some(version));
    }
    let mut rest = || -> Result<Snapshot, StoreError> {
        let time = attributes.time()?;
        let fingerprint = attributes.text(names::FINGERPRINT)?;
        let fingerprint = u64::from_str_radix(&fingerprint, 16)
            .map_err(|_| attributes.corrupt("its fingerprint is damaged"))?;
        let checksum = attributes.number(names::CHECKSUM)?;
        let stored = StoredState {
            format: attributes.optional_digits(names::FORMAT)?.map(Cow::Owned),
            state: attributes.optional_text(names::STATE)?.map(Cow::Owned),
            compressed: attributes.optional_bytes(names::COMPRESSED_STATE)?,
            length: attributes.optional_number(names::STATE_LENGTH)?,
        };
        let state = stored.decode().ok_or_else(|| attributes.corrupt("its state cannot be decoded"))?;
        Ok(Snapshot::from_stored(version, time, Fingerprint::new(fingerprint), state, checksum))
    };
    rest().map_err(|_| Some(version))
}
