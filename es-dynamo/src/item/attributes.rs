//! Reading attributes of items that may hold anything.

use std::fmt::Display;
use std::str::FromStr;

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, Utc};
use es_core::{StoreError, StreamId, Version};

use super::Item;
use crate::names;

/// The attributes of one item, taken out one by one.
///
/// Whatever is missing or of another type is a [`StoreError::Corrupt`] that names the stream, the item and
/// the attribute, and quotes nothing.
pub(crate) struct Attributes<'a> {
    stream: &'a StreamId,
    sort_key: String,
    rest: Item,
}

impl<'a> Attributes<'a> {
    /// The attributes of an item that was found in `stream`.
    pub(crate) fn of(stream: &'a StreamId, mut item: Item) -> Result<Self, StoreError> {
        match item.remove(names::SORT_KEY) {
            Some(AttributeValue::S(sort_key)) => Ok(Self { stream, sort_key, rest: item }),
            _ => Err(StoreError::corrupt(stream, "an item has no sort key")),
        }
    }

    /// All that are left, to go through at once: faster than to look each of them up.
    pub(crate) fn take_all(&mut self) -> Item {
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn is_snapshot(&self) -> bool {
        self.sort_key == names::SNAPSHOT_KEY
    }

    /// The version that the sort key of a commit names.
    pub(crate) fn first_version(&self) -> Result<Version, StoreError> {
        names::version_of(&self.sort_key).ok_or_else(|| self.corrupt("its sort key is not one of a commit"))
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<String, StoreError> {
        self.optional_text(name)?.ok_or_else(|| self.corrupt(format!("the attribute `{name}` is missing")))
    }

    pub(crate) fn optional_text(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        match self.rest.remove(name) {
            None => Ok(None),
            Some(AttributeValue::S(text)) => Ok(Some(text)),
            Some(_) => Err(self.corrupt(format!("the attribute `{name}` is no text"))),
        }
    }

    pub(crate) fn number<T: FromStr>(&mut self, name: &str) -> Result<T, StoreError> {
        self.optional_number(name)?.ok_or_else(|| self.corrupt(format!("the attribute `{name}` is missing")))
    }

    pub(crate) fn optional_number<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, StoreError> {
        match self.rest.remove(name) {
            None => Ok(None),
            Some(AttributeValue::N(number)) => self.parse(name, &number).map(Some),
            Some(_) => Err(self.corrupt(format!("the attribute `{name}` is no number"))),
        }
    }

    pub(crate) fn version(&mut self, name: &str) -> Result<Version, StoreError> {
        self.optional_version(name)?.ok_or_else(|| self.corrupt(format!("the attribute `{name}` is missing")))
    }

    pub(crate) fn optional_version(&mut self, name: &str) -> Result<Option<Version>, StoreError> {
        match self.optional_number(name)? {
            None => Ok(None),
            Some(number) => self.in_range(name, Version::new(number)).map(Some),
        }
    }

    pub(crate) fn time(&mut self) -> Result<DateTime<Utc>, StoreError> {
        let milliseconds = self.number(names::TIME)?;
        DateTime::from_timestamp_millis(milliseconds)
            .ok_or_else(|| self.corrupt(format!("the attribute `{}` is out of range", names::TIME)))
    }

    /// The number that an attribute holds.
    pub(crate) fn parse<T: FromStr>(&self, name: &str, number: &str) -> Result<T, StoreError> {
        number.parse().map_err(|_| self.corrupt(format!("the attribute `{name}` is out of range")))
    }

    /// The version that an attribute holds.
    pub(crate) fn parse_version(&self, name: &str, number: &str) -> Result<Version, StoreError> {
        self.in_range(name, Version::new(self.parse(name, number)?))
    }

    fn in_range(&self, name: &str, version: Version) -> Result<Version, StoreError> {
        if version > Version::MAX {
            return Err(self.corrupt(format!("the attribute `{name}` is out of range")));
        }
        Ok(version)
    }

    /// The error that something is wrong with this item.
    pub(crate) fn corrupt(&self, reason: impl Display) -> StoreError {
        // The sort key could hold anything, too.
        let key = self.sort_key.chars().take(20).collect::<String>();
        StoreError::corrupt(self.stream, format!("the item {key:?} cannot be read: {reason}"))
    }
}
