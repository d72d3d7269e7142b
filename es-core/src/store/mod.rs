//! The contract between the framework and a store of events: for authors of a store.

mod append;
mod claim;
mod error;
mod idempotency;
mod lifecycle;
pub mod limits;
mod line;
mod read;
mod write;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;

pub use append::{Append, Appended, Commit, MAX_GROUP_BYTES, MAX_GROUP_COMMITS, NewCommit};
pub use claim::{Claim, ClaimChange, Claimed, Holder, NetChange};
pub use error::{
    AppendError, Conflict, DeadlineExceeded, SetupKind, StoreError, Unavailable, WriteError, WriteRefused,
};
pub use idempotency::{
    EventRange, IdempotencyKey, IdempotencyLookup, IdempotencyRecord, NewIdempotencyRecord, StoredKey,
};
pub use lifecycle::{ClosedStream, StreamState, erased_event, is_erased};
pub(crate) use lifecycle::{DELETED, is_reserved, superseded_archive};
pub use line::CommitLine;
pub use read::{Contiguity, Head, Page, Read, SnapshotRequest};
pub use write::{AdditionalWrite, MAX_ITEM_BYTES, MAX_WRITE_BYTES, MAX_WRITE_ITEMS, WriteSet, Written};

use crate::cost::Cost;
use crate::snapshot::Snapshot;
use crate::stream_id::StreamId;
use crate::version::Version;

