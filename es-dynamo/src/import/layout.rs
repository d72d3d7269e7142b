//! How the tables of other libraries are laid out.

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::DateTime;
use es_core::Metadata;
use serde_json::{Map, Value};

use super::foreign::ForeignEvent;
use super::{Cause, Item};

/// Whose table it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layout {
    DynamoEs,
    EventStoreAdapter,
}

impl Layout {
    pub(super) fn partition_key(self) -> &'static str {
        match self {
            Self::DynamoEs => "AggregateTypeAndId",
            Self::EventStoreAdapter => "aid",
        }
    }

    /// Whether a partition is a stream: one of event-store-adapter-rs has the store's configuration.
    pub(super) fn is_stream(self, partition: &str) -> bool {
        match self {
            Self::DynamoEs => true,
            Self::EventStoreAdapter => partition != "__config__",
        }
    }

    /// The event that an item holds.
    pub(super) fn event(self, mut item: Item) -> Result<ForeignEvent, Cause> {
        match self {
            Self::DynamoEs => dynamo_es(&mut item),
            Self::EventStoreAdapter => event_store_adapter(&mut item),
        }
    }
}

fn dynamo_es(item: &mut Item) -> Result<ForeignEvent, Cause> {
    let metadata: Map<String, Value> =
        serde_json::from_str(&json(item, "Metadata")?).map_err(|_| "the attribute `Metadata` is no map")?;
    Ok(ForeignEvent {
        aggregate: text(item, "AggregateType")?,
        id: text(item, "AggregateId")?,
        number: number(item, "AggregateIdSequence")?,
        name: text(item, "EventType")?,
        version: text(item, "EventVersion")?,
        payload: json(item, "Payload")?,
        time: None,
        metadata: metadata.into_iter().fold(Metadata::new(), |all, (key, value)| all.with(key, value)),
    })
}

fn event_store_adapter(item: &mut Item) -> Result<ForeignEvent, Cause> {
    let aid = text(item, "aid")?;
    // The type's name has none; the value may.
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
        _ => Err(format!("the attribute `{name}` is missing, or no text").into()),
    }
}

fn number<T: std::str::FromStr>(item: &mut Item, name: &str) -> Result<T, Cause> {
    match item.remove(name) {
        Some(AttributeValue::N(number)) => number.parse().ok(),
        _ => None,
    }
    .ok_or_else(|| format!("the attribute `{name}` is missing, or no whole number").into())
}

/// The text of an attribute of bytes.
fn json(item: &mut Item, name: &str) -> Result<String, Cause> {
    match item.remove(name) {
        Some(AttributeValue::B(bytes)) => String::from_utf8(bytes.into_inner()).ok(),
        _ => None,
    }
    .ok_or_else(|| format!("the attribute `{name}` is missing, or no text in bytes").into())
}
