//! Reasons why a slice makes no progress: failures, delays, and the events concerned.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::state::Slot;
use crate::clock::{Clock, WarningInterval, later};
use crate::event::{CommitId, EventData};
use crate::feed::{EventFilter, Position, Slice};
use crate::projection::timeout::{self, Scheduled};
use crate::projection::{EventContext, ProjectError, ProjectorError};
use crate::publish::Unpublished;
use crate::store::StoreError;
use crate::stream_id::StreamId;
use crate::version::Version;

/// The failure at which a slice of a projection stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
#[non_exhaustive]
pub struct Failure {
    /// The event or timeout at which it stopped, or `None` if the failure concerns no event.
    pub event: Option<FailedEvent>,
    /// The error with its causes, cut at 2 KiB.
    pub error: String,
    /// The time at which the slice stopped.
    pub at: DateTime<Utc>,
    /// The number of consecutive stops at this event.
    pub attempts: u32,
    /// The time of the next automatic retry, or `None` if there is none. A worker that starts retries immediately,
    /// because it may run different code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<DateTime<Utc>>,
    /// The schema version of the event, if it is newer than the versions that the code supports, as in a rolling
    /// deployment. A worker that supports it continues immediately; other workers do not take the slice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_version: Option<u32>,
}

impl Failure {
    /// Returns whether code with this filter supports the event, or `None` if the slice did not stop at an unknown
    /// version.
    pub(super) fn is_read_by(&self, filter: &EventFilter) -> Option<bool> {
        let (event, version) = (self.event.as_ref()?, self.unknown_version?);
        let stream: StreamId = event.stream.parse().ok()?;
        filter.reads(stream.aggregate(), event.name()?, version)
    }

    /// Returns whether it concerns the event at `position`.
    pub(super) fn is_at(&self, position: Position) -> bool {
        self.event.as_ref().is_some_and(|event| !event.is_timeout() && event.position == position)
    }

    /// Returns whether it concerns an event after `position`, or a timeout, which has no position.
    pub(super) fn is_after(&self, position: Position) -> bool {
        self.event.as_ref().is_some_and(|event| event.is_after(position))
    }

    /// Returns the delay between the stop and the next attempt. Workers measure it with their own clocks, which
    /// may differ.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        Some(self.retry_at?.signed_duration_since(self.at).to_std().unwrap_or_default())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        described(f, self.event.as_ref(), &self.error)
    }
}

/// Writes an error after the event that it concerns.
pub(super) fn described(f: &mut fmt::Formatter<'_>, event: Option<&FailedEvent>, error: &str) -> fmt::Result {
    match event {
        // The error of a missing commit names it.
        Some(event) if !event.is_missing() => write!(f, "{event}: {error}"),
        _ => f.write_str(error),
    }
}

/// An event or timeout that could not be handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
#[non_exhaustive]
pub struct FailedEvent {
    /// The stream as text; for a timeout, the stream of the instance.
    pub stream: String,
    /// The version, or [`Version::NONE`] for a timeout.
    pub version: Version,
    /// The position in the slice, or [`Position::NONE`] for a timeout.
    pub position: Position,
    /// The kind.
    #[serde(flatten)]
    pub kind: FailedKind,
}

/// The kind of a [`FailedEvent`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde", tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailedKind {
    /// An event of the feed.
    #[non_exhaustive]
    Event {
        /// The stored name.
        name: String,
    },
    /// An event of the feed whose commit is missing, so that there is nothing to handle or to park.
    Missing,
    /// A timeout of a process.
    #[non_exhaustive]
    Timeout {
        /// The stored name of the event that was scheduled.
        name: String,
        /// The key, which starts with the name of the process.
        key: String,
        /// The due time.
        due: DateTime<Utc>,
    },
}

impl FailedEvent {
    /// Creates it from an event and its context.
    pub(super) fn of(event: &EventData, ctx: &EventContext) -> Self {
        let name = event.name().to_owned();
        let kind = match ctx.timeout_key() {
            Some(key) => FailedKind::Timeout { name, key: key.to_owned(), due: ctx.time() },
            None => FailedKind::Event { name },
        };
        Self { stream: ctx.stream().to_string(), version: ctx.version(), position: ctx.position(), kind }
    }

