//! Stream ids.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::keys::has_control_characters;

/// The id of an aggregate's stream: the aggregate's name, `#`, and the aggregate's id.
///
/// An aggregate's name contains no `#`, so the first `#` separates the two parts, and different pairs have different
/// stream ids. The aggregate's id may contain any character, including `#`, except control characters.
///
/// ```
/// use es_core::StreamId;
///
/// let stream = StreamId::new("order", "a#1")?;
/// assert_eq!(stream.as_str(), "order#a#1");
/// assert_eq!((stream.aggregate(), stream.id()), ("order", "a#1"));
/// # Ok::<_, es_core::stream_id::InvalidStreamId>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    text: Arc<str>,
    separator: usize,
}

impl StreamId {
    /// The maximum length of an aggregate's name in bytes.
    pub const MAX_NAME_BYTES: usize = 100;
    /// The maximum length of an id in bytes. Keys of rows, process instances, and timeouts have room for an id of this
    /// length.
    pub const MAX_ID_BYTES: usize = 512;

    /// Creates the stream id of the aggregate `id` with the name `aggregate`.
    ///
    /// # Errors
    ///
    /// [`InvalidStreamId`] if a part is empty, is longer than [`MAX_NAME_BYTES`](Self::MAX_NAME_BYTES) or
    /// [`MAX_ID_BYTES`](Self::MAX_ID_BYTES), or contains control characters, or if the aggregate's name contains `#` or
    /// starts with `$`, which is reserved for the framework.
    pub fn new(aggregate: &str, id: impl fmt::Display) -> Result<Self, InvalidStreamId> {
        if aggregate.is_empty() {
            return Err(InvalidStreamId::EmptyAggregate);
        }
        if aggregate.starts_with('$') {
            return Err(InvalidStreamId::ReservedAggregate { aggregate: aggregate.to_owned() });
        }
        if aggregate.contains('#') {
            return Err(InvalidStreamId::SeparatorInAggregate { aggregate: aggregate.to_owned() });
        }
        if aggregate.len() > Self::MAX_NAME_BYTES {
            return Err(InvalidStreamId::NameTooLong { bytes: aggregate.len() });
        }
        let text = format!("{aggregate}#{id}");
        let separator = aggregate.len();
        let bytes = text.len() - separator - 1;
        if bytes == 0 {
            return Err(InvalidStreamId::EmptyId { aggregate: aggregate.to_owned() });
        }
        if bytes > Self::MAX_ID_BYTES {
            return Err(InvalidStreamId::IdTooLong { aggregate: aggregate.to_owned(), bytes });
        }
        if has_control_characters(&text) {
            return Err(InvalidStreamId::ControlCharacter { text });
        }
        Ok(Self { text: text.into(), separator })
    }

    /// Returns the stored form, as in `order#4711`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The aggregate's name.
    #[must_use]
    pub fn aggregate(&self) -> &str {
        &self.text[..self.separator]
    }

    /// The aggregate's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.text[self.separator + 1..]
    }
}

impl FromStr for StreamId {
    type Err = InvalidStreamId;

    fn from_str(text: &str) -> Result<Self, InvalidStreamId> {
        match text.split_once('#') {
            Some((aggregate, id)) => Self::new(aggregate, id),
            None => Err(InvalidStreamId::NoSeparator { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Serializes the stored form.
impl Serialize for StreamId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Deserializes the stored form.
impl<'de> Deserialize<'de> for StreamId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'_, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

/// The error of an invalid stream id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidStreamId {
    /// The aggregate's name is empty.
    #[error("the aggregate name of a stream is empty: set `name` in `#[aggregate(…)]`")]
    EmptyAggregate,
    /// The aggregate's id is empty.
    #[error("the id of the aggregate `{aggregate}` is empty: use an id with at least one character")]
    EmptyId {
        /// The aggregate's name.
        aggregate: String,
    },
    /// The aggregate's name starts with `$`.
    #[error(
        "the aggregate name `{aggregate}` starts with `$`, which is reserved for the framework: use another name"
    )]
    ReservedAggregate {
        /// The aggregate's name.
        aggregate: String,
    },
    /// The aggregate's name contains the separator.
    #[error(
        "the aggregate name `{aggregate}` contains `#`, which separates the name from the id: use another name"
    )]
    SeparatorInAggregate {
        /// The aggregate's name.
        aggregate: String,
    },
    /// The text has no separator.
    #[error("`{text}` is not a stream: expected `name#id`")]
    NoSeparator {
        /// The text.
        text: String,
    },
    /// The aggregate's name is too long.
    #[error("an aggregate name has {bytes} bytes, the limit is {}", StreamId::MAX_NAME_BYTES)]
    NameTooLong {
        /// The length of the name in bytes.
        bytes: usize,
    },
    /// The aggregate's id is too long.
    #[error("an id of `{aggregate}` has {bytes} bytes, the limit is {}", StreamId::MAX_ID_BYTES)]
    IdTooLong {
        /// The aggregate's name.
        aggregate: String,
        /// The length of the id in bytes.
        bytes: usize,
    },
    /// The name or the id contains a control character, such as U+0001 or a line break.
    #[error("the stream {text:?} has a control character: remove it from the id")]
    ControlCharacter {
        /// The stream id.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_pairs_never_give_the_same_stream() {
        // "a#b" + "c" would collide with "a" + "b#c" if a name could contain the separator.
        assert!(matches!(StreamId::new("a#b", "c"), Err(InvalidStreamId::SeparatorInAggregate { .. })));
        let stream = StreamId::new("a", "b#c").expect("valid");
        assert_eq!((stream.aggregate(), stream.id()), ("a", "b#c"));
        assert_eq!(stream.as_str().parse::<StreamId>().expect("round trip"), stream);
    }

    #[test]
    fn refuses_empty_and_reserved_parts() {
        assert_eq!(StreamId::new("", "1"), Err(InvalidStreamId::EmptyAggregate));
        assert_eq!(
            StreamId::new("order", ""),
            Err(InvalidStreamId::EmptyId { aggregate: "order".to_owned() })
        );
        assert!(matches!(StreamId::new("$feed", "1"), Err(InvalidStreamId::ReservedAggregate { .. })));
        assert!(matches!("order".parse::<StreamId>(), Err(InvalidStreamId::NoSeparator { .. })));
    }

    #[test]
    fn counts_bytes_not_characters() {
        let longest = "x".repeat(StreamId::MAX_ID_BYTES);
        assert!(StreamId::new(&"n".repeat(StreamId::MAX_NAME_BYTES), &longest).is_ok());
        let umlauts = "ü".repeat(257);
        let error = InvalidStreamId::IdTooLong { aggregate: "order".to_owned(), bytes: 514 };
        assert_eq!(StreamId::new("order", umlauts), Err(error));
        let error = StreamId::new(&"n".repeat(101), "1");
        assert_eq!(error, Err(InvalidStreamId::NameTooLong { bytes: 101 }));
    }

    #[test]
    fn rejects_control_characters() {
        for text in ["a\u{0}b", "a\u{1}b", "a\n", "\u{7f}", "\u{85}"] {
            for stream in [StreamId::new("order", text), StreamId::new(text, "1")] {
                assert!(matches!(stream, Err(InvalidStreamId::ControlCharacter { .. })), "{text:?}");
            }
        }
        assert!(StreamId::new("order", "日本 \u{1f980}#").is_ok());
    }
}
