//! Idempotency keys: what is carried out once, however often it is asked for.

use std::fmt;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::cost::Cost;
use crate::keys::has_control_characters;
use crate::store::StoreError;
use crate::stream_id::StreamId;
use crate::version::Version;

/// A key under which something is done once: for one stream, or for a transaction over several.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OnceKey {
    stream: Option<StreamId>,
    key: String,
}

impl OnceKey {
    /// The most bytes that a key may have.
    pub const MAX_BYTES: usize = 512;

    /// A `key` among those of one stream, or among those of all transactions.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] when it is empty, has more than [`OnceKey::MAX_BYTES`], or has control
    /// characters.
    pub fn new(stream: Option<StreamId>, key: impl Into<String>) -> Result<Self, StoreError> {
        let key = key.into();
        if key.is_empty() || key.len() > Self::MAX_BYTES {
            return Err(StoreError::invalid(format!(
                "an idempotency key has 1 to {} bytes, this one has {}",
                Self::MAX_BYTES,
                key.len()
            )));
        }
        if has_control_characters(&key) {
            return Err(StoreError::invalid("an idempotency key has a control character: remove it"));
        }
        Ok(Self { stream, key })
    }

    /// The stream that the key belongs to; `None` for a transaction over several.
    #[must_use]
    pub fn stream(&self) -> Option<&StreamId> {
        self.stream.as_ref()
    }

    /// The key itself.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Debug for OnceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceKey").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// That a set is to be written once, and what is to be remembered of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Once {
    /// The key.
    pub key: OnceKey,
    /// Identifies the write, as its commits' ids do: the same id again is the same write.
    pub id: Uuid,
    /// When it is written: markers that have expired by then count no more.
    pub now: DateTime<Utc>,
    /// When the marker expires.
    pub expires: DateTime<Utc>,
    /// Where the events are that the command led to.
    pub places: Vec<Place>,
    /// Identifies the command, if the caller has something that does: a key stands for one command.
    pub fingerprint: Option<String>,
}

impl Once {
    /// Writes under `key`, until `expires`, what led to `places`.
    #[must_use]
    pub fn new(
        key: OnceKey,
        id: Uuid,
        now: DateTime<Utc>,
        expires: DateTime<Utc>,
        places: Vec<Place>,
    ) -> Self {
        Self { key, id, now, expires, places, fingerprint: None }
    }

    /// Sets what identifies the command, to be stored with the marker.
    #[must_use]
    pub fn with_fingerprint(mut self, fingerprint: Option<String>) -> Self {
        self.fingerprint = fingerprint;
        self
    }
}

/// The events of one stream that a command led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The stream.
    pub stream: StreamId,
    /// The version of the first event.
    pub first: Version,
    /// The version of the last event; the one before `first` when there were none.
    pub last: Version,
}

impl Place {
    /// Whether there were no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last < self.first
    }
}

/// What is remembered of a write that was done once.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Marker {
    /// Identifies the write.
    pub id: Uuid,
    /// Where its events are.
    pub places: Vec<Place>,
    /// When the marker expires.
    pub expires: DateTime<Utc>,
    /// The [fingerprint](Once::fingerprint) of the command.
    pub fingerprint: Option<String>,
}

impl Marker {
    /// What was remembered of the write `id`.
    #[must_use]
    pub fn new(id: Uuid, places: Vec<Place>, expires: DateTime<Utc>) -> Self {
        Self { id, places, expires, fingerprint: None }
    }

    /// Sets what identifies the command.
    #[must_use]
    pub fn with_fingerprint(mut self, fingerprint: Option<String>) -> Self {
        self.fingerprint = fingerprint;
        self
    }

    /// Returns whether a command with this fingerprint may be the one that the marker tells of: not when both have
    /// fingerprints that differ.
    #[must_use]
    pub fn is_of(&self, fingerprint: Option<&str>) -> bool {
        match (self.fingerprint.as_deref(), fingerprint) {
            (Some(first), Some(now)) => first == now,
            _ => true,
        }
    }

    /// Whether it still counts at the time `now`, in whole seconds.
    #[must_use]
    pub fn counts_at(&self, now: DateTime<Utc>) -> bool {
        self.expires.timestamp() >= now.timestamp()
    }
}

/// What a store knows of a key.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MarkerRead {
    /// The marker, also when it has expired.
    pub marker: Option<Marker>,
    /// What it cost to find out.
    pub cost: Cost,
}

impl MarkerRead {
    /// The `marker` of a key.
    #[must_use]
    pub fn new(marker: Option<Marker>, cost: Cost) -> Self {
        Self { marker, cost }
    }
}
