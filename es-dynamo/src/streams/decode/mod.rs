//! Decoding of query responses directly from their text.
//!
//! The SDK converts each item to a map of owned names and values, which takes more time than the rest of a load.
//! Therefore, an interceptor keeps these responses undecoded ([`undecoded`]), and items in the form that this store
//! writes are decoded in one pass ([`plain`]). The SDK decodes all other responses. They are then read attribute by
//! attribute, and only that path reports problems.

mod plain;
#[cfg(test)]
mod tests;
mod undecoded;

use aws_sdk_dynamodb::operation::query::QueryOutput;
use es_core::{Cost, StoreError, StreamId, Version};

use super::item::{Attributes, Part};
use super::snapshot::{StoredSnapshot, snapshot_from};
use crate::table::{Item, ItemPage, responses};

pub(crate) use undecoded::interceptor;

/// The key condition of queries that are decoded directly. No other query has these placeholders.
pub(crate) const KEY_RANGE: &str = "pk = :stream AND sk BETWEEN :from AND :to";

/// The decoded response to a query.
#[cfg_attr(test, derive(Debug, PartialEq))]
pub(crate) struct Answer {
    pub(crate) found: Vec<Found>,
    /// The key after which the next page starts, if there is one.
    pub(crate) last_key: Option<Item>,
    pub(crate) cost: Cost,
}

/// An item of a stream's partition.
#[derive(Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) enum Found {
    Part(Part),
    /// A snapshot. If it cannot be decoded, its version, if at least that can be read.
    Snapshot(Result<StoredSnapshot, Option<Version>>),
}

impl Found {
    /// Returns the part of a commit.
    pub(crate) fn part_mut(&mut self) -> Option<&mut Part> {
        match self {
            Self::Part(part) => Some(part),
            Self::Snapshot(_) => None,
        }
    }
}

impl Answer {
    /// Decodes the response to a query of `stream` in `table`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if an item cannot be decoded. [`StoreError::Unavailable`] if the response is not from
    /// DynamoDB, or is to another request.
    pub(crate) fn of(table: &str, stream: &StreamId, mut output: QueryOutput) -> Result<Self, StoreError> {
        let Some(text) = undecoded::take_text(&mut output) else {
            return Self::of_items(table, stream, output);
        };
        match plain::decode(&text) {
            Some(decoded) => {
                decoded.check(table, stream)?;
                responses::recorded("Query", decoded.answer.cost.read_units);
                Ok(decoded.answer)
            }
            None => match undecoded::decode(text) {
                Some(output) => Self::of_items(table, stream, output),
                None => Err(StoreError::unavailable("the response to a Query cannot be read")),
            },
        }
    }

    fn of_items(table: &str, stream: &StreamId, output: QueryOutput) -> Result<Self, StoreError> {
        let ItemPage { items, last_key, cost } = ItemPage::of_query(output, table, stream.as_str())?;
        let found = items.into_iter().map(|item| found(stream, item));
        Ok(Self { found: found.collect::<Result<_, _>>()?, last_key, cost })
    }
}

/// Decodes the part of a commit from the text of an item, if it has the form that this store writes.
#[cfg(all(feature = "embedded", feature = "indexer"))]
pub(crate) fn part(item: &str) -> Option<Part> {
    plain::part(item)
}

fn found(stream: &StreamId, item: Item) -> Result<Found, StoreError> {
    let attributes = Attributes::of(stream, item)?;
    Ok(match attributes.is_snapshot() {
        true => Found::Snapshot(snapshot_from(attributes)),
        false => Found::Part(attributes.part()?),
    })
}
