//! Repositories: aggregates in, aggregates out.

mod attempt;
mod builder;
mod cache;
mod error;
mod fold;
mod history;
mod joining;
mod load;
mod outcome;
mod report;
mod request;
mod retry;
mod retrying;
mod snapshotting;
mod subject;
mod transaction;
mod writing;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tracing::Instrument;

pub use builder::RepositoryBuilder;
pub use error::{ExecuteError, KeyReused};
pub use history::{History, Recorded};
pub use joining::Decided;
pub use outcome::{Loaded, Outcome};
pub use request::Request;
pub use retry::{RetryBudget, RetryPolicy};
pub use transaction::{Committed, Rejection, Transaction, TransactionError};

use crate::aggregate::Aggregate;
use crate::clock::Clock;
use crate::command::{Context, HandledBy};
use crate::events::Events;
use crate::ids::IdSource;
use crate::metadata::Metadata;
use crate::snapshot::SnapshotPolicy;
use crate::store::{Claim, EventStore, Read, StoreError};
use crate::stream_id::StreamId;
use crate::version::{ExpectedVersion, Version};
use cache::StateCache;
use fold::Fold;
use load::Until;
use report::{Report, WarningInterval, log_failure, store_outcome};
use retry::RetryTokens;
use retrying::Deadline;
use snapshotting::Snapshotting;

/// Loads aggregates of one type, and carries out commands on them.
///
/// A clone shares everything and costs one reference count.
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
/// impl Apply<Deposited> for Account {
///     fn apply(&mut self, event: &Deposited) { self.balance += event.cents; }
/// }
///
/// pub struct Deposit { pub cents: u64 }
///
/// impl Handle<Deposit> for Account {
///     type Error = std::convert::Infallible;
///
///     fn handle(&self, command: &Deposit, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
///         Ok(Deposited { cents: command.cents }.into())
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
/// let audited = accounts.with(Metadata::new().with_actor("bob"));
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
    /// How long commands and loads may take.
    deadline: Option<Duration>,
    /// How far the clock may be behind a stream.
    max_clock_skew: Duration,
    /// Limits the warnings about a clock that is behind.
    skew_warnings: WarningInterval,
    /// Instead of the aggregate's own policy.
    snapshots: Option<SnapshotPolicy>,
    snapshotting: Snapshotting,
    cache: Option<StateCache<A>>,
    /// Whether commands may be decided on a state that is behind, because their write tells.
    eventual: bool,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    /// The metadata of commands that have none of their own.
    metadata: fn() -> Metadata,
    aggregate: PhantomData<fn() -> A>,
}

impl<A: Aggregate> Repository<A> {
    /// A repository on `store`, with the default settings.
    #[must_use]
    pub fn new(store: impl EventStore) -> Self {
        Self::builder(store).build()
    }

    /// Settings for a repository on `store`.
    pub fn builder(store: impl EventStore) -> RepositoryBuilder<A> {
        RepositoryBuilder::new(Arc::new(store))
    }

    /// Carries out `command` on the aggregate `id`: loads it, lets it decide, and records the events.
    ///
    /// When another writer comes first, the command is decided again on the new state, of which only the
    /// new events are read; how often is the [`RetryPolicy`]'s. An aggregate that has no events yet starts
    /// from its [`Default`].
    ///
    /// The future may be dropped at any time. The events are then recorded whole or not at all.
    ///
    /// # Errors
    ///
    /// [`ExecuteError::Rejected`] when the domain says no, [`ExecuteError::Conflict`] when other writers
    /// came first at every attempt, [`ExecuteError::Store`] when the store fails.
    pub async fn execute<C>(&self, id: &A::Id, command: C) -> Result<Outcome<A>, ExecuteError<C::Error>>
    where
        C: HandledBy<A>,
    {
        self.with((self.inner.metadata)()).execute(id, command).await
    }

