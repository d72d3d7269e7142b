//! The end of an aggregate: closing, archiving, restoring, and deleting its stream.

mod archive;
mod stream;

use self::stream::Ending;
pub use self::{
    archive::Archives,
    stream::{StreamEnd, StreamLifecycle},
};
use crate::aggregate::{Aggregate, IdFrom};
use crate::cost::Cost;
use crate::repository::report::log_failure;
use crate::repository::retry::Deadline;
use crate::repository::{Repository, Request};
use crate::store::StoreError;
use crate::stream_id::StreamId;

impl<A: Aggregate> Repository<A> {
    /// Closes the aggregate `id` for good: no command is recorded afterwards. The aggregate can still be loaded, and
    /// its history be read.
    ///
    /// The stream ends with an event of the framework, which takes the next version. It competes with commands as they
    /// compete with each other: a command that is acknowledged comes before it, and a command that loses the race fails
    /// with [`ExecuteError::Closed`](crate::ExecuteError::Closed). States and projections do not see this event.
    ///
    /// Closing an aggregate again is not an error. To record who closed it, use
    /// [`with_metadata`](Self::with_metadata) and [`Request::close`].
    ///
    /// ```
    /// # use es_core::prelude::*;
    /// # use es_core::{MemoryStore, Repository};
    /// # #[event] pub struct Deposited { pub cents: u64 }
    /// # #[derive(Aggregate, Debug, Default)]
    /// # #[aggregate(name = "account", id = String, events(Deposited))]
    /// # pub struct Account { balance: u64 }
    /// # #[handlers]
    /// # impl Account {
    /// #     #[apply]
    /// #     fn deposited(&mut self, event: &Deposited) { self.balance += event.cents; }
    /// # }
    /// # pub struct Deposit { pub cents: u64 }
    /// # #[handlers]
    /// # impl Account {
    /// #     #[handle]
    /// #     fn deposit(&self, command: &Deposit) -> Deposited { Deposited { cents: command.cents } }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let accounts: Repository<Account> = Repository::new(MemoryStore::new());
    /// accounts.execute("ann", Deposit { cents: 500 }).await?;
    /// let closed = accounts.close("ann").await?;
    /// assert_eq!(closed.version, Version::new(2));
    ///
    /// let error = accounts.execute("ann", Deposit { cents: 1 }).await.unwrap_err();
    /// assert!(error.closed().is_some());
    /// assert_eq!(accounts.load("ann").await?.state.balance, 500);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the aggregate has no events, [`StoreError::Unavailable`] if the outcome is unknown,
    /// and [`StoreError::Backend`] if other writers were faster at every attempt. Repeat the call.
    pub async fn close<Q>(&self, id: &Q) -> Result<StreamEnd, StoreError>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        self.request().close(id).await
    }

    /// Deletes the aggregate `id` for good, whether it is [closed](Self::close) or not: its events, its snapshot, its
    /// claims, and its idempotency keys. Its id cannot be used again.
    ///
    /// The stream first ends with an event of the framework. From then on, loads fail with [`StoreError::Closed`] and
    /// commands with [`ExecuteError::Closed`](crate::ExecuteError::Closed). Then the content is erased: each commit
    /// keeps its version and its id, so that neither a command on an outdated state nor a feed that refers to the
    /// commit finds anything else in its place. If this is interrupted, repeat the call: it continues. Until then, a
    /// part of the history may still be readable.
    ///
    /// Events that were published, rows of read models, exports, and backups are not deleted.
    ///
    /// ```
    /// # use es_core::prelude::*;
    /// # use es_core::{MemoryStore, Repository};
    /// # #[event] pub struct Deposited { pub cents: u64 }
    /// # #[derive(Aggregate, Debug, Default)]
    /// # #[aggregate(name = "account", id = String, events(Deposited))]
    /// # pub struct Account { balance: u64 }
    /// # #[handlers]
    /// # impl Account {
    /// #     #[apply]
    /// #     fn deposited(&mut self, event: &Deposited) { self.balance += event.cents; }
    /// # }
    /// # pub struct Deposit { pub cents: u64 }
    /// # #[handlers]
    /// # impl Account {
    /// #     #[handle]
    /// #     fn deposit(&self, command: &Deposit) -> Deposited { Deposited { cents: command.cents } }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let accounts: Repository<Account> = Repository::new(MemoryStore::new());
    /// accounts.execute("ann", Deposit { cents: 500 }).await?;
    /// accounts.delete("ann").await?;
    ///
    /// assert!(accounts.load("ann").await.is_err());
    /// let error = accounts.create("ann", Deposit { cents: 1 }).await.unwrap_err();
    /// assert!(error.closed().is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`close`](Self::close), and [`StoreError::Closed`] if the aggregate is archived: use
    /// [`delete_archived`](Self::delete_archived). After an error, the stream may be deleted, and its content be erased
    /// in part.
    pub async fn delete<Q>(&self, id: &Q) -> Result<StreamEnd, StoreError>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        self.request().delete(id).await
    }

    /// Deletes the aggregate `id` as [`delete`](Self::delete) does, and its archive, if it has one.
    ///
    /// The archive is deleted after the stream has ended. If this is interrupted, repeat the call: it continues.
    ///
    /// # Errors
    ///
    /// As [`delete`](Self::delete), [`StoreError::Corrupt`] if the archive is missing from the payload store, which is
    /// then probably another one, and the errors of the payload store as [`StoreError`].
    pub async fn delete_archived<Q>(&self, id: &Q, archives: &Archives) -> Result<StreamEnd, StoreError>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        self.request().delete_archived(id, archives).await
    }

    /// Moves the events of the [closed](Self::close) aggregate `id` to an archive, one compressed object in a payload
    /// store.
    ///
    /// The archive is written and verified first. Then the stream gets an event of the framework that names the
    /// archive, and the events and the snapshot are erased. From then on, loads and commands fail with
    /// [`StoreError::Closed`] and [`ExecuteError::Closed`](crate::ExecuteError::Closed), whose
    /// [state](crate::store::ClosedStream::state) names the archive. Claims and idempotency keys are kept. Projections
    /// pass over the events, also during a rebuild.
    ///
    /// Archiving an aggregate again is not an error. If this is interrupted, repeat the call: it continues. The archive
    /// is built in memory.
    ///
    /// ```
    /// # use es_core::prelude::*;
    /// # use es_core::{MemoryStore, Repository};
    /// # #[event] pub struct Deposited { pub cents: u64 }
    /// # #[derive(Aggregate, Debug, Default)]
    /// # #[aggregate(name = "account", id = String, events(Deposited))]
    /// # pub struct Account { balance: u64 }
    /// # #[handlers]
    /// # impl Account {
    /// #     #[apply]
    /// #     fn deposited(&mut self, event: &Deposited) { self.balance += event.cents; }
    /// # }
    /// # pub struct Deposit { pub cents: u64 }
    /// # #[handlers]
    /// # impl Account {
    /// #     #[handle]
    /// #     fn deposit(&self, command: &Deposit) -> Deposited { Deposited { cents: command.cents } }
    /// # }
    /// use es_core::payloads::MemoryPayloads;
    /// use es_core::repository::Archives;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let accounts: Repository<Account> = Repository::new(MemoryStore::new());
    /// let archives = Archives::new(MemoryPayloads::new(), "events/archives".parse()?);
    /// accounts.execute("ann", Deposit { cents: 500 }).await?;
    /// accounts.close("ann").await?;
    /// accounts.archive("ann", &archives).await?;
    /// assert!(accounts.load("ann").await.is_err());
    ///
    /// accounts.restore("ann", &archives).await?;
    /// assert_eq!(accounts.load("ann").await?.state.balance, 500);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the aggregate is open or has no events, [`StoreError::Closed`] if it is deleted;
    /// otherwise as [`close`](Self::close), and the errors of the payload store as [`StoreError`]. After an error, the
    /// aggregate may be archived, or an archive may have been written for nothing: repeat the call.
    pub async fn archive<Q>(&self, id: &Q, archives: &Archives) -> Result<StreamEnd, StoreError>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        self.request().archive(id, archives).await
    }

    /// Brings the events of the [archived](Self::archive) aggregate `id` back from its archive, and then deletes the
    /// archive. Afterwards, the aggregate is closed, as before.
    ///
    /// The archive is verified first, and compared with the restored events before it is deleted. Events have their
    /// ids, times, versions, and positions in the feed again. Consumers of the feed that passed over them are not
    /// informed: rebuild the projections that need them.
    ///
    /// `archives` must have the payload store of the archive, but may have another prefix. Restoring an aggregate again
    /// is not an error. If this is interrupted, repeat the call: it continues.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the archive is missing or damaged, [`StoreError::Invalid`] if the aggregate is open,
    /// [`StoreError::Closed`] if it is deleted; otherwise as [`close`](Self::close), and the errors of the payload
    /// store as [`StoreError`].
    pub async fn restore<Q>(&self, id: &Q, archives: &Archives) -> Result<StreamEnd, StoreError>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        self.request().restore(id, archives).await
    }
}

