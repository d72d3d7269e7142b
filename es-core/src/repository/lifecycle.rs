//! The end of an aggregate: closing its stream.

use crate::aggregate::{Aggregate, IdFrom};
use crate::cost::Cost;
use crate::event::CommitId;
use crate::repository::report::log_failure;
use crate::repository::retry::Deadline;
use crate::repository::{ExecuteError, Inner, Repository, Request};
use crate::store::{Append, Conflict, Head, NewCommit, StoreError, StreamState, WriteError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// The result of closing an aggregate, see [`Repository::close`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Closed {
    /// The version of the event that closed the stream, which is the last one.
    pub version: Version,
    /// Whether the stream was closed already.
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
    pub async fn close<Q>(&self, id: &Q) -> Result<Closed, StoreError>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        self.request().close(id).await
    }
}

impl<A: Aggregate> Request<'_, A> {
    /// Closes the aggregate `id` with the metadata and the deadline of this request, see [`Repository::close`]. Its other
    /// options are not used.
    ///
    /// # Errors
    ///
    /// As [`Repository::close`].
    pub async fn close<Q>(&self, id: &Q) -> Result<Closed, StoreError>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        let stream = StreamId::new(A::NAME, A::Id::id_from(id))?;
        let closing = Closing { request: self, inner: &self.repository.inner, stream: &stream };
        closing.run().await.inspect_err(|error| log_failure(error, &stream, "close"))
    }
}

/// A stream while it is closed.
struct Closing<'a, A: Aggregate> {
    request: &'a Request<'a, A>,
    inner: &'a Inner<A>,
    stream: &'a StreamId,
}

impl<A: Aggregate> Closing<'_, A> {
    /// Appends the last commit at the end of the stream. After a conflict, the end is read again.
    async fn run(&self) -> Result<Closed, StoreError> {
        let (inner, stream) = (self.inner, self.stream);
        let retrying = inner.retrying(Deadline::after(self.request.deadline, &*inner.clock));
        let mut cost = Cost::ZERO;
        for attempts in 1.. {
            let head = retrying.read(|| inner.store.head(stream)).await?;
            cost += head.cost;
            if !head.state.is_open() {
                return Ok(Closed { version: head.version, repeated: true, cost });
            }
            let append = self.last_commit(&head)?;
            let send = async || Ok(inner.store.append(&append).await?.cost);
            match retrying.write(&mut cost, send).await {
                Ok(()) => return Ok(Closed { version: head.version.next(), repeated: false, cost }),
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

    fn last_commit(&self, head: &Head) -> Result<Append, StoreError> {
        let (inner, stream) = (self.inner, self.stream);
        if head.version.is_none() {
            return Err(StoreError::invalid(format!(
                "the stream `{stream}` has no events, so it cannot be closed: check the id"
            )));
        }
        let id = CommitId::new(inner.ids.new_id());
        // The times in a stream never run backwards.
        let now = inner.clock.now();
        let time = head.time.map_or(now, |last| last.max(now));
        let commit = NewCommit::new(id, time, StreamState::Closed.event().into_iter().collect())
            .with_metadata((*self.request.metadata).clone());
        Ok(Append::after_loaded(stream.clone(), head.version, commit))
    }
}
