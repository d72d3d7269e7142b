//! Snapshots: their item, and the conditional `PutItem` that writes it.

use std::borrow::Cow;

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, Utc};
use es_core::bytes::Bytes;
use es_core::payloads::PayloadError;
use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::store::MAX_ITEM_BYTES;
use es_core::{Cost, StoreError, StreamId, Version};

use super::compression::{LARGE, compressed, decompressed};
use super::item::Attributes;
use super::objects::{ObjectRef, reference_attributes};
use crate::table::responses::write_units;
use crate::table::{
    Cancelled, Item, PutIf, Reason, Table, Transacted, Written, cancelled, item_size, names, qualified,
    responses,
};

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
        if bytes > MAX_ITEM_BYTES {
            return Box::pin(self.write_large_snapshot(stream, snapshot, replaces)).await;
        }
        let item = match snapshot.state().len() < LARGE {
            true => compressed_if_cheaper(item, snapshot),
            false => {
                let snapshot = snapshot.clone();
                blocking(move || compressed_if_cheaper(item, &snapshot)).await?
            }
        };
        let bytes = item_size(&item);
        let mut put = self.put_request(item).condition_expression(newer(replaces));
        for (name, value) in newer_values(snapshot, replaces) {
            put = put.expression_attribute_values(name, value);
        }
        match self.put(put).await? {
            Written::Done(cost) => Ok(cost),
            Written::Refused(_) => Ok(responses::failed_write_cost("PutItem", bytes, 0)),
        }
    }
}

impl Table {
    /// Writes a snapshot whose state does not fit into an item: the compressed state becomes an object.
    async fn write_large_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError> {
        let what = || format!("a snapshot of the stream `{stream}`");
        let bytes = snapshot.state().len() as u64;
        let Some(objects) = &self.objects else {
            return Err(StoreError::needs_payload_store(what(), item_size(&snapshot_item(stream, snapshot))));
        };
        let limit = objects.payloads().max_bytes();
        if bytes > limit {
            return Err(StoreError::too_large(what(), bytes, limit));
        }
        let state = snapshot.state().to_owned();
        let content = blocking(move || compressed(&state)).await?.into_inner();
        let named = objects.named(vec![((), Bytes::from(content))]).await?;
        let [((), mut name, content)] = <[_; 1]>::try_from(named).expect("one content has one name");
        loop {
            objects.payloads().put_all(vec![(name.clone(), content.clone())]).await?;
            let object = ObjectRef { name: name.clone(), length: content.len() as u64 };
            let item = large_snapshot_item(stream, snapshot, &object);
            let bytes = item_size(&item);
            let condition = newer(replaces);
            let PutIf(mut put) = self.put_if(item, &condition);
            for (name, value) in newer_values(snapshot, replaces) {
                put = put.expression_attribute_values(name, value);
            }
            let items = vec![PutIf(put).build()?, self.is_open(&name)?];
            let Cancelled { reasons, is_outcome_unknown } = match self.transact(items).await? {
                Transacted::Done(cost) => return Ok(cost),
                Transacted::Cancelled(cancelled) => cancelled,
            };
            match &reasons[..] {
                [Reason::Condition(_), ..] => {
                    return Ok(responses::failed_write_cost(responses::TRANSACT_WRITE, bytes, 0));
                }
                [Reason::None, Reason::Condition(_)] => name = name.next_generation(),
                reasons => return Err(qualified(cancelled(reasons), is_outcome_unknown)),
            }
        }
    }

    /// Returns a snapshot with its state, or the version of the snapshot if it cannot be used: it has another
    /// fingerprint, or its object is damaged.
    pub(crate) async fn complete_snapshot(
        &self,
        large: LargeSnapshot,
        fingerprint: Fingerprint,
    ) -> Result<Result<Snapshot, Version>, StoreError> {
        let LargeSnapshot { version, time, fingerprint: found, checksum, object, length } = large;
        let Some(objects) = self.objects.as_ref().filter(|_| found == fingerprint) else {
            return Ok(Err(version));
        };
        let limit = objects.payloads().max_bytes();
        let content = match objects.payloads().get_all(vec![(object.name, object.length)]).await {
            Ok(mut contents) => contents.pop().unwrap_or_default(),
            Err(error @ (PayloadError::Missing { .. } | PayloadError::Corrupt { .. })) => {
                tracing::warn!(%error, "ignored a snapshot whose state cannot be read");
                return Ok(Err(version));
            }
            Err(error) => return Err(error.into()),
        };
        let state = blocking(move || decompressed(&content, length, limit)).await?;
        Ok(state.map(|state| Snapshot::from_stored(version, time, found, state, checksum)).ok_or(version))
    }
}

