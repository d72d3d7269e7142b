//! Outages of the table, during which an indexer retries, and their log.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use es_core::{StoreError, error_text};
use tokio::time::Instant;

use crate::table::retry::Backoff;

/// The interval at which a continuing outage is logged.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The failing requests of one indexer. Regardless of their number, one warning is logged when they start to fail and
/// then once a minute, and an INFO when all of them succeed again.
#[derive(Debug, Default)]
pub(crate) struct Outages(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The number of failing tasks for each kind of request.
    failing: BTreeMap<&'static str, usize>,
    /// The start of the outage.
    since: Option<Instant>,
    /// When the last warning was logged.
    warned: Option<Instant>,
    /// Whether a warning was logged for this outage.
    is_logged: bool,
}

impl Outages {
    /// Tracks requests of one kind that are sent one after another. Dropping the result during an outage ends tracking
    /// without a message, because another process is expected to continue.
    pub(crate) fn of(&self, what: &'static str) -> Outage<'_> {
        Outage { all: self, what, backoff: Backoff::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests of one kind, and the backoff while they fail.
#[derive(Debug)]
pub(crate) struct Outage<'a> {
    all: &'a Outages,
    what: &'static str,
    backoff: Backoff,
}

impl Outage<'_> {
    /// Records a failure, and returns the delay before the next attempt.
    pub(crate) fn failed(&mut self, error: &StoreError) -> Duration {
        let (what, now) = (self.what, Instant::now());
        let mut state = self.all.state();
        *state.failing.entry(what).or_default() += usize::from(self.backoff.failures() == 0);
        let since = *state.since.get_or_insert(now);
        if state.warned.is_none_or(|warned| now - warned >= WARNING_INTERVAL) {
            (state.warned, state.is_logged) = (Some(now), true);
            tracing::warn!(
                what,
                failing_for_seconds = (now - since).as_secs(),
                error = error_text(error),
                "waiting for the table"
            );
        }
        self.backoff.next()
    }

    /// Records a success.
    pub(crate) fn is_over(&mut self) {
        let mut state = self.all.state();
        self.count_off(&mut state);
        if state.failing.get(self.what) == Some(&0) {
            state.failing.remove(self.what);
        }
        if state.failing.is_empty()
            && let Some(since) = state.since.take()
            && std::mem::take(&mut state.is_logged)
        {
            tracing::info!(failed_for_seconds = since.elapsed().as_secs(), "the table responds again");
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

impl Drop for Outage<'_> {
    fn drop(&mut self) {
        let all = self.all;
        self.count_off(&mut all.state());
    }
}

/// Limits the duration of an attempt, so that a request without a response does not block its task.
pub(crate) async fn bounded<T, E: From<StoreError>>(
    limit: Duration,
    attempt: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match tokio::time::timeout(limit, attempt).await {
        Ok(outcome) => outcome,
        Err(_) => Err(StoreError::unavailable(format!("no response within {limit:?}")).into()),
    }
}
