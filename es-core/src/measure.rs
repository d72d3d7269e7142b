//! Records metrics. Without the feature `metrics`, these functions do nothing.

#![cfg_attr(not(feature = "metrics"), allow(dead_code, unused_imports, unused_mut, unused_variables))]

use std::time::Duration;
#[cfg(feature = "metrics")]
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};

#[cfg(feature = "metrics")]
use crate::metrics::{self, Metric};
use crate::publish::PublishError;
use crate::store::StoreError;

/// Measures a duration, which does not include the time that a test's clock skips.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch {
    #[cfg(feature = "metrics")]
    started: Instant,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self {
            #[cfg(feature = "metrics")]
            started: Instant::now(),
        }
    }

    #[cfg(feature = "metrics")]
    fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

/// Returns the outcome of an operation that ends without a result: it panics, or its future is dropped.
pub(crate) fn interrupted() -> &'static str {
    if std::thread::panicking() { "panicked" } else { "dropped" }
}

/// The operation that a span and its metrics are about.
#[derive(Clone, Copy)]
pub(crate) enum Operation {
    Command {
        aggregate: &'static str,
        command: &'static str,
    },
    /// A command in a transaction.
    Part {
        aggregate: &'static str,
        command: &'static str,
    },
    Transaction,
    Load {
        aggregate: &'static str,
    },
}

impl Operation {
    /// Records the end of the operation. `attempts` is `None` if it was interrupted.
    pub(crate) fn ended(self, outcome: &'static str, attempts: Option<u32>, since: Stopwatch) {
        #[cfg(feature = "metrics")]
        match self {
            Self::Command { aggregate, command } => {
                metrics::COMMAND_DURATION.record_constant([aggregate, command], since.seconds());
                if let Some(attempts) = attempts {
                    metrics::COMMAND_ATTEMPTS.record_constant([aggregate, command], attempts.into());
                }
                metrics::COMMAND_OUTCOME.add_constant([aggregate, command, outcome], 1);
            }
            Self::Part { aggregate, command } => {
                metrics::COMMAND_OUTCOME.add_constant([aggregate, command, outcome], 1);
            }
            Self::Transaction => {
                metrics::TRANSACTION_DURATION.record_constant([], since.seconds());
                if let Some(attempts) = attempts {
                    metrics::TRANSACTION_ATTEMPTS.record_constant([], attempts.into());
                }
                metrics::TRANSACTION_OUTCOME.add_constant([outcome], 1);
            }
            Self::Load { aggregate } => {
                metrics::LOAD_DURATION.record_constant([aggregate, outcome], since.seconds());
            }
        }
    }
}

/// Records that a write lost the race for a stream of `aggregate`.
pub(crate) fn conflict(aggregate: &str) {
    #[cfg(feature = "metrics")]
    metrics::COMMAND_CONFLICTS.add([aggregate.to_owned().into()], 1);
}

/// Records a write of `commits` that concurrent commands share.
pub(crate) fn group(aggregate: &'static str, commits: usize) {
    #[cfg(feature = "metrics")]
    metrics::COMMAND_GROUP.record_constant([aggregate], commits as f64);
}

/// Records the number of events that were read to get a state.
pub(crate) fn loaded(aggregate: &'static str, source: &'static str, events: u64) {
    #[cfg(feature = "metrics")]
    metrics::LOAD_EVENTS.record_constant([aggregate, source], events as f64);
}

pub(crate) fn snapshot(aggregate: &'static str, outcome: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::SNAPSHOT_WRITES.add_constant([aggregate, outcome], 1);
}

/// Records that a command or a read ended with an error of the store.
pub(crate) fn store_error(error: &StoreError) {
    #[cfg(feature = "metrics")]
    metrics::STORE_ERRORS.add_constant([kind(error)], 1);
}

/// Records that a request is sent again after `error`.
pub(crate) fn retry(error: &StoreError) {
    #[cfg(feature = "metrics")]
    metrics::REQUEST_RETRIES.add_constant([kind(error)], 1);
}

pub(crate) fn retry_budget_exhausted() {
    #[cfg(feature = "metrics")]
    metrics::RETRY_BUDGET_EXHAUSTED.add_constant([], 1);
}

#[cfg(feature = "metrics")]
fn kind(error: &StoreError) -> &'static str {
    match error {
        StoreError::Throttled(_) => "throttled",
        StoreError::Unavailable(_) => "unavailable",
        StoreError::DeadlineExceeded(_) => "deadline",
        StoreError::Setup { .. } => "setup",
        StoreError::Corrupt { .. } => "corrupt",
        StoreError::Decode { .. } => "decode",
        StoreError::Feed(_) => "feed",
        StoreError::Invalid { .. } | StoreError::TooLarge { .. } | StoreError::Encode(_) => "invalid",
        StoreError::Closed(_) => "closed",
        StoreError::Backend(_) => "backend",
    }
}

/// The metrics of one slice of a projection.
#[derive(Clone, Copy)]
pub(crate) struct SliceGauges<'a> {
    pub(crate) projection: &'a str,
    pub(crate) slice: u32,
}

