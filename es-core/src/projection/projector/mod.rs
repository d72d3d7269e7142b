//! Running projections: workers that share the slices of the feed.

// | module | job |
// |---|---|
// | `worker`, `reservation` | a worker: heartbeats, its share of the slices, and the name that it reserves |
// | `consumer` | the loop of one slice: read a page, handle its events, write a checkpoint |
// | `handling`, `guarded`, `failure`, `parking` | one event: attempts, user code behind a guard, failures, dead letters |
// | `held`, `stop` | requests under a lease, and signals that end work |
// | `state`, `accepted` | the stored documents |
// | `operator`, `removal` | operations on a projection |
// | `seek`, `lost_splits` | recovery after the feed was restored |
// | `progress`, `status`, `timeouts` | reports, and waiting for an event |

mod accepted;
mod consumer;
mod failure;
mod guarded;
mod handling;
mod held;
mod lost_splits;
mod operator;
mod parking;
mod progress;
mod removal;
mod reservation;
mod seek;
mod state;
mod status;
mod stop;
mod timeouts;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use event_listener::Event;
use futures_util::future::{Either, select};

pub use accepted::PassedOver;
pub use failure::{Delay, FailedEvent, FailedKind, Failure, Parked};
pub use progress::{Progress, SliceProgress, SliceStatus};
pub use seek::SeekTo;
pub use state::workers_without_splits;
pub(crate) use state::{Fate, Origin, active_build, fate};
pub use status::ProjectionStatus;
pub use timeouts::PendingTimeout;

use self::failure::Delays;
use self::state::Names;
use self::stop::Signals;
use super::{Projection, ProjectorError, WaitError};
use crate::clock::{Clock, SystemClock};
use crate::feed::{Feed, FeedRead};
use crate::ids::{IdSource, RandomIds};
use crate::repository::RetryPolicy;

/// Runs a projection, and reports its progress.
///
/// Each [`run`](Self::run) is a worker. The workers of a projection, in one process or in many, share the slices
/// of the feed. If a worker dies, others take over its slices when the [lease](ProjectorBuilder::lease) expires. A
/// worker that has lost its lease without noticing can write neither its checkpoint nor read models (fencing).
///
/// Clones are handles to the same projector.
///
/// ```
/// use es_core::prelude::*;
/// use es_core::MemoryStore;
/// # #[event]
/// # pub struct OrderPlaced;
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "order", id = String, events(OrderPlaced))]
/// # pub struct Order;
/// # #[handlers]
/// # impl Order {
/// #     #[apply]
/// #     fn order_placed(&mut self, _: &OrderPlaced) {}
/// # }
/// # #[derive(Clone, Projection)]
/// # #[projection(name = "mails", events(Order(OrderPlaced)))]
/// # struct Mails;
/// # #[handlers]
/// # impl Mails {
/// #     #[project]
/// #     async fn order_placed(&mut self, _: &OrderPlaced) -> Result<(), BoxError> {
/// #         Ok(())
/// #     }
/// # }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let projector = Projector::new(MemoryStore::new(), Mails);
/// let worker = tokio::spawn({ let projector = projector.clone(); async move { projector.run().await } });
///
/// projector.caught_up().await?;
/// println!("{} events behind", projector.progress().await?.lag());
///
/// projector.shutdown();
/// worker.await??;
/// # Ok::<_, BoxError>(())
/// # }).unwrap();
/// ```
pub struct Projector<P> {
    inner: Arc<Inner<P>>,
}

/// The default shutdown timeout of a projector that runs alone.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(20);

struct Inner<P> {
    /// The projection's name.
    name: String,
    store: Arc<dyn Feed>,
    projection: P,
    settings: Settings,
    delays: Delays,
    signals: Signals,
    /// Notified when a checkpoint was written or a slice has stopped.
    progressed: Event,
    /// Notified when an operator requests something.
    ordered: Event,
}

impl<P: Projection> Inner<P> {
    fn names(&self) -> Result<Names, ProjectorError> {
        Names::new(&self.name)
    }
}

impl<P: Projection> Projector<P> {
    /// Creates a projector for `projection` on `store` with default settings.
    #[must_use]
    pub fn new(store: impl Feed, projection: P) -> Self {
        Self::builder(store, projection).build()
    }

    /// Creates a builder for a projector of `projection` on `store`.
    pub fn builder(store: impl Feed, projection: P) -> ProjectorBuilder<P> {
        ProjectorBuilder::new(Arc::new(store), projection)
    }

    pub(crate) fn name(&self) -> &str {
        &self.inner.name
    }

