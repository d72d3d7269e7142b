//! Repositories: load aggregates and execute commands on them.
//!
//! A [`Repository`] works on one aggregate at a time, and a [`Transaction`] on several. A [`Request`] has the options
//! of one command: an expected version, an idempotency key, a deadline, metadata, and additional writes.

// | module | job |
// |---|---|
// | `request` | the options of a command |
// | `running` | a command on one aggregate |
// | `lanes` | commands on the same aggregate that share writes |
// | `transaction` | commands on several aggregates |
// | `execution` | the engine of both: load, decide, write, and repeat after a conflict |
// | `participant` | one aggregate in an execution |
// | `lifecycle` | closing and deleting aggregates |
// | `loading`, `snapshots`, `history` | reading |
// | `retry`, `error`, `report` | retries and deadlines, errors, spans and logs |

mod builder;
mod error;
mod execution;
mod history;
mod lanes;
mod lifecycle;
mod loading;
mod participant;
mod report;
mod request;
mod retry;
mod running;
mod snapshots;
mod transaction;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tracing::Instrument;

pub use builder::RepositoryBuilder;
pub use error::{ExecuteError, KeyReused};
pub use history::{History, Recorded};
pub use lifecycle::{Archives, StreamEnd, StreamLifecycle};
pub use request::{Decided, Loaded, Outcome, Request};
pub use retry::{RetryBudget, RetryPolicy};
pub use transaction::{Committed, Rejection, Transaction, TransactionError};

use crate::aggregate::{Aggregate, IdFrom};
use crate::clock::{Clock, WarningInterval};
use crate::command::{Context, HandledBy};
use crate::events::Events;
use crate::ids::IdSource;
use crate::metadata::Metadata;
use crate::snapshot::SnapshotPolicy;
use crate::store::{Claim, EventStore, Read, StoreError, StreamState};
use crate::stream_id::StreamId;
use crate::version::{ExpectedVersion, Version};
use lanes::Lanes;
use loading::{Fold, StateCache, Until};
use report::{Report, log_failure, store_outcome};
use retry::{Deadline, RetryTokens, Retrying};
use snapshots::Snapshotting;

/// Loads aggregates of one type and executes commands on them.
///
/// Clones are cheap and share the store, the cache, and all settings.
///
/// ```
/// use es_core::prelude::*;
/// use es_core::{MemoryStore, Repository};
///
/// #[event]
/// pub struct Deposited { pub cents: u64 }
///
/// #[derive(Aggregate, Default)]
/// #[aggregate(name = "account", id = String, events(Deposited))]
/// pub struct Account { balance: u64 }
///
/// #[handlers]
/// impl Account {
///     #[apply]
///     fn deposited(&mut self, event: &Deposited) {
///         self.balance += event.cents;
///     }
/// }
///
/// pub struct Deposit { pub cents: u64 }
///
/// #[handlers]
/// impl Account {
///     #[handle]
///     fn deposit(&self, command: &Deposit) -> Deposited {
///         Deposited { cents: command.cents }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let accounts: Repository<Account> = Repository::new(MemoryStore::new());
/// let id = "ann".to_owned();
///
/// let done = accounts.execute(&id, Deposit { cents: 500 }).await?;
/// assert_eq!((done.state.balance, done.version), (500, Version::new(1)));
///
/// let audited = accounts.with_metadata(Metadata::new().with_actor("bob"));
/// audited.execute(&id, Deposit { cents: 250 }).await?;
///
/// let events = accounts.history(&id).all().await?;
/// assert_eq!(events[1].metadata.actor(), Some("bob"));
/// assert_eq!(accounts.load_at(&id, Version::new(1)).await?.state.balance, 500);
/// # Ok(())
/// # }
/// ```
pub struct Repository<A> {
    inner: Arc<Inner<A>>,
}