impl SliceGauges<'_> {
    /// Records the age of the oldest event that is known and not handled.
    pub(crate) fn lag(self, age: TimeDelta) {
        #[cfg(feature = "metrics")]
        self.set(&metrics::PROJECTION_LAG, seconds(age));
    }

    pub(crate) fn parked(self, events: u64) {
        #[cfg(feature = "metrics")]
        self.set(&metrics::PROJECTION_PARKED, events as f64);
    }

    pub(crate) fn stopped(self, is_stopped: bool) {
        #[cfg(feature = "metrics")]
        self.set(&metrics::PROJECTION_STOPPED, f64::from(u8::from(is_stopped)));
    }

    #[cfg(feature = "metrics")]
    fn set(self, gauge: &Metric, value: f64) {
        gauge.set([self.projection.to_owned().into(), self.slice.to_string().into()], value);
    }
}

/// Records the number of slices that this process processes.
pub(crate) fn slices(projection: &str, count: usize) {
    #[cfg(feature = "metrics")]
    metrics::PROJECTION_SLICES.set([projection.to_owned().into()], count as f64);
}

/// Records a checkpoint, and the number of its events by outcome.
pub(crate) fn checkpoint(projection: &str, handled: u64, parked: u64, skipped: u64) {
    #[cfg(feature = "metrics")]
    {
        metrics::PROJECTION_CHECKPOINTS.add([projection.to_owned().into()], 1);
        for (outcome, count) in [("handled", handled), ("parked", parked), ("skipped", skipped)] {
            if count > 0 {
                metrics::PROJECTION_EVENTS.add([projection.to_owned().into(), outcome.into()], count);
            }
        }
    }
}

/// Records that a projection repeats an attempt.
pub(crate) fn projection_retry(projection: &str, kind: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::PROJECTION_RETRIES.add([projection.to_owned().into(), kind.into()], 1);
}

/// Records that the work on a slice ended with a failure.
pub(crate) fn projection_failure(projection: &str, kind: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::PROJECTION_FAILURES.add([projection.to_owned().into(), kind.into()], 1);
}

/// Records that a process has reacted at `now` to a timeout.
pub(crate) fn timeout(process: &str, due: DateTime<Utc>, now: DateTime<Utc>) {
    #[cfg(feature = "metrics")]
    metrics::TIMEOUT_LAG.record([process.to_owned().into()], seconds(now - due));
}

#[cfg(feature = "metrics")]
fn seconds(time: TimeDelta) -> f64 {
    time.to_std().unwrap_or(Duration::ZERO).as_secs_f64()
}

/// A batch that is being sent to a broker.
pub(crate) struct Batch<'a> {
    publisher: &'a str,
    since: Stopwatch,
    ended: bool,
}

impl<'a> Batch<'a> {
    pub(crate) fn start(publisher: &'a str) -> Self {
        Self { publisher, since: Stopwatch::start(), ended: false }
    }

    /// Records the outcome of each envelope, and returns that of the batch.
    pub(crate) fn ended(mut self, outcomes: &[Result<(), PublishError>]) -> &'static str {
        self.ended = true;
        let accepted = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let is_permanent =
            |outcome: &&Result<(), PublishError>| matches!(outcome, Err(error) if !error.is_transient());
        let permanent = outcomes.iter().filter(is_permanent).count();
        let outcome = match accepted {
            0 => "failed",
            _ if accepted == outcomes.len() => "accepted",
            _ => "partial",
        };
        self.record(outcome);
        #[cfg(feature = "metrics")]
        for (outcome, count) in [
            ("accepted", accepted),
            ("transient", outcomes.len() - accepted - permanent),
            ("permanent", permanent),
        ] {
            if count > 0 {
                metrics::PUBLISH_EVENTS.add([self.publisher.to_owned().into(), outcome.into()], count as u64);
            }
        }
        outcome
    }

    fn record(&self, outcome: &'static str) {
        #[cfg(feature = "metrics")]
        metrics::PUBLISH_DURATION
            .record([self.publisher.to_owned().into(), outcome.into()], self.since.seconds());
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.record(interrupted());
        }
    }
}

/// Records that a worker has ended with an error or a panic.
#[cfg(feature = "tokio")]
pub(crate) fn worker_failed(worker: &str) {
    #[cfg(feature = "metrics")]
    metrics::WORKER_FAILURES.add([worker.to_owned().into()], 1);
}

/// A shutdown of all workers.
#[cfg(feature = "tokio")]
pub(crate) struct Shutdown {
    outcome: Option<&'static str>,
}

#[cfg(feature = "tokio")]
impl Shutdown {
    pub(crate) fn start() -> Self {
        Self { outcome: None }
    }

    pub(crate) fn ended(mut self, is_complete: bool) {
        self.outcome = Some(if is_complete { "complete" } else { "incomplete" });
    }
}

#[cfg(feature = "tokio")]
impl Drop for Shutdown {
    fn drop(&mut self) {
        #[cfg(feature = "metrics")]
        metrics::WORKER_SHUTDOWNS.add_constant([self.outcome.unwrap_or_else(interrupted)], 1);
    }
}
