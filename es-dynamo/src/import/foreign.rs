//! Events as other libraries have them.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use es_core::{EventData, Metadata, StreamId};
use serde_json::value::RawValue;

use super::Cause;
use super::payload::check_payload;

/// An event on its way from the table of another library, to be brought into the form that it is stored in here.
#[derive(Clone, PartialEq)]
pub struct ForeignEvent {
    /// The name of the aggregate's type: `AggregateType`, or what `aid` begins with.
    pub aggregate: String,
    /// The aggregate's id.
    pub id: String,
    /// The place of the event in its stream, from 1.
    pub number: u64,
    /// The stored name: `EventType`, or `manifest`.
    pub name: String,
    /// The schema version: a number, of which a `.0` at the end is left out; empty for 1.
    pub version: String,
    /// The payload, JSON.
    pub payload: String,
    /// When it happened, if the table tells.
    pub time: Option<DateTime<Utc>>,
    /// What is known besides.
    pub metadata: Metadata,
}

impl ForeignEvent {
    /// Takes the content of an enum's value, as serde writes it, for the payload; and the variant for the name, if
    /// there is none.
    ///
    /// `{"Deposited":{"cents":5}}` becomes `{"cents":5}`, and `"Closed"` becomes `null`. The text of the content
    /// stays as it is.
    ///
    /// # Errors
    ///
    /// When the payload is no such value.
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
        .ok_or("the payload is no value of an enum: say in `convert` what to make of it")?;
        if self.name.is_empty() {
            self.name = variant;
        }
        self.payload = content;
        Ok(())
    }

    /// Whether it can be stored.
    pub(super) fn check(&self) -> Result<(), Cause> {
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

    pub(super) fn stream(&self) -> Result<StreamId, Cause> {
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

    /// The event as it is stored; it was [checked](Self::check).
    pub(super) fn data(&self) -> Result<EventData, Cause> {
        Ok(EventData::new(self.name.clone(), self.schema_version()?, self.payload.clone()))
    }
}

/// Payload and metadata may be anyone's: they are not shown.
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
