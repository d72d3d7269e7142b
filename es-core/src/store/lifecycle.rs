//! The end of a stream: the states of a stream, and the events that record them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::event::EventData;
use crate::payloads::PayloadName;
use crate::store::Commit;
use crate::stream_id::StreamId;
use crate::version::Version;

/// The stored name of the event that closes a stream.
const CLOSED: &str = "$closed";

/// The stored name of the event that deletes a stream.
pub(crate) const DELETED: &str = "$deleted";

/// The stored name of the event that archives a stream.
const ARCHIVED: &str = "$archived";

/// The stored name of the event that closes a stream again after its archive was restored.
const RESTORED: &str = "$restored";

/// The format of the archives that this version writes and reads.
const ARCHIVE_FORMAT: u32 = 1;

/// The name in place of each event that was erased.
const ERASED: &str = "$erased";

/// The prefix of the names of the framework's own events.
const OWN_EVENTS: char = '$';

/// Whether a stream accepts commits.
///
/// A stream is open until its last commit is a *lifecycle commit*: one event of the framework, whose name starts with
/// `$`. The commit has a version like any other, so it competes with the commits of commands for that version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamState {
    /// The stream accepts commits.
    #[default]
    Open,
    /// The stream is closed: it can be read, but accepts no more commits.
    Closed,
    /// The stream is closed, and its content is in an archive: it cannot be read until it is restored.
    #[non_exhaustive]
    Archived {
        /// The object with the content, whose name contains its digest.
        archive: PayloadName,
    },
    /// The stream is deleted: it cannot be read, and its id cannot be used again.
    Deleted,
}

/// The payload of the events that archive a stream, restore it, or delete it while it is archived.
#[derive(Serialize, Deserialize)]
struct ArchiveBody {
    format: u32,
    archive: String,
}

impl ArchiveBody {
    fn of(archive: &PayloadName) -> String {
        let body = Self { format: ARCHIVE_FORMAT, archive: archive.to_string() };
        serde_json::to_string(&body).expect("texts have a JSON form")
    }

    /// Returns the object that an event names. `None` if the event cannot be decoded, or the archive has another
    /// format.
    fn archive(event: &EventData) -> Option<PayloadName> {
        let body: Self = serde_json::from_str(event.payload()).ok()?;
        body.archive.parse().ok().filter(|_| body.format == ARCHIVE_FORMAT)
    }
}

impl StreamState {
    /// Returns the state of a stream whose content is in the object `archive`.
    #[must_use]
    pub fn archived(archive: PayloadName) -> Self {
        Self::Archived { archive }
    }

    /// Returns the state of a stream after `event`; `None` if the event does not change it.
    #[must_use]
    pub fn after(event: &EventData) -> Option<Self> {
        match event.name() {
            CLOSED | RESTORED => Some(Self::Closed),
            ARCHIVED => ArchiveBody::archive(event).map(Self::archived),
            DELETED => Some(Self::Deleted),
            _ => None,
        }
    }

    /// Returns whether the events of the stream can be read.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        matches!(self, Self::Open | Self::Closed)
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
            Self::Open => !matches!(next, Some(Self::Archived { .. })),
            Self::Closed => matches!(next, Some(Self::Archived { .. } | Self::Deleted)),
            Self::Archived { .. } => matches!(next, Some(Self::Closed | Self::Deleted)),
            Self::Deleted => false,
        }
    }

    /// Returns the event that changes this state to `next`; `None` for [`Open`](Self::Open).
    pub(crate) fn event(&self, next: &Self) -> Option<EventData> {
        match (self, next) {
            (_, Self::Open) => None,
            (Self::Archived { archive }, Self::Closed) => {
                Some(EventData::new(RESTORED, 1, ArchiveBody::of(archive)))
            }
            (_, Self::Closed) => Some(EventData::new(CLOSED, 1, "{}")),
            (_, Self::Archived { archive }) => Some(EventData::new(ARCHIVED, 1, ArchiveBody::of(archive))),
            (Self::Archived { archive }, Self::Deleted) => {
                Some(EventData::new(DELETED, 1, ArchiveBody::of(archive)))
            }
            (_, Self::Deleted) => Some(EventData::new(DELETED, 1, "{}")),
        }
    }
}

/// Returns the archive that is not needed any more, if `commit` restored or deleted an archived stream.
pub(crate) fn superseded_archive(commit: &Commit) -> Option<PayloadName> {
    let event = commit.events.last().filter(|event| [RESTORED, DELETED].contains(&event.name()))?;
    ArchiveBody::archive(event)
}

/// Returns the event that a store returns in place of an event that was [erased](crate::EventStore::erase).
#[must_use]
pub fn erased_event() -> EventData {
    EventData::new(ERASED, 1, "null")
}

/// Returns whether `event` stands for an event that was erased.
#[must_use]
pub fn is_erased(event: &EventData) -> bool {
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
    /// The version of the event that changed the state of the stream; if its events are being erased, it may be the
    /// version of one of them.
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

    /// Returns the object with the content of the stream, if the stream is archived.
    #[must_use]
    pub fn archive(&self) -> Option<&PayloadName> {
        match &self.state {
            StreamState::Archived { archive } => Some(archive),
            _ => None,
        }
    }
}

fn text(state: &StreamState) -> Cow<'static, str> {
    match state {
        StreamState::Open => "open".into(),
        StreamState::Closed => "closed: use another id".into(),
        StreamState::Archived { archive } => format!(
            "archived in the object `{archive}`: restore it to read it, or delete it with `delete_archived`"
        )
        .into(),
        StreamState::Deleted => "deleted: use another id".into(),
    }
}