    /// Carries out a decision that needs more than the state: the closure may call services.
    ///
    /// It runs again when another writer comes first, so what it does elsewhere should bear repetition. Its own
    /// error ends the command, and so does a timeout that it makes one of. Nothing is written while it runs; a
    /// future that is dropped meanwhile records nothing, and later, the events whole or not at all.
    ///
    /// ```
    /// # use es_core::prelude::*;
    /// # use es_core::{MemoryStore, Repository};
    /// # #[event] pub struct Rated { pub score: u32 }
    /// # #[derive(Aggregate, Default)]
    /// # #[aggregate(name = "client", id = String, events(Rated))]
    /// # pub struct Client { score: u32 }
    /// # impl Apply<Rated> for Client { fn apply(&mut self, event: &Rated) { self.score = event.score; } }
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
    /// In `tokio::spawn`, and in a handler of most web frameworks, write `async move`, so that the closure owns what it
    /// uses. For a closure that borrows, the compiler reports "implementation of `Send` is not general enough", because
    /// it cannot prove yet that the future is `Send` ([rust-lang/rust#134997](https://github.com/rust-lang/rust/issues/134997)).
    ///
    /// ```
    /// # use es_core::prelude::*;
    /// # use es_core::{MemoryStore, Repository};
    /// # #[event] pub struct Rated { pub score: u32 }
    /// # #[derive(Aggregate, Default)]
    /// # #[aggregate(name = "client", id = String, events(Rated))]
    /// # pub struct Client { score: u32 }
    /// # impl Apply<Rated> for Client { fn apply(&mut self, event: &Rated) { self.score = event.score; } }
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
    pub async fn decide<F, E>(&self, id: &A::Id, decide: F) -> Result<Outcome<A>, ExecuteError<E>>
    where
        F: AsyncFn(&A, &Context<A>) -> Result<Events<A>, E>,
    {
        self.with((self.inner.metadata)()).decide(id, decide).await
    }

    /// Returns the stream that holds the claim `name` to `value`, if one does.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if there cannot be such a claim; otherwise as [`version`](Self::version).
    pub async fn claim_holder(&self, name: &str, value: &str) -> Result<Option<StreamId>, StoreError> {
        let claim = Claim::new(name, value)?;
        let (inner, store) = (&self.inner, &self.inner.store);
        let holder = inner.read(|| store.claim_holder(&claim)).await;
        let holder =
            holder.inspect_err(|error| log_failure(error, &format_args!("{claim:?}"), "claim_holder"))?;
        Ok(holder.stream)
    }

