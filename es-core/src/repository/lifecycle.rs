//! The end of an aggregate: closing and deleting its stream.

use crate::aggregate::{Aggregate, IdFrom};
use crate::cost::Cost;
use crate::event::CommitId;
use crate::repository::report::log_failure;
use crate::repository::retry::{Deadline, Retrying};
use crate::repository::{ExecuteError, Inner, Repository, Request};
use crate::store::{Append, Conflict, StoreError, StreamState, WriteError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// The result of [closing](Repository::close) or [deleting](Repository::delete) an aggregate.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct StreamEnd {
    /// The version of the event that closed or deleted the stream, which is the last one.
    pub version: Version,
    /// Whether an earlier call has closed or deleted the stream. If it was interrupted, this call has completed it.
    pub repeated: bool,
    /// The total cost.
    pub cost: Cost,
}

impl<A: Aggregate> Repository<A> {
    /// Closes the aggregate `id` for good: no command is recorded afterwards. The aggregate can still be loaded, and its
    /// history be read.
    ///
    /// The stream ends with an event of the framework, which takes the next version. It competes with commands as they
    /// compete with each other: a command that is acknowledged comes before it, and a command that loses the race fails
    /// with [`ExecuteError::Closed`]. States and projections do not see this event.
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
    /// [`StoreError::Invalid`] if the aggregate has no events, [`StoreError::Unavailable`] if the outcome is unknown, and
    /// [`StoreError::Backend`] if other writers were faster at every attempt. Repeat the call.
    pub async fn close<Q>(&self, id: &Q) -> Result<StreamEnd, StoreError>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        self.request().close(id).await
    }

    /// Deletes the aggregate `id` for good, whether it is [closed](Self::close) or not: its events, its snapshot, its claims,
    /// and its idempotency keys. Its id cannot be used again.
    ///
    /// The stream first ends with an event of the framework. From then on, loads fail with [`StoreError::Closed`] and commands
    /// with [`ExecuteError::Closed`]. Then the content is erased: each commit keeps its version and its id, so that neither
    /// a command on an outdated state nor a feed that refers to the commit finds anything else in its place. If this is
    /// interrupted, repeat the call: it continues. Until then, a part of the history may still be readable.
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
    /// As [`close`](Self::close). After an error, the stream may be deleted, and its content be erased in part.
    pub async fn delete<Q>(&self, id: &Q) -> Result<StreamEnd, StoreError>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        self.request().delete(id).await
    }
}

impl<A: Aggregate> Request<'_, A> {
    /// Closes the aggregate `id` with the metadata and the deadline of this request, see [`Repository::close`]. Its other
    /// options are not used.
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
        let ending = Ending::of(self, &stream);
        ending.end(StreamState::Closed).await.inspect_err(|error| log_failure(error, &stream, "close"))
    }

    /// Deletes the aggregate `id` with the metadata and the deadline of this request, see [`Repository::delete`]. Its other
    /// options are not used.
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
        let ending = Ending::of(self, &stream);
        ending.delete().await.inspect_err(|error| log_failure(error, &stream, "delete"))
    }
}

/// A stream while it is ended.
struct Ending<'a, A: Aggregate> {
    request: &'a Request<'a, A>,
    inner: &'a Inner<A>,
    stream: &'a StreamId,
    retrying: Retrying<'a>,
}

impl<'a, A: Aggregate> Ending<'a, A> {
    fn of(request: &'a Request<'a, A>, stream: &'a StreamId) -> Self {
        let inner = &*request.repository.inner;
        let retrying = inner.retrying(Deadline::after(request.deadline, &*inner.clock));
        Self { request, inner, stream, retrying }
    }

    /// Deletes the stream, and then erases its content.
    async fn delete(&self) -> Result<StreamEnd, StoreError> {
        let mut end = self.end(StreamState::Deleted).await?;
        end.cost += self.retrying.read(|| self.inner.store.erase(self.stream)).await?;
        Ok(end)
    }

    /// Appends a commit with the event of `state` at the end of the stream. After a conflict, the end is read again.
    async fn end(&self, state: StreamState) -> Result<StreamEnd, StoreError> {
        let (inner, stream, retrying) = (self.inner, self.stream, &self.retrying);
        let mut cost = Cost::ZERO;
        for attempts in 1.. {
            let head = retrying.read(|| inner.store.head(stream)).await?;
            cost += head.cost;
            if !head.state.accepts(Some(&state)) {
                return Ok(StreamEnd { version: head.version, repeated: true, cost });
            }
            let (id, now) = (CommitId::new(inner.ids.new_id()), inner.clock.now());
            let append = Append::state_change(stream.clone(), &head, &state, id, now)?;
            let append = append.with_metadata((*self.request.metadata).clone());
            let send = async || Ok(inner.store.append(&append).await?.cost);
            match retrying.write(&mut cost, send).await {
                Ok(()) => return Ok(StreamEnd { version: head.version.next(), repeated: false, cost }),
                Err(WriteError::Conflict(conflict)) => {
                    let waited = retrying.wait_after_conflict::<Conflict>(conflict, attempts).await;
                    waited.map_err(|error| match error {
                        ExecuteError::Store(error) => error,
                        contention => StoreError::Backend(contention.into()),
                    })?;
                }
                Err(WriteError::Store(error)) => return Err(error),
                Err(error) => return Err(StoreError::Backend(error.into())),
            }
        }
        unreachable!("the last attempt ends the loop")
    }
}
