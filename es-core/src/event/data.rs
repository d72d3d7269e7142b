//! Events as they are stored.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Version;

/// An event as a store holds it: its stored name, the schema version of its payload, and the payload.
#[derive(Clone, PartialEq, Eq)]
pub struct EventData {
    name: Cow<'static, str>,
    version: u32,
    payload: String,
}

impl EventData {
    /// An event with the stored name `name` and a JSON `payload` of the schema version `version`, from 1.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, version: u32, payload: impl Into<String>) -> Self {
        Self { name: name.into(), version, payload: payload.into() }
    }

    /// Returns a copy with another name.
    pub(super) fn renamed(&self, name: &'static str) -> Self {
        Self { name: name.into(), ..self.clone() }
    }

    /// The stored name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The schema version of the payload.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The payload, a JSON text.
    #[must_use]
    pub fn payload(&self) -> &str {
        &self.payload
    }
}

/// Shows the length of the payload, not its content: it may be confidential.
impl fmt::Debug for EventData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventData")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("payload", &format_args!("{} bytes", self.payload.len()))
            .finish()
    }
}

/// Identifies a commit: the events that one command recorded.
///
/// A store that is asked to append the same commit again finds it by this id and reports success, so that
/// repeating a write whose answer was lost is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommitId(Uuid);

impl CommitId {
    /// The commit identified by `id`.
    #[must_use]
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// The id as a UUID.
    #[must_use]
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CommitId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// Identifies an event everywhere: the id of its commit and its version, as in
/// `0193b0c4-…-9f1e/42`.
///
/// It is derived, not stored, and always the same for the same event: consumers deduplicate by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    commit: CommitId,
    version: Version,
}

impl EventId {
    /// The id of the event that `commit` stored at `version` of its stream.
    #[must_use]
    pub const fn new(commit: CommitId, version: Version) -> Self {
        Self { commit, version }
    }

    /// The commit that recorded the event.
    #[must_use]
    pub const fn commit(self) -> CommitId {
        self.commit
    }

    /// The event's version.
    #[must_use]
    pub const fn version(self) -> Version {
        self.version
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.commit, self.version)
    }
}
