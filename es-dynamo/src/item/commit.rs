//! The items of a commit: one, as a rule.

use std::sync::{Arc, LazyLock};

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::store::{Commit, NewCommit};
use es_core::{CommitId, EventData, Metadata, StoreError, StreamId, Version};

use super::size::{LIMIT as SIZE_LIMIT, item_size, value_size};
use super::{Attributes, Item};
use crate::names;
use crate::transact::{MOST_ITEMS, TRANSACTION_LIMIT};

/// What most commits have, once for all of them.
static NO_METADATA: LazyLock<Arc<Metadata>> = LazyLock::new(Arc::default);

/// More events than fit into one transaction: each takes 8 bytes at least, a map with two names.
const MOST_EVENTS: u64 = TRANSACTION_LIMIT / 8;

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

impl Attributes<'_> {
    /// What the item holds of a commit: all of it, as a rule.
    pub(crate) fn part(mut self) -> Result<Part, StoreError> {
        let first = self.first_version()?;
        let (mut last, mut whole_first, mut whole_last) = (None, None, None);
        let (mut id, mut time, mut metadata, mut events) = (None, None, None, None);
        for (attribute, value) in self.take_all() {
            match (attribute.as_str(), value) {
                (names::EVENTS, AttributeValue::L(list)) => {
                    let decoded =
                        list.into_iter().map(|value| self.event(value)).collect::<Result<Vec<_>, _>>();
                    events = Some(decoded?);
                }
                (names::COMMIT_ID, AttributeValue::S(text)) => id = Some(text),
                (names::METADATA, AttributeValue::S(text)) => metadata = Some(text),
                (names::TIME, AttributeValue::N(number)) => time = Some(self.parse(names::TIME, &number)?),
                (names::LAST_VERSION, AttributeValue::N(number)) => {
                    last = Some(self.parse_version(names::LAST_VERSION, &number)?);
                }
                (names::COMMIT_FIRST, AttributeValue::N(number)) => {
                    whole_first = Some(self.parse_version(names::COMMIT_FIRST, &number)?);
                }
                (names::COMMIT_LAST, AttributeValue::N(number)) => {
                    whole_last = Some(self.parse_version(names::COMMIT_LAST, &number)?);
                }
                (
                    names::EVENTS
                    | names::COMMIT_ID
                    | names::METADATA
                    | names::TIME
                    | names::LAST_VERSION
                    | names::COMMIT_FIRST
                    | names::COMMIT_LAST,
                    _,
                ) => return Err(self.corrupt(format!("the attribute `{attribute}` is of another type"))),
                _ => {}
            }
        }
        let (Some(last), Some(id), Some(time), Some(events)) = (last, id, time, events) else {
            return Err(self.corrupt("one of its attributes is missing"));
        };
        let whole = self.head_from(first, last, whole_first, whole_last, &id)?;
        if events.is_empty() || first.plus(events.len() as u64) != last.next() {
            return Err(self.corrupt("it does not have as many events as versions"));
        }
        let metadata = match metadata {
            None => Arc::clone(&NO_METADATA),
            Some(text) => {
                Arc::new(serde_json::from_str(&text).map_err(|_| self.corrupt("its metadata is damaged"))?)
            }
        };
        let commit = Commit { id: whole.id, first, time: self.time_from(time)?, metadata, events };
        Ok(Part { commit, whole })
    }

    /// One event of the list.
    fn event(&self, value: AttributeValue) -> Result<EventData, StoreError> {
        let AttributeValue::M(map) = value else {
            return Err(self.corrupt("an event is no map"));
        };
        let (mut name, mut version, mut payload) = (None, 1, None);
        for (attribute, value) in map {
            match (attribute.as_str(), value) {
                (names::EVENT_NAME, AttributeValue::S(text)) => name = Some(text),
                (names::EVENT_PAYLOAD, AttributeValue::S(text)) => payload = Some(text),
                (names::EVENT_VERSION, AttributeValue::N(number)) => {
                    version = number
                        .parse()
                        .map_err(|_| self.corrupt("the version of an event is out of range"))?;
                }
                (names::EVENT_NAME | names::EVENT_PAYLOAD | names::EVENT_VERSION, _) => {
                    return Err(
                        self.corrupt(format!("the attribute `{attribute}` of an event is of another type"))
                    );
                }
                _ => {}
            }
        }
        match (name, payload) {
            (Some(name), Some(payload)) => Ok(EventData::new(name, version, payload)),
            _ => Err(self.corrupt("an event has no name or no payload")),
        }
    }

    /// Which commit the item is of.
    pub(crate) fn commit_head(mut self) -> Result<CommitHead, StoreError> {
        let first = self.first_version()?;
        let last = self.version(names::LAST_VERSION)?;
        let whole_first = self.optional_version(names::COMMIT_FIRST)?;
        let whole_last = self.optional_version(names::COMMIT_LAST)?;
        let id = self.text(names::COMMIT_ID)?;
        self.head_from(first, last, whole_first, whole_last, &id)
    }

    /// The commit of an item with the versions from `first` to `last`, which may be a part of it.
    fn head_from(
        &self,
        first: Version,
        last: Version,
        whole_first: Option<Version>,
        whole_last: Option<Version>,
        id: &str,
    ) -> Result<CommitHead, StoreError> {
        let (whole_first, whole_last) = (whole_first.unwrap_or(first), whole_last.unwrap_or(last));
        if last < first || whole_first > first || whole_last < last || whole_first.is_none() {
            return Err(self.corrupt("its versions contradict each other"));
        }
        if whole_last.since(whole_first) > MOST_EVENTS {
            return Err(self.corrupt("its commit has more events than one can have"));
        }
        let id = id.parse().map_err(|_| self.corrupt("its id is no UUID"))?;
        Ok(CommitHead { id, first: whole_first, last: whole_last })
    }
}

/// What one item holds of a commit.
#[derive(Debug)]
pub(crate) struct Part {
    /// The events of the item, as if they were a commit.
    pub(crate) commit: Commit,
    /// The commit that they are of.
    pub(crate) whole: CommitHead,
}

/// A commit without its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommitHead {
    pub(crate) id: CommitId,
    pub(crate) first: Version,
    pub(crate) last: Version,
}