    /// Runs a worker until [`shutdown`](Self::shutdown). Dropping the future is safe: it has the same effect as a
    /// crash, and others take over the slices when the lease expires.
    ///
    /// An event whose handler fails, panics, or hangs affects only events that have to wait for it, not this worker or
    /// other slices. [Transient](crate::StoreError::is_transient) errors of the store are retried indefinitely, and
    /// logged as warnings.
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] if the name of the projection is invalid or its stored state cannot be decoded.
    pub async fn run(&self) -> Result<(), ProjectorError> {
        let timeout = self.inner.settings.shutdown_timeout.unwrap_or(SHUTDOWN_TIMEOUT);
        worker::run(&self.inner, &self.inner.signals, Some(timeout)).await
    }

    /// Runs a worker as [`run`](Self::run) does, but with a limit for its end only if the application has set one.
    pub(crate) async fn run_supervised(&self) -> Result<(), ProjectorError> {
        worker::run(&self.inner, &self.inner.signals, self.inner.settings.shutdown_timeout).await
    }

    /// Runs a worker until the projection, and a new build of it, have reached the current end of the feed and the
    /// timeouts that are due are handled. Use it in tests and scheduled jobs. Stopped slices are retried first.
    ///
    /// As for [`caught_up`](Self::caught_up), a recent commit may not be in the feed yet.
    ///
    /// Slices that other workers own are not processed, nor are the timeouts of these slices.
    ///
    /// # Errors
    ///
    /// [`WaitError::Stopped`] if an event or a timeout cannot be handled. Other errors as for [`run`](Self::run) and
    /// [`caught_up`](Self::caught_up).
    pub async fn run_until_caught_up(&self) -> Result<(), WaitError> {
        self.retry_stopped().await?;
        let signals = Signals::default();
        let work = Box::pin(worker::run(&self.inner, &signals, None));
        let wait = Box::pin(self.all_caught_up());
        match select(work, wait).await {
            // No other worker may be running.
            Either::Left((worked, wait)) => {
                worked?;
                wait.await
            }
            Either::Right((caught_up, work)) => {
                signals.finish.set();
                work.await?;
                caught_up?;
                self.has_not_stopped().await
            }
        }
    }

    /// Stops every [`run`](Self::run) of this handle and its clones. Workers finish the current event and write a
    /// checkpoint, within the [timeout](ProjectorBuilder::shutdown_timeout).
    pub fn shutdown(&self) {
        self.inner.signals.stop.set();
    }
}

impl<P: Projection> Clone for Projector<P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<P: Projection> fmt::Debug for Projector<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projector")
            .field("projection", &self.inner.name)
            .field("store", &self.inner.store)
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}

/// The treatment of an event whose handler fails repeatedly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// The slice stops. It is [restarted](ProjectorBuilder::restart) at intervals, until the event succeeds or an
    /// operator intervenes.
    #[default]
    Stop,
    /// The event is parked with its error (a dead letter), as are the later events of its stream. Other events
    /// continue. An event that a [broker](crate::publish) rejects permanently is parked as well. An event that cannot
    /// be decoded always stops the slice.
    Park,
}

/// The position at which a new projection starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// At the first event.
    #[default]
    Beginning,
    /// After the events that are already in the feed. If the table has never been indexed, there are none, so let
    /// the indexer finish first.
    End,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) start: Start,
    pub(super) batch: u32,
    pub(super) batch_bytes: u64,
    pub(super) poll: Duration,
    /// The maximum pause at the end of the feed; `None` is a multiple of `poll`.
    pub(super) idle_poll: Option<Duration>,
    pub(super) lease: Duration,
    pub(super) retry: RetryPolicy,
    pub(super) restart: RetryPolicy,
    pub(super) handler_timeout: Duration,
    pub(super) shutdown_timeout: Option<Duration>,
    pub(super) on_failure: OnFailure,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn IdSource>,
}

impl Settings {
    /// Returns the maximum pause at the end of the feed.
    fn longest_pause(&self) -> Duration {
        self.idle_poll.unwrap_or(self.poll.saturating_mul(10)).max(self.poll)
    }
}

/// Builds a [`Projector`]. Created by [`Projector::builder`].
///
/// ```
/// # use es_core::prelude::*;
/// # #[event]
/// # pub struct OrderPlaced;
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "order", id = String, events(OrderPlaced))]
/// # pub struct Order;
/// # #[handlers]
/// # impl Order {
/// #     #[apply]
/// #     fn order_placed(&mut self, _: &OrderPlaced) {}
/// # }
/// # #[derive(Clone, Projection)]
/// # #[projection(name = "mails", events(Order(OrderPlaced)))]
/// # struct Mails;
/// # #[handlers]
/// # impl Mails {
/// #     #[project]
/// #     async fn order_placed(&mut self, _: &OrderPlaced) -> Result<(), BoxError> {
/// #         Ok(())
/// #     }
/// # }
/// use std::time::Duration;
///
/// use es_core::MemoryStore;
/// use es_core::projection::{OnFailure, Start};
///
/// // Mails only for orders from now on. An order whose mail cannot be sent is parked.
/// let projector = Projector::builder(MemoryStore::new(), Mails)
///     .start(Start::End)
///     .handler_timeout(Duration::from_secs(10))
///     .on_failure(OnFailure::Park)
///     .build();
/// # let _ = projector;
/// ```
#[must_use = "a builder does nothing until `build` is called"]
#[derive(Debug)]
pub struct ProjectorBuilder<P> {
    store: Arc<dyn Feed>,
    projection: P,
    settings: Settings,
}

