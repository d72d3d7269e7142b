//! Asking a store to read, and its answer.

use crate::cost::Cost;
use crate::snapshot::{Fingerprint, Snapshot};
use crate::store::Commit;
use crate::stream_id::StreamId;
use crate::version::Version;

/// Which part of a stream to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    stream: StreamId,
    after: Version,
    until: Option<Version>,
    snapshot: Option<SnapshotRequest>,
    eventual: bool,
}

/// That a read may start from a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotRequest {
    /// The shape that the snapshot must have.
    pub fingerprint: Fingerprint,
    /// How many commits are expected to follow it at most: what one request should cover.
    pub longest_tail: u32,
}

impl Read {
    /// The whole stream.
    #[must_use]
    pub fn all(stream: StreamId) -> Self {
        Self { stream, after: Version::NONE, until: None, snapshot: None, eventual: false }
    }

    /// Only what comes after `version`, which must be the end of a commit, as the version of a loaded state
    /// always is.
    #[must_use]
    pub fn after(mut self, version: Version) -> Self {
        self.after = version;
        self
    }

    /// Only what comes up to `version`, it included, and from the events alone. When `version` is inside a
    /// commit, the whole commit is read.
    #[must_use]
    pub fn until(mut self, version: Version) -> Self {
        self.until = Some(version);
        self
    }

    /// Starts from the stream's snapshot, when it is undamaged, has the shape `fingerprint`, and the stream has the
    /// commit that it was taken after: one that ends at its version, and has its time. At most `longest_tail` commits are expected to follow it.
    #[must_use]
    pub fn from_snapshot(mut self, fingerprint: Fingerprint, longest_tail: u32) -> Self {
        self.snapshot = Some(SnapshotRequest { fingerprint, longest_tail });
        self
    }

    /// What was acknowledged lately may be missing, if that is cheaper: for callers who find out by their write.
    /// What is there is still contiguous.
    #[must_use]
    pub fn eventually(mut self) -> Self {
        self.eventual = true;
        self
    }

    /// Whether what was acknowledged lately may be missing.
    #[must_use]
    pub fn is_eventual(&self) -> bool {
        self.eventual
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// The version after which to read.
    #[must_use]
    pub fn start(&self) -> Version {
        self.after
    }

    /// The version up to which to read.
    #[must_use]
    pub fn end(&self) -> Option<Version> {
        self.until
    }

    /// Whether the read may start from a snapshot, and from which. Never when it starts after a version or
    /// ends before the end: a snapshot is of the present.
    #[must_use]
    pub fn snapshot(&self) -> Option<SnapshotRequest> {
        self.snapshot.filter(|_| self.after.is_none() && self.until.is_none())
    }
}

/// A part of a stream, read at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The snapshot from which the read starts; only on the first page, and only when it can be used.
    pub snapshot: Option<Snapshot>,
    /// The version of a snapshot that was found and cannot be used; only on the first page.
    pub unusable_snapshot: Option<Version>,
    /// The commits, in order.
    pub commits: Vec<Commit>,
    /// What the page cost.
    pub cost: Cost,
}

/// Where a stream ends.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Head {
    /// The version of the last event, [`Version::NONE`] when there is none.
    pub version: Version,
    /// What it cost to find out.
    pub cost: Cost,
}

impl Head {
    /// A stream that ends at `version`.
    #[must_use]
    pub const fn new(version: Version, cost: Cost) -> Self {
        Self { version, cost }
    }
}
