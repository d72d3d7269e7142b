//! A commit as a line of text, in exports and archives.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::event::{CommitId, EventData};
use crate::metadata::Metadata;
use crate::store::{Commit, StoreError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// A commit with its stream as a line of JSON, as exports and archives contain it.
///
/// Payloads are JSON strings, so that they are kept byte for byte.
///
/// ```
/// # use es_core::store::Commit;
/// # use es_core::event::{CommitId, EventData};
/// use es_core::store::CommitLine;
/// use es_core::{StreamId, Version};
///
/// # let (id, time) = (CommitId::new(uuid::Uuid::nil()), chrono::DateTime::UNIX_EPOCH);
/// let stream = StreamId::new("account", "ann")?;
/// let commit = Commit::new(id, Version::new(1), time, vec![EventData::new("Deposited", 1, "{\"cents\":5}")]);
/// let line = serde_json::to_string(&CommitLine::of(&stream, &commit))?;
/// assert_eq!(
///     line,
///     r#"{"stream":"account#ann","first":1,"id":"00000000-0000-0000-0000-000000000000","#.to_owned()
///         + r#""time":"1970-01-01T00:00:00Z","events":[{"name":"Deposited","schema":1,"payload":"{\"cents\":5}"}]}"#
/// );
/// let read: CommitLine = serde_json::from_str(&line)?;
/// assert_eq!(read.into_commit()?, (stream, commit));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommitLine {
    stream: String,
    first: u64,
    id: String,
    time: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    metadata: Metadata,
    events: Vec<LineEvent>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LineEvent {
    name: String,
    schema: u32,
    /// The stored text, byte for byte.
    payload: String,
}

impl CommitLine {
    /// Returns the line of a commit of `stream`.
    #[must_use]
    pub fn of(stream: &StreamId, commit: &Commit) -> Self {
        let event = |event: &EventData| LineEvent {
            name: event.name().to_owned(),
            schema: event.version(),
            payload: event.payload().to_owned(),
        };
        Self {
            stream: stream.to_string(),
            first: commit.first.get(),
            id: commit.id.to_string(),
            time: commit.time,
            metadata: (*commit.metadata).clone(),
            events: commit.events.iter().map(event).collect(),
        }
    }

    /// Returns the commit, and its stream.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the name of the stream, the id, or the version is invalid, or if there are no events.
    pub fn into_commit(self) -> Result<(StreamId, Commit), StoreError> {
        let stream: StreamId = self.stream.parse()?;
        let invalid =
            |what: &str| StoreError::invalid(format!("a commit of the stream `{stream}` has {what}"));
        let id: CommitId = self.id.parse().map_err(|_| invalid("an id that is not a UUID"))?;
        let first = Version::new(self.first);
        if first.is_none() || first > Version::MAX {
            return Err(invalid("a version that is out of range"));
        }
        if self.events.is_empty() {
            return Err(invalid("no events"));
        }
        let event = |event: LineEvent| EventData::new(event.name, event.schema, event.payload);
        let events = self.events.into_iter().map(event).collect();
        let commit = Commit::new(id, first, self.time, events).with_metadata(self.metadata);
        Ok((stream, commit))
    }
}
