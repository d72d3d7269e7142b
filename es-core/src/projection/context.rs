//! The context of an event: its position, time, and metadata.

use std::any::type_name;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::BoxError;
use crate::clock::Clock;
use crate::documents::DocumentCondition;
use crate::event::EventId;
use crate::feed::{FeedAnchor, FeedEntry, Position, Slice};
use crate::metadata::Metadata;
use crate::store::Commit;
use crate::stream_id::StreamId;
use crate::version::Version;

/// The context of an event: its stream, version, position, time, and metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct EventContext {
    stream: StreamId,
    version: Version,
    /// The version of the first event of its commit.
    commit_first: Version,
    slice: Slice,
    position: Position,
    /// The anchor of the position.
    anchor: Option<FeedAnchor>,
    id: EventId,
    time: DateTime<Utc>,
    metadata: Arc<Metadata>,
    timeout: Option<Arc<str>>,
    /// The condition that the worker still holds the lease of the slice.
    lease: Option<Arc<DocumentCondition>>,
    was_parked: bool,
}

/// The id of a stream does not have the expected type.
#[derive(Debug, thiserror::Error)]
#[error("the id of the stream `{stream}` is not a `{id_type}`")]
pub struct InvalidId {
    stream: StreamId,
    id_type: &'static str,
    source: BoxError,
}

/// A point in time between events, at which timeouts are handled.
#[derive(Clone, Copy, Debug)]
pub struct Tick<'a> {
    slice: Slice,
    clock: &'a dyn Clock,
}

impl<'a> Tick<'a> {
    pub(crate) fn new(slice: Slice, clock: &'a dyn Clock) -> Self {
        Self { slice, clock }
    }

    /// Returns the slice.
    #[must_use]
    pub fn slice(&self) -> Slice {
        self.slice
    }

    /// Returns the current time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}

impl EventContext {
    /// Creates the context of the event at `index` of a commit in the feed.
    #[must_use]
    pub fn of(entry: &FeedEntry, index: usize, slice: Slice) -> Self {
        let version = entry.commit.first.plus(index as u64);
        Self {
            stream: entry.stream.clone(),
            version,
            commit_first: entry.commit.first,
            slice,
            position: entry.position.plus(index as u64),
            anchor: Some(entry.anchor),
            id: EventId::new(entry.commit.id, version),
            time: entry.commit.time,
            metadata: Arc::clone(&entry.commit.metadata),
            timeout: None,
            lease: None,
            was_parked: false,
        }
    }

    /// Creates the context of the event at `index` of a commit that does not come from the feed. The position is
    /// [`Position::NONE`], and the slice is meaningless.
    #[must_use]
    pub fn outside_the_feed(stream: &StreamId, commit: &Commit, index: usize) -> Self {
        let version = commit.first.plus(index as u64);
        Self {
            stream: stream.clone(),
            version,
            commit_first: commit.first,
            slice: Slice::new(0),
            position: Position::NONE,
            anchor: None,
            id: EventId::new(commit.id, version),
            time: commit.time,
            metadata: Arc::clone(&commit.metadata),
            timeout: None,
            lease: None,
            was_parked: false,
        }
    }

    /// Sets the condition that the worker still holds the lease of the slice.
    pub(crate) fn set_lease(&mut self, lease: &Arc<DocumentCondition>) {
        self.lease = Some(Arc::clone(lease));
    }

    /// Marks the event as parked before: later events of its slice have been handled.
    pub(crate) fn after_parking(mut self) -> Self {
        self.was_parked = true;
        self
    }

    /// Returns whether later events of its slice were handled before it.
    pub(crate) fn was_parked(&self) -> bool {
        self.was_parked
    }

    /// The condition that the worker still holds the lease of the slice.
    pub(crate) fn lease(&self) -> Option<&DocumentCondition> {
        self.lease.as_deref()
    }

    /// Creates the context of a timeout that a process scheduled under `key`.
    pub(crate) fn timeout(
        stream: StreamId,
        slice: Slice,
        cause: EventId,
        due: DateTime<Utc>,
        metadata: Metadata,
        key: &str,
    ) -> Self {
        Self {
            stream,
            version: Version::NONE,
            commit_first: Version::NONE,
            slice,
            position: Position::NONE,
            anchor: None,
            id: cause,
            time: due,
            metadata: Arc::new(metadata),
            timeout: Some(key.into()),
            lease: None,
            was_parked: false,
        }
    }

    /// Returns the key of a timeout, or `None` for an event.
    pub(crate) fn timeout_key(&self) -> Option<&str> {
        self.timeout.as_deref()
    }

    /// Returns the stream.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// Returns the id of the aggregate as text: the id part of the stream name.
    #[must_use]
    pub fn id(&self) -> &str {
        self.stream.id()
    }

    /// Returns the id of the aggregate as its type, such as `Order::Id`.
    ///
    /// ```
    /// use es_core::projection::{BoxError, EventContext};
    ///
    /// fn order_number(ctx: &EventContext) -> Result<u64, BoxError> {
    ///     Ok(ctx.id_as::<u64>()?)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidId`] if the text is not such an id. Return it from the handler with `?`, so that the event is not
    /// skipped silently.
    pub fn id_as<I>(&self) -> Result<I, InvalidId>
    where
        I: FromStr<Err: Into<BoxError>>,
    {
        self.id().parse().map_err(|error: I::Err| InvalidId {
            stream: self.stream.clone(),
            id_type: type_name::<I>(),
            source: error.into(),
        })
    }

    /// Returns the version of the event, or [`Version::NONE`] for a timeout, which is in no stream.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the version of the first event of the event's commit, or [`Version::NONE`] for a timeout.
    #[must_use]
    pub fn commit_first(&self) -> Version {
        self.commit_first
    }

    /// Returns the slice of the feed.
    #[must_use]
    pub fn slice(&self) -> Slice {
        self.slice
    }

    /// Returns the position of the event in the slice.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Returns the anchor of the position.
    pub(crate) fn anchor(&self) -> Option<FeedAnchor> {
        self.anchor
    }

    /// Returns the globally unique id of the event, by which consumers deduplicate. For a timeout, returns the id of
    /// the event whose reaction scheduled it.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        self.id
    }

    /// Returns the time of the event's commit, or the due time of a timeout.
    #[must_use]
    pub fn time(&self) -> DateTime<Utc> {
        self.time
    }

    /// Returns the metadata of the event's commit: actor, correlation, causation.
    #[must_use]
    pub fn metadata(&self) -> &Arc<Metadata> {
        &self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_id_as_its_type() {
        let at = |stream: &str| {
            let stream = stream.parse().expect("a stream");
            let id = EventId::new(crate::event::CommitId::new(uuid::Uuid::nil()), Version::new(1));
            EventContext::timeout(stream, Slice::new(0), id, DateTime::UNIX_EPOCH, Metadata::new(), "key")
        };
        assert_eq!(at("order#17").id_as::<u64>().expect("a number"), 17);
        let error = at("order#x").id_as::<u64>().expect_err("is no number");
        assert_eq!(
            crate::error_text(&error),
            "the id of the stream `order#x` is not a `u64`: invalid digit found in string"
        );
    }
}