/// A store of events: streams of commits, with a snapshot beside each, claims, and idempotency keys.
///
/// This is the contract between repositories and stores. Applications use a [`Repository`](crate::Repository) instead.
/// The conformance suite checks the contract for any implementation.
///
/// Every method is required. None can be derived from the others at the same cost or with the same guarantees, so there
/// is no extension trait and no default that a wrapper could forget to forward:
///
/// - `append` costs one conditional put. A [`WriteSet`] with a single append costs a transaction on some stores, and
///   cannot express the expected versions `Any` and `StreamExists`.
/// - `head` reads one item, whereas the end of `read` requires all pages.
/// - `claim_holder`, `idempotency_record`, and `write_snapshot` access data that is not part of a stream.
/// - `identity` and `spawn` depend on the handle and on the runtime of the store.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event store",
    label = "not an event store",
    note = "pass a store, not a reference: a `DynamoStore`, a `PostgresStore`, a `MemoryStore`, or an `Arc<dyn Feed>`, whose clones share everything"
)]
#[async_trait]
pub trait EventStore: fmt::Debug + Send + Sync + 'static {
    /// Appends one commit to a stream, or several as one.
    ///
    /// # Atomicity
    ///
    /// All events of all commits are stored, or none. Readers see each commit with its own id, time, and metadata.
    ///
    /// # Ordering
    ///
    /// Of all appends that expect the same version of a stream, exactly one succeeds. The versions of a stream's events
    /// are contiguous and start at 1.
    ///
    /// # Idempotency
    ///
    /// Appending the same [`Append`] again is safe at any time: it succeeds if the commits are stored already, which is
    /// recognized by their [ids](crate::event::CommitId). Another process may repeat it, too, unless it expects
    /// [`Any`](crate::ExpectedVersion::Any) or [`StreamExists`](crate::ExpectedVersion::StreamExists): the version of
    /// the commits is not in such a request, and only the `Append` itself remembers it.
    ///
    /// # Errors
    ///
    /// [`AppendError::Conflict`] if the stream is not at the expected version, in which case nothing was stored. The
    /// conflict should contain [the commits](Conflict::commits) that follow the expected version, so that a repository
    /// can decide again without a read. [`AppendError::Store`] otherwise, also with [`StoreError::Corrupt`] if the
    /// first commit is stored already, but with other events or other commits after it. After
    /// [`StoreError::Unavailable`], the outcome is unknown, and repeating the append resolves it.
    ///
    /// [`StoreError::Closed`] if the stream is [closed](StreamState) and the version after which to append is
    /// determined by a read of its end. An append after an earlier version is a conflict with the commits that follow
    /// it, among them the one that closed the stream. A store need not detect an append [after](Append::after_loaded)
    /// that commit: its caller has loaded it.
    async fn append(&self, append: &Append) -> Result<Appended, AppendError>;

    /// Writes several commits, claims, an idempotency record, and additional writes atomically.
    ///
    /// # Idempotency
    ///
    /// As for [`append`](Self::append): writing the same [`WriteSet`] again succeeds if it is already written, which is
    /// recognized by the ids of its commits and its idempotency record.
    ///
    /// # Errors
    ///
    /// The first of these that applies: [`WriteError::AlreadyDone`] if the idempotency key has a record that has not
    /// expired, [`WriteError::Conflict`] if a stream is not at its version, [`WriteError::Claimed`] if another stream
    /// holds a claim, [`WriteError::Refused`] if the condition of an additional write fails. [`WriteError::Store`]
    /// otherwise, and if the set is not [valid](WriteSet::checked).
    async fn write(&self, set: &WriteSet) -> Result<Written, WriteError>;

    /// Returns the stream that holds a claim. The read is strongly consistent.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the claim cannot be read.
    async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError>;

    /// Returns the record of an idempotency key. The read is strongly consistent.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the record cannot be read.
    async fn idempotency_record(&self, key: &IdempotencyKey) -> Result<IdempotencyLookup, StoreError>;

    /// Returns an identity that is equal if and only if two handles share a store.
    fn identity(&self) -> StoreIdentity;

    /// Reads a stream in pages, in the order of its versions.
    ///
    /// The result is a single page without commits if the stream does not exist. Every page is strongly consistent: it
    /// has all commits that were acknowledged before it was requested. In an [eventual](Read::eventually) read, the
    /// last commits may be missing.
    ///
    /// # Errors
    ///
    /// The pages end with the first error. [`StoreError::Corrupt`] if versions are missing.
    fn read(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>>;

    /// Returns the end of a stream: the version of its last event, and its state. The read is strongly consistent.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the end of the stream cannot be read.
    async fn head(&self, stream: &StreamId) -> Result<Head, StoreError>;

    /// Stores `snapshot` with the stream, unless the stream has a snapshot of the same or a later version.
    ///
    /// A snapshot of exactly the version `replaces` is always overwritten, because it cannot be used.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the snapshot cannot be written. A later snapshot is not an error.
    async fn write_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError>;

    /// Erases the content of a stream:
    ///
    /// - if its state is [`Deleted`](StreamState::Deleted), the events and the metadata of all commits but the last,
    ///   its snapshot, its idempotency records, and its claims;
    /// - if its state is [`Archived`](StreamState::Archived), the events and the metadata of all commits but those that
    ///   changed its state, and its snapshot.
    ///
    /// The commits keep their ids, times, and versions, and have an [erased event](erased_event) in place of each
    /// event. Therefore, no append can succeed at any version that a writer may have read before, and references to the
    /// commits in the feed remain valid. A snapshot that is written later is ignored.
    ///
    /// An interrupted call may be repeated, and continues. Erasing a stream that is erased already has no effect. A
    /// call that is delayed until after the stream was [restored](Self::restore) erases nothing, or fails.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the stream is neither deleted nor archived. After other errors, a part of the content
    /// may be erased.
    async fn erase(&self, stream: &StreamId) -> Result<Cost, StoreError>;

    /// Brings back the content of an archived stream: the events and the metadata of `commits`, which are all of its
    /// commits before `end`, in order. Then appends `end`, which [closes](Append::state_change) the stream again.
    ///
    /// Commits that are not erased stay as they are. Claims and idempotency records are not changed. If this is
    /// interrupted before `end` is appended, a part of the content may have been brought back, and the call may be
    /// repeated. A call that is delayed until after the stream was deleted, or archived again, brings nothing back.
    ///
    /// # Errors
    ///
    /// [`AppendError::Conflict`] if the end of the stream has changed, and [`StoreError::Corrupt`] if a commit does not
    /// match the one that was erased.
    async fn restore(&self, commits: &[Commit], end: &Append) -> Result<Appended, AppendError>;

    /// Runs `task` in the background.
    ///
    /// A store without a runtime may run it to completion before it returns.
    fn spawn(&self, task: BoxFuture<'static, ()>);
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: EventStore + ?Sized> EventStore for Arc<S> {
    async fn append(&self, append: &Append) -> Result<Appended, AppendError> {
        (**self).append(append).await
    }

    async fn write(&self, set: &WriteSet) -> Result<Written, WriteError> {
        (**self).write(set).await
    }

    async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError> {
        (**self).claim_holder(claim).await
    }

    async fn idempotency_record(&self, key: &IdempotencyKey) -> Result<IdempotencyLookup, StoreError> {
        (**self).idempotency_record(key).await
    }

    fn identity(&self) -> StoreIdentity {
        (**self).identity()
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        (**self).read(read)
    }

    async fn head(&self, stream: &StreamId) -> Result<Head, StoreError> {
        (**self).head(stream).await
    }

    async fn write_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError> {
        (**self).write_snapshot(stream, snapshot, replaces).await
    }

    async fn erase(&self, stream: &StreamId) -> Result<Cost, StoreError> {
        (**self).erase(stream).await
    }

    async fn restore(&self, commits: &[Commit], end: &Append) -> Result<Appended, AppendError> {
        (**self).restore(commits, end).await
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        (**self).spawn(task);
    }
}

/// The identity of a store: see [`EventStore::identity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoreIdentity(usize);

impl StoreIdentity {
    /// Returns the identity of all handles that share `content`.
    #[must_use]
    pub fn of<T>(content: &Arc<T>) -> Self {
        Self(Arc::as_ptr(content) as usize)
    }
}
