//! Settings of a repository.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::aggregate::Aggregate;
use crate::clock::{Clock, SystemClock, WarningInterval};
use crate::ids::{IdSource, RandomIds};
use crate::metadata::Metadata;
use crate::repository::lanes::Lanes;
use crate::repository::loading::StateCache;
use crate::repository::retry::{DEFAULT_DEADLINE, RetryTokens};
use crate::repository::snapshots::Snapshotting;
use crate::repository::{Inner, Repository, RetryBudget, RetryPolicy};
use crate::snapshot::SnapshotPolicy;
use crate::store::EventStore;

/// The default of [`RepositoryBuilder::max_clock_skew`]: one hour.
const DEFAULT_MAX_CLOCK_SKEW: Duration = Duration::from_hours(1);

/// Builds a [`Repository`]. Created by [`Repository::builder`].
///
/// ```
/// # use es_core::prelude::*;
/// # #[event]
/// # pub struct Opened;
/// # #[derive(Aggregate, Clone, Default)]
/// # #[aggregate(name = "account", id = String, events(Opened))]
/// # pub struct Account;
/// # #[handlers]
/// # impl Account {
/// #     #[apply]
/// #     fn opened(&mut self, _: &Opened) {}
/// # }
/// use std::time::Duration;
///
/// use es_core::{MemoryStore, Repository, RetryPolicy};
///
/// let accounts = Repository::<Account>::builder(MemoryStore::new())
///     .deadline(Duration::from_secs(5))
///     .retry(RetryPolicy::default().with_max_attempts(5))
///     .cache(10_000)
///     .build();
/// # let _ = accounts;
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct RepositoryBuilder<A> {
    inner: Inner<A>,
}

impl<A: Aggregate> RepositoryBuilder<A> {
    pub(crate) fn new(store: Arc<dyn EventStore>) -> Self {
        Self {
            inner: Inner {
                store,
                retry: RetryPolicy::default(),
                tokens: Arc::new(RetryTokens::new(RetryBudget::default())),
                deadline: Some(DEFAULT_DEADLINE),
                max_clock_skew: DEFAULT_MAX_CLOCK_SKEW,
                skew_warnings: WarningInterval::default(),
                snapshots: None,
                snapshotting: Snapshotting::default(),
                cache: None,
                lanes: Lanes::new(),
                eventual: false,
                clock: Arc::new(SystemClock),
                ids: Arc::new(RandomIds),
                metadata: Metadata::new,
                aggregate: PhantomData,
            },
        }
    }

    /// Sets how often and how fast to retry.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.inner.retry = policy;
        self
    }

    /// Sets how many requests all commands and loads of the repository retry together (default: a burst of 10, and
    /// one for every 10 requests that succeed).
    pub fn retry_budget(mut self, budget: RetryBudget) -> Self {
        self.inner.tokens = Arc::new(RetryTokens::new(budget));
        self
    }

    /// Sets how long a command or a load may take (default: 30 seconds): for a single command, see
    /// [`Request::deadline`](crate::repository::Request::deadline).
    ///
    /// The deadline is measured with the [clock](Self::clock), and checked before each request and each wait. Once it
    /// has passed, no request is sent, and the call fails with
    /// [`StoreError::DeadlineExceeded`](crate::StoreError::DeadlineExceeded), which keeps the last failure as its
    /// source and says whether the events may have been recorded. A request in flight, or an async decision, is not
    /// interrupted: the timeouts of the store and of the application bound these.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.inner.deadline = Some(limit);
        self
    }

    /// Removes the deadline: commands and loads may take as long as their retries last.
    pub fn without_deadline(mut self) -> Self {
        self.inner.deadline = None;
        self
    }

    /// Sets how far this process's clock may be behind the last commit of a stream when a command appends to it
    /// (default: one hour).
    ///
    /// The times in a stream never run backwards, so a single commit from a clock that is far ahead determines the time
    /// of all later commits. Beyond this limit, commands fail with [`StoreError::Setup`](crate::StoreError::Setup). A
    /// difference of more than a minute is logged as a warning, at most once a minute per repository. `Duration::MAX`
    /// allows any difference.
    pub fn max_clock_skew(mut self, limit: Duration) -> Self {
        self.inner.max_clock_skew = limit;
        self
    }

    /// Sets when to take snapshots (default: the policy in the aggregate's attribute). Has no effect on an aggregate
    /// without snapshots.
    pub fn snapshots(mut self, policy: SnapshotPolicy) -> Self {
        self.inner.snapshots = Some(policy);
        self
    }

    /// Caches the states of up to `entries` aggregates in memory between commands (default: no cache).
    ///
    /// A command on a cached aggregate takes one request, the conditional write. The cache never changes a result: the
    /// write verifies an accepted command, and before a rejection or a no-op is returned, one small read checks whether
    /// the stream has changed, in which case the command is decided again. A load reads only the events after the
    /// cached state. The least recently used states are evicted first.
    ///
    /// A cache pays off if the commands for an aggregate usually reach the same process. Otherwise, each outdated state
    /// costs a conflict.
    pub fn cache(mut self, entries: usize) -> Self
    where
        A: Clone,
    {
        self.inner.cache = Some(StateCache::with_capacity(entries));
        self
    }

    /// Reads with eventual consistency to decide commands, which takes half the read units (default: strong
    /// consistency).
    ///
    /// This never changes a result: the write verifies an accepted command, and before a rejection or a no-op is
    /// returned, a strongly consistent read of the tail, which is one more request, checks whether the stream has
    /// changed, in which case the command is decided again. A command that closely follows another one on the same
    /// aggregate may read an outdated replica, which costs a conflict. Loads stay strongly consistent.
    pub fn eventual_reads(mut self) -> Self {
        self.inner.eventual = true;
        self
    }

    /// Sets the clock (default: [`SystemClock`]).
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.inner.clock = Arc::new(clock);
        self
    }

    /// Sets the source of ids for commits and handlers (default: [`RandomIds`]).
    pub fn ids(mut self, ids: impl IdSource) -> Self {
        self.inner.ids = Arc::new(ids);
        self
    }

    /// Sets a shared clock and a shared source of ids.
    pub(crate) fn equipped(mut self, clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>) -> Self {
        (self.inner.clock, self.inner.ids) = (clock, ids);
        self
    }

    /// Sets a function that returns the metadata of commands that have none (default: empty metadata).
    ///
    /// `Metadata::of_current_span`, behind the feature `tracing-subscriber`, takes it from the current span.
    pub fn metadata(mut self, source: fn() -> Metadata) -> Self {
        self.inner.metadata = source;
        self
    }

    /// Returns the repository.
    #[must_use]
    pub fn build(self) -> Repository<A> {
        Repository { inner: Arc::new(self.inner) }
    }
}

impl<A: Aggregate> fmt::Debug for RepositoryBuilder<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
