//! Reading a stream.

use chrono::{DateTime, Utc};

use crate::cost::Cost;
use crate::snapshot::{Fingerprint, Snapshot};
use crate::store::{Append, ClosedStream, Commit, NewCommit, StoreError, StreamState};
use crate::stream_id::StreamId;
use crate::version::Version;

/// A request to read a stream, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    stream: StreamId,
    after: Version,
    loaded: bool,
    until: Option<Version>,
    snapshot: Option<SnapshotRequest>,
    eventual: bool,
    as_stored: bool,
}

/// Allows a read to start from a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotRequest {
    /// The fingerprint that the snapshot must have.
    pub fingerprint: Fingerprint,
    /// The expected maximum number of commits after the snapshot. One request should return as many.
    pub longest_tail: u32,
    /// The version of the snapshot at an earlier time, or [`Version::NONE`] if it is not known. The current one is
    /// probably of this version or a later one, so the request need not return much older commits. This is a hint: it
    /// must not change the result of the read.
    pub known: Version,
}

impl Read {
    /// Reads the whole stream.
    #[must_use]
    pub fn all(stream: StreamId) -> Self {
        Self {
            stream,
            after: Version::NONE,
            loaded: false,
            until: None,
            snapshot: None,
            eventual: false,
            as_stored: false,
        }
    }

    /// Reads only events after `version`. If it is inside a commit, the whole commit is read, but no earlier commit of the
    /// same append. Nothing is read if the read ends at `version` or before it.
    #[must_use]
    pub fn after(mut self, version: Version) -> Self {
        (self.after, self.loaded) = (version, false);
        self
    }

    /// Reads only events after `version`, which the caller has read or written as the last version of the stream.
    ///
    /// Such a version is the end of an [append](crate::store::Append), so the store does not look for later commits in
    /// the append that contains it, which may take another request. For other versions, use [`Read::after`].
    #[must_use]
    pub fn after_loaded(mut self, version: Version) -> Self {
        (self.after, self.loaded) = (version, true);
        self
    }

    /// Reads only events up to and including `version`, without a snapshot. If it is inside a commit, the whole commit
    /// is read, but no later commit of the same append.
    #[must_use]
    pub fn until(mut self, version: Version) -> Self {
        self.until = Some(version);
        self
    }

    /// Starts from the snapshot of the stream if its checksum is correct, its fingerprint matches, and the stream
    /// contains the commit after which it was taken: a commit that ends at the version of the snapshot and has its
    /// time. At most `longest_tail` commits are expected after the snapshot.
    #[must_use]
    pub fn from_snapshot(mut self, fingerprint: Fingerprint, longest_tail: u32) -> Self {
        self.snapshot = Some(SnapshotRequest { fingerprint, longest_tail, known: Version::NONE });
        self
    }

    /// Sets the version of the snapshot at an earlier time, as a hint, which saves read units. Has no effect unless
    /// the read may start [from the snapshot](Self::from_snapshot).
    #[must_use]
    pub fn with_known_snapshot(mut self, version: Version) -> Self {
        if let Some(request) = &mut self.snapshot {
            request.known = version;
        }
        self
    }

    /// Reads with eventual consistency if that is cheaper. The last commits may be missing, so use it only if a
    /// conditional write detects that. The versions are always contiguous.
    #[must_use]
    pub fn eventually(mut self) -> Self {
        self.eventual = true;
        self
    }

    /// Reads personal data in its stored form, which is sealed: for an archive. Has no effect on a store without
    /// personal data.
    #[must_use]
    pub fn as_stored(mut self) -> Self {
        self.as_stored = true;
        self
    }

    /// Returns whether personal data is read in its stored form.
    #[must_use]
    pub fn is_as_stored(&self) -> bool {
        self.as_stored
    }

    /// Returns whether the last commits may be missing.
    #[must_use]
    pub fn is_eventual(&self) -> bool {
        self.eventual
    }

    /// Returns the stream.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// Returns the version after which to read.
    #[must_use]
    pub fn start(&self) -> Version {
        self.after
    }

    /// Returns whether the version after which to read is the end of an append, see [`Read::after_loaded`].
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Returns whether the version after which to read may be inside a commit, or between two commits of an append.
    #[must_use]
    pub fn may_start_inside(&self) -> bool {
        !self.loaded && !self.after.is_none()
    }

    /// Returns the version up to which to read.
    #[must_use]
    pub fn end(&self) -> Option<Version> {
        self.until
    }

    /// Returns the requested snapshot, or `None` if the read must not start from one, because it starts after a version
    /// or ends before the end of the stream.
    #[must_use]
    pub fn snapshot(&self) -> Option<SnapshotRequest> {
        self.snapshot.filter(|_| self.after.is_none() && self.until.is_none())
    }
}

