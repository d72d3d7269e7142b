//! Places in a stream.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The place of an event in its stream: the first event has version 1.
///
/// A stream without events is at [`Version::NONE`], which is 0.
///
/// ```
/// use es_core::Version;
///
/// let version = Version::new(41).plus(1);
/// assert_eq!(version, Version::new(42));
/// assert_eq!(version.to_string(), "42");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(u64);

impl Version {
    /// The version of a stream that has no events.
    pub const NONE: Self = Self(0);

    /// The version of a stream's first event.
    pub const FIRST: Self = Self(1);

    /// The highest version that a stream can reach: the twelve digits of a sort key.
    pub const MAX: Self = Self(999_999_999_999);

    /// The version `number`.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The version as a number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether this is [`Version::NONE`].
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The version `events` places later, saturating.
    #[must_use]
    pub const fn plus(self, events: u64) -> Self {
        Self(self.0.saturating_add(events))
    }

    /// The version after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// The version before this one; [`Version::NONE`] has none before it and stays.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// How many events lie between `earlier` and this version; 0 when it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for Version {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl From<Version> for u64 {
    fn from(version: Version) -> Self {
        version.0
    }
}

impl PartialEq<u64> for Version {
    fn eq(&self, other: &u64) -> bool {
        self.0 == *other
    }
}

impl PartialOrd<u64> for Version {
    fn partial_cmp(&self, other: &u64) -> Option<std::cmp::Ordering> {
        self.0.partial_cmp(other)
    }
}

/// What an append requires of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExpectedVersion {
    /// Nothing: the commit goes to the end of the stream, wherever that is.
    Any,
    /// The stream has no events yet.
    NoStream,
    /// The stream has at least one event.
    StreamExists,
    /// The stream's last event has exactly this version; `Exact(Version::NONE)` is [`NoStream`](Self::NoStream).
    Exact(Version),
}

impl ExpectedVersion {
    /// Whether a stream whose last event has the version `actual` meets the expectation.
    #[must_use]
    pub fn allows(self, actual: Version) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual.is_none(),
            Self::StreamExists => !actual.is_none(),
            Self::Exact(version) => actual == version,
        }
    }
}

impl fmt::Display for ExpectedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any version"),
            Self::NoStream => f.write_str("no stream"),
            Self::StreamExists => f.write_str("an existing stream"),
            Self::Exact(version) => write!(f, "version {version}"),
        }
    }
}
