//! Commands on one aggregate: their options, how they are executed, and what they return.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tracing::Instrument;

use crate::aggregate::{Aggregate, IdFrom};
use crate::command::{Context, HandledBy};
use crate::cost::Cost;
use crate::event::CommitId;
use crate::events::Events;
use crate::keys::short_name;
use crate::metadata::Metadata;
use crate::repository::execution::{DEFAULT_RETENTION, KeyOption, digest};
use crate::repository::running::Running;
use crate::repository::{ExecuteError, Repository};
use crate::store::AdditionalWrite;
use crate::version::{ExpectedVersion, Version};

/// The result of a command that was executed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome<A: Aggregate> {
    /// The state after the command.
    pub state: A,
    /// The version of the last event.
    pub version: Version,
    /// The events that the command recorded, as they are stored; empty if there was nothing to do.
    pub events: Vec<A::Event>,
    /// The commit that recorded them; `None` if there was nothing to do.
    pub commit: Option<CommitId>,
    /// Whether this is the outcome of an earlier execution under the same idempotency key, see [`Request::once`]. If
    /// so, this call recorded nothing.
    pub repeated: bool,
    /// The number of times the command was decided: more than one after conflicts.
    pub attempts: u32,
    /// The total cost of all attempts, without snapshots that are written in the background.
    /// If commands share a write, the first outcome has its cost.
    pub cost: Cost,
}

/// The state of an aggregate at a version.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded<A> {
    /// The state; the [`Default`] of the aggregate if it has no events.
    pub state: A,
    /// The version of the last event in the state.
    pub version: Version,
    /// The time of the commit that recorded that event.
    pub time: Option<DateTime<Utc>>,
    /// The version of the snapshot that the load started from, if any.
    pub snapshot: Option<Version>,
    /// The cost of the load.
    pub cost: Cost,
}

impl<A> Loaded<A> {
    /// Returns whether the aggregate has events.
    #[must_use]
    pub fn exists(&self) -> bool {
        !self.version.is_none()
    }
}

/// The decision of a command before it is recorded. The argument of the function that creates [additional
/// writes](Request::with_writes).
#[derive(Debug)]
#[non_exhaustive]
pub struct Decided<'a, A: Aggregate> {
    /// The id of the aggregate.
    pub id: &'a A::Id,
    /// The state after the events.
    pub state: &'a A,
    /// The version of the last event.
    pub version: Version,
    /// The events that will be recorded.
    pub events: &'a [A::Event],
}

/// Creates the additional writes of a decision.
pub(super) type MakeWrites<'a, A> = Box<dyn Fn(&Decided<'_, A>) -> Vec<AdditionalWrite> + Send + Sync + 'a>;

/// Boxes a function that creates writes of one type.
pub(super) fn boxed<'a, A, F, I>(make: F) -> MakeWrites<'a, A>
where
    A: Aggregate,
    F: Fn(&Decided<'_, A>) -> I + Send + Sync + 'a,
    I: IntoIterator,
    I::Item: Send + Sync + 'static,
{
    Box::new(move |decided| make(decided).into_iter().map(AdditionalWrite::new).collect())
}

/// A command with options: returned by [`Repository::with_metadata`], [`Repository::once`], and other methods.
///
/// ```
/// # use es_core::prelude::*;
/// # use es_core::MemoryStore;
/// # #[event] pub struct Paid { pub cents: u64 }
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "invoice", id = String, events(Paid))]
/// # pub struct Invoice { paid: u64 }
/// # #[handlers]
/// # impl Invoice {
/// #     #[apply]
/// #     fn paid(&mut self, event: &Paid) { self.paid += event.cents; }
/// # }
/// # pub struct Pay { pub cents: u64 }
/// # #[handlers]
/// # impl Invoice {
/// #     #[handle]
/// #     fn pay(&self, command: &Pay) -> Paid {
/// #         Paid { cents: command.cents }
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (invoices, id): (Repository<Invoice>, _) = (Repository::new(MemoryStore::new()), "7".to_owned());
/// // A message that is delivered twice pays once.
/// for delivery in 1..=2 {
///     let metadata = Metadata::new().with_actor("bank");
///     let request = invoices.with_metadata(metadata).once("message-4711");
///     let done = request.execute(&id, Pay { cents: 100 }).await?;
///     assert_eq!((done.state.paid, done.repeated), (100, delivery == 2));
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a request does nothing until it is executed"]
pub struct Request<'a, A: Aggregate> {
    pub(super) repository: &'a Repository<A>,
    pub(super) metadata: Arc<Metadata>,
    pub(super) expected: ExpectedVersion,
    pub(super) deadline: Option<Duration>,
    pub(super) once: Option<KeyOption>,
    pub(super) fingerprint: Option<String>,
    pub(super) writes: Option<MakeWrites<'a, A>>,
}

impl<'a, A: Aggregate> Request<'a, A> {
    pub(super) fn new(repository: &'a Repository<A>, metadata: Metadata) -> Self {
        Self {
            repository,
            metadata: Arc::new(metadata),
            expected: ExpectedVersion::Any,
            deadline: repository.inner.deadline,
            once: None,
            fingerprint: None,
            writes: None,
        }
    }

    /// Sets how long the command may take (default: the [deadline](crate::repository::RepositoryBuilder::deadline) of
    /// the repository).
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    /// Removes the deadline: the command may take as long as its retries last.
    pub fn without_deadline(mut self) -> Self {
        self.deadline = None;
        self
    }

