//! Snapshots: their item, and the conditional `PutItem` that writes it.

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::{Cost, Fingerprint, Snapshot, StoreError, StreamId, Version};

use super::item::Attributes;
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
        let item = snapshot_item(stream, snapshot);
        let bytes = item_size(&item);
        if bytes > SIZE_LIMIT {
            return Err(StoreError::too_large(
                format!("a snapshot of the stream `{stream}`"),
                bytes,
                SIZE_LIMIT,
            ));
        }
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
            Written::Refused(_) => Ok(responses::failed_write_cost(bytes, 0, 1)),
        }
    }
}

/// The item of `snapshot`.
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

/// The snapshot that an item holds; when it cannot be read, its version if at least that can.
pub(crate) fn snapshot_from(mut attributes: Attributes<'_>) -> Result<Snapshot, Option<Version>> {
    let version = attributes.version(names::SNAPSHOT_VERSION).map_err(|_| None)?;
    if version.is_none() {
        // There is no event that such a state could come from.
        return Err(Some(version));
    }
    let mut rest = || -> Result<Snapshot, StoreError> {
        let time = attributes.time()?;
        let fingerprint = attributes.text(names::FINGERPRINT)?;
        let fingerprint = u64::from_str_radix(&fingerprint, 16)
            .map_err(|_| attributes.corrupt("its fingerprint is damaged"))?;
        let checksum = attributes.number(names::CHECKSUM)?;
        let state = attributes.text(names::STATE)?;
        Ok(Snapshot::from_stored(version, time, Fingerprint::new(fingerprint), state, checksum))
    };
    rest().map_err(|_| Some(version))
}
