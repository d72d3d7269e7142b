//! Stored events, and the ids of commits and events.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Version;

/// The stored form of an event: its name, the schema version of its payload, and the payload.
///
/// ```
/// use es_core::prelude::*;
///
/// #[event(name = "Deposited")]
/// pub struct MoneyDeposited { pub cents: u64 }
///
/// let stored = MoneyDeposited { cents: 500 }.to_data()?;
/// assert_eq!((stored.name(), stored.version()), ("Deposited", 1));
/// assert_eq!(stored.payload(), r#"{"cents":500}"#);
/// # Ok::<_, es_core::event::EncodeError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct EventData {
    name: Cow<'static, str>,
    version: u32,
    payload: String,
}

impl EventData {
    /// Creates an event with the stored name `name`, and a JSON `payload` of the schema version `version`, which is at
    /// least 1.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, version: u32, payload: impl Into<String>) -> Self {
        Self { name: name.into(), version, payload: payload.into() }
    }

    /// Returns a copy with another name.
    pub(super) fn renamed(&self, name: &'static str) -> Self {
        Self { name: name.into(), ..self.clone() }
    }

    /// Returns a copy with another payload.
    pub(crate) fn with_payload(&self, payload: String) -> Self {
        Self { name: self.name.clone(), version: self.version, payload }
    }

    /// Returns the stored name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the schema version of the payload.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Returns the payload as JSON text.
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
/// If a commit is appended again, the store recognizes its id and reports success. A write whose response was lost can
/// therefore be repeated safely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommitId(Uuid);

impl CommitId {
    /// Creates a commit id from a UUID.
    #[must_use]
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// Returns the id as a UUID.
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

/// The globally unique id of an event: the id of its commit and its version, as in `0193b0c4-…-9f1e/42`.
///
/// It is derived rather than stored, and never changes, so consumers can use it for deduplication.
///
/// ```
/// use es_core::event::CommitId;
/// use es_core::uuid::Uuid;
/// use es_core::{EventId, Version};
///
/// let id = EventId::new(CommitId::new(Uuid::from_u128(1)), Version::new(42));
/// assert_eq!(id.to_string(), "00000000-0000-0000-0000-000000000001/42");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    commit: CommitId,
    version: Version,
}

impl EventId {
    /// Creates the id of the event that `commit` recorded at `version` of its stream.
    #[must_use]
    pub const fn new(commit: CommitId, version: Version) -> Self {
        Self { commit, version }
    }

    /// Returns the id of the commit that recorded the event.
    #[must_use]
    pub const fn commit(self) -> CommitId {
        self.commit
    }

    /// Returns the version of the event in its stream.
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
