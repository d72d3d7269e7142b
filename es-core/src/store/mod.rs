//! The contract between the framework and a store of events.

mod append;
mod commit;
mod contiguity;
mod error;
mod identity;
mod limits;
mod read;
mod write;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;

pub use append::{Append, Appended, NewCommit};
pub use commit::Commit;
pub use contiguity::Contiguity;
pub use error::{AppendError, Conflict, DeadlineExceeded, StoreError, Unavailable};
pub use identity::StoreIdentity;
pub use limits::{MAX_ITEM_BYTES, MAX_WRITE_BYTES, MAX_WRITE_ITEMS};
pub use read::{Head, Page, Read, SnapshotRequest};
pub use write::{
    Claim, ClaimChange, Claimed, Holder, JoinedWrite, Marker, MarkerRead, NetChange, Once, OnceKey, Place,
    WriteError, WriteRefused, WriteSet, Written,
};

use crate::cost::Cost;
use crate::snapshot::Snapshot;
use crate::stream_id::StreamId;
use crate::version::Version;

/// A store of events: streams of commits, one snapshot beside each, claims, and markers.
///
/// Repositories are written against this contract, and the conformance suite checks it for any
/// implementation. A wrapper must forward every method.
#[async_trait]
pub trait EventStore: fmt::Debug + Send + Sync + 'static {
    /// Appends one commit to a stream.
    ///
    /// # Atomicity
    ///
    /// All events of the commit are stored, or none.
    ///
    /// # Ordering
    ///
    /// Of all appends that expect the same version of a stream, exactly one succeeds. The versions of a
    /// stream's events are contiguous, from 1.
    ///
    /// # Repetition
    ///
    /// To append the same [`Append`] again is safe at any time and any number of times: when its commit is
    /// stored already, that is a success. The commit is known by its id ([`CommitId`](crate::CommitId)).
    /// So another process may repeat it, too, unless it expects [`Any`](crate::ExpectedVersion::Any) or
    /// [`StreamExists`](crate::ExpectedVersion::StreamExists): there the place of the commit is not in the
    /// request, and only the `Append` itself remembers it.
    ///
    /// # Errors
    ///
    /// [`AppendError::Conflict`] when the stream is not at the expected version; nothing was stored.
    /// [`AppendError::Store`] otherwise; after [`StoreError::Unavailable`] it is unknown whether the commit
    /// was stored, and repeating it tells.
    async fn append(&self, append: &Append) -> Result<Appended, AppendError>;

    /// Writes several commits, claims and a marker as one: all of it, or nothing.
    ///
    /// # Repetition
    ///
    /// As with [`append`](Self::append): to write the same [`WriteSet`] again is safe, and a success when it
    /// is written already. It is known by the ids of its commits and of its marker.
    ///
    /// # Errors
    ///
    /// The first of these that applies: [`WriteError::Done`] when the marker of its key is there, and has not
    /// expired; [`WriteError::Conflict`] when a stream is not at its version; [`WriteError::Claimed`] when
    /// another stream holds a claim; [`WriteError::Refused`] when the condition of a joined write fails.
    /// [`WriteError::Store`] otherwise, and when the set is not [sound](WriteSet::checked).
    async fn write(&self, set: &WriteSet) -> Result<Written, WriteError>;

    /// The stream that holds a claim, strongly consistent.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store cannot tell.
    async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError>;

    /// What is remembered under a key, strongly consistent.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store cannot tell.
    async fn marker(&self, key: &OnceKey) -> Result<MarkerRead, StoreError>;

    /// Tells handles on the same content from handles on different ones.
    fn identity(&self) -> StoreIdentity;

    /// Reads a stream in pages, in the order of its versions.
    ///
    /// A stream that does not exist gives one page without commits. Every page is strongly consistent: it
    /// holds every commit that was acknowledged before it was asked for. Of a read that is
    /// [eventual](Read::eventually), the last commits may be missing.
    ///
    /// # Errors
    ///
    /// The stream ends with the first error. [`StoreError::Corrupt`] when versions are missing.
    fn read(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>>;

    /// The version of the stream's last event, strongly consistent.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store cannot tell.
    async fn head(&self, stream: &StreamId) -> Result<Head, StoreError>;

    /// Keeps `snapshot` beside the stream, unless there is one of the same or a higher version already.
    ///
    /// One of exactly the version `replaces` is overwritten in any case: it was found to be unusable.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the snapshot cannot be written. To find a newer one is no error.
    async fn write_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError>;

    /// Runs `task` to its end, off the caller's path.
    ///
    /// A store without a runtime of its own may run it before it returns.
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

    async fn marker(&self, key: &OnceKey) -> Result<MarkerRead, StoreError> {
        (**self).marker(key).await
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

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        (**self).spawn(task);
    }
}
