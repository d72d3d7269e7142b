//! Names of streams.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The name of one aggregate's stream of events: the aggregate's name, `#`, and the aggregate's id.
///
/// An aggregate's name contains no `#`, so the first `#` always separates the two and no two
/// different pairs give the same stream. An id may contain anything, `#` included.
///
/// ```
/// use es_core::StreamId;
///
/// let stream = StreamId::new("order", "a#1")?;
/// assert_eq!(stream.as_str(), "order#a#1");
/// assert_eq!((stream.aggregate(), stream.id()), ("order", "a#1"));
/// # Ok::<_, es_core::InvalidStreamId>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    text: Arc<str>,
    separator: usize,
}

impl StreamId {
    /// The most bytes that a stream's name may have, the separator included.
    pub const MAX_BYTES: usize = 1024;

    /// The stream of the aggregate `aggregate` with the id `id`.
    ///
    /// # Errors
    ///
    /// [`InvalidStreamId`] when a part is empty, the aggregate's name contains `#` or starts with `$`
    /// (which marks the framework's own partitions), or both together exceed [`StreamId::MAX_BYTES`].
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
        let text = format!("{aggregate}#{id}");
        let separator = aggregate.len();
        if text.len() == separator + 1 {
            return Err(InvalidStreamId::EmptyId { aggregate: aggregate.to_owned() });
        }
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidStreamId::TooLong { bytes: text.len() });
        }
        Ok(Self { text: text.into(), separator })
    }

    /// The whole name, as it is stored.
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

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

/// Why a text cannot name a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidStreamId {
    /// The aggregate's name is empty.
    #[error("a stream needs an aggregate name, got an empty one")]
    EmptyAggregate,
    /// The aggregate's id is empty.
    #[error("a stream of `{aggregate}` needs an id, got an empty one")]
    EmptyId {
        /// The aggregate's name.
        aggregate: String,
    },
    /// The aggregate's name starts with `$`.
    #[error("the aggregate name `{aggregate}` starts with `$`, which is kept for the framework's own items")]
    ReservedAggregate {
        /// The aggregate's name.
        aggregate: String,
    },
    /// The aggregate's name contains the separator.
    #[error("the aggregate name `{aggregate}` contains `#`, which separates name and id; only the id may")]
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
    /// Name, separator and id together are too long.
    #[error("a stream's name has at most {} bytes, this one has {bytes}", StreamId::MAX_BYTES)]
    TooLong {
        /// How many bytes it has.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_pairs_never_give_the_same_stream() {
        // "a#b" + "c" would collide with "a" + "b#c" if a name could hold the separator.
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
        let longest = "x".repeat(StreamId::MAX_BYTES - "order#".len());
        assert!(StreamId::new("order", &longest).is_ok());
        let umlauts = "ü".repeat(510);
        assert_eq!(StreamId::new("order", umlauts), Err(InvalidStreamId::TooLong { bytes: 1026 }));
    }
}
