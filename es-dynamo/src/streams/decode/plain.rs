//! Decodes a response whose items have exactly the form that this store writes.
//!
//! All other forms are rejected without a reason: each value must have the expected type, each item must be complete,
//! and no attribute may appear twice.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_types::base64;
use chrono::DateTime;
use es_core::event::EventData;
use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::{Cost, StoreError, StreamId, Version};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Answer, Found};
use crate::streams::compression::{self, COMPRESSED_COMMIT};
use crate::streams::group::{MemberFields, SEVERAL_COMMITS};
#[cfg(all(feature = "embedded", feature = "indexer"))]
use crate::streams::item::Part;
use crate::streams::item::{HeadFields, PartFields};
use crate::streams::snapshot::{StoredSnapshot, StoredState};
use crate::table::{names, responses};

/// A decoded response, and where its items are from.
#[cfg_attr(test, derive(Debug, PartialEq))]
pub(crate) struct Decoded<'a> {
    pub(crate) answer: Answer,
    table: Option<Cow<'a, str>>,
    /// The partition key of all items; `None` if there are no items.
    partition: Option<Cow<'a, str>>,
}

impl Decoded<'_> {
    /// Checks that it is the response to a query of `stream` in `table`.
    pub(crate) fn check(&self, table: &str, stream: &StreamId) -> Result<(), StoreError> {
        responses::check_table(table, self.table.as_deref())?;
        match self.partition.as_deref().is_none_or(|partition| partition == stream.as_str()) {
            true => Ok(()),
            false => Err(responses::of_another_request()),
        }
    }
}

/// Decodes the text of a response, if all items have the usual form and are of one partition.
pub(crate) fn decode(text: &[u8]) -> Option<Decoded<'_>> {
    // Checked once for the whole text instead of for each string.
    let text = std::str::from_utf8(text).ok()?;
    let body: Body<'_> = serde_json::from_str(text).ok()?;
    let last_key = body.last_key.map(|key| {
        key.into_iter().map(|(name, value)| (name, AttributeValue::S(value.text.into_owned()))).collect()
    });
    let units = body.consumed.units.unwrap_or_default();
    let Items { found, partition } = body.items;
    let answer = Answer { found, last_key, cost: Cost::read(units) };
    Some(Decoded { answer, table: body.consumed.table, partition })
}

/// Decodes the part of a commit from the text of an item, if it has the usual form.
#[cfg(all(feature = "embedded", feature = "indexer"))]
pub(crate) fn part(item: &str) -> Option<Part> {
    let fields: Fields<'_> = serde_json::from_str(item).ok()?;
    match fields.found()? {
        Found::Part(part) => Some(part),
        Found::Snapshot(_) => None,
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(rename = "Items", borrow)]
    items: Items<'a>,
    #[serde(rename = "LastEvaluatedKey", borrow)]
    last_key: Option<HashMap<String, Text<'a>>>,
    #[serde(rename = "ConsumedCapacity", borrow)]
    consumed: Consumed<'a>,
}

/// The items of a partition.
#[derive(Default)]
struct Items<'a> {
    found: Vec<Found>,
    partition: Option<Cow<'a, str>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(items: D) -> Result<Self, D::Error> {
        items.deserialize_seq(EachItem(PhantomData))
    }
}

/// Decodes a list of items, and converts each one at once.
struct EachItem<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for EachItem<'a> {
    type Value = Items<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of items")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Self::Value, S::Error> {
        let mut items = Items::default();
        while let Some(mut fields) = list.next_element::<Fields<'a>>()? {
            let partition = fields.pk.take().map(|partition| partition.text);
            if partition.is_none() || !items.found.is_empty() && partition != items.partition {
                return Err(S::Error::custom("another partition"));
            }
            items.partition = partition;
            items.found.push(fields.found().ok_or_else(|| S::Error::custom("another form"))?);
        }
        Ok(items)
    }
}

fn events<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<EventData>, D::Error> {
    list.deserialize_seq(Each(Map::data))
}

/// Decodes a list and converts each element at once, so that at most one element is in its intermediate form.
struct Each<T, U>(fn(T) -> Option<U>);

impl<'de, T: Deserialize<'de>, U> Visitor<'de> for Each<T, U> {
    type Value = Vec<U>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Self::Value, S::Error> {
        // Most commits have one event.
        let mut all = Vec::with_capacity(1);
        while let Some(element) = list.next_element()? {
            all.push((self.0)(element).ok_or_else(|| S::Error::custom("another form"))?);
        }
        Ok(all)
    }
}

#[derive(Deserialize)]
struct Consumed<'a> {
    #[serde(rename = "TableName", borrow)]
    table: Option<Cow<'a, str>>,
    #[serde(rename = "CapacityUnits")]
    units: Option<f64>,
}

