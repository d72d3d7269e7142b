//! Hints about commits that may have to be indexed, and the stream records that they come from.

use es_core::{StreamId, Version};

use super::reference::{CommitTag, Names, Reference};
use crate::streams::item::{Attributes, Part};
use crate::table::{Item, names};

/// A hint that there may be commits to index. The table is authoritative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// This commit, or these commits of one item.
    Commit(Reference),
    /// This commit, of which only a part is known, so that not all names of its events are known.
    Part(Reference),
    /// The commits of the stream up to this version.
    UpTo(StreamId, Version),
}

impl Hint {
    pub(crate) fn stream(&self) -> &StreamId {
        match self {
            Self::Commit(reference) | Self::Part(reference) => &reference.stream,
            Self::UpTo(stream, _) => stream,
        }
    }

    pub(crate) fn last(&self) -> Version {
        match self {
            Self::Commit(reference) | Self::Part(reference) => reference.last,
            Self::UpTo(_, version) => *version,
        }
    }

    /// Returns the commit, if the hint is for a single one.
    pub(crate) fn commit(&self) -> Option<&Reference> {
        match self {
            Self::Commit(reference) | Self::Part(reference) => Some(reference),
            Self::UpTo(..) => None,
        }
    }

    /// Returns the hint of an item of a stream: its whole commit, or the whole stream if the item cannot be decoded.
    pub(crate) fn at(stream: StreamId, image: Item) -> Self {
        let part = Attributes::of(&stream, image).and_then(Attributes::part);
        Self::at_part(stream, part.ok())
    }

    /// Returns the hint of a part of a commit: the whole commit, or the whole stream if the part could not be decoded.
    fn at_part(stream: StreamId, part: Option<Part>) -> Self {
        match part {
            Some(part) if part.is_whole() => {
                Self::Commit(Reference::to(&stream, &part.commit, &part.following))
            }
            Some(part) => {
                let (first, last, tag) = (part.whole.first, part.whole.last, CommitTag::of(part.whole.id));
                Self::Part(Reference { stream, first, last, tag, names: Names::Any })
            }
            None => Self::UpTo(stream, Version::MAX),
        }
    }
}

/// The owner of a key of the table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A commit, of this stream.
    Stream(StreamId),
    /// Another item of the store.
    Other,
    /// An item with the sort key of a commit, whose partition key is not a valid stream id.
    Invalid,
}

impl Owner {
    /// Returns the owner of a key.
    pub(crate) fn of(key: &Item) -> Self {
        let text = |name| key.get(name).and_then(|value| value.as_s().ok()).map(String::as_str);
        match (text(names::PARTITION_KEY), text(names::SORT_KEY)) {
            (Some(partition), Some(sort)) if sort.starts_with(names::COMMIT_PREFIX) => {
                if partition.starts_with('$') {
                    return Self::Other;
                }
                partition.parse().map_or(Self::Invalid, Self::Stream)
            }
            (Some(_), Some(_)) => Self::Other,
            _ => Self::Invalid,
        }
    }
}

/// A record of the table's stream: an item was written or deleted.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The sequence number in the shard.
    pub(crate) sequence: String,
    pub(crate) keys: Item,
    /// The new item, if the record contains it.
    pub(crate) image: Option<Item>,
    pub(crate) is_removal: bool,
}

/// The meaning of a record for the feed.
#[derive(Debug)]
pub(crate) enum Noted {
    Hint(Hint),
    /// It is not about a commit.
    Nothing,
    /// The record has no keys, so it cannot be about an item.
    Keyless,
    /// It is about an item that has the sort key of a commit, but whose partition key is not a valid stream id.
    Foreign,
}

#[cfg(all(feature = "embedded", feature = "indexer"))]
impl Noted {
    /// Returns the meaning of a commit's item, given as text, in `partition`.
    pub(crate) fn commit(partition: &str, item: &str) -> Self {
        partition.parse().map_or(Self::Foreign, |stream| {
            Self::Hint(Hint::at_part(stream, crate::streams::decode::part(item)))
        })
    }
}

impl Record {
    pub(crate) fn noted(self) -> Noted {
        match Owner::of(&self.keys) {
            Owner::Other => Noted::Nothing,
            _ if self.is_removal => Noted::Nothing,
            _ if self.keys.is_empty() => Noted::Keyless,
            Owner::Invalid => Noted::Foreign,
            Owner::Stream(stream) => Noted::Hint(match self.image {
                Some(image) => Hint::at(stream, image),
                None => Hint::UpTo(stream, Version::MAX),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;
    use crate::table::key;

    #[test]
    fn only_commits_have_a_stream_as_their_owner() {
        let owner = |partition: &str, sort: &str| Owner::of(&key(partition, sort));
        let stream = "order#1".parse().expect("a stream");
        assert_eq!(owner("order#1", "E#000000000001"), Owner::Stream(stream));
        for (partition, sort) in [("order#1", "S#"), ("$feed#1", "P#1"), ("$once#a#b", "I#E#"), ("$x", "E#1")]
        {
            assert_eq!(owner(partition, sort), Owner::Other, "{partition} {sort}");
        }
        assert_eq!(owner("order", "E#000000000001"), Owner::Invalid);
        assert_eq!(Owner::of(&Item::new()), Owner::Invalid);
    }

    #[test]
    fn an_unreadable_image_is_a_hint_at_the_whole_stream() {
        let stream: StreamId = "order#1".parse().expect("a stream");
        let mut image = key("order#1", "E#000000000001");
        assert_eq!(Hint::at(stream.clone(), image.clone()), Hint::UpTo(stream.clone(), Version::MAX));
        image.insert(names::EVENTS.to_owned(), AttributeValue::Bool(true));
        assert_eq!(Hint::at(stream.clone(), image), Hint::UpTo(stream, Version::MAX));
    }
}
