//! Starting and stopping workers.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::signal::Signals;
use super::status::{Entry, WorkerState, WorkersHealth};
use super::supervisor::Supervisor;
use super::{StopOrder, Worker};
use crate::aggregate::Aggregate;
use crate::error_text::error_text;
use crate::measure;
use crate::projection::BoxError;
use crate::repository::{Repository, RetryPolicy};

/// The default shutdown timeout. Kubernetes and Amazon ECS kill a process 30 s after SIGTERM.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(25);

/// The part of the shutdown timeout that consumers may use.
const CONSUMERS_SHARE: f64 = 0.8;

/// The longest shutdown, so that `Duration::MAX` is accepted.
const MAX_SHUTDOWN: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The time to wait for aborted tasks. A task that blocks its thread does not end.
const ABORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs indexers, projections, processes, and publishers: restarts those that fail, reports their health, and stops
/// them in order. Requires the feature `tokio`.
///
/// ```no_run
/// use es_core::prelude::*;
/// use es_core::workers::{Worker, Workers};
///
/// # async fn example<A: Aggregate>(
/// #     projector: impl Worker, process: impl Worker, indexer: impl Worker, orders: Repository<A>,
/// # ) -> Result<(), BoxError> {
/// Workers::new().add(projector).add(process).add(indexer).flush(&orders).run_until_signal().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Failures
///
/// A worker whose [`run`](Worker::run) returns an error or panics is restarted indefinitely, with exponential backoff
/// and jitter: see [`restart`](Self::restart). Each failure is logged at `ERROR`; a recurring failure is logged once a
/// minute. Projectors and indexers retry transient errors of the store, so a failure requires attention, for example
/// because data is damaged. A worker that returns without an error was shut down by the application, and is not
/// restarted.
///
/// # Shutdown
///
/// 1. The consumers of the feed stop together: projections, processes, and publishers finish their current events, and
///    write their checkpoints. They have four fifths of the [timeout](Self::shutdown_timeout): 20 s by default.
/// 2. Indexers stop, and repositories are [flushed](Self::flush) at the same time. Indexers stop last so that the
///    events of processes are still added to the feed. They have the rest of the timeout.
///
/// This is the only bound: the default timeouts of a projector or an indexer that runs alone do not apply, and a
/// timeout that was set on one matters only if it is shorter. A worker that does not stop in time is aborted, and the
/// error names it. This has the effect of a crash, and is safe: nothing acknowledged is lost, and another worker takes
/// over when its lease expires.
#[must_use = "workers do nothing until `spawn` or `run_until_signal` is called"]
pub struct Workers {
    workers: Vec<Arc<dyn Worker>>,
    flushes: Vec<Flush>,
    restart: RetryPolicy,
    shutdown_timeout: Duration,
}

/// Waits for the pending writes of a repository.
type Flush = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

impl Workers {
    /// Creates an empty set of workers.
    pub fn new() -> Self {
        let second = Duration::from_secs(1);
        let restart = RetryPolicy::default().with_base_delay(second).with_max_delay(60 * second);
        Self { workers: Vec::new(), flushes: Vec::new(), restart, shutdown_timeout: SHUTDOWN_TIMEOUT }
    }

    /// Adds a worker: a [`Projector`](crate::Projector), an indexer, or your own. To shut it down or query it
    /// separately, add a clone.
    #[expect(clippy::should_implement_trait, reason = "adds a worker to a set, as no operator does")]
    pub fn add(mut self, worker: impl Worker) -> Self {
        self.workers.push(Arc::new(worker));
        self
    }

    /// [Flushes](Repository::flush) a repository at shutdown, so that snapshots that are being written are completed.
    pub fn flush<A: Aggregate>(mut self, repository: &Repository<A>) -> Self {
        let repository = repository.clone();
        self.flushes.push(Box::new(move || {
            let repository = repository.clone();
            Box::pin(async move { repository.flush().await })
        }));
        self
    }

    /// Sets the delays before a failed worker is restarted (default: 1 s to 60 s, with equal jitter). They are reset
    /// once a worker has run for ten seconds. The policy's number of attempts is ignored.
    pub fn restart(mut self, delays: RetryPolicy) -> Self {
        self.restart = delays;
        self
    }

    /// Sets the total time that a shutdown may take (default: 25 s). Choose a shorter time than the platform grants
    /// between SIGTERM and SIGKILL.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// Starts each worker in a task.
    ///
    /// # Panics
    ///
    /// Panics outside a Tokio runtime.
    pub fn spawn(self) -> RunningWorkers {
        let entries: Arc<[Entry]> = self.workers.iter().map(|worker| Entry::new(worker.name())).collect();
        let (mut consumers, mut indexers) = (Group::default(), Group::default());
        for (number, worker) in self.workers.into_iter().enumerate() {
            let group = match worker.stop_order() {
                StopOrder::First => &mut consumers,
                StopOrder::Last => &mut indexers,
            };
            let (workers, stop) = (Arc::clone(&entries), group.stop.subscribe());
            let supervisor = Supervisor { worker, number, workers, restart: self.restart, stop };
            group.numbers.push(number);
            group.tasks.spawn(async move { (number, supervisor.supervise().await) });
        }
        let (flushes, shutdown_timeout) = (self.flushes, self.shutdown_timeout);
        RunningWorkers { entries, consumers, indexers, flushes, shutdown_timeout }
    }

    /// Runs the workers until the process receives SIGTERM or SIGINT (Ctrl-C), and then [shuts them
    /// down](RunningWorkers::shutdown). A second signal aborts the workers that have not stopped yet.
    ///
    /// # Errors
    ///
    /// As for [`RunningWorkers::run_until_signal`].
    pub async fn run_until_signal(self) -> Result<(), ShutdownError> {
        self.spawn().run_until_signal().await
    }
}

