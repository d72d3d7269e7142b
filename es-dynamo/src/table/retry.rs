//! Retries: exponential backoff with jitter, and outages that are waited out.

#[cfg(feature = "indexer")]
use std::collections::BTreeMap;
#[cfg(feature = "indexer")]
use std::sync::{Mutex, MutexGuard, PoisonError};
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

/// How often an outage is logged while it lasts.
#[cfg(feature = "indexer")]
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The requests of one indexer that fail: however many there are, the log has a warning when they begin and then once
/// a minute, and an INFO when all of them succeed again.
#[cfg(feature = "indexer")]
#[derive(Debug, Default)]
pub(crate) struct Outages(Mutex<State>);

#[cfg(feature = "indexer")]
#[derive(Debug, Default)]
struct State {
    /// What fails, and for how many at the moment.
    failing: BTreeMap<&'static str, usize>,
    /// Since when there is always something that fails.
    since: Option<Instant>,
    /// When the last warning was logged.
    warned: Option<Instant>,
    /// Whether a warning was logged since then.
    is_known: bool,
}

#[cfg(feature = "indexer")]
impl Outages {
    /// Requests of one kind, one after the other. What is dropped while it fails is expected to go on elsewhere.
    pub(crate) fn of(&self, what: &'static str) -> Outage<'_> {
        Outage { all: self, what, backoff: Backoff::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests of one kind, and the backoff while they fail.
#[cfg(feature = "indexer")]
#[derive(Debug)]
pub(crate) struct Outage<'a> {
    all: &'a Outages,
    what: &'static str,
    backoff: Backoff,
}

#[cfg(feature = "indexer")]
impl Outage<'_> {
    /// Notes a failure; returns the pause after it.
    pub(crate) fn failed(&mut self, error: &StoreError) -> Duration {
        let (what, now) = (self.what, Instant::now());
        let mut state = self.all.state();
        *state.failing.entry(what).or_default() += usize::from(self.backoff.failures() == 0);
        let since = *state.since.get_or_insert(now);
        if state.warned.is_none_or(|warned| now - warned >= WARNING_INTERVAL) {
            (state.warned, state.is_known) = (Some(now), true);
            tracing::warn!(
                what,
                failing_for_seconds = (now - since).as_secs(),
                error = error_text(error),
                "waiting for the table"
            );
        }
        self.backoff.next()
    }

    /// Notes a success.
    pub(crate) fn is_over(&mut self) {
        let mut state = self.all.state();
        self.count_off(&mut state);
        if state.failing.get(self.what) == Some(&0) {
            state.failing.remove(self.what);
        }
        if state.failing.is_empty()
            && let Some(since) = state.since.take()
            && std::mem::take(&mut state.is_known)
        {
            tracing::info!(failed_for_seconds = since.elapsed().as_secs(), "the table answers again");
        }
    }

    fn count_off(&mut self, state: &mut State) {
        if self.backoff.failures() > 0
            && let Some(count) = state.failing.get_mut(self.what)
        {
            *count -= 1;
        }
        self.backoff.reset();
    }
}

#[cfg(feature = "indexer")]
impl Drop for Outage<'_> {
    fn drop(&mut self) {
        let all = self.all;
        self.count_off(&mut all.state());
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