struct Inner<A> {
    store: Arc<dyn EventStore>,
    retry: RetryPolicy,
    tokens: Arc<RetryTokens>,
    /// The default deadline of commands, and the deadline of loads.
    deadline: Option<Duration>,
    /// The maximum time by which the clock may be behind a stream.
    max_clock_skew: Duration,
    /// Limits the warnings about a clock that is behind.
    skew_warnings: WarningInterval,
    /// Replaces the aggregate's own policy.
    snapshots: Option<SnapshotPolicy>,
    snapshotting: Snapshotting,
    cache: Option<StateCache<A>>,
    lanes: Lanes<A>,
    /// Whether commands are decided on an eventually consistent state, which the conditional write verifies.
    eventual: bool,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    /// Returns the metadata of commands that have none.
    metadata: fn() -> Metadata,
    aggregate: PhantomData<fn() -> A>,
}

impl<A: Aggregate> Repository<A> {
    /// Returns a repository on `store` with the default settings.
    #[must_use]
    pub fn new(store: impl EventStore) -> Self {
        Self::builder(store).build()
    }

    /// Returns a builder for a repository on `store`.
    pub fn builder(store: impl EventStore) -> RepositoryBuilder<A> {
        RepositoryBuilder::new(Arc::new(store))
    }

    /// Executes `command` on the aggregate `id`: loads it, decides the command on its state, and records the events.
    ///
    /// After a conflict with another writer, the new events are read and the command is decided again, as often as the
    /// [`RetryPolicy`] allows. An aggregate without events starts from its [`Default`].
    ///
    /// Commands that target the same aggregate at the same time, through this repository or a clone of it, share a
    /// write: they wait for the first one, are decided in order, each on the state after the one before it, and are
    /// recorded together, up to [`MAX_GROUP_COMMITS`](crate::store::MAX_GROUP_COMMITS) of them. Each has its own
    /// outcome and commit. The first outcome has the cost of the write, and the others have none. This requires an
    /// aggregate that implements `Clone`, see [`Aggregate::try_clone`].
    ///
    /// The future may be dropped at any time. Either all events are recorded then, or none.
    ///
    /// # Errors
    ///
    /// [`ExecuteError::Rejected`] if the aggregate rejects the command, [`ExecuteError::Conflict`] if every attempt
    /// ended with a conflict, [`ExecuteError::Store`] if the store fails.
    pub async fn execute<C, Q>(&self, id: &Q, command: C) -> Result<Outcome<A>, ExecuteError<C::Error>>
    where
        C: HandledBy<A>,
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        self.request().execute(id, command).await
    }

    /// Executes `command`, which creates the aggregate `id`: the command is decided on the initial state without a
    /// load, and recorded only if the aggregate does not exist.
    ///
    /// This takes one request and no read units, whereas [`execute`](Self::execute) reads the stream first. If the
    /// command is rejected or has nothing to do, one additional read confirms that the aggregate does not exist.
    ///
    /// ```
    /// # use es_core::prelude::*;
    /// # use es_core::MemoryStore;
    /// # #[event] pub struct Opened { pub owner: String }
    /// # #[derive(Aggregate, Debug, Default)]
    /// # #[aggregate(name = "account", id = String, events(Opened))]
    /// # pub struct Account { owner: String }
    /// # #[handlers]
    /// # impl Account {
    /// #     #[apply]
    /// #     fn opened(&mut self, event: &Opened) { self.owner = event.owner.clone(); }
    /// # }
    /// # #[derive(Clone)] pub struct Open { pub owner: String }
    /// # #[handlers]
    /// # impl Account {
    /// #     #[handle]
    /// #     fn open(&self, command: &Open) -> Opened {
    /// #         Opened { owner: command.owner.clone() }
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let accounts: Repository<Account> = Repository::new(MemoryStore::new());
    /// let (id, open) = ("4711".to_owned(), Open { owner: "Ann".to_owned() });
    /// let done = accounts.create(&id, open.clone()).await?;
    /// assert_eq!((done.version, done.cost.requests), (Version::new(1), 1));
    ///
    /// let error = accounts.create(&id, open).await.unwrap_err();
    /// assert!(error.is_already_exists());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A message that may be delivered more than once needs an [idempotency key](Self::once): a repeated call then
    /// returns the first outcome instead of `AlreadyExists`.
    ///
    /// # Errors
    ///
    /// [`ExecuteError::AlreadyExists`] if the aggregate has events; otherwise as [`execute`](Self::execute).
    pub async fn create<C, Q>(&self, id: &Q, command: C) -> Result<Outcome<A>, ExecuteError<C::Error>>
    where
        C: HandledBy<A>,
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        self.request().create(id, command).await
    }

    /// Executes an asynchronous decision, which may call services, on the aggregate `id`.
    ///
    /// The closure runs again after a conflict, so its calls should be idempotent. An error of the closure rejects the
    /// command. Set timeouts on its calls, because the [deadline](RepositoryBuilder::deadline) does not interrupt them.
    /// Nothing is written while the closure runs: if the future is dropped before it completes, nothing is recorded.
    ///
    /// ```
    /// # use es_core::prelude::*;
    /// # use es_core::{MemoryStore, Repository};
    /// # #[event] pub struct Rated { pub score: u32 }
    /// # #[derive(Aggregate, Default)]
    /// # #[aggregate(name = "client", id = String, events(Rated))]
    /// # pub struct Client { score: u32 }
    /// # #[handlers]
    /// # impl Client {
    /// #     #[apply]
    /// #     fn rated(&mut self, event: &Rated) { self.score = event.score; }
    /// # }
    /// # async fn ask_the_bureau(_: &str) -> Result<u32, std::io::Error> { Ok(7) }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let clients: Repository<Client> = Repository::new(MemoryStore::new());
    /// let done = clients
    ///     .decide(&"ann".to_owned(), async |client, ctx| {
    ///         let score = ask_the_bureau(ctx.id()).await?;
    ///         Ok::<_, std::io::Error>(match score == client.score {
    ///             true => Events::none(),
    ///             false => Rated { score }.into(),
    ///         })
    ///     })
    ///     .await?;
    /// assert_eq!(done.state.score, 7);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # In a spawned task
    ///
    /// In `tokio::spawn`, and in handlers of most web frameworks, write `async move`, so that the closure owns the
    /// values it uses. For a closure that borrows, the compiler reports "implementation of `Send` is not general
    /// enough", because it cannot yet prove that the future is `Send`
    /// ([rust-lang/rust#134997](https://github.com/rust-lang/rust/issues/134997)).
    ///
    /// ```
    /// # use es_core::prelude::*;
    /// # use es_core::{MemoryStore, Repository};
    /// # #[event] pub struct Rated { pub score: u32 }
    /// # #[derive(Aggregate, Default)]
    /// # #[aggregate(name = "client", id = String, events(Rated))]
    /// # pub struct Client { score: u32 }
    /// # #[handlers]
    /// # impl Client {
    /// #     #[apply]
    /// #     fn rated(&mut self, event: &Rated) { self.score = event.score; }
    /// # }
    /// # struct Bureau;
    /// # impl Bureau { async fn score(&self, _: &str) -> Result<u32, std::io::Error> { Ok(7) } }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (clients, bureau) = (Repository::<Client>::new(MemoryStore::new()), Bureau);
    /// let task = tokio::spawn(async move {
    ///     let ann = "ann".to_owned();
    ///     // The closure owns `bureau`; each attempt borrows it from the closure.
    ///     let decide = async move |_: &Client, ctx: &Context<Client>| {
    ///         Ok::<_, std::io::Error>(Rated { score: bureau.score(ctx.id()).await? }.into())
    ///     };
    ///     clients.decide(&ann, decide).await
    /// });
    /// assert_eq!(task.await??.state.score, 7);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute); the closure's own error is [`ExecuteError::Rejected`].
    pub async fn decide<F, E, Q>(&self, id: &Q, decide: F) -> Result<Outcome<A>, ExecuteError<E>>
    where
        F: AsyncFn(&A, &Context<A>) -> Result<Events<A>, E>,
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        self.request().decide(id, decide).await
    }

    /// Returns the stream that holds the claim `name` on `value`, or `None` if the value is free.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the name or the value is invalid; otherwise as [`version`](Self::version).
    pub async fn claim_holder(&self, name: &str, value: &str) -> Result<Option<StreamId>, StoreError> {
        self.holder_of(Claim::new(name, value)?).await
    }

    /// Returns the stream that holds the claim `name` on personal data, which was taken with
    /// [`Events::claim_personal`](crate::Events::claim_personal), or `None` if the value is free.
    ///
    /// # Errors
    ///
    /// As [`claim_holder`](Self::claim_holder). [`StoreError::Setup`] if the store has no keyring.
    pub async fn personal_claim_holder(
        &self,
        name: &str,
        value: &str,
    ) -> Result<Option<StreamId>, StoreError> {
        self.holder_of(Claim::personal(name, value)?).await
    }

    async fn holder_of(&self, claim: Claim) -> Result<Option<StreamId>, StoreError> {
        let (inner, store) = (&self.inner, &self.inner.store);
        let holder = inner.read(|| store.claim_holder(&claim)).await;
        let holder =
            holder.inspect_err(|error| log_failure(error, &format_args!("{claim:?}"), "claim_holder"))?;
        Ok(holder.stream)
    }

    /// Returns a request with an idempotency key: repeated calls with this key execute the command once. See
    /// [`Request::once`].
    #[doc(alias = "idempotency key")]
    pub fn once(&self, key: impl Into<String>) -> Request<'_, A> {
        self.request().once(key)
    }

    /// Returns a request with an idempotency key that is remembered for `retention`, in whole seconds: see
    /// [`Request::once_for`].
    pub fn once_for(&self, retention: Duration, key: impl Into<String>) -> Request<'_, A> {
        self.request().once_for(retention, key)
    }

    /// Returns a request that writes other items in the same transaction: see [`Request::with_writes`].
    pub fn with_writes<'a, F, I>(&'a self, make: F) -> Request<'a, A>
    where
        F: Fn(&Decided<'_, A>) -> I + Send + Sync + 'a,
        I: IntoIterator,
        I::Item: Send + Sync + 'static,
    {
        self.request().with_writes(make)
    }

    /// Returns a request that is executed only if the aggregate is at the given version: see
    /// [`Request::expected_version`].
    pub fn expected_version(&self, version: ExpectedVersion) -> Request<'_, A> {
        self.request().expected_version(version)
    }

    /// Returns a request whose commits record `metadata`, such as who sent the command.
    pub fn with_metadata(&self, metadata: Metadata) -> Request<'_, A> {
        Request::new(self, metadata)
    }

    /// Returns a request with the default metadata.
    fn request(&self) -> Request<'_, A> {
        self.with_metadata((self.inner.metadata)())
    }

    /// Loads the current state of the aggregate `id`: its [`Default`] at [`Version::NONE`] if it has no events.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the stream cannot be read, is corrupt, is [deleted](Self::delete), or has an event that is
    /// unknown.
    pub async fn load<Q>(&self, id: &Q) -> Result<Loaded<A>, StoreError>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        self.load_until(&A::Id::id_from(id), Until::End).await
    }

    /// Loads the state of the aggregate `id` right after the event `version`, from its first event.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the stream does not have that version; otherwise as [`load`](Self::load).
    pub async fn load_at<Q>(&self, id: &Q, version: Version) -> Result<Loaded<A>, StoreError>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        let id = A::Id::id_from(id);
        let loaded = self.load_until(&id, Until::Version(version)).await?;
        if loaded.version < version {
            return Err(StoreError::invalid(format!(
                "the stream `{}#{id}` has no version {version}, its last is {}",
                A::NAME,
                loaded.version
            )));
        }
        Ok(loaded)
    }

    /// Loads the state of the aggregate `id` at `time`. The state includes all commits before the first commit that is
    /// later than `time`.
    ///
    /// The time of a commit is taken from its writer's clock, but is never before the time of the preceding commit.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub async fn load_as_of<Q>(&self, id: &Q, time: DateTime<Utc>) -> Result<Loaded<A>, StoreError>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        self.load_until(&A::Id::id_from(id), Until::Time(time)).await
    }

    async fn load_until(&self, id: &A::Id, until: Until) -> Result<Loaded<A>, StoreError> {
        let mut report = Report::load::<A>(id);
        let span = report.span().clone();
        async {
            let mut fold = Fold::new();
            let result = self.inner.load(&mut fold, id, until).await;
            let outcome = match &result {
                Ok(()) => "loaded",
                Err(error) => {
                    log_failure(error, &format_args!("{}#{id}", A::NAME), "load");
                    store_outcome(error)
                }
            };
            report.end_load(outcome, fold.version, fold.snapshot.version, fold.cost);
            result.map(|()| fold.into())
        }
        .instrument(span)
        .await
    }

    /// Returns all events of the aggregate `id` in order, each with its version, time, and metadata.
    #[must_use]
    pub fn history<Q>(&self, id: &Q) -> History<'_, A>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        History::new(&self.inner, &A::Id::id_from(id), Read::all)
    }

    /// Returns the events of the aggregate `id` after the version `after`, up to and including `until`, in order. Use
    /// it to page through a long history: only the commits with these events are read and billed.
    ///
    /// Any version may be passed: [`Version::NONE`] for the first page, and one beyond the end of the stream, too.
    ///
    /// ```
    /// # use es_core::prelude::*;
    /// # async fn example<A: Aggregate>(repository: Repository<A>, id: A::Id) -> Result<(), es_core::StoreError> {
    /// let first_hundred = repository.history_between(&id, Version::NONE, Version::new(100)).all().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn history_between<Q>(&self, id: &Q, after: Version, until: Version) -> History<'_, A>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        History::new(&self.inner, &A::Id::id_from(id), |stream| Read::all(stream).after(after).until(until))
    }

    /// Waits until all background snapshot writes of this repository have completed or failed.
    ///
    /// Call it before the process exits: commands do not wait for snapshots.
    pub async fn flush(&self) {
        self.inner.snapshotting.flush().await;
    }

    /// Returns the version of the aggregate `id` without loading it: [`Version::NONE`] if it has no events.
    ///
    /// # Errors
    ///
    /// [`StoreError::Closed`] if the aggregate is deleted; otherwise [`StoreError`] if the store fails. Retries and the
    /// deadline are those of a [`load`](Self::load).
    pub async fn version<Q>(&self, id: &Q) -> Result<Version, StoreError>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        let stream = StreamId::new(A::NAME, A::Id::id_from(id))?;
        let (inner, store) = (&self.inner, &self.inner.store);
        let head = inner.read(|| store.head(&stream)).await;
        let head = head.inspect_err(|error| log_failure(error, &stream, "version"))?;
        match head.state {
            StreamState::Deleted => Err(head.closed(&stream).into()),
            _ => Ok(head.version),
        }
    }

    /// Returns whether the aggregate `id` has events, without loading it.
    ///
    /// # Errors
    ///
    /// As [`version`](Self::version).
    pub async fn exists<Q>(&self, id: &Q) -> Result<bool, StoreError>
    where
        A::Id: IdFrom<Q>,
        Q: ?Sized + Sync,
    {
        Ok(!self.version(id).await?.is_none())
    }
}

impl<A: Aggregate> Inner<A> {
    /// Sends a read with the retries and the deadline of a load.
    async fn read<T, F>(&self, request: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        self.retrying(Deadline::after(self.deadline, &*self.clock)).read(request).await
    }

    async fn load(&self, fold: &mut Fold<A>, id: &A::Id, until: Until) -> Result<(), StoreError> {
        let stream = StreamId::new(A::NAME, id)?;
        self.load_until(fold, &stream, until, Deadline::after(self.deadline, &*self.clock)).await
    }

    fn retrying(&self, deadline: Deadline) -> Retrying<'_> {
        Retrying { clock: &*self.clock, policy: self.retry, tokens: &self.tokens, deadline }
    }
}

impl<A: Aggregate> Clone for Repository<A> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<A: Aggregate> fmt::Debug for Repository<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<A: Aggregate> fmt::Debug for Inner<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("aggregate", &A::NAME)
            .field("store", &self.store)
            .field("retry", &self.retry)
            .field("snapshots", &self.snapshots)
            .field("cached", &self.cache.is_some())
            .finish_non_exhaustive()
    }
}