impl Default for Workers {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("workers", &self.workers)
            .field("restart", &self.restart)
            .field("shutdown_timeout", &self.shutdown_timeout)
            .finish_non_exhaustive()
    }
}

/// Running workers, returned by [`Workers::spawn`]. Dropping it aborts the workers, which is as safe as a crash.
#[must_use = "dropping it aborts the workers"]
pub struct RunningWorkers {
    entries: Arc<[Entry]>,
    consumers: Group,
    indexers: Group,
    flushes: Vec<Flush>,
    shutdown_timeout: Duration,
}

/// Workers that are stopped together.
#[derive(Default)]
struct Group {
    /// Dropped before `stop`: tasks whose sender is gone would shut their workers down instead of being aborted.
    tasks: JoinSet<(usize, Result<(), BoxError>)>,
    stop: watch::Sender<bool>,
    /// The indexes of the workers in the set.
    numbers: Vec<usize>,
}

impl RunningWorkers {
    /// Returns whether every worker runs: see [`WorkersHealth::healthy`].
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.health().healthy()
    }

    /// Returns a handle for health checks.
    #[must_use]
    pub fn health(&self) -> WorkersHealth {
        WorkersHealth::new(Arc::clone(&self.entries))
    }

    /// Waits until the process receives SIGTERM or SIGINT (Ctrl-C), and then [shuts down](Self::shutdown). A second
    /// signal aborts the workers that have not stopped yet.
    ///
    /// # Errors
    ///
    /// [`ShutdownError::Signal`] if the signals cannot be received: the workers are aborted.
    /// [`ShutdownError::Interrupted`] after a second signal. [`ShutdownError::Incomplete`] as for
    /// [`shutdown`](Self::shutdown).
    pub async fn run_until_signal(self) -> Result<(), ShutdownError> {
        let mut signals = Signals::new().map_err(ShutdownError::Signal)?;
        signals.recv().await;
        tracing::info!("received a signal; stopping the workers");
        tokio::select! {
            outcome = self.shutdown() => outcome,
            () = signals.recv() => Err(ShutdownError::Interrupted),
        }
    }

    /// Stops all workers in order, within the [timeout](Workers::shutdown_timeout): first the consumers of the feed,
    /// then the indexers. Flushes the repositories.
    ///
    /// # Errors
    ///
    /// [`ShutdownError::Incomplete`] if a worker had to be aborted or failed while it stopped, or if a repository could
    /// not be flushed in time.
    pub async fn shutdown(mut self) -> Result<(), ShutdownError> {
        let measured = measure::Shutdown::start();
        let (now, bound) = (Instant::now(), self.shutdown_timeout.min(MAX_SHUTDOWN));
        let mut problems = self.consumers.stop(&self.entries, now + bound.mul_f64(CONSUMERS_SHARE)).await;
        let deadline = now + bound;
        let flush = join_all(self.flushes.iter().map(|flush| flush()));
        let (others, flushed) =
            tokio::join!(self.indexers.stop(&self.entries, deadline), timeout_at(deadline, flush));
        problems.extend(others);
        if flushed.is_err() {
            problems.push("a snapshot was not written in time".to_owned());
        }
        measured.ended(problems.is_empty());
        if problems.is_empty() { Ok(()) } else { Err(ShutdownError::Incomplete { problems, timeout: bound }) }
    }
}

impl fmt::Debug for RunningWorkers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningWorkers").field("workers", &self.entries).finish_non_exhaustive()
    }
}

impl Group {
    /// Stops the workers, and aborts those that still run at `deadline`. Returns the problems.
    async fn stop(&mut self, entries: &[Entry], deadline: Instant) -> Vec<String> {
        let mut problems = Vec::new();
        self.stop.send_replace(true);
        while let Ok(Some(ended)) = timeout_at(deadline, self.tasks.join_next()).await {
            if let Ok((number, Err(error))) = ended {
                let problem =
                    format!("`{}` failed while it stopped: {}", name(entries, number), error_text(&*error));
                tracing::error!(problem, "a worker has failed while it stopped");
                problems.push(problem);
            }
        }
        for number in self.numbers.iter().copied().filter(|number| !entries[*number].has_ended()) {
            entries[number].set(WorkerState::Aborted);
            let worker = name(entries, number);
            tracing::error!(worker, "a worker did not stop in time; aborting it");
            problems.push(format!("`{worker}` did not stop in time and was aborted"));
        }
        self.tasks.abort_all();
        let _ = timeout(ABORT_TIMEOUT, async { while self.tasks.join_next().await.is_some() {} }).await;
        problems
    }
}

fn name(entries: &[Entry], number: usize) -> String {
    entries[number].status().name.clone()
}

/// An error from running or stopping workers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// The handlers of signals cannot be installed.
    #[error("cannot receive the signals SIGTERM and SIGINT; call `spawn` and `shutdown` instead")]
    Signal(#[source] io::Error),
    /// A second signal was received while the workers were stopping. They were aborted.
    #[error("a second signal was received before all workers had stopped; the others were aborted")]
    Interrupted,
    /// A worker or a repository did not stop cleanly.
    #[error("the shutdown within {timeout:?} was incomplete: {}", problems.join("; "))]
    #[non_exhaustive]
    Incomplete {
        /// A description of each problem, with the worker's name.
        problems: Vec<String>,
        /// The [timeout](Workers::shutdown_timeout).
        timeout: Duration,
    },
}