/// The attributes of an item, named as in [`names`].
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    pk: Option<Text<'a>>,
    #[serde(borrow)]
    sk: Text<'a>,
    #[serde(borrow)]
    lv: Option<Number<'a>>,
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    at: Option<Number<'a>>,
    #[serde(borrow)]
    md: Option<Text<'a>>,
    ev: Option<List>,
    #[serde(borrow)]
    ez: Option<Binary<'a>>,
    #[serde(borrow)]
    el: Option<Number<'a>>,
    #[serde(borrow)]
    gc: Option<Members<'a>>,
    #[serde(borrow)]
    cf: Option<Number<'a>>,
    #[serde(borrow)]
    cl: Option<Number<'a>>,
    #[serde(borrow)]
    v: Option<Number<'a>>,
    #[serde(borrow)]
    fp: Option<Text<'a>>,
    #[serde(borrow)]
    ck: Option<Number<'a>>,
    #[serde(borrow)]
    st: Option<Text<'a>>,
    #[serde(borrow)]
    sz: Option<Binary<'a>>,
    #[serde(borrow)]
    sl: Option<Number<'a>>,
    #[serde(borrow)]
    f: Option<Number<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Binary<'a> {
    #[serde(rename = "B", borrow)]
    base64: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text<'a> {
    #[serde(rename = "S", borrow)]
    text: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Number<'a> {
    #[serde(rename = "N", borrow)]
    digits: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(rename = "L", deserialize_with = "events")]
    events: Vec<EventData>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members<'a> {
    #[serde(rename = "L", borrow)]
    members: Vec<MemberMap<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberMap<'a> {
    #[serde(rename = "M", borrow)]
    member: Member<'a>,
}

/// The attributes of one of several commits.
#[derive(Deserialize)]
struct Member<'a> {
    #[serde(borrow)]
    n: Number<'a>,
    #[serde(borrow)]
    i: Option<Text<'a>>,
    #[serde(borrow)]
    a: Number<'a>,
    #[serde(borrow)]
    m: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Map<'a> {
    #[serde(rename = "M", borrow)]
    event: Event<'a>,
}

/// The attributes of an event.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    t: Text<'a>,
    #[serde(borrow)]
    p: Text<'a>,
    #[serde(borrow)]
    v: Option<Number<'a>>,
}

impl Fields<'_> {
    fn found(self) -> Option<Found> {
        match &*self.sk.text {
            names::SNAPSHOT_KEY => self.snapshot(),
            sort_key => {
                let first = names::version_of(sort_key)?;
                self.part(first)
            }
        }
    }

    fn part(self, first: Version) -> Option<Found> {
        let (events, members) = match self.f.as_ref().map(|format| &*format.digits) {
            None => (self.ev?.events, None),
            Some(SEVERAL_COMMITS) => (self.ev?.events, Some(self.gc?)),
            Some(COMPRESSED_COMMIT) => {
                let data = base64::decode(&*self.ez?.base64).ok()?;
                (compression::events(&data, self.el?.digits.parse().ok()?)?, self.gc)
            }
            // The other path reports the unknown format.
            Some(_) => return None,
        };
        let members = match members {
            None => None,
            Some(list) => Some(list.members.into_iter().map(MemberMap::fields).collect::<Option<Vec<_>>>()?),
        };
        let optional = |number: Option<Number<'_>>| match number {
            None => Some(None),
            Some(number) => number.version().map(Some),
        };
        let head = HeadFields {
            first,
            last: self.lv?.version()?,
            whole_first: optional(self.cf)?,
            whole_last: optional(self.cl)?,
            id: self.id?.text,
        };
        let metadata = self.md.map(|metadata| metadata.text);
        let fields = PartFields { head, time: self.at?.digits.parse().ok()?, metadata, events, members };
        fields.check().ok().map(Found::Part)
    }

    fn snapshot(self) -> Option<Found> {
        let version = self.v?.version().filter(|version| !version.is_none())?;
        let time = DateTime::from_timestamp_millis(self.at?.digits.parse().ok()?)?;
        let fingerprint = Fingerprint::new(u64::from_str_radix(&self.fp?.text, 16).ok()?);
        let checksum = self.ck?.digits.parse().ok()?;
        let compressed = match self.sz {
            None => None,
            Some(binary) => Some(base64::decode(&*binary.base64).ok()?),
        };
        let length = match self.sl {
            None => None,
            Some(length) => Some(length.digits.parse().ok()?),
        };
        let (format, state) = (self.f.map(|format| format.digits), self.st.map(|state| state.text));
        let state = StoredState { format, state, compressed, length }.decode()?;
        let snapshot = Snapshot::from_stored(version, time, fingerprint, state, checksum);
        Some(Found::Snapshot(Ok(StoredSnapshot::Whole(snapshot))))
    }
}

impl Number<'_> {
    fn version(&self) -> Option<Version> {
        let version = Version::new(self.digits.parse().ok()?);
        (version <= Version::MAX).then_some(version)
    }
}

impl<'a> MemberMap<'a> {
    fn fields(self) -> Option<MemberFields<'a>> {
        let Member { n, i, a, m } = self.member;
        let (id, metadata) = (i.map(|id| id.text), m.map(|metadata| metadata.text));
        Some(MemberFields { events: n.digits.parse().ok()?, id, time: a.digits.parse().ok()?, metadata })
    }
}

impl Map<'_> {
    fn data(self) -> Option<EventData> {
        let Event { t, p, v } = self.event;
        let version = match v {
            None => 1,
            Some(version) => version.digits.parse().ok()?,
        };
        Some(EventData::new(t.text.into_owned(), version, p.text.into_owned()))
    }
}
