//! Compression with DEFLATE: of the events of a commit, and of the states of snapshots.

use std::borrow::Cow;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use es_core::StoreError;
use es_core::event::EventData;
use es_core::store::MAX_ITEM_BYTES;
use serde::{Deserialize, Serialize};

use super::group::SEVERAL_COMMITS;
use crate::table::responses::write_units;
use crate::table::{Item, Table, item_size, names};

/// The format number of a commit's item whose events are compressed.
pub(crate) const COMPRESSED_COMMIT: &str = "4";

/// The size in bytes from which on data is compressed on a thread for blocking work. It would occupy a thread of the
/// runtime for several milliseconds.
pub(super) const LARGE: usize = 64 * 1024;

/// The compression level. Higher levels take more time, and save less than one percent.
const LEVEL: u8 = 6;

/// The maximum size of the events of an item as JSON, in bytes. Quotation marks take two bytes, so it is twice the size
/// of an item. It bounds the memory that damaged data can take.
const MAX_EVENT_BYTES: u64 = 2 * MAX_ITEM_BYTES;

pub(super) fn compressed(text: &str) -> Blob {
    Blob::new(miniz_oxide::deflate::compress_to_vec(text.as_bytes(), LEVEL))
}

/// Returns the decompressed text, or `None` if it does not have exactly `length` bytes of UTF-8, or more than `most`.
pub(super) fn decompressed(data: &[u8], length: u64, most: u64) -> Option<String> {
    let limit = usize::try_from(length.min(most)).ok()?;
    let text = miniz_oxide::inflate::decompress_to_vec_with_limit(data, limit).ok()?;
    String::from_utf8(text).ok().filter(|text| text.len() as u64 == length)
}

/// An event in the compressed list, which is JSON. The members are named as the attributes of an event.
#[derive(Serialize, Deserialize)]
struct StoredEvent<'a> {
    #[serde(borrow)]
    t: Cow<'a, str>,
    #[serde(default = "first_version")]
    v: u32,
    #[serde(borrow)]
    p: Cow<'a, str>,
}

fn first_version() -> u32 {
    1
}

/// Decodes a compressed list of events. `None` if it is damaged.
pub(crate) fn events(data: &[u8], length: u64) -> Option<Vec<EventData>> {
    let text = decompressed(data, length, MAX_EVENT_BYTES)?;
    let events: Vec<StoredEvent<'_>> = serde_json::from_str(&text).ok()?;
    Some(events.into_iter().map(|StoredEvent { t, v, p }| EventData::new(t.into_owned(), v, p)).collect())
}

/// Returns the list of an item's events as JSON, or `None` if an event is not one that this store writes.
fn events_json(item: &Item) -> Option<String> {
    let events = item.get(names::EVENTS)?.as_l().ok()?.iter().map(|event| {
        let event = event.as_m().ok()?;
        let text = |name| Some(Cow::from(event.get(name)?.as_s().ok()?));
        let v = match event.get(names::EVENT_VERSION) {
            None => 1,
            Some(version) => version.as_n().ok()?.parse().ok()?,
        };
        Some(StoredEvent { t: text(names::EVENT_NAME)?, v, p: text(names::EVENT_PAYLOAD)? })
    });
    serde_json::to_string(&events.collect::<Option<Vec<_>>>()?).ok()
}

/// Compresses the events of a commit's item if the item then takes fewer write units.
pub(crate) fn events_compressed_if_cheaper(item: Item) -> Item {
    let has_other_format = item
        .get(names::FORMAT)
        .is_some_and(|format| format.as_n().map(String::as_str) != Ok(SEVERAL_COMMITS));
    if has_other_format {
        return item;
    }
    let units = write_units(item_size(&item));
    let Some(json) = events_json(&item).filter(|json| units > 1.0 && json.len() as u64 <= MAX_EVENT_BYTES)
    else {
        return item;
    };
    let mut smaller = item.clone();
    smaller.remove(names::EVENTS);
    smaller.insert(names::FORMAT.to_owned(), AttributeValue::N(COMPRESSED_COMMIT.to_owned()));
    smaller.insert(names::COMPRESSED_EVENTS.to_owned(), AttributeValue::B(compressed(&json)));
    smaller.insert(names::EVENTS_LENGTH.to_owned(), AttributeValue::N(json.len().to_string()));
    if write_units(item_size(&smaller)) < units { smaller } else { item }
}

impl Table {
    /// Returns the items of a commit, compressed as the settings of the store say.
    pub(super) async fn compress(&self, items: Vec<Item>) -> Result<Vec<Item>, StoreError> {
        match self.compress_above {
            None => Ok(items),
            // Rare, so it is boxed, which keeps the future of an append small.
            Some(bytes) => Box::pin(compressed_above(items, bytes)).await,
        }
    }
}

async fn compressed_above(mut items: Vec<Item>, bytes: u64) -> Result<Vec<Item>, StoreError> {
    let is_large = items.iter().map(item_size).sum::<u64>() > LARGE as u64;
    let compress = move || {
        for item in &mut items {
            if item_size(item) > bytes {
                *item = events_compressed_if_cheaper(std::mem::take(item));
            }
        }
        items
    };
    match is_large {
        false => Ok(compress()),
        true => {
            tokio::task::spawn_blocking(compress).await.map_err(|error| StoreError::Backend(error.into()))
        }
    }
}
