//! The states of workers, for health checks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;

/// The status of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(crate = "crate::serde")]
#[non_exhaustive]
pub struct WorkerStatus {
    /// The name of the worker.
    pub name: String,
    /// The state of the worker.
    pub state: WorkerState,
    /// The number of failures and panics.
    pub failures: u64,
    /// The last error, with its sources.
    pub last_error: Option<String>,
}

/// The state of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(crate = "crate::serde", tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum WorkerState {
    /// The worker runs.
    #[non_exhaustive]
    Running {
        /// The time at which it was started, or restarted after its last failure.
        since: DateTime<Utc>,
    },
    /// The worker has failed, and has not yet run for ten seconds since.
    #[non_exhaustive]
    Restarting {
        /// The time of the first failure since it last ran for ten seconds.
        since: DateTime<Utc>,
        /// The time of the next start, or `None` if it was started again just now.
        next_attempt: Option<DateTime<Utc>>,
    },
    /// The worker was shut down and has ended.
    Stopped,
    /// The worker did not stop in time, and was aborted.
    Aborted,
}

impl WorkerState {
    /// Returns whether the worker runs, or has ended as requested.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        matches!(self, Self::Running { .. } | Self::Stopped)
    }
}

/// The health of [`RunningWorkers`](super::RunningWorkers). Clones show the same workers, for example in the handler of
/// a health check.
///
/// ```
/// use es_core::workers::WorkersHealth;
///
/// /// The response of a readiness check.
/// fn ready(health: &WorkersHealth) -> (u16, String) {
///     let problems = health.status().into_iter().filter(|worker| !worker.state.is_healthy());
///     let names: Vec<String> = problems.map(|worker| worker.name).collect();
///     (if health.healthy() { 200 } else { 503 }, names.join(", "))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct WorkersHealth {
    workers: Arc<[Entry]>,
}

impl WorkersHealth {
    pub(super) fn new(workers: Arc<[Entry]>) -> Self {
        Self { workers }
    }

    /// Returns whether every worker is [healthy](WorkerState::is_healthy).
    ///
    /// A worker that runs may still make no progress: see [`Projector::progress`](crate::Projector::progress) for
    /// slices that have stopped.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.workers.iter().all(|worker| worker.status().state.is_healthy())
    }

    /// Returns the status of each worker, in the order in which they were added.
    #[must_use]
    pub fn status(&self) -> Vec<WorkerStatus> {
        self.workers.iter().map(|worker| worker.status().clone()).collect()
    }
}

/// The status of one worker, shared by its supervisor and the health checks.
#[derive(Debug)]
pub(super) struct Entry(Mutex<WorkerStatus>);

impl Entry {
    pub(super) fn new(name: &str) -> Self {
        let state = WorkerState::Running { since: now() };
        Self(Mutex::new(WorkerStatus { name: name.to_owned(), state, failures: 0, last_error: None }))
    }

    pub(super) fn status(&self) -> MutexGuard<'_, WorkerStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, state: WorkerState) {
        self.status().state = state;
    }

    /// Returns whether the worker has ended.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.status().state, WorkerState::Stopped | WorkerState::Aborted)
    }
}

/// Returns the time that a status shows.
pub(super) fn now() -> DateTime<Utc> {
    use crate::clock::{Clock, SystemClock};
    SystemClock.now()
}
