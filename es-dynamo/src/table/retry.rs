//! Retries with exponential backoff and jitter.

use std::time::Duration;

use es_core::{RetryPolicy, StoreError};

/// Exponential backoff with jitter between failures in a row. The default is 50 ms at first and 10 s at most.
#[derive(Debug)]
pub(crate) struct Backoff {
    policy: RetryPolicy,
    failures: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(10))
    }
}

impl Backoff {
    /// Returns a backoff of `base` after the first failure and `max` at most.
    pub(crate) fn new(base: Duration, max: Duration) -> Self {
        Self { policy: RetryPolicy::default().with_base_delay(base).with_max_delay(max), failures: 0 }
    }

    /// Counts a failure, and returns the delay after it.
    pub(crate) fn next(&mut self) -> Duration {
        self.failures += 1;
        self.policy.equal_jitter_delay_after(self.failures)
    }

    /// Resets the backoff after a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns the number of failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

/// The maximum number of retries of one request.
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
