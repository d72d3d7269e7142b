//! What an item holds of a commit, in whichever form its attributes came.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::DateTime;
use es_core::store::Commit;
use es_core::{CommitId, EventData, Metadata, StoreError, Version};

use super::Attributes;
use crate::names;
use crate::transact::TRANSACTION_LIMIT;

/// What most commits have, once for all of them.
static NO_METADATA: LazyLock<Arc<Metadata>> = LazyLock::new(Arc::default);

/// More events than fit into one transaction: each takes 8 bytes at least, a map with two names.
const MOST_EVENTS: u64 = TRANSACTION_LIMIT / 8;

/// What one item holds of a commit.
#[derive(Debug)]
#[cfg_attr(test, derive(PartialEq))]
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

/// The attributes that tell which commit an item is of.
pub(crate) struct HeadFields<'a> {
    /// From the sort key.
    pub(crate) first: Version,
    pub(crate) last: Version,
    pub(crate) whole_first: Option<Version>,
    pub(crate) whole_last: Option<Version>,
    pub(crate) id: Cow<'a, str>,
}

/// The attributes of a commit's item.
pub(crate) struct PartFields<'a> {
    pub(crate) head: HeadFields<'a>,
    /// In milliseconds since the start of 1970.
    pub(crate) time: i64,
    pub(crate) metadata: Option<Cow<'a, str>>,
    pub(crate) events: Vec<EventData>,
}

impl HeadFields<'_> {
    /// The commit of an item that may hold a part of it; or what is wrong.
    fn check(&self) -> Result<CommitHead, &'static str> {
        let Self { first, last, .. } = *self;
        let (whole_first, whole_last) = (self.whole_first.unwrap_or(first), self.whole_last.unwrap_or(last));
        if last < first || whole_first > first || whole_last < last || whole_first.is_none() {
            return Err("its versions contradict each other");
        }
        if whole_last.since(whole_first) > MOST_EVENTS {
            return Err("its commit has more events than one can have");
        }
        let id = self.id.parse().map_err(|_| "its id is no UUID")?;
        Ok(CommitHead { id, first: whole_first, last: whole_last })
    }
}

impl PartFields<'_> {
    /// What they say; or what is wrong with them.
    pub(crate) fn check(self) -> Result<Part, &'static str> {
        let whole = self.head.check()?;
        let (HeadFields { first, last, .. }, events) = (self.head, self.events);
        if events.is_empty() || first.plus(events.len() as u64) != last.next() {
            return Err("it does not have as many events as versions");
        }
        let metadata = match self.metadata {
            None => Arc::clone(&NO_METADATA),
            Some(text) => Arc::new(serde_json::from_str(&text).map_err(|_| "its metadata is damaged")?),
        };
        let time = DateTime::from_timestamp_millis(self.time).ok_or("the attribute `at` is out of range")?;
        let commit = Commit { id: whole.id, first, time, metadata, events };
        Ok(Part { commit, whole })
    }
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
                (names::COMMIT_ID, AttributeValue::S(text)) => id = Some(text.into()),
                (names::METADATA, AttributeValue::S(text)) => metadata = Some(text.into()),
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
        let head = HeadFields { first, last, whole_first, whole_last, id };
        PartFields { head, time, metadata, events }.check().map_err(|reason| self.corrupt(reason))
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
        let id = self.text(names::COMMIT_ID)?.into();
        let head = HeadFields { first, last, whole_first, whole_last, id };
        head.check().map_err(|reason| self.corrupt(reason))
    }
}
