//! The item of a commit.

use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::store::{Commit, NewCommit};
use es_core::{CommitId, EventData, Metadata, StoreError, StreamId, Version};

use super::{Attributes, Item};
use crate::names;

/// The item of `commit`, with its events at the versions `first` to `last`.
pub(crate) fn commit_item(
    stream: &StreamId,
    first: Version,
    last: Version,
    commit: &NewCommit,
) -> Result<Item, StoreError> {
    let events = commit.events.iter().map(event_value).collect();
    let mut item = Item::from([
        (names::PARTITION_KEY.to_owned(), AttributeValue::S(stream.as_str().to_owned())),
        (names::SORT_KEY.to_owned(), AttributeValue::S(names::commit_key(first))),
        (names::LAST_VERSION.to_owned(), AttributeValue::N(last.to_string())),
        (names::COMMIT_ID.to_owned(), AttributeValue::S(commit.id.to_string())),
        (names::TIME.to_owned(), AttributeValue::N(commit.time.timestamp_millis().to_string())),
        (names::EVENTS.to_owned(), AttributeValue::L(events)),
    ]);
    if !commit.metadata.is_empty() {
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
    /// The commit that the item holds.
    pub(crate) fn commit(mut self) -> Result<Commit, StoreError> {
        let head = self.commit_head()?;
        let time = self.time()?;
        let metadata = match self.optional_text(names::METADATA)? {
            None => Metadata::new(),
            Some(text) => serde_json::from_str(&text).map_err(|_| self.corrupt("its metadata is damaged"))?,
        };
        let events = self
            .list(names::EVENTS)?
            .into_iter()
            .map(|map| {
                let mut event = self.inside(map);
                let name = event.text(names::EVENT_NAME)?;
                let version = event.optional_number(names::EVENT_VERSION)?.unwrap_or(1);
                Ok(EventData::new(name, version, event.text(names::EVENT_PAYLOAD)?))
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        if head.first.plus(events.len() as u64) != head.last.next() {
            return Err(self.corrupt("it does not have as many events as versions"));
        }
        Ok(Commit { id: head.id, first: head.first, time, metadata: Arc::new(metadata), events })
    }

    /// Which commit the item holds, without its events.
    pub(crate) fn commit_head(&mut self) -> Result<CommitHead, StoreError> {
        let first = self.first_version()?;
        let last = self.version(names::LAST_VERSION)?;
        if last < first {
            return Err(self.corrupt("it ends before it starts"));
        }
        let id = self.text(names::COMMIT_ID)?;
        let id: CommitId = id.parse().map_err(|_| self.corrupt("its id is no UUID"))?;
        Ok(CommitHead { id, first, last })
    }
}

/// Which commit an item holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommitHead {
    pub(crate) id: CommitId,
    pub(crate) first: Version,
    pub(crate) last: Version,
}
