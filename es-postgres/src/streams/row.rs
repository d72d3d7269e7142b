//! Commits as rows: encoding and decoding.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use es_core::event::{CommitId, EventData};
use es_core::store::{Commit, NewCommit};
use es_core::{Metadata, StoreError, StreamId, Version};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::database::Failed;

/// A commit as it is inserted.
pub(crate) struct NewRow {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) id: Uuid,
    pub(crate) at: DateTime<Utc>,
    pub(crate) metadata: Option<String>,
    pub(crate) events: String,
}

impl NewRow {
    /// Encodes `commit`, whose first event gets the version `first`.
    pub(crate) fn new(commit: &NewCommit, first: Version) -> Result<Self, StoreError> {
        let metadata = match commit.metadata.is_empty() {
            true => None,
            false => Some(serde_json::to_string(&commit.metadata).map_err(unwritable)?),
        };
        Ok(Self {
            first: number(first),
            last: number(first.plus(commit.events.len() as u64).previous()),
            id: commit.id.as_uuid(),
            at: commit.time,
            metadata,
            events: encode_events(&commit.events)?,
        })
    }

    /// Returns the length of the events as text.
    pub(crate) fn bytes(&self) -> i32 {
        i32::try_from(self.events.len()).unwrap_or(i32::MAX)
    }
}

/// Encodes the commits of an append after `version`.
pub(crate) fn new_rows(commits: &[NewCommit], version: Version) -> Result<Vec<NewRow>, StoreError> {
    let mut first = version.next();
    let rows = commits.iter().map(|commit| {
        let row = NewRow::new(commit, first)?;
        first = first.plus(commit.events.len() as u64);
        Ok(row)
    });
    rows.collect()
}

/// Returns a version as a `bigint`. Versions have at most twelve digits.
pub(crate) fn number(version: Version) -> i64 {
    i64::try_from(version.get()).unwrap_or(i64::MAX)
}

/// Returns a stored `bigint` as a version.
pub(crate) fn version(number: i64) -> Version {
    Version::new(u64::try_from(number).unwrap_or_default())
}

/// An event in the column `events`.
#[derive(Serialize, Deserialize)]
struct StoredEvent<'a> {
    #[serde(rename = "t", borrow)]
    name: Cow<'a, str>,
    /// The schema version, unless it is 1.
    #[serde(rename = "v", default = "first_schema", skip_serializing_if = "is_first_schema")]
    schema: u32,
    #[serde(
        rename = "p",
        borrow,
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    payload: Option<&'a RawValue>,
    /// A payload that the column type would change or reject: with whitespace around it, or malformed.
    #[serde(rename = "s", borrow, default, skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
}

/// Deserializes a payload, which may be `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

const fn first_schema() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde requires")]
const fn is_first_schema(schema: &u32) -> bool {
    *schema == 1
}

pub(crate) fn encode_events(events: &[EventData]) -> Result<String, StoreError> {
    let stored = events.iter().map(|event| {
        let raw: Option<&RawValue> = serde_json::from_str(event.payload()).ok();
        let payload = raw.filter(|raw| raw.get().len() == event.payload().len());
        let text = payload.is_none().then(|| Cow::Borrowed(event.payload()));
        StoredEvent { name: Cow::Borrowed(event.name()), schema: event.version(), payload, text }
    });
    serde_json::to_string(&stored.collect::<Vec<_>>()).map_err(unwritable)
}

/// Decodes the column `events` of a commit with one event. Returns `None` if it has several, or cannot be decoded.
pub(crate) fn only_event(events: &str) -> Option<EventData> {
    let stored: [StoredEvent<'_>; 1] = serde_json::from_str(events).ok()?;
    let [event] = stored;
    Some(EventData::new(event.name.into_owned(), event.schema, event.payload?.get()))
}

fn unwritable(error: serde_json::Error) -> StoreError {
    StoreError::invalid(format!("the commit cannot be encoded: {error}"))
}

/// The columns of a commit, with which each row that contains one begins, in this order. They are read by position,
/// because finding a column by its name takes longer than decoding it.
pub(crate) mod column {
    pub(crate) const FIRST: usize = 0;
    pub(crate) const LAST: usize = 1;
    pub(crate) const ID: usize = 2;
    pub(crate) const AT: usize = 3;
    pub(crate) const METADATA: usize = 4;
    pub(crate) const EVENTS: usize = 5;
}

/// Decodes a row that begins with the [columns](column) of a commit. Their types are those of the schema, and not checked
/// for each row. Metadata and events are read as text, which the binary form of `json` is: a cast in the statement would
/// copy them.
pub(crate) fn commit_from(stream: &StreamId, row: &PgRow) -> Result<Commit, Failed> {
    let first = version(row.try_get_unchecked(column::FIRST)?);
    let corrupt =
        |reason: &str| StoreError::corrupt(stream, format!("the commit at version {first} {reason}"));
    let stored: Vec<StoredEvent<'_>> = serde_json::from_str(row.try_get_unchecked(column::EVENTS)?)
        .map_err(|error| corrupt(&format!("has malformed events, at column {}", error.column())))?;
    let events = stored.into_iter().map(|event| {
        let payload = match (event.payload, event.text) {
            (Some(payload), None) => payload.get().to_owned(),
            (None, Some(text)) => text.into_owned(),
            _ => return Err(corrupt(&format!("has the event `{}` without one payload", event.name))),
        };
        Ok(EventData::new(event.name.into_owned(), event.schema, payload))
    });
    let events = events.collect::<Result<Vec<_>, _>>()?;
    let mut commit = Commit::new(
        CommitId::new(row.try_get_unchecked(column::ID)?),
        first,
        row.try_get_unchecked(column::AT)?,
        events,
    );
    let last = version(row.try_get_unchecked(column::LAST)?);
    if commit.events.is_empty() || commit.last() != last {
        return Err(corrupt(&format!("has {} events and ends at {last}", commit.events.len())).into());
    }
    if let Some(metadata) = row.try_get_unchecked::<Option<&str>, _>(column::METADATA)? {
        let metadata: Metadata =
            serde_json::from_str(metadata).map_err(|_| corrupt("has malformed metadata"))?;
        commit = commit.with_metadata(metadata);
    }
    Ok(commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_survive_byte_for_byte() {
        let payloads = ["null", "{\"a\":1,\"a\":2}", " { } ", "1e400", "\"\\ud800\"", "not json", "", "1 2"];
        let events: Vec<_> = payloads.iter().map(|payload| EventData::new("A\"b", 1, *payload)).collect();
        let text = encode_events(&events).expect("encodes");
        let stored: Vec<StoredEvent<'_>> = serde_json::from_str(&text).expect("is JSON");
        for (stored, payload) in stored.iter().zip(payloads) {
            let found = stored.payload.map_or_else(|| stored.text.as_deref().unwrap_or("?"), RawValue::get);
            assert_eq!((found, &*stored.name, stored.schema), (payload, "A\"b", 1));
        }
        assert!(text.starts_with(
            r#"[{"t":"A\"b","p":null},{"t":"A\"b","p":{"a":1,"a":2}},{"t":"A\"b","s":" { } "}"#
        ));
    }
}
