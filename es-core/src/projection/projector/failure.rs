//! What keeps a slice from going on: failures, the events that failed, and those that are parked.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::event::{CommitId, EventData};
use crate::feed::{EventFilter, Position, Slice};
use crate::projection::timeout::{self, Scheduled};
use crate::projection::{EventContext, ProjectError, ProjectorError};
use crate::publish::Unpublished;
use crate::store::StoreError;
use crate::stream_id::StreamId;
use crate::version::Version;

/// Why a slice of a projection has stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
#[non_exhaustive]
pub struct Failure {
    /// The event or the timeout at which it stopped; `None` when it was no event's fault.
    pub event: Option<FailedEvent>,
    /// What went wrong: the error with its causes, cut at 2 KiB.
    pub error: String,
    /// When it stopped.
    pub at: DateTime<Utc>,
    /// How often it has stopped here in a row.
    pub attempts: u32,
    /// When a worker tries again without being asked to; `None` when it does not. A worker that starts tries at
    /// once, since it may run other code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<DateTime<Utc>>,
    /// The schema version of the event, if it is newer than those that the code reads, as in a rolling deployment. A
    /// worker that reads it goes on at once; one that does not leaves the slice alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_version: Option<u32>,
}

impl Failure {
    /// Whether code that takes what `filter` takes reads the event, if that is what stopped the slice.
    pub(super) fn is_read_by(&self, filter: &EventFilter) -> Option<bool> {
        let (event, version) = (self.event.as_ref()?, self.unknown_version?);
        let stream: StreamId = event.stream.parse().ok()?;
        filter.reads(stream.aggregate(), event.name()?, version)
    }

    /// Whether it is of an event after `position`, or of a timeout, which has no position.
    pub(super) fn is_after(&self, position: Position) -> bool {
        self.event.as_ref().is_some_and(|event| event.is_after(position))
    }

    /// How long to wait before another attempt, from when the slice stopped: workers measure it by their own
    /// clocks, which may differ.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        Some(self.retry_at?.signed_duration_since(self.at).to_std().unwrap_or_default())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        described(f, self.event.as_ref(), &self.error)
    }
}

/// Writes an error after the event that it is about.
pub(super) fn described(f: &mut fmt::Formatter<'_>, event: Option<&FailedEvent>, error: &str) -> fmt::Result {
    match event {
        // The error of a missing commit names it.
        Some(event) if !event.is_missing() => write!(f, "{event}: {error}"),
        _ => f.write_str(error),
    }
}

/// An event that could not be handled, or a timeout of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
#[non_exhaustive]
pub struct FailedEvent {
    /// Its stream, as text; for a timeout, the stream of the instance.
    pub stream: String,
    /// Its version; [`Version::NONE`] for a timeout.
    pub version: Version,
    /// Its position in the slice; [`Position::NONE`] for a timeout.
    pub position: Position,
    /// What it is.
    #[serde(flatten)]
    pub kind: FailedKind,
}

/// What could not be handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde", tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailedKind {
    /// An event of the feed.
    #[non_exhaustive]
    Event {
        /// Its stored name.
        name: String,
    },
    /// An event of the feed whose commit is missing, so that there is nothing to handle or to park.
    Missing,
    /// A timeout of a process.
    #[non_exhaustive]
    Timeout {
        /// The stored name of the event that was scheduled.
        name: String,
        /// Its key, which starts with the name of the process.
        key: String,
        /// When it was due.
        due: DateTime<Utc>,
    },
}

impl FailedEvent {
    /// The event or the timeout with the context `ctx`.
    pub(super) fn of(event: &EventData, ctx: &EventContext) -> Self {
        let name = event.name().to_owned();
        let kind = match ctx.timeout_key() {
            Some(key) => FailedKind::Timeout { name, key: key.to_owned(), due: ctx.time() },
            None => FailedKind::Event { name },
        };
        Self { stream: ctx.stream().to_string(), version: ctx.version(), position: ctx.position(), kind }
    }

    /// The event that a broker has not accepted, and why.
    pub(super) fn unpublished(error: &ProjectError) -> Option<(Self, String)> {
        let ProjectError::Handler(error) = error else { return None };
        let Unpublished { stream, id, name, position, cause } = error.downcast_ref()?;
        let kind = FailedKind::Event { name: name.clone() };
        let event = Self { stream: stream.to_string(), version: id.version(), position: *position, kind };
        Some((event, format!("it was not published: {}", crate::error_text(cause))))
    }

    /// Returns its stored name; `None` if its commit is missing.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.kind {
            FailedKind::Event { name } | FailedKind::Timeout { name, .. } => Some(name),
            FailedKind::Missing => None,
        }
    }

    /// Returns whether the commit of the event is missing, so that there is nothing to handle or to park.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self.kind, FailedKind::Missing)
    }

    /// Returns whether it is a timeout of a process.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind, FailedKind::Timeout { .. })
    }

    /// Whether it is still to come for a slice at `position`. A timeout, which has no position, always is.
    pub(super) fn is_after(&self, position: Position) -> bool {
        self.is_timeout() || self.position > position
    }

    /// The name of the document, if it is a timeout.
    pub(super) fn timeout_document(&self) -> Option<String> {
        match &self.kind {
            FailedKind::Timeout { key, due, .. } => Some(timeout::document(*due, key)),
            FailedKind::Event { .. } | FailedKind::Missing => None,
        }
    }
}

impl fmt::Display for FailedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, version, position, kind } = self;
        match kind {
            FailedKind::Event { name } => {
                write!(f, "the event `{name}` at version {version} of `{stream}` (position {position})")
            }
            FailedKind::Missing => {
                write!(f, "the missing event at version {version} of `{stream}` (position {position})")
            }
            FailedKind::Timeout { name, key, due } => {
                let due = due.to_rfc3339_opts(SecondsFormat::Millis, true);
                write!(f, "the timeout `{name}` of `{stream}` (due {due}, key `{key}`)")
            }
        }
    }
}

/// An event or a timeout that was set aside because its handler failed, or because one of its stream was before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
#[non_exhaustive]
pub struct Parked {
    /// The build of the projection that has not handled it: see [`Progress::build`](super::Progress::build).
    #[serde(skip)]
    pub build: u32,
    /// The slice.
    pub slice: Slice,
    /// The event or the timeout.
    pub event: FailedEvent,
    /// The version of the first event of its commit; [`Version::NONE`] for a timeout.
    pub first: Version,
    /// What went wrong; of an event that had to wait for another one, that.
    pub error: String,
    /// The commit of the event, by which it is told from another one at the same version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) commit: Option<CommitId>,
    /// The timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) scheduled: Option<Box<Scheduled>>,
}

impl Parked {
    /// The stream.
    pub(super) fn stream(&self) -> Result<StreamId, ProjectorError> {
        Ok(self.event.stream.parse().map_err(StoreError::from)?)
    }
}
