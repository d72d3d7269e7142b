//! The layouts of the tables of other libraries.

use std::collections::BTreeMap;
use std::fmt;

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, Utc};
use es_core::event::EventData;
use es_core::{Metadata, StreamId};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::payload::check_payload;
use super::{Cause, Item};

/// The library that created a table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Layout {
    DynamoEs,
    EventStoreAdapter,
}

impl Layout {
    pub(crate) fn partition_key(self) -> &'static str {
        match self {
            Self::DynamoEs => "AggregateTypeAndId",
            Self::EventStoreAdapter => "aid",
        }
    }

    /// Returns whether a partition is a stream. One partition of event-store-adapter-rs has the configuration of its
    /// store.
    pub(crate) fn is_stream(self, partition: &str) -> bool {
        match self {
            Self::DynamoEs => true,
            Self::EventStoreAdapter => partition != "__config__",
        }
    }

    /// Decodes an event.
    pub(crate) fn event(self, mut item: Item) -> Result<ForeignEvent, Cause> {
        match self {
            Self::DynamoEs => dynamo_es(&mut item),
            Self::EventStoreAdapter => event_store_adapter(&mut item),
        }
    }
}

fn dynamo_es(item: &mut Item) -> Result<ForeignEvent, Cause> {
    let metadata: Map<String, Value> = serde_json::from_str(&json(item, "Metadata")?)
        .map_err(|_| "the attribute `Metadata` is not a JSON object")?;
    Ok(ForeignEvent {
        aggregate: text(item, "AggregateType")?,
        id: text(item, "AggregateId")?,
        number: number(item, "AggregateIdSequence")?,
        name: text(item, "EventType")?,
        version: text(item, "EventVersion")?,
        payload: json(item, "Payload")?,
        time: None,
        metadata: metadata.into_iter().fold(Metadata::new(), |all, (key, value)| all.with_entry(key, value)),
    })
}

fn event_store_adapter(item: &mut Item) -> Result<ForeignEvent, Cause> {
    let aid = text(item, "aid")?;
    // Only the id may contain a hyphen.
    let (aggregate, id) = aid.split_once('-').ok_or("the attribute `aid` has no `-`")?;
    Ok(ForeignEvent {
        aggregate: aggregate.to_owned(),
        id: id.to_owned(),
        number: number(item, "seq_nr")?,
        name: text(item, "manifest")?,
        version: String::new(),
        payload: json(item, "payload")?,
        time: Some(DateTime::from_timestamp_nanos(number(item, "occurred_at")?)),
        metadata: Metadata::new(),
    })
}

fn text(item: &mut Item, name: &str) -> Result<String, Cause> {
    match item.remove(name) {
        Some(AttributeValue::S(text)) => Ok(text),
        _ => Err(format!("the attribute `{name}` is missing, or not a string").into()),
    }
}

fn number<T: std::str::FromStr>(item: &mut Item, name: &str) -> Result<T, Cause> {
    match item.remove(name) {
        Some(AttributeValue::N(number)) => number.parse().ok(),
        _ => None,
    }
    .ok_or_else(|| format!("the attribute `{name}` is missing, or not an integer").into())
}

/// Returns the JSON text of a binary attribute.
fn json(item: &mut Item, name: &str) -> Result<String, Cause> {
    match item.remove(name) {
        Some(AttributeValue::B(bytes)) => String::from_utf8(bytes.into_inner()).ok(),
        _ => None,
    }
    .ok_or_else(|| format!("the attribute `{name}` is missing, or not UTF-8 in a binary value").into())
}

/// An event from the table of another library. [`Import::convert`](super::Import::convert) can change it before it is
/// stored.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct ForeignEvent {
    /// The name of the aggregate: `AggregateType`, or the part of `aid` before the first `-`.
    pub aggregate: String,
    /// The aggregate's id.
    pub id: String,
    /// The number of the event in its stream, starting at 1.
    pub number: u64,
    /// The stored name: `EventType`, or `manifest`.
    pub name: String,
    /// The schema version: an integer, with or without a trailing `.0`, or an empty string for 1.
    pub version: String,
    /// The payload as JSON.
    pub payload: String,
    /// The time of the event, if the table stores it.
    pub time: Option<DateTime<Utc>>,
    /// The metadata.
    pub metadata: Metadata,
}

impl ForeignEvent {
    /// Replaces the payload, an enum value as serde encodes it, by the content of its variant. If the event has no
    /// name, it gets the name of the variant.
    ///
    /// `{"Deposited":{"cents":5}}` becomes `{"cents":5}`, and `"Closed"` becomes `null`. The text of the content is not
    /// changed.
    ///
    /// # Errors
    ///
    /// If the payload is not an enum value.
    pub fn unwrap_variant(&mut self) -> Result<(), Cause> {
        check_payload(&self.payload)?;
        let (variant, content) = match serde_json::from_str::<BTreeMap<String, &RawValue>>(&self.payload) {
            Ok(map) if map.len() == 1 => {
                map.into_iter().next().map(|(variant, content)| (variant, content.get().to_owned()))
            }
            _ => {
                serde_json::from_str::<String>(&self.payload).ok().map(|variant| (variant, "null".to_owned()))
            }
        }
        .ok_or("the payload is not an enum value: convert it in `convert`")?;
        if self.name.is_empty() {
            self.name = variant;
        }
        self.payload = content;
        Ok(())
    }

    /// Checks that the event can be stored.
    pub(crate) fn check(&self) -> Result<(), Cause> {
        self.stream()?;
        self.schema_version()?;
        if self.name.is_empty() {
            return Err("it has no name: set one in `convert`".into());
        }
        if self.time.is_none() {
            return Err("it has no time: set one in `convert`, or with `undated`".into());
        }
        check_payload(&self.payload)
    }

    pub(crate) fn stream(&self) -> Result<StreamId, Cause> {
        Ok(StreamId::new(&self.aggregate, &self.id)?)
    }

    fn schema_version(&self) -> Result<u32, Cause> {
        let mut version = self.version.as_str();
        while let Some(shorter) = version.strip_suffix(".0") {
            version = shorter;
        }
        match version {
            "" => Ok(1),
            number => {
                number.parse().ok().filter(|number| *number > 0).ok_or_else(|| {
                    format!("its version is `{version}`: set a whole number in `convert`").into()
                })
            }
        }
    }

    /// Returns the stored form of a [checked](Self::check) event.
    pub(crate) fn data(&self) -> Result<EventData, Cause> {
        Ok(EventData::new(self.name.clone(), self.schema_version()?, self.payload.clone()))
    }
}

/// Does not print the payload and the metadata, which may be confidential.
impl fmt::Debug for ForeignEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignEvent")
            .field("aggregate", &self.aggregate)
            .field("id", &self.id)
            .field("number", &self.number)
            .field("name", &self.name)
            .field("version", &self.version)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}
