//! Responses to queries for commits, decoded from the text that DynamoDB sent.
//!
//! The SDK turns each item into a map of owned names and values, which takes more time than the rest of a load. It is
//! therefore told to leave these responses undecoded ([`undecoded`]), and items in the form that this store writes are
//! decoded in one pass ([`plain`]). The SDK decodes everything else after all. It is then read attribute by attribute,
//! and only that path reports the problem.

mod plain;
#[cfg(test)]
mod tests;
mod undecoded;

use aws_sdk_dynamodb::operation::query::QueryOutput;
use es_core::snapshot::Snapshot;
use es_core::{Cost, StoreError, StreamId, Version};

use super::item::{Attributes, Part};
use super::snapshot::snapshot_from;
use crate::table::{Item, ItemPage};

pub(crate) use undecoded::interceptor;

/// Which keys are asked for. No other query has its placeholders.
pub(crate) const KEY_RANGE: &str = "pk = :stream AND sk BETWEEN :from AND :to";

/// What a query has found.
#[cfg_attr(test, derive(Debug, PartialEq))]
pub(crate) struct Answer {
    pub(crate) found: Vec<Found>,
    /// Where the next one starts, if there is more.
    pub(crate) last_key: Option<Item>,
    pub(crate) cost: Cost,
}

/// An item of a stream's partition.
#[derive(Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) enum Found {
    Part(Part),
    /// A snapshot; when it cannot be read, its version if at least that can.
    Snapshot(Result<Snapshot, Option<Version>>),
}

impl Answer {
    /// What `output` says of `stream`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] that names what cannot be read; [`StoreError::Unavailable`] if the response is not one of
    /// DynamoDB.
    pub(crate) fn of(stream: &StreamId, mut output: QueryOutput) -> Result<Self, StoreError> {
        let Some(text) = undecoded::take_text(&mut output) else {
            return Self::of_items(stream, output);
        };
        match plain::decode(&text) {
            Some(answer) => Ok(answer),
            None => match undecoded::decode(text) {
                Some(output) => Self::of_items(stream, output),
                None => Err(StoreError::unavailable("the response to a Query cannot be read")),
            },
        }
    }

    fn of_items(stream: &StreamId, output: QueryOutput) -> Result<Self, StoreError> {
        let ItemPage { items, last_key, cost } = output.try_into()?;
        let found = items.into_iter().map(|item| found(stream, item));
        Ok(Self { found: found.collect::<Result<_, _>>()?, last_key, cost })
    }
}

/// What an item says of a commit, by its text, if it has the form that this store writes.
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