/// A page of a read.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Page {
    /// The snapshot from which the read starts: only on the first page, and only if it can be used.
    pub snapshot: Option<Snapshot>,
    /// The version of a snapshot that cannot be used: only on the first page.
    pub unusable_snapshot: Option<Version>,
    /// The commits, in order.
    pub commits: Vec<Commit>,
    /// The cost of the page.
    pub cost: Cost,
}

impl Page {
    /// Returns a page of `commits` without a snapshot.
    #[must_use]
    pub fn new(commits: Vec<Commit>, cost: Cost) -> Self {
        Self { snapshot: None, unusable_snapshot: None, commits, cost }
    }
}

/// The end of a stream.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Head {
    /// The version of the last event; [`Version::NONE`] if there is none.
    pub version: Version,
    /// The time of the last commit; `None` if there is none.
    pub time: Option<DateTime<Utc>>,
    /// Whether the stream accepts commits.
    pub state: StreamState,
    /// The cost of the read.
    pub cost: Cost,
}

impl Head {
    /// Returns the end of an open stream at `version`.
    #[must_use]
    pub const fn new(version: Version, cost: Cost) -> Self {
        Self { version, time: None, state: StreamState::Open, cost }
    }

    /// Sets the time of the last commit.
    #[must_use]
    pub fn with_time(mut self, time: DateTime<Utc>) -> Self {
        self.time = Some(time);
        self
    }

    /// Sets the state of the stream.
    #[must_use]
    pub fn with_state(mut self, state: StreamState) -> Self {
        self.state = state;
        self
    }

    /// Returns the end of a stream whose last commit is `commit`.
    #[must_use]
    pub fn of(commit: &Commit, cost: Cost) -> Self {
        Self::new(commit.last(), cost).with_time(commit.time).with_state(commit.state().unwrap_or_default())
    }

    /// Checks that the stream that ends here accepts the commits of `append`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Closed`] if it does not, and [`StoreError::Invalid`] if an open stream would be archived.
    pub fn check_accepts(&self, append: &Append) -> Result<(), StoreError> {
        let next = append.commits().first().and_then(NewCommit::state);
        match self.state.accepts(next.as_ref()) {
            true => Ok(()),
            false if self.state.is_open() => {
                Err(StoreError::invalid(format!("the stream `{}` is open: close it first", append.stream())))
            }
            false => Err(self.closed(append.stream()).into()),
        }
    }

    /// Returns the error for the `stream` that ends here.
    pub(crate) fn closed(&self, stream: &StreamId) -> ClosedStream {
        ClosedStream::new(stream.clone(), self.version, self.state.clone())
    }

    /// Checks that the content of the `stream` that ends here may be erased: for stores.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the stream is neither deleted nor archived.
    pub fn check_erasable(&self, stream: &StreamId) -> Result<(), StoreError> {
        match self.state.is_readable() {
            false => Ok(()),
            true => Err(StoreError::invalid(format!(
                "the content of the stream `{stream}` cannot be erased: delete or archive the stream first"
            ))),
        }
    }
}

/// Checks that the commits of a stream are contiguous while it is read.
///
/// Every store must check what it reads, so that a lost or skipped item makes a load fail instead of changing its
/// result.
#[derive(Clone, Debug)]
pub struct Contiguity {
    stream: StreamId,
    last: Version,
    /// Whether the next commit may include `last`, because the read may start inside a commit.
    may_include: bool,
}

impl Contiguity {
    /// Creates a check that starts after `version`, which is [`Version::NONE`] for the whole stream.
    #[must_use]
    pub fn after(stream: StreamId, version: Version) -> Self {
        Self { stream, last: version, may_include: false }
    }

    /// Returns the check of the commits that a read returns, unless it starts from a snapshot.
    #[must_use]
    pub fn of(read: &Read) -> Self {
        Self { may_include: read.may_start_inside(), ..Self::after(read.stream().clone(), read.start()) }
    }

    /// Returns the last version that was checked.
    #[must_use]
    pub fn last(&self) -> Version {
        self.last
    }

    /// Checks the next commit.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if it has no events, or does not start directly after the previous commit.
    pub fn check(&mut self, commit: &Commit) -> Result<(), StoreError> {
        if commit.events.is_empty() {
            return Err(StoreError::corrupt(
                &self.stream,
                format!("the commit at version {} has no events", commit.first),
            ));
        }
        let may_include = std::mem::take(&mut self.may_include);
        let is_next = commit.first == self.last.next()
            || (may_include && commit.first <= self.last && commit.last() > self.last);
        if !is_next {
            return Err(StoreError::corrupt(
                &self.stream,
                format!(
                    "after version {}, the next commit has the versions {} to {}: events are missing or stored twice",
                    self.last,
                    commit.first,
                    commit.last()
                ),
            ));
        }
        self.last = commit.last();
        Ok(())
    }
}
