//! Retries with exponential backoff and jitter.

use std::time::Duration;

use es_core::StoreError;

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

    /// Returns the number of failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
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
