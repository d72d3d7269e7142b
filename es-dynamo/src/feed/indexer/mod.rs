//! The indexer: adds commits of this process, and those from the table's stream or from the embedded engine's outbox,
//! to the feed.

mod commits;
mod outages;
#[cfg(feature = "embedded")]
mod outbox;
mod plan;
mod progress;
mod shard;
#[cfg(test)]
mod simulation;
mod source;
mod status;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use es_core::workers::StopOrder;
use es_core::{BoxError, StoreError};
use tokio_util::sync::CancellationToken;

use self::outages::Outages;
use self::progress::Progress;
use self::source::TableStream;
use self::worker::{Settings, Worker};
use crate::feed::reconciler::state::MAX_SEGMENTS;
use crate::store::DynamoStore;

#[cfg(feature = "embedded")]
use self::outbox::OutboxWorker;
pub use progress::IndexerProgress;
pub use status::IndexerShard;

/// Adds the commits of a table to its feed as they are written.
///
/// It runs in the application or in a separate process, as one of the [`Workers`](es_core::Workers) or in your own
/// task. Any number of indexers may run at once; they share the shards of the table's stream. An indexer automatically
/// [reconciles](crate::Reconciler) a table that has events but no feed yet, or whose stream has lost records because no
/// indexer ran for a day.
///
/// On the embedded engine, the indexer is notified immediately of commits in this process, and finds those of other
/// processes on the same file within [`poll`](IndexerBuilder::poll).
///
/// Commits of the same store, or of a clone of it, in this process are indexed without waiting for their stream
/// records.
///
/// Checkpoints and leases are stored in [documents](es_core::documents). They are only hints: the feed itself shows
/// which events are indexed, so that no event is indexed twice or missed if checkpoints are lost.
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use es_dynamo::{DynamoStore, Indexer};
///
/// let store = DynamoStore::embedded().await?;
/// let indexer = Indexer::builder(&store).build()?;
/// let running = tokio::spawn({
///     let indexer = indexer.clone();
///     async move { indexer.run().await }
/// });
/// // … the application runs …
/// indexer.shutdown();
/// running.await??;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct Indexer {
    work: Arc<Work>,
}

/// The default shutdown timeout of an indexer that runs alone.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// The worker, by the source of commits.
enum Work {
    Stream(Worker),
    #[cfg(feature = "embedded")]
    Outbox(OutboxWorker),
}

impl Indexer {
    /// Returns a builder for an indexer of the table of `store`.
    pub fn builder(store: &DynamoStore) -> IndexerBuilder {
        let second = Duration::from_secs(1);
        let settings = Settings {
            poll: second / 2,
            idle_poll: None,
            linger: second / 5,
            refresh: second * 20,
            lease: second * 30,
            shutdown: None,
            segments: 4,
        };
        IndexerBuilder { store: store.clone(), settings }
    }

    /// Runs until [`shutdown`](Self::shutdown), then releases its shards.
    ///
    /// Transient errors ([`StoreError::is_transient`]), such as throttling, an outage, expired credentials, or a
    /// missing permission, are retried indefinitely with exponential backoff. Each outage is logged as a warning when
    /// it begins and then once a minute, and [`IndexerProgress::lag`] grows. A request times out after a third of the
    /// lease duration, and a shard that does not respond for the lease duration is released. A damaged stream does not
    /// affect other streams: see [`IndexerProgress::damaged`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the feed cannot be read.
    pub async fn run(&self) -> Result<(), StoreError> {
        self.run_within(Some(SHUTDOWN_TIMEOUT)).await
    }

    /// Runs with this shutdown timeout, unless the application has set one.
    async fn run_within(&self, shutdown_timeout: Option<Duration>) -> Result<(), StoreError> {
        match &*self.work {
            Work::Stream(worker) => worker.run(worker.settings.shutdown.or(shutdown_timeout)).await,
            #[cfg(feature = "embedded")]
            Work::Outbox(worker) => worker.run().await,
        }
    }

    /// Ends [`run`](Self::run) once all records that were read are indexed, or after the
    /// [shutdown timeout](IndexerBuilder::shutdown_timeout).
    pub fn shutdown(&self) {
        match &*self.work {
            Work::Stream(worker) => worker.stop.cancel(),
            #[cfg(feature = "embedded")]
            Work::Outbox(worker) => worker.stop.cancel(),
        }
    }

    /// Returns the progress of the indexer, and its lag.
    #[must_use]
    pub fn progress(&self) -> IndexerProgress {
        match &*self.work {
            Work::Stream(worker) => worker.progress.get(),
            #[cfg(feature = "embedded")]
            Work::Outbox(worker) => worker.progress.get(),
        }
    }
}

/// Stops after the consumers of the feed, so that events that processes record while they stop are still indexed.
#[async_trait]
impl es_core::workers::Worker for Indexer {
    fn name(&self) -> &str {
        "indexer"
    }

