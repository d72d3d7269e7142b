//! The items of a commit: one, as a rule.

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::store::NewCommit;
use es_core::{EventData, StoreError, StreamId, Version};

use super::size::{LIMIT as SIZE_LIMIT, item_size, value_size};
use super::{CommitHead, Item};
use crate::names;
use crate::transact::{MOST_ITEMS, TRANSACTION_LIMIT};

/// The items of `commit`, with its events at the versions from `first` on: one, or as many as it takes.
///
/// # Errors
///
/// [`StoreError::TooLarge`] when an event does not fit into an item, or the commit into a transaction.
pub(crate) fn commit_items(
    stream: &StreamId,
    first: Version,
    commit: &NewCommit,
) -> Result<Vec<Item>, StoreError> {
    let last = first.plus(commit.events.len() as u64).previous();
    let whole = CommitHead { id: commit.id, first, last };
    let events: Vec<_> = commit.events.iter().map(event_value).collect();
    let single = item(stream, &whole, first, last, commit, events)?;
    if item_size(&single) <= SIZE_LIMIT {
        return Ok(vec![single]);
    }

    let mut items = Vec::new();
    let mut part = Vec::new();
    let (mut part_first, mut part_bytes) = (first, 0);
    // What every part has besides its events, whatever their number.
    let frame = item_size(&item(stream, &whole, first, last, commit, Vec::new())?) + 64;
    for (event, version) in commit.events.iter().zip(first.get()..) {
        let value = event_value(event);
        let bytes = 1 + value_size(&value);
        if frame + bytes > SIZE_LIMIT {
            let what = format!("the event `{}` at version {version} of the stream `{stream}`", event.name());
            return Err(StoreError::too_large(what, frame + bytes, SIZE_LIMIT));
        }
        if frame + part_bytes + bytes > SIZE_LIMIT {
            let part_last = Version::new(version).previous();
            items.push(item(stream, &whole, part_first, part_last, commit, std::mem::take(&mut part))?);
            (part_first, part_bytes) = (Version::new(version), 0);
        }
        part_bytes += bytes;
        part.push(value);
    }
    items.push(item(stream, &whole, part_first, last, commit, part)?);

    let bytes = items.iter().map(item_size).sum();
    if items.len() > MOST_ITEMS || bytes > TRANSACTION_LIMIT {
        let what = format!("a commit of {} events for the stream `{stream}`", commit.events.len());
        return Err(StoreError::too_large(what, bytes, TRANSACTION_LIMIT));
    }
    Ok(items)
}

/// The item with the events of `commit` from `first` to `last`.
fn item(
    stream: &StreamId,
    whole: &CommitHead,
    first: Version,
    last: Version,
    commit: &NewCommit,
    events: Vec<AttributeValue>,
) -> Result<Item, StoreError> {
    let mut item = Item::from([
        (names::PARTITION_KEY.to_owned(), AttributeValue::S(stream.as_str().to_owned())),
        (names::SORT_KEY.to_owned(), AttributeValue::S(names::commit_key(first))),
        (names::LAST_VERSION.to_owned(), AttributeValue::N(last.to_string())),
        (names::COMMIT_ID.to_owned(), AttributeValue::S(commit.id.to_string())),
        (names::TIME.to_owned(), AttributeValue::N(commit.time.timestamp_millis().to_string())),
        (names::EVENTS.to_owned(), AttributeValue::L(events)),
    ]);
    if (first, last) != (whole.first, whole.last) {
        item.insert(names::COMMIT_FIRST.to_owned(), AttributeValue::N(whole.first.to_string()));
        item.insert(names::COMMIT_LAST.to_owned(), AttributeValue::N(whole.last.to_string()));
    }
    if !commit.metadata.is_empty() && first == whole.first {
        let metadata = serde_json::to_string(&commit.metadata)
            .map_err(|_| StoreError::invalid("the metadata of the commit has no JSON form"))?;
        item.insert(names::METADATA.to_owned(), AttributeValue::S(metadata));
    }
    Ok(item)
}

fn event_value(event: &EventData) -> AttributeValue {
    let mut map = Item::from([
        (names::EVENT_NAME.to_owned(), AttributeValue::S(event.name().to_owned())),
        (names::EVENT_PAYLOAD.to_owned(), AttributeValue::S(event.payload().to_owned())),
    ]);
    if event.version() != 1 {
        map.insert(names::EVENT_VERSION.to_owned(), AttributeValue::N(event.version().to_string()));
    }
    AttributeValue::M(map)
}
