//! The item of a snapshot.

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::{Fingerprint, Snapshot, StoreError, StreamId, Version};

use super::{Attributes, Item};
use crate::names;

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
