//! Writing more than one stream at once, and what belongs to no stream.

mod claim;
mod error;
mod joined;
mod once;

pub use claim::{Claim, ClaimChange, Claimed, Holder, NetChange};
pub use error::{WriteError, WriteRefused};
pub use joined::JoinedWrite;
pub use once::{Marker, MarkerRead, Once, OnceKey, Place};

use crate::cost::Cost;
use crate::store::{Append, Appended, StoreError};
use crate::stream_id::StreamId;
use crate::version::{ExpectedVersion, Version};

/// What a store is asked to write as one: all of it, or nothing.
///
/// ```
/// use es_core::store::{Append, NewCommit, WriteSet};
/// # use es_core::{CommitId, EventData, StreamId, Version};
/// # let commit = |id| NewCommit::new(CommitId::new(uuid::Uuid::from_u128(id)), chrono::DateTime::UNIX_EPOCH,
/// #     vec![EventData::new("Moved", 1, "{}")]);
/// let from = Append::after_loaded(StreamId::new("account", "ann")?, Version::new(4), commit(1));
/// let to = Append::after_loaded(StreamId::new("account", "bob")?, Version::NONE, commit(2));
/// let set = WriteSet::new().append(from).append(to);
/// # assert_eq!(set.appends().len(), 2);
/// # Ok::<_, es_core::InvalidStreamId>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct WriteSet {
    appends: Vec<Append>,
    unchanged: Vec<(StreamId, Version)>,
    claims: Vec<ClaimChange>,
    once: Option<Once>,
    joined: Vec<JoinedWrite>,
}

impl WriteSet {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends to a stream: at [`NoStream`](ExpectedVersion::NoStream), or at a version that was loaded.
    #[must_use]
    pub fn append(mut self, append: Append) -> Self {
        self.appends.push(append);
        self
    }

    /// Requires that `stream` still ends at `version`, which was loaded.
    #[must_use]
    pub fn unchanged(mut self, stream: StreamId, version: Version) -> Self {
        self.unchanged.push((stream, version));
        self
    }

    /// Takes or gives back claims, in this order.
    #[must_use]
    pub fn claims(mut self, changes: impl IntoIterator<Item = ClaimChange>) -> Self {
        self.claims.extend(changes);
        self
    }

    /// Writes only if nothing was written under this key before.
    #[must_use]
    pub fn once(mut self, once: Once) -> Self {
        self.once = Some(once);
        self
    }

    /// Writes of the caller's own, of the kind that the store knows.
    #[must_use]
    pub fn join(mut self, writes: impl IntoIterator<Item = JoinedWrite>) -> Self {
        self.joined.extend(writes);
        self
    }

    /// The appends, in the order in which they were added.
    #[must_use]
    pub fn appends(&self) -> &[Append] {
        &self.appends
    }

    /// The streams that must not have gone on.
    #[must_use]
    pub fn unchanged_streams(&self) -> &[(StreamId, Version)] {
        &self.unchanged
    }

    /// The changes of claims, in order.
    #[must_use]
    pub fn claim_changes(&self) -> &[ClaimChange] {
        &self.claims
    }

    /// The key under which all is written once.
    #[must_use]
    pub fn once_key(&self) -> Option<&Once> {
        self.once.as_ref()
    }

    /// The caller's own writes.
    #[must_use]
    pub fn joined_writes(&self) -> &[JoinedWrite] {
        &self.joined
    }

    /// What the set will have appended, at no cost yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] when an append is not at a loaded version, two are of one stream, one has no
    /// events, or there is nothing by which a repetition could be recognized: neither an append nor a key.
    pub fn checked(&self) -> Result<Written, StoreError> {
        let streams = self.appends.iter().map(Append::stream);
        let streams: Vec<_> = streams.chain(self.unchanged.iter().map(|(stream, _)| stream)).collect();
        for (index, stream) in streams.iter().enumerate() {
            if streams[..index].contains(stream) {
                return Err(StoreError::invalid(format!(
                    "the stream `{stream}` is twice in one write: put all its events into one commit"
                )));
            }
        }
        if self.appends.is_empty() && self.once.is_none() {
            return Err(StoreError::invalid("a write needs at least one commit, or a key"));
        }
        let appended = self.appends.iter().map(|append| {
            let start = append.start()?;
            let last = append.last_version_after(start)?;
            Ok(Appended::new(start.next(), last, Cost::ZERO))
        });
        Ok(Written {
            appended: appended.collect::<Result<_, StoreError>>()?,
            repeated: false,
            cost: Cost::ZERO,
        })
    }
}

impl Append {
    /// The version after which the commit belongs, where the append itself says it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] when the place depends on the stream's end.
    pub fn start(&self) -> Result<Version, StoreError> {
        match self.expected() {
            ExpectedVersion::NoStream => Ok(Version::NONE),
            ExpectedVersion::Exact(version) if self.is_loaded() || version.is_none() => Ok(version),
            _ => Err(StoreError::invalid(format!(
                "a write of several streams needs the version of each: load the stream `{}` first",
                self.stream()
            ))),
        }
    }
}

/// A set that is written.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Written {
    /// Where the commits are, in the order of the set's appends.
    pub appended: Vec<Appended>,
    /// Whether all of it had been written by an earlier attempt whose answer was lost.
    pub repeated: bool,
    /// What the write cost.
    pub cost: Cost,
}

impl Written {
    /// The same, written at `cost`.
    #[must_use]
    pub fn at_cost(mut self, cost: Cost) -> Self {
        self.cost = cost;
        self
    }

    /// The same, found to be written already.
    #[must_use]
    pub fn repeated(mut self) -> Self {
        self.repeated = true;
        self.appended = self.appended.into_iter().map(Appended::repeated).collect();
        self
    }
}
