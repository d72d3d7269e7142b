//! The supervision of one worker: restarts after failures, and shutdown.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::Worker;
use super::status::{Entry, WorkerState, now};
use crate::clock::later;
use crate::error_text::error_text;
use crate::measure;
use crate::projection::BoxError;
use crate::projection::guard::{caught, panicked};
use crate::repository::RetryPolicy;

/// The time that a worker must run after a failure to count as recovered.
const RECOVERY: Duration = Duration::from_secs(10);

/// The interval at which a recurring error is logged again.
const REMINDER: Duration = Duration::from_secs(60);

/// Runs one worker until it is stopped.
pub(super) struct Supervisor {
    pub(super) worker: Arc<dyn Worker>,
    /// The index of the worker in the set.
    pub(super) number: usize,
    pub(super) workers: Arc<[Entry]>,
    pub(super) restart: RetryPolicy,
    pub(super) stop: watch::Receiver<bool>,
}

/// The failures of a worker since it last ran for [`RECOVERY`].
struct Outage {
    since: DateTime<Utc>,
    attempts: u32,
    /// The last logged error, and its time.
    logged: Option<(String, Instant)>,
}

/// The end of a run of the worker.
enum Ended {
    /// The worker returned although it was not told to stop.
    Early(Result<(), BoxError>),
    /// The worker returned after it was told to stop.
    Stopped(Result<(), BoxError>),
}

impl Supervisor {
    fn entry(&self) -> &Entry {
        &self.workers[self.number]
    }

    /// Runs the worker until it is stopped. Returns the error of its last run, if it failed while stopping.
    pub(super) async fn supervise(mut self) -> Result<(), BoxError> {
        let outcome = self.run_until_stopped().await;
        if let Err(error) = &outcome {
            self.fail(error);
        }
        self.entry().set(WorkerState::Stopped);
        outcome
    }

    async fn run_until_stopped(&mut self) -> Result<(), BoxError> {
        let mut outage = None;
        while !*self.stop.borrow() {
            let error = match self.run_once(&mut outage).await {
                Ended::Stopped(outcome) => return outcome,
                Ended::Early(Ok(())) => {
                    tracing::info!(worker = self.worker.name(), "a worker has ended");
                    return Ok(());
                }
                Ended::Early(Err(error)) => error,
            };
            let outage: &mut Outage =
                outage.get_or_insert_with(|| Outage { since: now(), attempts: 0, logged: None });
            outage.attempts = outage.attempts.saturating_add(1);
            let delay = self.restart.equal_jitter_delay_after(outage.attempts);
            self.fail(&error);
            let next_attempt = Some(later(now(), delay));
            self.entry().set(WorkerState::Restarting { since: outage.since, next_attempt });
            outage.log(self.worker.name(), &error, delay);
            let mut stop = self.stop.clone();
            tokio::select! {
                () = sleep(delay) => {}
                () = stopped(&mut stop) => {}
            }
        }
        Ok(())
    }

    /// Runs the worker until it ends. `outage` is over once the worker has run for [`RECOVERY`].
    async fn run_once(&self, outage: &mut Option<Outage>) -> Ended {
        self.entry().set(match outage {
            Some(Outage { since, .. }) => WorkerState::Restarting { since: *since, next_attempt: None },
            None => WorkerState::Running { since: now() },
        });
        let (began, mut stop) = (now(), self.stop.clone());
        // The worker is called again after a panic, as it would be in a new process.
        let mut run = pin!(AssertUnwindSafe(self.worker.run()).catch_unwind().map(flattened));
        if outage.is_some() {
            tokio::select! {
                outcome = &mut run => return Ended::Early(outcome),
                () = stopped(&mut stop) => {}
                () = sleep(RECOVERY) => {
                    *outage = None;
                    self.entry().set(WorkerState::Running { since: began });
                    tracing::info!(worker = self.worker.name(), "a worker has recovered");
                }
            }
        }
        tokio::select! {
            outcome = &mut run => return Ended::Early(outcome),
            () = stopped(&mut stop) => {}
        }
        if let Err(panic) = caught(|| self.worker.shutdown()) {
            return Ended::Stopped(Err(panic.into()));
        }
        Ended::Stopped(run.await)
    }

    /// Records a failure.
    fn fail(&self, error: &BoxError) {
        measure::worker_failed(self.worker.name());
        let mut status = self.entry().status();
        status.failures += 1;
        status.last_error = Some(error_text(&**error));
    }
}

impl Outage {
    /// Logs a failure, unless this error was logged within the last minute.
    fn log(&mut self, worker: &str, error: &BoxError, delay: Duration) {
        let (error, attempts) = (error_text(&**error), self.attempts);
        if let Some((logged, at)) = &self.logged
            && *logged == error
            && at.elapsed() < REMINDER
        {
            tracing::debug!(worker, error, attempts, ?delay, "a worker has failed again; restarting it");
            return;
        }
        tracing::error!(worker, error, attempts, ?delay, "a worker has failed; restarting it");
        self.logged = Some((error, Instant::now()));
    }
}

fn flattened(outcome: std::thread::Result<Result<(), BoxError>>) -> Result<(), BoxError> {
    outcome.unwrap_or_else(|panic| Err(panicked(panic).into()))
}

/// Waits for the signal to stop. If there is no sender, the workers were dropped, and this task was aborted.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|is_set| *is_set).await;
}
