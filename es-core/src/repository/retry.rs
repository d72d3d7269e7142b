//! Retries: the policy, the budget, the deadline, and their use by one command or load.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::cost::Cost;
use crate::error_text::error_text;
use crate::measure;
use crate::repository::ExecuteError;
use crate::store::{Conflict, DeadlineExceeded, StoreError, WriteError};

/// The default [deadline](crate::repository::RepositoryBuilder::deadline): 30 seconds.
pub(super) const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// Sets how often and how fast a repository retries.
///
/// After a conflict, a command is decided again on the new state. The conflict usually contains the commit that won the
/// race: up to three times, the attempt continues after that commit, without a delay or a read. After a request that
/// was throttled or had no response, the identical request is sent again; such retries also need a token of the
/// [`RetryBudget`]. All retries end at the [deadline](crate::repository::RepositoryBuilder::deadline).
///
/// The delays grow exponentially from `base_delay` to `max_delay`, with full jitter: each delay is a random fraction,
/// so that writers that conflicted once are unlikely to conflict again
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
    /// Returns a policy of 16 attempts, with delays of up to 10 ms at first and up to 1 s later.
    fn default() -> Self {
        Self { max_attempts: 16, base_delay: Duration::from_millis(10), max_delay: Duration::from_secs(1) }
    }
}

impl RetryPolicy {
    /// Returns a policy of one attempt, without retries.
    #[must_use]
    pub fn never() -> Self {
        Self::default().with_max_attempts(1)
    }

    /// Sets the maximum number of attempts, including the first (default: 16). Zero counts as one.
    ///
    /// An attempt that continues after the commit that won the race is still one attempt, although the command is
    /// decided again. If only one attempt is allowed, it does not continue.
    #[must_use]
    pub fn with_max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// Sets the maximum delay before the second attempt (default: 10 ms). It doubles with each further attempt.
    #[must_use]
    pub fn with_base_delay(mut self, delay: Duration) -> Self {
        self.base_delay = delay;
        self
    }

    /// Sets the maximum delay before any attempt (default: 1 s).
    #[must_use]
    pub fn with_max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// Returns whether another attempt is allowed after `attempts` attempts.
    pub(crate) fn allows_another(&self, attempts: u32) -> bool {
        attempts < self.max_attempts
    }

    /// Returns the delay after `attempts` attempts with full jitter: a random fraction of the exponential delay. Use it
    /// where competing clients retry.
    #[must_use]
    pub fn delay_after(&self, attempts: u32) -> Duration {
        self.longest_delay_after(attempts).mul_f64(fastrand::f64())
    }

    /// Returns the delay after `attempts` attempts with equal jitter: at least half of the exponential delay. Use it to
    /// wait out an outage.
    #[must_use]
    pub fn equal_jitter_delay_after(&self, attempts: u32) -> Duration {
        self.longest_delay_after(attempts).mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Returns the maximum delay after `attempts` attempts.
    fn longest_delay_after(&self, attempts: u32) -> Duration {
        let growth = 2_u32.saturating_pow(attempts.saturating_sub(1));
        self.base_delay.saturating_mul(growth).min(self.max_delay)
    }
}

/// Limits the total number of retried requests of a repository: a token bucket that its commands and loads share.
///
/// Each retry of a request that was throttled or had no response takes a token, and each request that succeeds puts
/// back a fraction of one. While the store fails, a repository therefore sends few additional requests, and does not
/// add to the load that made the store fail. Retries after a conflict take no token, because a conflict is not a sign
/// of an overloaded store.
///
/// The store's client may retry at a lower level, with a separate budget.
///
/// ```
/// use es_core::repository::RetryBudget;
///
/// // Up to 50 retries at once, and one retry for every five successful requests.
/// let budget = RetryBudget::default().with_burst(50).with_percent(20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    burst: u32,
    percent: u32,
}

impl Default for RetryBudget {
    /// Returns a budget with a burst of 10 retries, and one retry for every 10 successful requests.
    fn default() -> Self {
        Self { burst: 10, percent: 10 }
    }
}