impl<A: Aggregate> Request<'_, A> {
    /// Closes the aggregate `id` with the metadata and the deadline of this request, see [`Repository::close`]. Its
    /// other options are not used.
    ///
    /// # Errors
    ///
    /// As [`Repository::close`].
    pub async fn close<Q>(&self, id: &Q) -> Result<StreamEnd, StoreError>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        let stream = StreamId::new(A::NAME, A::Id::id_from(id))?;
        self.ending(&stream).close().await.inspect_err(|error| log_failure(error, &stream, "close"))
    }

    /// Archives the aggregate `id` with the metadata and the deadline of this request, see [`Repository::archive`]. Its
    /// other options are not used.
    ///
    /// # Errors
    ///
    /// As [`Repository::archive`].
    pub async fn archive<Q>(&self, id: &Q, archives: &Archives) -> Result<StreamEnd, StoreError>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        let stream = StreamId::new(A::NAME, A::Id::id_from(id))?;
        let archived = self.ending(&stream).archive(archives).await;
        archived.inspect_err(|error| log_failure(error, &stream, "archive"))
    }

    /// Restores the aggregate `id` with the metadata and the deadline of this request, see [`Repository::restore`]. Its
    /// other options are not used.
    ///
    /// # Errors
    ///
    /// As [`Repository::restore`].
    pub async fn restore<Q>(&self, id: &Q, archives: &Archives) -> Result<StreamEnd, StoreError>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        let stream = StreamId::new(A::NAME, A::Id::id_from(id))?;
        let restored = self.ending(&stream).restore(archives).await;
        restored.inspect_err(|error| log_failure(error, &stream, "restore"))
    }

    /// Deletes the aggregate `id` with the metadata and the deadline of this request, see [`Repository::delete`]. Its
    /// other options are not used.
    ///
    /// # Errors
    ///
    /// As [`Repository::delete`].
    pub async fn delete<Q>(&self, id: &Q) -> Result<StreamEnd, StoreError>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        let stream = StreamId::new(A::NAME, A::Id::id_from(id))?;
        self.ending(&stream).delete(None).await.inspect_err(|error| log_failure(error, &stream, "delete"))
    }

    /// Deletes the aggregate `id` and its archive with the metadata and the deadline of this request, see
    /// [`Repository::delete_archived`]. Its other options are not used.
    ///
    /// # Errors
    ///
    /// As [`Repository::delete_archived`].
    pub async fn delete_archived<Q>(&self, id: &Q, archives: &Archives) -> Result<StreamEnd, StoreError>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        let stream = StreamId::new(A::NAME, A::Id::id_from(id))?;
        let deleted = self.ending(&stream).delete(Some(archives)).await;
        deleted.inspect_err(|error| log_failure(error, &stream, "delete"))
    }

    fn ending<'a>(&'a self, stream: &'a StreamId) -> Ending<'a> {
        let inner = &*self.repository.inner;
        let retrying = inner.retrying(Deadline::after(self.deadline, &*inner.clock));
        let (store, ids) = (&*inner.store, &*inner.ids);
        Ending { store, ids, retrying, metadata: &self.metadata, stream, cost: Cost::ZERO }
    }
}