    /// Commands that are carried out once, however often they are asked for under this `key`: see
    /// [`Request::once`].
    pub fn once(&self, key: impl Into<String>) -> Request<'_, A> {
        self.with((self.inner.metadata)()).once(key)
    }

    /// Commands that writes of the caller's own join: see [`Request::joining`].
    pub fn joining<'a, F, I>(&'a self, join: F) -> Request<'a, A>
    where
        F: Fn(&Decided<'_, A>) -> I + Send + Sync + 'a,
        I: IntoIterator,
        I::Item: Send + Sync + 'static,
    {
        self.with((self.inner.metadata)()).joining(join)
    }

    /// Commands that are carried out only when the aggregate is at a version that the caller has seen: see
    /// [`Request::expecting`].
    pub fn expecting(&self, version: ExpectedVersion) -> Request<'_, A> {
        self.with((self.inner.metadata)()).expecting(version)
    }

    /// The same, remembered for `retention`, in whole seconds.
    pub fn once_for(&self, retention: Duration, key: impl Into<String>) -> Request<'_, A> {
        self.with((self.inner.metadata)()).once_for(retention, key)
    }

    /// Commands with `metadata`, which their events record: who asked, and in what context.
    pub fn with(&self, metadata: Metadata) -> Request<'_, A> {
        Request::new(self, metadata)
    }

    /// The aggregate `id` as it is now; its [`Default`] at [`Version::NONE`] when it has no events.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the stream cannot be read, is damaged, or holds an event that is unknown.
    pub async fn load(&self, id: &A::Id) -> Result<Loaded<A>, StoreError> {
        self.load_until(id, Until::End).await
    }

    /// The aggregate `id` as it was right after the event `version`, folded from its first event.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] when the stream does not reach that version; otherwise as [`load`](Self::load).
    pub async fn load_at(&self, id: &A::Id, version: Version) -> Result<Loaded<A>, StoreError> {
        let loaded = self.load_until(id, Until::Version(version)).await?;
        if loaded.version < version {
            return Err(StoreError::invalid(format!(
                "the stream `{}#{id}` has no version {version}, its last is {}",
                A::NAME,
                loaded.version
            )));
        }
        Ok(loaded)
    }

    /// The aggregate `id` as it was at `time`: with all commits up to the first one after `time`.
    ///
    /// The time of a commit is that of the clock of whoever decided it, but never before the commit it
    /// follows.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub async fn load_as_of(&self, id: &A::Id, time: DateTime<Utc>) -> Result<Loaded<A>, StoreError> {
        self.load_until(id, Until::Time(time)).await
    }

    async fn load_until(&self, id: &A::Id, until: Until) -> Result<Loaded<A>, StoreError> {
        let mut report = Report::load::<A>(id);
        let span = report.span().clone();
        async {
            let mut fold = Fold::new();
            let result = self.inner.load_until(&mut fold, id, until).await;
            let outcome = match &result {
                Ok(()) => "loaded",
                Err(error) => {
                    log_failure(error, &format_args!("{}#{id}", A::NAME), "load");
                    store_outcome(error)
                }
            };
            report.end_load(outcome, fold.version, fold.snapshot, fold.cost);
            result.map(|()| fold.into())
        }
        .instrument(span)
        .await
    }

    /// The events of the aggregate `id`, from the first, each with its version, time and metadata.
    #[must_use]
    pub fn history(&self, id: &A::Id) -> History<'_, A> {
        History::new(&self.inner, id, Read::all)
    }

    /// Returns the events of the aggregate `id` after the version `after`, up to and including `until`, in order:
    /// one page of a long history. Only these events are read and billed.
    ///
    /// `after` is [`Version::NONE`] or the last version of a commit, such as the version of an outcome. If `until`
    /// is inside a commit, the whole commit is returned; a version past the end of the stream is no error.
    ///
    /// ```
    /// # use es_core::prelude::*;
    /// # async fn example<A: Aggregate>(repository: Repository<A>, id: A::Id) -> Result<(), es_core::StoreError> {
    /// let first_hundred = repository.history_between(&id, Version::NONE, Version::new(100)).all().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn history_between(&self, id: &A::Id, after: Version, until: Version) -> History<'_, A> {
        History::new(&self.inner, id, |stream| Read::all(stream).after(after).until(until))
    }

    /// Waits until all snapshots that this repository has started to write are written, or have failed.
    ///
    /// Call it before the process ends: commands do not wait for snapshots.
    pub async fn flush(&self) {
        self.inner.snapshotting.flush().await;
    }

    /// Returns the version of the aggregate `id` without loading it: [`Version::NONE`] if it has no events.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store fails. Retries and the deadline are those of a [`load`](Self::load).
    pub async fn version(&self, id: &A::Id) -> Result<Version, StoreError> {
        let stream = StreamId::new(A::NAME, id)?;
        let (inner, store) = (&self.inner, &self.inner.store);
        let head = inner.read(|| store.head(&stream)).await;
        let head = head.inspect_err(|error| log_failure(error, &stream, "version"))?;
        Ok(head.version)
    }

    /// Returns whether the aggregate `id` has events, without loading it.
    ///
    /// # Errors
    ///
    /// As [`version`](Self::version).
    pub async fn exists(&self, id: &A::Id) -> Result<bool, StoreError> {
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

    async fn load_until(&self, fold: &mut Fold<A>, id: &A::Id, until: Until) -> Result<(), StoreError> {
        let stream = StreamId::new(A::NAME, id)?;
        let deadline = Deadline::after(self.deadline, &*self.clock);
        match until {
            Until::End => self.load_current(fold, &stream, deadline).await,
            until => self.load_past(fold, &stream, until, deadline).await,
        }
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