impl RetryBudget {
    /// Returns a budget without a limit: the [`RetryPolicy`] alone limits retries.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { burst: u32::MAX, percent: 100 }
    }

    /// Sets the initial and maximum number of tokens (default: 10).
    #[must_use]
    pub fn with_burst(mut self, retries: u32) -> Self {
        self.burst = retries;
        self
    }

    /// Sets how much a successful request puts back, in percent of a token (default: 10).
    #[must_use]
    pub fn with_percent(mut self, percent: u32) -> Self {
        self.percent = percent;
        self
    }
}

/// The tokens of a [`RetryBudget`], counted in percent of one.
#[derive(Debug)]
pub(super) struct RetryTokens {
    left: AtomicU64,
    most: u64,
    refill: u64,
}

impl RetryTokens {
    const ONE: u64 = 100;

    pub(super) fn new(budget: RetryBudget) -> Self {
        let most = u64::from(budget.burst) * Self::ONE;
        Self { left: AtomicU64::new(most), most, refill: u64::from(budget.percent) }
    }

    /// Takes a token for a retry, if there is one.
    fn take(&self) -> bool {
        let take = |left: u64| left.checked_sub(Self::ONE);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Counts a request that succeeded.
    pub(super) fn refill(&self) {
        // The bucket is usually full. Skipping the write then avoids contention between threads.
        if self.left.load(Ordering::Relaxed) < self.most {
            let put = |left: u64| Some((left + self.refill).min(self.most));
            let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, put);
        }
    }
}

/// The deadline of a command or a load, by the monotonic time of its clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    limit: Duration,
    end: Duration,
}

impl Deadline {
    /// Returns a deadline `limit` from now, or one that never passes if there is no limit.
    pub(super) fn after(limit: Option<Duration>, clock: &dyn Clock) -> Self {
        let limit = limit.unwrap_or(Duration::MAX);
        let now = if limit == Duration::MAX { Duration::ZERO } else { clock.monotonic() };
        Self { limit, end: now.saturating_add(limit) }
    }

    /// Returns whether the deadline will not have passed after `delay`.
    pub(super) fn allows(&self, delay: Duration, clock: &dyn Clock) -> bool {
        self.end == Duration::MAX || clock.monotonic().saturating_add(delay) < self.end
    }

    /// Returns the monotonic time of its end, and how long until then; `None` if there is no limit.
    pub(super) fn end(&self, clock: &dyn Clock) -> Option<(Duration, Duration)> {
        (self.end != Duration::MAX).then(|| (self.end, self.end.saturating_sub(clock.monotonic())))
    }

    /// Returns the later one of two deadlines.
    pub(super) fn later(self, other: Self) -> Self {
        if self.end < other.end { other } else { self }
    }

    /// Returns the error of a command or a load that it ends.
    pub(super) fn exceeded(&self) -> DeadlineExceeded {
        DeadlineExceeded::new(self.limit)
    }
}

/// The limits on the retries of one command or load.
#[derive(Clone, Copy)]
pub(super) struct Retrying<'a> {
    pub(super) clock: &'a dyn Clock,
    pub(super) policy: RetryPolicy,
    pub(super) tokens: &'a RetryTokens,
    pub(super) deadline: Deadline,
}

/// The failed attempts of one request.
#[derive(Debug)]
pub(super) struct Failures {
    is_write: bool,
    count: u32,
    /// An error after which the outcome of the write is unknown.
    unknown: Option<StoreError>,
}

impl Failures {
    pub(super) fn of_read() -> Self {
        Self { is_write: false, count: 0, unknown: None }
    }

    fn of_write() -> Self {
        Self { is_write: true, ..Self::of_read() }
    }

    fn is_unknown_after(&self, error: &StoreError) -> bool {
        self.is_write && (self.unknown.is_some() || error.is_outcome_unknown())
    }

    /// Returns the error of the request after its last attempt failed with `error`. `error` only describes that
    /// attempt: an earlier one may have an unknown outcome.
    fn result(&mut self, error: StoreError) -> StoreError {
        match self.unknown.take() {
            _ if !self.is_write => error.of_read(),
            Some(unknown) if !error.is_outcome_unknown() => unknown,
            _ => error,
        }
    }

    /// Returns the error of the write after its last attempt was refused. The refusal of an idempotency key applies to
    /// every attempt. A claim or a condition may still accept an earlier attempt that is delayed.
    fn refused(&mut self, error: WriteError) -> WriteError {
        match (error, self.unknown.take()) {
            (WriteError::Claimed(_) | WriteError::Refused(_), Some(unknown)) => unknown.into(),
            (error, _) => error,
        }
    }
}

