//! The end of a stream: the states of a stream, and the events that record them.

use crate::event::EventData;
use crate::stream_id::StreamId;
use crate::version::Version;

/// The stored name of the event that closes a stream.
const CLOSED: &str = "$closed";

/// The stored name of the event that deletes a stream.
const DELETED: &str = "$deleted";

/// The name in place of each event that was erased.
const ERASED: &str = "$erased";

/// The prefix of the names of the framework's own events.
const OWN_EVENTS: char = '$';

/// Whether a stream accepts commits.
///
/// A stream is open until its last commit is a *lifecycle commit*: one event of the framework, whose name starts with `$`.
/// The commit has a version like any other, so it competes with the commits of commands for that version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamState {
    /// The stream accepts commits.
    #[default]
    Open,
    /// The stream is closed: it can be read, but accepts no more commits.
    Closed,
    /// The stream is deleted: it cannot be read, and its id cannot be used again.
    Deleted,
}

impl StreamState {
    /// Returns the state of a stream after `event`; `None` if it is an event of the application.
    #[must_use]
    pub fn after(event: &EventData) -> Option<Self> {
        match event.name() {
            CLOSED => Some(Self::Closed),
            DELETED | ERASED => Some(Self::Deleted),
            _ => None,
        }
    }

    /// Returns whether the stream accepts commits.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// Returns whether a stream in this state accepts a commit that changes it to `next`; `None` for any other commit.
    #[must_use]
    pub fn accepts(&self, next: Option<&Self>) -> bool {
        match self {
            Self::Open => true,
            Self::Closed => matches!(next, Some(Self::Deleted)),
            Self::Deleted => false,
        }
    }

    /// Returns the event that records this state; `None` for [`Open`](Self::Open).
    pub(crate) fn event(&self) -> Option<EventData> {
        match self {
            Self::Open => None,
            Self::Closed => Some(EventData::new(CLOSED, 1, "{}")),
            Self::Deleted => Some(EventData::new(DELETED, 1, "{}")),
        }
    }
}

/// Returns the event that a store returns in place of an event that was [erased](crate::EventStore::erase).
#[must_use]
pub fn erased_event() -> EventData {
    EventData::new(ERASED, 1, "null")
}

/// Returns whether `event` stands for an event that was erased.
pub(crate) fn is_erased(event: &EventData) -> bool {
    event.name() == ERASED
}

/// Returns whether the stored name of an event is reserved for the framework.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with(OWN_EVENTS)
}

/// A stream that does not accept commits any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream `{stream}` is {}", text(.state))]
#[non_exhaustive]
pub struct ClosedStream {
    /// The stream.
    pub stream: StreamId,
    /// The version of the event that closed the stream; if its events were erased, the version of one of them.
    pub version: Version,
    /// The state of the stream.
    pub state: StreamState,
}

impl ClosedStream {
    /// Returns the error for a `stream` that ends at `version` in the given state.
    #[must_use]
    pub fn new(stream: StreamId, version: Version, state: StreamState) -> Self {
        Self { stream, version, state }
    }
}

fn text(state: &StreamState) -> &'static str {
    match state {
        StreamState::Open => "open",
        StreamState::Closed => "closed: use another id",
        StreamState::Deleted => "deleted: use another id",
    }
}
