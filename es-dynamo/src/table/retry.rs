//! Retries: exponential backoff with jitter, and outages that are waited out.

use std::time::Duration;

use es_core::StoreError;
#[cfg(feature = "indexer")]
use es_core::error_text;
#[cfg(feature = "indexer")]
use tokio::time::Instant;

/// The longest pause after the first failure, and after any.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(10);

/// Exponential backoff with jitter, for failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failure, and returns the pause after it.
    pub(crate) fn next(&mut self) -> Duration {
        let longest = SHORTEST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures += 1;
        longest.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Starts over after a success.
    #[cfg(feature = "indexer")]
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns the number of failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

/// How often an outage that lasts is logged.
#[cfg(feature = "indexer")]
const REMINDER: Duration = Duration::from_secs(60);

/// An outage of one kind of requests. Logs a WARN when it begins and then once a minute, and an INFO when it is over.
#[cfg(feature = "indexer")]
#[derive(Debug)]
pub(crate) struct Outage {
    /// The name of the activity, for the log.
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

    /// Counts a failure, and returns the pause after it.
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

    /// Ends the outage, if there is one, after a success.
    pub(crate) fn is_over(&mut self) {
        if let Some((began, _)) = self.since.take() {
            let (what, seconds) = (self.what, began.elapsed().as_secs());
            tracing::info!(what, failed_for_seconds = seconds, "the table answers again");
        }
        self.backoff.reset();
    }
}

/// Limits the duration of an attempt, so that a lost response does not block everything after it.
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

/// How many failures of one request in a row are retried.
const MAX_RETRIES: u32 = 10;

/// Sends a request, and retries it with backoff while its error [is retryable](StoreError::is_retryable).
pub(crate) async fn retrying<T, F>(request: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut backoff = Backoff::default();
    loop {
        match request().await {
            Err(error) if error.is_retryable() && backoff.failures() < MAX_RETRIES => {
                tokio::time::sleep(backoff.next()).await;
            }
            other => return other,
        }
    }
}
