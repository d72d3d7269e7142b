//! Asking a store to append, and its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, SubsecRound, Utc};

use crate::clock::is_storable;
use crate::cost::Cost;
use crate::event::{CommitId, EventData};
use crate::metadata::Metadata;
use crate::store::StoreError;
use crate::stream_id::StreamId;
use crate::version::{ExpectedVersion, Version};

/// The events of one command, before they have a place in their stream.
#[derive(Clone, Debug, PartialEq)]
pub struct NewCommit {
    /// Identifies the commit: the same id appended again is the same commit.
    pub id: CommitId,
    /// When it was decided. Stores keep whole milliseconds.
    pub time: DateTime<Utc>,
    /// What is known besides the events.
    pub metadata: Metadata,
    /// The events, in order; at least one.
    pub events: Vec<EventData>,
}

impl NewCommit {
    /// A commit of `events`, decided at `time`, without metadata.
    #[must_use]
    pub fn new(id: CommitId, time: DateTime<Utc>, events: Vec<EventData>) -> Self {
        Self { id, time: time.trunc_subsecs(3), metadata: Metadata::new(), events }
    }

    /// The same commit with `metadata`.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }
}

/// What a store is asked to append, where, and on which condition.
#[derive(Clone, Debug)]
pub struct Append {
    stream: StreamId,
    expected: ExpectedVersion,
    loaded: bool,
    commit: NewCommit,
    /// Where the attempt before wanted the commit, 0 if there was none.
    tried: Arc<AtomicU64>,
}

impl Append {
    /// Appends `commit` to `stream` on the condition `expected`, which the store checks against the
    /// stream's end.
    #[must_use]
    pub fn new(stream: StreamId, expected: ExpectedVersion, commit: NewCommit) -> Self {
        Self { stream, expected, loaded: false, commit, tried: Arc::default() }
    }

    /// Appends `commit` after `version`, which the caller has read as the stream's last.
    ///
    /// A version that was read is the end of a commit by construction, so the store need not look at the
    /// stream's end first: its conditional write alone decides. For a version from anywhere else, use
    /// [`Append::new`] with [`ExpectedVersion::Exact`].
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

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// The condition.
    #[must_use]
    pub fn expected(&self) -> ExpectedVersion {
        self.expected
    }

    /// Whether the expected version was read from the stream, see [`Append::after_loaded`].
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// The commit.
    #[must_use]
    pub fn commit(&self) -> &NewCommit {
        &self.commit
    }

    /// The version that the commit's first event has, or was to have, by an attempt before.
    ///
    /// For stores: with [`ExpectedVersion::Any`] and [`ExpectedVersion::StreamExists`] the place of a commit
    /// follows from the stream as it was, so a repetition has to know where the attempt before wanted it.
    /// Clones share it.
    #[must_use]
    pub fn tried_at(&self) -> Option<Version> {
        match self.tried.load(Ordering::SeqCst) {
            0 => None,
            version => Some(Version::new(version)),
        }
    }

    /// For stores: moves the commit from the place `from`, which is known to be another commit's, to `to`;
    /// gives back the place that it has now.
    ///
    /// That is another one than `to` when an attempt that runs at the same time has moved it already. So all
    /// attempts go to one place until that is known to be lost, and the commit is never stored twice.
    #[must_use]
    pub fn try_at(&self, from: Option<Version>, to: Version) -> Version {
        let from = from.map_or(0, Version::get);
        match self.tried.compare_exchange(from, to.get(), Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => to,
            Err(elsewhere) => Version::new(elsewhere),
        }
    }

    /// The version of the commit's last event when it is appended after `version`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] when the commit has no events, its time is not in the years 1 to 9999, or the stream
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

/// A commit that is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Appended {
    /// The version of its first event.
    pub first: Version,
    /// The version of its last event: the stream's version after it.
    pub last: Version,
    /// Whether it had been stored by an earlier attempt whose answer was lost.
    pub repeated: bool,
    /// What the append cost.
    pub cost: Cost,
}

impl Appended {
    /// A commit stored at the versions `first` to `last`.
    #[must_use]
    pub const fn new(first: Version, last: Version, cost: Cost) -> Self {
        Self { first, last, repeated: false, cost }
    }

    /// The same, found to be stored already.
    #[must_use]
    pub const fn repeated(mut self) -> Self {
        self.repeated = true;
        self
    }
}
