//! Timeouts: events that a process schedules for itself.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::EventContext;
use crate::documents::{Document, DocumentKey};
use crate::event::{CommitId, EventData, EventId, without_values};
use crate::feed::Slice;
use crate::metadata::Metadata;
use crate::store::StoreError;
use crate::stream_id::StreamId;
use crate::version::Version;

/// Due timeouts, ordered by due time.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Due {
    /// The next timeouts to handle.
    pub timeouts: Vec<Timeout>,
    /// Whether more timeouts may be due now.
    pub more: bool,
    /// When the next timeout is due, if that is known; the maximum time if there is none. The projector checks again at
    /// that time, even if it is idle.
    pub next: Option<DateTime<Utc>>,
}

/// A due timeout and its document.
#[derive(Clone)]
pub struct Timeout {
    document: DocumentKey,
    stream: StreamId,
    scheduled: Scheduled,
}

/// The stored form of a timeout.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
pub(crate) struct Scheduled {
    /// The due time, in whole milliseconds.
    pub(crate) due: DateTime<Utc>,
    /// The key, derived from the reaction that scheduled it.
    pub(crate) key: String,
    /// The stream of the instance.
    pub(crate) stream: String,
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) payload: String,
    /// The commit of the event whose reaction scheduled the timeout.
    pub(crate) commit: CommitId,
    pub(crate) cause: Version,
    pub(crate) metadata: Metadata,
}

impl Scheduled {
    /// Returns the name of its document.
    pub(crate) fn document(&self) -> String {
        document(self.due, &self.key)
    }
}

/// Returns the collection of the timeouts of a slice.
pub(crate) fn collection(process: &str, slice: Slice) -> String {
    format!("process#{process}#timers#{slice}")
}

/// Returns the name of a timeout's document. Names sort by due time.
pub(crate) fn document(due: DateTime<Utc>, key: &str) -> String {
    format!("{:020}#{key}", due.timestamp_millis().max(0))
}

impl Timeout {
    /// Decodes a stored timeout.
    pub(crate) fn decode(key: DocumentKey, document: &Document) -> Result<Self, StoreError> {
        let damaged = |reason: String| {
            let reason = format!("{reason}: correct or delete the document, and call `retry`");
            StoreError::corrupt_item(format!("the timeout `{key}`"), reason)
        };
        let scheduled: Scheduled =
            serde_json::from_str(&document.body).map_err(|error| damaged(without_values(&error)))?;
        let stream = scheduled.stream.parse().map_err(|error| damaged(format!("{error}")))?;
        Ok(Self { document: key, stream, scheduled })
    }

    /// Returns the document.
    pub(crate) fn document(&self) -> &DocumentKey {
        &self.document
    }

    /// Returns the stream of the instance.
    pub(crate) fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// Returns the due time.
    pub(crate) fn due(&self) -> DateTime<Utc> {
        self.scheduled.due
    }

    pub(crate) fn scheduled(&self) -> &Scheduled {
        &self.scheduled
    }

    /// Returns the event and its context: in the stream of the instance, at the due time.
    pub(crate) fn event(&self, slice: Slice) -> (EventData, EventContext) {
        event(&self.scheduled, self.stream.clone(), slice)
    }
}

/// Returns the event of a stored timeout and its context.
pub(crate) fn event(scheduled: &Scheduled, stream: StreamId, slice: Slice) -> (EventData, EventContext) {
    let Scheduled { due, key, name, version, payload, commit, cause, metadata, .. } = scheduled;
    let cause = EventId::new(*commit, *cause);
    let ctx = EventContext::timeout(stream, slice, cause, *due, metadata.clone(), key);
    (EventData::new(name.clone(), *version, payload.clone()), ctx)
}

/// Omits the payload, which may be confidential.
impl fmt::Debug for Scheduled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduled")
            .field("due", &self.due)
            .field("key", &self.key)
            .field("stream", &self.stream)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.scheduled.fmt(f)
    }
}
