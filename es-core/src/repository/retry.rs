//! How often and how fast to try again.

use std::time::Duration;

/// How a repository tries again: after a conflict with a new decision on the new state, after a store that
/// throttles or gives no answer with the very same request.
///
/// The waits grow exponentially from `base_delay` to `max_delay`, and each is a random part of that
/// ("full jitter"), so that writers that met once do not meet again
/// ([measurements](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/)).
///
/// ```
/// use std::time::Duration;
/// use es_core::RetryPolicy;
///
/// let patient = RetryPolicy::default().with_max_attempts(50).with_max_delay(Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    max_attempts: u32,
    base_delay: Duration,
    max_delay: Duration,
}

impl Default for RetryPolicy {
    /// 16 attempts, with waits of up to 10 ms at first and up to 1 s at last.
    fn default() -> Self {
        Self { max_attempts: 16, base_delay: Duration::from_millis(10), max_delay: Duration::from_secs(1) }
    }
}

impl RetryPolicy {
    /// One attempt, no retries.
    #[must_use]
    pub fn never() -> Self {
        Self::default().with_max_attempts(1)
    }

    /// How many attempts there are in all, the first included. Zero counts as one.
    #[must_use]
    pub fn with_max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// The longest wait before the second attempt.
    #[must_use]
    pub fn with_base_delay(mut self, delay: Duration) -> Self {
        self.base_delay = delay;
        self
    }

    /// The longest wait before any attempt.
    #[must_use]
    pub fn with_max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// Whether there is an attempt after `attempts` of them.
    pub(crate) fn allows_another(&self, attempts: u32) -> bool {
        attempts < self.max_attempts
    }

    /// How long to wait after `attempts` attempts.
    pub(crate) fn delay_after(&self, attempts: u32) -> Duration {
        self.longest_delay_after(attempts).mul_f64(fastrand::f64())
    }

    /// The longest wait after `attempts` attempts.
    pub(crate) fn longest_delay_after(&self, attempts: u32) -> Duration {
        let growth = 2_u32.saturating_pow(attempts.saturating_sub(1));
        self.base_delay.saturating_mul(growth).min(self.max_delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_no_further() {
        let policy = RetryPolicy::default();
        for attempts in 1..=100 {
            let limit = Duration::from_millis(10).saturating_mul(2_u32.saturating_pow(attempts - 1));
            assert!(policy.delay_after(attempts) <= limit.min(Duration::from_secs(1)));
        }
    }

    #[test]
    fn counts_the_first_attempt() {
        assert!(!RetryPolicy::never().allows_another(1));
        assert!(RetryPolicy::default().with_max_attempts(2).allows_another(1));
        assert!(!RetryPolicy::default().with_max_attempts(2).allows_another(2));
    }
}
