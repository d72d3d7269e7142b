//! Waiting after failures.

use std::time::Duration;

#[cfg(feature = "indexer")]
use es_core::{StoreError, error_text};
#[cfg(feature = "indexer")]
use tokio::time::Instant;

/// How long is waited at first, and at most.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(10);

/// Failures in a row, and the pauses after them: twice as long each time, and a random part of that.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        let longest = SHORTEST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures += 1;
        longest.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Something went well.
    #[cfg(feature = "indexer")]
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How many failures there were in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

/// How often the log is reminded of an outage that lasts.
#[cfg(feature = "indexer")]
const REMINDER: Duration = Duration::from_secs(60);

/// A condition under which requests of one kind fail: a warning when it begins and then once a minute, and an INFO when
/// it is over.
#[cfg(feature = "indexer")]
#[derive(Debug)]
pub(crate) struct Outage {
    /// What is being tried.
    what: &'static str,
    backoff: Backoff,
    /// When it began, and when it was last logged.
    since: Option<(Instant, Instant)>,
}

#[cfg(feature = "indexer")]
impl Outage {
    pub(crate) fn of(what: &'static str) -> Self {
        Self { what, backoff: Backoff::default(), since: None }
    }

    /// The pause after one more failure.
    pub(crate) fn failed(&mut self, error: &StoreError) -> Duration {
        let now = Instant::now();
        let (began, logged) = self.since.unwrap_or((now, now));
        let is_new = self.since.is_none();
        if is_new || now - logged >= REMINDER {
            let (what, seconds) = (self.what, (now - began).as_secs());
            tracing::warn!(
                what,
                failing_for_seconds = seconds,
                error = error_text(error),
                "waiting for the table"
            );
            self.since = Some((began, now));
        } else {
            self.since = Some((began, logged));
        }
        self.backoff.next()
    }

    /// Something went well.
    pub(crate) fn is_over(&mut self) {
        if let Some((began, _)) = self.since.take() {
            let (what, seconds) = (self.what, began.elapsed().as_secs());
            tracing::info!(what, failed_for_seconds = seconds, "the table answers again");
        }
        self.backoff.reset();
    }
}

/// Bounds an attempt, so that one without a response does not hold up everything after it.
#[cfg(feature = "indexer")]
pub(crate) async fn bounded<T, E: From<StoreError>>(
    limit: Duration,
    attempt: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match tokio::time::timeout(limit, attempt).await {
        Ok(outcome) => outcome,
        Err(_) => Err(StoreError::unavailable(format!("no response within {limit:?}")).into()),
    }
}