impl Retrying<'_> {
    /// Fails if the deadline has passed.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.deadline.allows(Duration::ZERO, self.clock) {
            true => Ok(()),
            false => Err(self.deadline.exceeded().into()),
        }
    }

    /// Sends a read, and retries it as the limits allow.
    pub(super) async fn read<T, F>(&self, request: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut failures = Failures::of_read();
        self.check()?;
        loop {
            match request().await {
                Ok(response) => {
                    self.tokens.refill();
                    return Ok(response);
                }
                Err(error) => self.wait(error, &mut failures).await?,
            }
        }
    }

    /// Sends a write, and retries it until its outcome is known, as the limits allow. Adds the cost to `cost`.
    pub(super) async fn write<F>(&self, cost: &mut Cost, request: impl Fn() -> F) -> Result<(), WriteError>
    where
        F: Future<Output = Result<Cost, WriteError>>,
    {
        let mut failures = Failures::of_write();
        self.check()?;
        loop {
            let error = match request().await {
                Ok(written) => {
                    *cost += written;
                    self.tokens.refill();
                    return Ok(());
                }
                Err(error) => error,
            };
            *cost += match &error {
                WriteError::Conflict(conflict) => conflict.cost,
                _ => Cost::write(0.0), // the error does not say what it cost
            };
            match error {
                WriteError::Store(error) => self.wait(error, &mut failures).await?,
                refused => {
                    self.tokens.refill();
                    return Err(failures.refused(refused));
                }
            }
        }
    }

    /// Waits before the retry of a request that failed with `error`, or returns the error if it must not be retried.
    pub(super) async fn wait(&self, error: StoreError, failures: &mut Failures) -> Result<(), StoreError> {
        failures.count += 1;
        // Only a repetition resolves an unknown outcome, so errors such as expired credentials are retried, too.
        let resolves = failures.unknown.is_some() && error.is_transient();
        let may_pass = error.is_retryable() || resolves;
        let is_late = matches!(error, StoreError::DeadlineExceeded(_));
        if is_late || !may_pass || !self.policy.allows_another(failures.count) {
            return Err(failures.result(error));
        }
        let delay = self.policy.delay_after(failures.count);
        if !self.deadline.allows(delay, self.clock) {
            let outcome_unknown = failures.is_unknown_after(&error);
            let exceeded = self.deadline.exceeded().with_outcome_unknown(outcome_unknown);
            return Err(exceeded.with_last(error).into());
        }
        if !self.tokens.take() {
            measure::retry_budget_exhausted();
            tracing::debug!("the retry budget is used up");
            return Err(failures.result(error));
        }
        measure::retry(&error);
        tracing::debug!(error = %error_text(&error), attempts = failures.count, "retrying a request");
        self.clock.sleep(delay).await;
        if failures.is_write && error.is_outcome_unknown() {
            failures.unknown = Some(error);
        }
        Ok(())
    }

    /// Waits before a command is decided again after `attempts` attempts, or returns the error if it must not be.
    pub(super) async fn wait_after_conflict<E>(
        &self,
        conflict: Conflict,
        attempts: u32,
    ) -> Result<(), ExecuteError<E>> {
        if !self.policy.allows_another(attempts) {
            return Err(ExecuteError::Conflict(conflict));
        }
        let delay = self.policy.delay_after(attempts);
        if !self.deadline.allows(delay, self.clock) {
            return Err(StoreError::from(self.deadline.exceeded().with_last(conflict)).into());
        }
        tracing::debug!(stream = %conflict.stream, attempts, "retrying after a conflict");
        self.clock.sleep(delay).await;
        Ok(())
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
            let limit = limit.min(Duration::from_secs(1));
            assert!(policy.delay_after(attempts) <= limit);
            let delay = policy.equal_jitter_delay_after(attempts);
            assert!(limit / 2 <= delay && delay <= limit, "{attempts}: {delay:?}");
        }
    }

    #[test]
    fn counts_the_first_attempt() {
        assert!(!RetryPolicy::never().allows_another(1));
        assert!(RetryPolicy::default().with_max_attempts(2).allows_another(1));
        assert!(!RetryPolicy::default().with_max_attempts(2).allows_another(2));
    }
}
