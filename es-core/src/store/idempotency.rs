//! Idempotency keys: repeated writes that take effect once.

use std::fmt;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::cost::Cost;
use crate::keys::has_control_characters;
use crate::store::{Claim, StoreError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// An idempotency key of one stream or of a transaction. Repeated writes with the same key take effect once.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    stream: Option<StreamId>,
    key: String,
}

impl IdempotencyKey {
    /// The maximum length of a key in bytes.
    pub const MAX_BYTES: usize = 512;

    /// Creates the `key` of one stream, or of a transaction if `stream` is `None`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the key is empty, has more than [`MAX_BYTES`](Self::MAX_BYTES), or contains control
    /// characters.
    pub fn new(stream: Option<StreamId>, key: impl Into<String>) -> Result<Self, StoreError> {
        let key = key.into();
        if key.is_empty() || key.len() > Self::MAX_BYTES {
            return Err(StoreError::invalid(format!(
                "an idempotency key must have 1 to {} bytes, but this one has {}",
                Self::MAX_BYTES,
                key.len()
            )));
        }
        if has_control_characters(&key) {
            return Err(StoreError::invalid("an idempotency key has a control character: remove it"));
        }
        Ok(Self { stream, key })
    }

    /// Returns the stream that the key belongs to; `None` for a transaction.
    #[must_use]
    pub fn stream(&self) -> Option<&StreamId> {
        self.stream.as_ref()
    }

    /// Returns the key as a text.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// Hides the key, which may be confidential.
impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyKey").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Makes a [`WriteSet`](crate::store::WriteSet) idempotent: its key, and what to record under it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NewIdempotencyRecord {
    /// The key.
    pub key: IdempotencyKey,
    /// The id of the write. Like the id of a commit, it identifies repetitions.
    pub id: Uuid,
    /// The time of the write. Records that have expired at that time are ignored.
    pub now: DateTime<Utc>,
    /// The time at which the record expires.
    pub expires: DateTime<Utc>,
    /// The events of the commands, by stream.
    pub ranges: Vec<EventRange>,
    /// The fingerprint of the commands, if there is one: a key must not be reused for a different command.
    pub fingerprint: Option<String>,
}

impl NewIdempotencyRecord {
    /// Creates a record under `key` that expires at `expires`, of a write of the events in `ranges`.
    #[must_use]
    pub fn new(
        key: IdempotencyKey,
        id: Uuid,
        now: DateTime<Utc>,
        expires: DateTime<Utc>,
        ranges: Vec<EventRange>,
    ) -> Self {
        Self { key, id, now, expires, ranges, fingerprint: None }
    }

    /// Sets the fingerprint of the commands.
    #[must_use]
    pub fn with_fingerprint(mut self, fingerprint: Option<String>) -> Self {
        self.fingerprint = fingerprint;
        self
    }
}

/// A range of events in one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventRange {
    /// The stream.
    pub stream: StreamId,
    /// The version of the first event.
    pub first: Version,
    /// The version of the last event, or the version before `first` if the range is empty.
    pub last: Version,
}

impl EventRange {
    /// Creates the range of the events `first` to `last` of `stream`.
    #[must_use]
    pub fn new(stream: StreamId, first: Version, last: Version) -> Self {
        Self { stream, first, last }
    }

    /// Returns whether the range is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last < self.first
    }
}

/// The record stored under an idempotency key.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct IdempotencyRecord {
    /// The id of the write.
    pub id: Uuid,
    /// The events of the commands, by stream.
    pub ranges: Vec<EventRange>,
    /// The time at which the record expires.
    pub expires: DateTime<Utc>,
    /// The [fingerprint](NewIdempotencyRecord::fingerprint) of the commands.
    pub fingerprint: Option<String>,
}

impl IdempotencyRecord {
    /// Creates the record of the write `id`.
    #[must_use]
    pub fn new(id: Uuid, ranges: Vec<EventRange>, expires: DateTime<Utc>) -> Self {
        Self { id, ranges, expires, fingerprint: None }
    }

    /// Sets the fingerprint of the commands.
    #[must_use]
    pub fn with_fingerprint(mut self, fingerprint: Option<String>) -> Self {
        self.fingerprint = fingerprint;
        self
    }

    /// Returns whether the record may belong to commands with this fingerprint: `false` if both have fingerprints and
    /// they differ.
    #[must_use]
    pub fn matches(&self, fingerprint: Option<&str>) -> bool {
        match (self.fingerprint.as_deref(), fingerprint) {
            (Some(first), Some(now)) => first == now,
            _ => true,
        }
    }

    /// Returns whether the record has not expired at the time `now`, in whole seconds.
    #[must_use]
    pub fn is_valid_at(&self, now: DateTime<Utc>) -> bool {
        self.expires.timestamp() >= now.timestamp()
    }

    /// Returns the range of events in `stream`, or `None` if the write did not include that stream.
    #[must_use]
    pub fn range_of(&self, stream: &StreamId) -> Option<&EventRange> {
        self.ranges.iter().find(|range| range.stream == *stream)
    }
}

/// The response of a store to a [look-up](crate::EventStore::idempotency_record) of an idempotency key.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct IdempotencyLookup {
    /// The record, even if it has expired.
    pub record: Option<IdempotencyRecord>,
    /// The cost of the look-up.
    pub cost: Cost,
}

impl IdempotencyLookup {
    /// Returns a response with the `record` of a key.
    #[must_use]
    pub fn new(record: Option<IdempotencyRecord>, cost: Cost) -> Self {
        Self { record, cost }
    }
}

/// A key that a store keeps beside its streams: for copies of a store. `DynamoStore` and `PostgresStore` list theirs.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum StoredKey {
    /// A claim, and the stream that holds it. The value of a [personal](Claim::personal) claim is a keyed digest.
    Claim {
        /// The claim.
        claim: Claim,
        /// The stream that holds it.
        stream: StreamId,
    },
    /// An idempotency key and its record, which may have expired.
    Idempotency {
        /// The key.
        key: IdempotencyKey,
        /// The record.
        record: IdempotencyRecord,
    },
}
