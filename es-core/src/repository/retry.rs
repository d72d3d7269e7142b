//! Settings of retries: how often, how fast, and how many in all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How a repository retries: after a conflict with a new decision on the new state, after a store that throttles
/// or does not respond with the very same request. Retries of requests also need a token of the [`RetryBudget`],
/// and all of them end at the [deadline](crate::RepositoryBuilder::deadline).
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

/// How many requests a repository retries in all: a token bucket that all of its commands and loads share.
///
/// Each retry of a request that was throttled or had no response takes a token. Each request that succeeds puts
/// back a part of one. While the store fails, a repository therefore sends few requests more than its commands
/// need, and does not add to the load that makes the store fail. Decisions that are repeated after a conflict take
/// no token: they are not a sign of an overloaded store.
///
/// The SDK of a store may retry below, with a budget of its own.
///
/// ```
/// use es_core::RetryBudget;
///
/// // Up to 50 retries at once, and one retry for every five requests that succeed.
/// let budget = RetryBudget::default().with_burst(50).with_percent(20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    burst: u32,
    percent: u32,
}

impl Default for RetryBudget {
    /// A burst of 10 retries, and one retry for every 10 requests that succeed.
    fn default() -> Self {
        Self { burst: 10, percent: 10 }
    }
}

impl RetryBudget {
    /// As many retries as the [`RetryPolicy`] allows.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { burst: u32::MAX, percent: 100 }
    }

    /// Sets how many tokens there are at first, and at most (default: 10).
    #[must_use]
    pub fn with_burst(mut self, retries: u32) -> Self {
        self.burst = retries;
        self
    }

    /// Sets what a request that succeeds puts back, in percent of a token (default: 10).
    #[must_use]
    pub fn with_percent(mut self, percent: u32) -> Self {
        self.percent = percent;
        self
    }
}

/// The tokens of a [`RetryBudget`], counted in percent of one.
#[derive(Debug)]
pub(crate) struct RetryTokens {
    left: AtomicU64,
    most: u64,
    refill: u64,
}

impl RetryTokens {
    const ONE: u64 = 100;

    pub(crate) fn new(budget: RetryBudget) -> Self {
        let most = u64::from(budget.burst) * Self::ONE;
        Self { left: AtomicU64::new(most), most, refill: u64::from(budget.percent) }
    }

    /// Takes the token of a retry, if there is one.
    pub(crate) fn take(&self) -> bool {
        let take = |left: u64| left.checked_sub(Self::ONE);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Counts a request that succeeded.
    pub(crate) fn refill(&self) {
        // Nearly always full: then nothing is written that other threads read.
        if self.left.load(Ordering::Relaxed) < self.most {
            let put = |left: u64| Some((left + self.refill).min(self.most));
            let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, put);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_taken_by_retries_and_put_back_by_successes() {
        let tokens = RetryTokens::new(RetryBudget::default().with_burst(2).with_percent(25));
        assert!(tokens.take() && tokens.take() && !tokens.take());
        for _ in 0..3 {
            tokens.refill();
        }
        assert!(!tokens.take(), "three quarters of a token");
        tokens.refill();
        assert!(tokens.take() && !tokens.take());
        for _ in 0..1_000 {
            tokens.refill();
        }
        assert!(tokens.take() && tokens.take() && !tokens.take(), "never more than the burst");
    }

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