/// Executes `work` on a thread for blocking work.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Backend(error.into()))
}

/// Returns the condition that the stored snapshot is older, or has the version `replaces`.
fn newer(replaces: Option<Version>) -> String {
    let or = if replaces.is_some() { " OR v = :replaces" } else { "" };
    format!("{IS_NEWER}{or}")
}

/// Returns the values of the condition [`newer`].
fn newer_values(
    snapshot: &Snapshot,
    replaces: Option<Version>,
) -> impl Iterator<Item = (&'static str, AttributeValue)> {
    let number = |version: Version| AttributeValue::N(version.to_string());
    let values = [
        (":v", number(snapshot.version())),
        (":n", AttributeValue::S("N".to_owned())),
        (":max", number(Version::MAX)),
    ];
    values.into_iter().chain(replaces.map(|version| (":replaces", number(version))))
}

/// The format of a snapshot whose compressed state is an object.
pub(crate) const IN_OBJECT: &str = "3";

/// The format of a snapshot whose state is compressed.
pub(crate) const COMPRESSED: &str = "2";

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
            Some(COMPRESSED) => decompressed(&self.compressed?, self.length?, MAX_ITEM_BYTES),
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

/// Returns the item of `snapshot`, whose compressed state is an object.
fn large_snapshot_item(stream: &StreamId, snapshot: &Snapshot, object: &ObjectRef) -> Item {
    let mut item = snapshot_item(stream, snapshot);
    item.remove(names::STATE);
    item.insert(names::FORMAT.to_owned(), AttributeValue::N(IN_OBJECT.to_owned()));
    item.insert(names::STATE_LENGTH.to_owned(), AttributeValue::N(snapshot.state().len().to_string()));
    item.extend(reference_attributes(object));
    item
}

/// A decoded snapshot.
#[derive(Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) enum StoredSnapshot {
    Whole(Snapshot),
    Large(LargeSnapshot),
}

/// A snapshot whose compressed state is an object.
#[derive(Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) struct LargeSnapshot {
    version: Version,
    time: DateTime<Utc>,
    fingerprint: Fingerprint,
    checksum: u32,
    object: ObjectRef,
    /// The length of the state before compression, in bytes.
    length: u64,
}

/// Decodes a snapshot. If that fails, returns its version, if at least that can be read.
pub(crate) fn snapshot_from(mut attributes: Attributes<'_>) -> Result<StoredSnapshot, Option<Version>> {
    let version = attributes.version(names::SNAPSHOT_VERSION).map_err(|_| None)?;
    if version.is_none() {
        // There are no events before this version that could result in a state.
        return Err(Some(version));
    }
    let mut rest = || -> Result<StoredSnapshot, StoreError> {
        let time = attributes.time()?;
        let fingerprint = attributes.text(names::FINGERPRINT)?;
        let fingerprint = u64::from_str_radix(&fingerprint, 16)
            .map_err(|_| attributes.corrupt("its fingerprint is damaged"))?;
        let fingerprint = Fingerprint::new(fingerprint);
        let checksum = attributes.number(names::CHECKSUM)?;
        let format = attributes.optional_digits(names::FORMAT)?;
        if format.as_deref() == Some(IN_OBJECT) {
            let name = attributes.text(names::OBJECT)?;
            let object_length = attributes.optional_digits(names::OBJECT_LENGTH)?.unwrap_or_default();
            let object = attributes.object_ref(&name, &object_length)?;
            let length = attributes.number(names::STATE_LENGTH)?;
            let large = LargeSnapshot { version, time, fingerprint, checksum, object, length };
            return Ok(StoredSnapshot::Large(large));
        }
        let stored = StoredState {
            format: format.map(Cow::Owned),
            state: attributes.optional_text(names::STATE)?.map(Cow::Owned),
            compressed: attributes.optional_bytes(names::COMPRESSED_STATE)?,
            length: attributes.optional_number(names::STATE_LENGTH)?,
        };
        let state = stored.decode().ok_or_else(|| attributes.corrupt("its state cannot be decoded"))?;
        Ok(StoredSnapshot::Whole(Snapshot::from_stored(version, time, fingerprint, state, checksum)))
    };
    rest().map_err(|_| Some(version))
}