impl<P: Projection> ProjectorBuilder<P> {
    pub(crate) fn new(store: Arc<dyn Feed>, projection: P) -> Self {
        let settings = Settings {
            start: Start::default(),
            batch: 100,
            batch_bytes: FeedRead::DEFAULT_MAX_BYTES,
            poll: Duration::from_millis(500),
            idle_poll: None,
            lease: Duration::from_secs(30),
            retry: RetryPolicy::default(),
            restart: RetryPolicy::default()
                .with_max_attempts(u32::MAX)
                .with_base_delay(Duration::from_secs(10))
                .with_max_delay(Duration::from_secs(300)),
            handler_timeout: Duration::from_secs(300),
            shutdown_timeout: None,
            on_failure: OnFailure::default(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
        };
        Self { store, projection, settings }
    }

    /// Sets the position at which a new projection starts (default: the first event). Use the end for a new process in
    /// an existing system.
    pub fn start(mut self, start: Start) -> Self {
        self.settings.start = start;
        self
    }

    /// Sets the approximate number of events to read at once, and to handle between two checkpoints (default:
    /// 100). Additional checkpoints are written if the changes exceed one transaction.
    pub fn batch(mut self, events: u32) -> Self {
        self.settings.batch = events.max(1);
        self
    }

    /// Sets the approximate size of events to read at once, in bytes (default: 4 MB). A slice holds at most about
    /// twice this size in memory: batches of large events are cut to it, regardless of [`batch`](Self::batch).
    pub fn batch_bytes(mut self, bytes: u64) -> Self {
        self.settings.batch_bytes = bytes.max(1);
        self
    }

    /// Sets how long to wait at the end of the feed before reading again (default: 500 ms). The wait doubles with
    /// each read that finds no events, up to [`idle_poll`](Self::idle_poll). An indexer in the same process wakes
    /// the worker at once.
    pub fn poll(mut self, interval: Duration) -> Self {
        self.settings.poll = interval;
        self
    }

    /// Sets the longest wait at the end of the feed while there are no events (default: ten times
    /// [`poll`](Self::poll), which is 5 s). With a longer one, an idle projector sends fewer requests, and notices
    /// the first event from an indexer of another process later. Timeouts of processes are not delayed.
    pub fn idle_poll(mut self, interval: Duration) -> Self {
        self.settings.idle_poll = Some(interval);
        self
    }

    /// Sets the lease duration (default: 30 s). A worker renews its lease three times in this period, with one
    /// small write. If it does not, others take over its slices, which is safe even if that worker still runs. A
    /// slice for which the store has not responded for this long is left to other workers.
    pub fn lease(mut self, duration: Duration) -> Self {
        self.settings.lease = duration;
        self
    }

    /// Sets how often and how quickly a failed handler is retried (default: [`RetryPolicy::default`]). The policy
    /// also applies to requests of callers that wait for the projection. Workers retry transient errors of the
    /// store indefinitely, with the same delays.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.settings.retry = policy;
        self
    }

    /// Sets how quickly a stopped slice is retried automatically (default: after 5 to 10 s at first, increasing to
    /// every 2.5 to 5 min, without a limit). Each delay is between half of the policy's delay and all of it. A
    /// worker that starts retries immediately, because it may run different code. With [`RetryPolicy::never`], the
    /// slice remains stopped until a worker starts or an operator decides.
    pub fn restart(mut self, policy: RetryPolicy) -> Self {
        self.settings.restart = policy;
        self
    }

    /// Sets how long user code may take for one event, one batch to send, or one query of due timeouts (default: 5
    /// min). Slower code is dropped at its next `.await`, and counts as failed. Code that blocks its thread cannot
    /// be interrupted.
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.settings.handler_timeout = timeout;
        self
    }

    /// Sets how long [`run`](Projector::run) may continue after [`shutdown`](Projector::shutdown) to finish the
    /// current event and write the last checkpoint (default: 20 s). Events after the last checkpoint are handled
    /// again by the next worker.
    ///
    /// [`Workers`](crate::workers) have one bound for all workers: there, this setting has no default, and matters only
    /// if it is shorter.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.settings.shutdown_timeout = Some(timeout);
        self
    }

    /// Sets what happens to an event whose handler still fails after all retries (default: [`OnFailure::Stop`]).
    pub fn on_failure(mut self, what: OnFailure) -> Self {
        self.settings.on_failure = what;
        self
    }

    /// Sets the clock (default: [`SystemClock`]).
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.settings.clock = Arc::new(clock);
        self
    }

    /// Sets the source of ids for workers, revisions, and the commits of a process's state (default:
    /// [`RandomIds`]).
    pub fn ids(mut self, ids: impl IdSource) -> Self {
        self.settings.ids = Arc::new(ids);
        self
    }

    /// Builds the projector.
    #[must_use]
    pub fn build(self) -> Projector<P> {
        let Self { store, mut projection, settings } = self;
        projection.equip(Arc::clone(&settings.clock), Arc::clone(&settings.ids));
        let inner = Inner {
            name: projection.name().to_owned(),
            store,
            projection,
            settings,
            delays: Delays::default(),
            signals: Signals::default(),
            progressed: Event::new(),
            ordered: Event::new(),
        };
        Projector { inner: Arc::new(inner) }
    }
}
