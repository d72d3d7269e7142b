//! Commits, and the request to append one to a stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, SubsecRound, Utc};

use crate::clock::is_storable;
use crate::cost::Cost;
use crate::event::{CommitId, EventData, EventId};
use crate::metadata::Metadata;
use crate::store::StoreError;
use crate::stream_id::StreamId;
use crate::version::{ExpectedVersion, Version};

/// A commit that is not stored yet: the events of one command.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NewCommit {
    /// Identifies the commit: the same id again is the same commit.
    pub id: CommitId,
    /// When it was decided, in whole milliseconds.
    pub time: DateTime<Utc>,
    /// The metadata, such as who sent the command.
    pub metadata: Metadata,
    /// The events, in order; at least one.
    pub events: Vec<EventData>,
}

impl NewCommit {
    /// Returns a commit of `events` that was decided at `time`, without metadata.
    #[must_use]
    pub fn new(id: CommitId, time: DateTime<Utc>, events: Vec<EventData>) -> Self {
        Self { id, time: time.trunc_subsecs(3), metadata: Metadata::new(), events }
    }

    /// Sets the metadata.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }
}

/// A stored commit: the events of one command.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Commit {
    /// Identifies the commit.
    pub id: CommitId,
    /// The version of the first event.
    pub first: Version,
    /// When it was decided by the clock of its writer, in whole milliseconds.
    pub time: DateTime<Utc>,
    /// The metadata, such as who sent the command.
    pub metadata: Arc<Metadata>,
    /// The events, in order.
    pub events: Vec<EventData>,
}

impl Commit {
    /// Returns a commit of `events` whose first event has the version `first`, without metadata.
    #[must_use]
    pub fn new(id: CommitId, first: Version, time: DateTime<Utc>, events: Vec<EventData>) -> Self {
        Self { id, first, time, metadata: Arc::default(), events }
    }

    /// Sets the metadata.
    #[must_use]
    pub fn with_metadata(mut self, metadata: impl Into<Arc<Metadata>>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// Returns the size of the events in bytes: of their names and payloads.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.events.iter().map(|event| (event.name().len() + event.payload().len()) as u64).sum()
    }

    /// Returns the version of the last event.
    #[must_use]
    pub fn last(&self) -> Version {
        self.first.plus(self.events.len() as u64).previous()
    }

    /// Returns the events with their versions and ids.
    pub fn numbered(&self) -> impl Iterator<Item = (Version, EventId, &EventData)> {
        self.events.iter().enumerate().map(|(index, event)| {
            let version = self.first.plus(index as u64);
            (version, EventId::new(self.id, version), event)
        })
    }
}

/// A request to append a commit to a stream that is at an expected version.
#[derive(Clone, Debug)]
pub struct Append {
    stream: StreamId,
    expected: ExpectedVersion,
    loaded: bool,
    commit: NewCommit,
    /// The version at which the last attempt tried to store the commit, 0 if there was none.
    tried: Arc<AtomicU64>,
}

impl Append {
    /// Appends `commit` to `stream` if that is at the `expected` version, which the store checks.
    #[must_use]
    pub fn new(stream: StreamId, expected: ExpectedVersion, commit: NewCommit) -> Self {
        Self { stream, expected, loaded: false, commit, tried: Arc::default() }
    }

    /// Appends `commit` after `version`, which the caller has read as the last version of the stream.
    ///
    /// Such a version is always the end of a commit, so the store does not check the end of the stream first: its
    /// conditional write decides. For a version from elsewhere, use [`Append::new`] with [`ExpectedVersion::Exact`].
    #[must_use]
    pub fn after_loaded(stream: StreamId, version: Version, commit: NewCommit) -> Self {
        Self {
            stream,
            expected: ExpectedVersion::Exact(version),
            loaded: true,
            commit,
            tried: Arc::default(),
        }
    }

    /// Returns the stream.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// Returns the expected version.
    #[must_use]
    pub fn expected(&self) -> ExpectedVersion {
        self.expected
    }

    /// Returns whether the expected version was read from the stream, see [`Append::after_loaded`].
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Returns the commit.
    #[must_use]
    pub fn commit(&self) -> &NewCommit {
        &self.commit
    }

    /// Returns the version at which the last attempt tried to store the first event: for stores.
    ///
    /// With [`ExpectedVersion::Any`] and [`ExpectedVersion::StreamExists`], the version depends on the end of the stream,
    /// so a repetition must know which one the last attempt targeted. Clones share it.
    #[must_use]
    pub fn tried_at(&self) -> Option<Version> {
        match self.tried.load(Ordering::SeqCst) {
            0 => None,
            version => Some(Version::new(version)),
        }
    }

    /// Moves the commit from the version `from`, which another commit is known to have, to `to`, and returns the version
    /// that it is moved to now: for stores.
    ///
    /// That is not `to` if a concurrent attempt has moved it already. All attempts target one version until that is
    /// known to be taken, so the commit is never stored twice.
    #[must_use]
    pub fn try_at(&self, from: Option<Version>, to: Version) -> Version {
        let from = from.map_or(0, Version::get);
        match self.tried.compare_exchange(from, to.get(), Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => to,
            Err(elsewhere) => Version::new(elsewhere),
        }
    }

    /// Returns the version of the commit's last event if it is appended after `version`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the commit has no events, its time is not in the years 1 to 9999, or the stream
    /// would exceed [`Version::MAX`].
    pub fn last_version_after(&self, version: Version) -> Result<Version, StoreError> {
        let events = self.commit.events.len() as u64;
        if events == 0 {
            return Err(StoreError::invalid(
                "a commit without events cannot be appended: add an event, or append nothing",
            ));
        }
        if !is_storable(self.commit.time) {
            return Err(StoreError::invalid(format!(
                "the time {} of a commit to the stream `{}` is not in the years 1 to 9999: check the clock",
                self.commit.time, self.stream
            )));
        }
        let last = version.plus(events);
        if last > Version::MAX {
            return Err(StoreError::invalid(format!(
                "the stream `{}` would exceed version {}, the last that a stream can have",
                self.stream,
                Version::MAX
            )));
        }
        Ok(last)
    }
}

/// The response to an append: the commit is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Appended {
    /// The version of its first event.
    pub first: Version,
    /// The version of its last event, which is that of the stream after it.
    pub last: Version,
    /// Whether it had been stored by an earlier attempt whose response was lost.
    pub repeated: bool,
    /// What the append cost.
    pub cost: Cost,
}

impl Appended {
    /// Returns the response for a commit with the versions `first` to `last`.
    #[must_use]
    pub const fn new(first: Version, last: Version, cost: Cost) -> Self {
        Self { first, last, repeated: false, cost }
    }

    /// Marks the commit as stored by an earlier attempt.
    #[must_use]
    pub const fn repeated(mut self) -> Self {
        self.repeated = true;
        self
    }
}
