//! Workers: projectors, indexers, and other background tasks, and their supervision.
//!
//! A [`Worker`] runs until it is told to stop. A [`Projector`], which runs a projection, a process, or a publisher, is
//! a worker, and so is the `Indexer` of `es-dynamo`. [`Workers`] (feature `tokio`) runs any number of workers.

#[cfg(feature = "tokio")]
mod running;
#[cfg(feature = "tokio")]
mod signal;
#[cfg(feature = "tokio")]
mod status;
#[cfg(feature = "tokio")]
mod supervisor;

use std::fmt;

use async_trait::async_trait;

#[cfg(feature = "tokio")]
pub use self::{
    running::{RunningWorkers, ShutdownError, Workers},
    signal::shutdown_signal,
    status::{WorkerState, WorkerStatus, WorkersHealth},
};
use crate::projection::{BoxError, Projection, Projector};

/// A task that runs until it is told to stop.
///
/// ```
/// use std::time::Duration;
/// use es_core::prelude::*;
/// use es_core::workers::Worker;
/// use tokio::sync::Notify;
///
/// /// Writes a report every hour.
/// #[derive(Debug, Default)]
/// struct Reports { stopped: Notify }
///
/// #[async_trait::async_trait]
/// impl Worker for Reports {
///     fn name(&self) -> &str {
///         "reports"
///     }
///
///     async fn run(&self) -> Result<(), BoxError> {
///         loop {
///             tokio::select! {
///                 () = self.stopped.notified() => return Ok(()),
///                 () = tokio::time::sleep(Duration::from_secs(3600)) => write_report().await?,
///             }
///         }
///     }
///
///     fn shutdown(&self) {
///         self.stopped.notify_one();
///     }
/// }
/// # async fn write_report() -> Result<(), std::io::Error> { Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a worker",
    label = "not a worker",
    note = "run a projection or publishing with `Projector::new(store, …)`, and a process with `Projector::of_process(store, …)`",
    note = "for a task of the application, implement `Worker` for `{Self}`"
)]
#[async_trait]
pub trait Worker: fmt::Debug + Send + Sync + 'static {
    /// Returns the name of the worker, for logs and health checks.
    fn name(&self) -> &str;

    /// Returns when to stop the worker, relative to others (default: [`StopOrder::First`]).
    fn stop_order(&self) -> StopOrder {
        StopOrder::First
    }

    /// Runs until [`shutdown`](Self::shutdown) is called. Returns at once if it was called earlier. Dropping the future
    /// must be as safe as a crash of the process. After an error or a panic, `run` is called again.
    ///
    /// # Errors
    ///
    /// Any error that ends the worker. A worker should retry transient errors instead of returning them.
    async fn run(&self) -> Result<(), BoxError>;

    /// Tells the worker to finish its current work and return from [`run`](Self::run). `Workers` limit how long this
    /// may take: see `Workers::shutdown_timeout`.
    fn shutdown(&self);
}

/// The order in which workers are stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopOrder {
    /// Together with the other consumers of the feed.
    #[default]
    First,
    /// After all consumers have stopped. Indexers stop last, so that the feed still receives what processes record
    /// while they stop.
    Last,
}

#[async_trait]
impl<P: Projection> Worker for Projector<P> {
    fn name(&self) -> &str {
        self.name()
    }

    async fn run(&self) -> Result<(), BoxError> {
        Ok(self.run_supervised().await?)
    }

    fn shutdown(&self) {
        self.shutdown();
    }
}