    /// Returns the event that a broker has not accepted, and the reason.
    pub(super) fn unpublished(error: &ProjectError) -> Option<(Self, String)> {
        let ProjectError::Handler(error) = error else { return None };
        let Unpublished { stream, id, name, position, cause } = error.downcast_ref()?;
        let kind = FailedKind::Event { name: name.clone() };
        let event = Self { stream: stream.to_string(), version: id.version(), position: *position, kind };
        Some((event, format!("it was not published: {}", crate::error_text(cause))))
    }

    /// Returns the stored name, or `None` if the commit is missing.
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

    /// Returns whether it is after `position`, or a timeout, which has no position.
    pub(super) fn is_after(&self, position: Position) -> bool {
        self.is_timeout() || self.position > position
    }

    /// Returns the name of the document of a timeout.
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

/// A dead letter: an event or timeout that was parked because its handler failed, or because an earlier event of
/// its stream is parked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
#[non_exhaustive]
pub struct Parked {
    /// The build of the projection: see [`Progress::build`](super::Progress::build).
    #[serde(skip)]
    pub build: u32,
    /// The slice.
    pub slice: Slice,
    /// The event or the timeout.
    pub event: FailedEvent,
    /// The version of the first event of its commit; [`Version::NONE`] for a timeout.
    pub first: Version,
    /// The error, or the reason why it has to wait for an earlier event.
    pub error: String,
    /// The commit of the event, to detect a replaced commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) commit: Option<CommitId>,
    /// The timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) scheduled: Option<Box<Scheduled>>,
}

impl Parked {
    /// Returns the stream.
    pub(super) fn stream(&self) -> Result<StreamId, ProjectorError> {
        Ok(self.event.stream.parse().map_err(StoreError::from)?)
    }
}

/// A delay of a slice by a transient error of the store or of a service, which is retried until it succeeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
#[non_exhaustive]
pub struct Delay {
    /// The time of the first failed attempt.
    pub since: DateTime<Utc>,
    /// The number of failed attempts.
    pub attempts: u32,
    /// The time of the next attempt.
    pub next_attempt: DateTime<Utc>,
    /// The event whose handler fails or that a broker does not accept, or `None` if the store fails. An operator
    /// may [park](super::Projector::park) or [skip](super::Projector::skip) it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<FailedEvent>,
    /// The last error, with its causes.
    pub error: String,
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        described(f, self.event.as_ref(), &self.error)
    }
}

/// The delays of a projector's workers in this process.
#[derive(Debug, Default)]
pub(super) struct Delays {
    state: Mutex<State>,
    warnings: WarningInterval,
}

#[derive(Debug, Default)]
struct State {
    /// By slot, with the workers' own delay under `None`.
    delays: BTreeMap<Option<Slot>, Delay>,
    /// Whether a warning was logged for the current delays.
    is_known: bool,
}

impl Delays {
    /// Records a failed attempt; the next one begins after `wait`. Returns whether to log a warning: for the first
    /// failure, and then once a minute.
    pub(super) fn failed(
        &self,
        slot: Option<Slot>,
        event: Option<&FailedEvent>,
        error: &str,
        wait: Duration,
        clock: &dyn Clock,
    ) -> bool {
        let now = clock.now();
        let next_attempt = later(now, wait);
        let mut state = self.state();
        let (since, attempts) =
            state.delays.get(&slot).map_or((now, 0), |delay| (delay.since, delay.attempts));
        let delay = Delay {
            since,
            attempts: attempts.saturating_add(1),
            next_attempt,
            event: event.cloned(),
            error: error.to_owned(),
        };
        state.delays.insert(slot, delay);
        let is_due = self.warnings.is_due(clock);
        state.is_known |= is_due;
        is_due
    }

    /// Records a success. Returns whether it ends the last delay that was logged.
    pub(super) fn passed(&self, slot: Option<Slot>) -> bool {
        let mut state = self.state();
        let was_delayed = state.delays.remove(&slot).is_some();
        was_delayed && state.delays.is_empty() && std::mem::take(&mut state.is_known)
    }

    /// Removes the slots of other workers.
    pub(super) fn retain(&self, is_kept: impl Fn(Slot) -> bool) {
        self.state().delays.retain(|slot, _| slot.is_none_or(&is_kept));
    }

    /// Returns the delays of slots.
    pub(super) fn all(&self) -> Vec<(Slot, Delay)> {
        let state = self.state();
        state.delays.iter().filter_map(|(slot, delay)| Some(((*slot)?, delay.clone()))).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
