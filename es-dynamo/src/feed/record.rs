//! Records of the table's stream.

use super::hint::{Hint, Owner};
use crate::item::Item;

/// That an item of the table was written, or deleted.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Its place in its shard.
    pub(crate) sequence: String,
    pub(crate) keys: Item,
    /// The item, where the record has it.
    pub(crate) image: Option<Item>,
    pub(crate) is_removal: bool,
}

/// What a record has to do with the feed.
#[derive(Debug)]
pub(crate) enum Noted {
    Hint(Hint),
    /// It is of something else.
    Nothing,
    /// The record has no keys, and so is of no item that there can be.
    Keyless,
    /// It is of an item that looks like a commit, and is of no stream that there can be.
    Foreign,
}

#[cfg(all(feature = "embedded", feature = "indexer"))]
impl Noted {
    /// What the text of a commit's item in `partition` has to do with the feed.
    pub(crate) fn commit(partition: &str, item: &str) -> Self {
        partition
            .parse()
            .map_or(Self::Foreign, |stream| Self::Hint(Hint::at_part(stream, crate::answer::part(item))))
    }
}

impl Record {
    pub(crate) fn noted(self) -> Noted {
        match Owner::of(&self.keys) {
            Owner::Other => Noted::Nothing,
            _ if self.is_removal => Noted::Nothing,
            _ if self.keys.is_empty() => Noted::Keyless,
            Owner::Nobody => Noted::Foreign,
            Owner::Stream(stream) => Noted::Hint(match self.image {
                Some(image) => Hint::at(stream, image),
                None => Hint::UpTo(stream, es_core::Version::MAX),
            }),
        }
    }
}