    /// Executes the command only if the aggregate is at the given version, usually the version that the caller has
    /// seen. This is optimistic concurrency for a client, like `If-Match` in HTTP.
    ///
    /// Otherwise, the command fails with [`ExecuteError::Outdated`] and is not decided. If it was already executed
    /// under its [idempotency key](Self::once), it returns the first outcome at any version.
    pub fn expected_version(mut self, version: ExpectedVersion) -> Self {
        self.expected = version;
        self
    }

    /// Sets an idempotency key: repeated calls with this `key` execute the command once. A repetition records nothing
    /// and returns the outcome of the first execution.
    ///
    /// The key belongs to the aggregate; another aggregate may use the same key for another command. Keys are
    /// remembered for 7 days, including those of commands that had nothing to do. Rejections and other errors are not
    /// remembered: the command may be executed later under the same key.
    ///
    /// A key that was already used for a different command fails with [`ExecuteError::KeyReused`], see
    /// [`fingerprint`](Self::fingerprint).
    ///
    /// The write becomes a transaction of two items, which costs four write units for a small event.
    #[doc(alias = "idempotency key")]
    pub fn once(self, key: impl Into<String>) -> Self {
        self.once_for(DEFAULT_RETENTION, key)
    }

    /// Sets an [idempotency key](Self::once) that is remembered for `retention`, in whole seconds.
    pub fn once_for(mut self, retention: Duration, key: impl Into<String>) -> Self {
        self.once = Some(KeyOption { key: key.into(), retention });
        self
    }

    /// Sets the fingerprint that identifies the command under its [idempotency key](Self::once), for example the path
    /// and the body of a request (default: the name of the command's type). Only a digest is stored.
    ///
    /// A repetition must have the fingerprint of the first command; otherwise it fails with
    /// [`ExecuteError::KeyReused`]. The name of a type is compared without its module, so a command type can be moved
    /// safely. Do not rename one while older messages may be delivered again, or set a fingerprint that does not
    /// change. Decisions by [`decide`](Self::decide) have no fingerprint by default, and match any command.
    pub fn fingerprint(mut self, content: impl AsRef<[u8]>) -> Self {
        self.fingerprint = Some(digest(content.as_ref()));
        self
    }

    /// Adds writes to the transaction that records the events, such as the row of a read model: all are written, or
    /// none. The store determines the supported kinds of writes, see [`AdditionalWrite`].
    ///
    /// `make` is called with each decision, so again after a conflict, and not at all if there are no events.
    pub fn with_writes<F, I>(mut self, make: F) -> Self
    where
        F: Fn(&Decided<'_, A>) -> I + Send + Sync + 'a,
        I: IntoIterator,
        I::Item: Send + Sync + 'static,
    {
        self.writes = Some(boxed(make));
        self
    }

    /// Executes `command` with these options, see [`Repository::execute`].
    ///
    /// # Errors
    ///
    /// As [`Repository::execute`].
    pub async fn execute<C, Q>(&self, id: &Q, command: C) -> Result<Outcome<A>, ExecuteError<C::Error>>
    where
        C: HandledBy<A>,
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        let id = A::Id::id_from(id);
        let mut running = Running::new(self, &id, Some(short_name::<C>))?;
        let span = running.span();
        let decide = |state: &A, context: &Context<A>| command.handled_by(state, context);
        let result = running.run_with_others(decide).instrument(span).await;
        running.finish(result)
    }

    /// Executes `command`, which creates the aggregate `id`, with these options: see [`Repository::create`].
    ///
    /// # Errors
    ///
    /// As [`Repository::create`].
    pub async fn create<C, Q>(&self, id: &Q, command: C) -> Result<Outcome<A>, ExecuteError<C::Error>>
    where
        C: HandledBy<A>,
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        let id = A::Id::id_from(id);
        let mut running = Running::new(self, &id, Some(short_name::<C>))?;
        running.create();
        let span = running.span();
        let decide = |state: &A, context: &Context<A>| command.handled_by(state, context);
        let result = running.run(decide).instrument(span).await;
        running.finish(result)
    }

    /// Executes an asynchronous decision with these options, see [`Repository::decide`].
    ///
    /// # Errors
    ///
    /// As [`Repository::decide`].
    pub async fn decide<F, E, Q>(&self, id: &Q, decide: F) -> Result<Outcome<A>, ExecuteError<E>>
    where
        F: AsyncFn(&A, &Context<A>) -> Result<Events<A>, E>,
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        let id = A::Id::id_from(id);
        let mut running = Running::new(self, &id, None)?;
        let span = running.span();
        let result = running.run_async(decide).instrument(span).await;
        running.finish(result)
    }

    /// Records events that were decided elsewhere.
    pub(crate) async fn record(
        &self,
        id: &A::Id,
        events: Events<A>,
    ) -> Result<Outcome<A>, ExecuteError<Infallible>> {
        let mut running = Running::new(self, id, None)?;
        let span = running.span();
        let result = running.run(|_, _| Ok(events.clone())).instrument(span).await;
        running.finish(result)
    }
}

impl<A: Aggregate> fmt::Debug for Request<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("repository", self.repository)
            .field("metadata", &self.metadata)
            .field("expected", &self.expected)
            .field("once", &self.once)
            .field("writes", &self.writes.is_some())
            .finish()
    }
}