    fn stop_order(&self) -> StopOrder {
        StopOrder::Last
    }

    async fn run(&self) -> Result<(), BoxError> {
        Ok(self.run_within(None).await?)
    }

    fn shutdown(&self) {
        self.shutdown();
    }
}

impl fmt::Debug for Indexer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = match &*self.work {
            Work::Stream(worker) => &worker.settings,
            #[cfg(feature = "embedded")]
            Work::Outbox(worker) => &worker.settings,
        };
        f.debug_struct("Indexer").field("settings", settings).finish_non_exhaustive()
    }
}

/// Builds an [`Indexer`]. Created by [`Indexer::builder`].
///
/// ```
/// # fn example(store: es_dynamo::DynamoStore) -> Result<(), es_core::StoreError> {
/// use std::time::Duration;
///
/// use es_dynamo::Indexer;
///
/// // Fuller pages, for half a second more of lag.
/// let indexer = Indexer::builder(&store).linger(Duration::from_millis(700)).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct IndexerBuilder {
    store: DynamoStore,
    settings: Settings,
}

impl IndexerBuilder {
    /// Sets how long to wait before polling a shard without new commits again (default: 500 ms). The wait doubles with
    /// each poll that finds none, up to [`idle_poll`](Self::idle_poll). It does not delay commits of the same store in
    /// this process, which the indexer does not read from the stream.
    ///
    /// A shard that has records is read at most five times per second, which is the limit of AWS, unless this interval
    /// is shorter than 200 ms.
    pub fn poll(mut self, interval: Duration) -> Self {
        self.settings.poll = interval;
        self
    }

    /// Sets the longest wait before polling a shard that stays without new commits (default: ten times
    /// [`poll`](Self::poll), which is 5 s; at most a third of the [`lease`](Self::lease)). With a longer wait, an idle
    /// indexer sends fewer requests, and notices the first commit of another process later.
    pub fn idle_poll(mut self, interval: Duration) -> Self {
        self.settings.idle_poll = Some(interval);
        self
    }

    /// Sets how long to wait for more commits before writing a page that is not full (default: 200 ms). Waiting longer
    /// produces larger pages, which cost less per event. The first commit of this process after a pause is indexed
    /// without a wait.
    pub fn linger(mut self, time: Duration) -> Self {
        self.settings.linger = time;
        self
    }

    /// Sets how often to look for new shards and other indexers (default: every 20 s).
    pub fn refresh(mut self, interval: Duration) -> Self {
        self.settings.refresh = interval;
        self
    }

    /// Sets the lease duration (default: 30 s). Shards whose owner has not renewed its lease in time are taken over,
    /// which is safe even if that owner still runs.
    pub fn lease(mut self, time: Duration) -> Self {
        self.settings.lease = time;
        self
    }

    /// Sets how long [`run`](Indexer::run) may take to end after [`shutdown`](Indexer::shutdown) (default: 10 s).
    /// Shards that are not released by then are taken over by others when their leases expire.
    ///
    /// [`Workers`](es_core::workers::Workers) have one bound for all workers: there, this setting has no default, and
    /// matters only if it is shorter.
    pub fn shutdown_timeout(mut self, time: Duration) -> Self {
        self.settings.shutdown = Some(time);
        self
    }

    /// Sets how many segments of the table a reconciliation scans concurrently (default: 4, from 1 to 1,000).
    pub fn reconcile_segments(mut self, segments: u32) -> Self {
        self.settings.segments = segments.clamp(1, MAX_SEGMENTS);
        self
    }

    /// Returns the indexer.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] when the store has no client for DynamoDB Streams.
    pub fn build(self) -> Result<Indexer, StoreError> {
        let Self { store, settings } = self;
        #[cfg(feature = "embedded")]
        if let Some(outbox) = &store.feed.outbox {
            let (progress, stop) = (Progress::default(), CancellationToken::new());
            let (outbox, feed) = (outbox.clone(), Arc::clone(&store.feed) as _);
            let worker = OutboxWorker { outbox, feed, settings, progress, stop };
            return Ok(Indexer { work: Arc::new(Work::Outbox(worker)) });
        }
        let Some(client) = store.feed.streams.clone() else {
            return Err(StoreError::setup(
                "an indexer needs a client of DynamoDB Streams: call `streams_client` on the store's builder",
                None,
            ));
        };
        let worker = Worker {
            committed: Arc::clone(&store.feed.committed),
            source: Arc::new(TableStream::new(Arc::clone(&store.table), client)),
            feed: Arc::clone(&store.feed) as _,
            table: Arc::clone(&store.table) as _,
            documents: Arc::new(store),
            settings,
            progress: Progress::default(),
            outages: Outages::default(),
            stop: CancellationToken::new(),
            clock: Arc::new(|| chrono::Utc::now().timestamp_millis()),
        };
        Ok(Indexer { work: Arc::new(Work::Stream(worker)) })
    }
}
