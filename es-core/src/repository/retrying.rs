//! One command or load against its limits: deadline, attempts, and the shared retry budget.

use std::error::Error;
use std::time::Duration;

use crate::clock::Clock;
use crate::error_text::error_text;
use crate::repository::retry::RetryTokens;
use crate::repository::{ExecuteError, RetryPolicy};
use crate::store::{Conflict, DeadlineExceeded, StoreError, WriteError};

/// How long a command or a load may take, where nothing else is set: 30 seconds.
pub(crate) const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// When a command or a load has to end, by the monotonic time of its clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    limit: Duration,
    end: Duration,
}

impl Deadline {
    /// `limit` from now; never without one.
    pub(crate) fn after(limit: Option<Duration>, clock: &dyn Clock) -> Self {
        let limit = limit.unwrap_or(Duration::MAX);
        let now = if limit == Duration::MAX { Duration::ZERO } else { clock.monotonic() };
        Self { limit, end: now.saturating_add(limit) }
    }

    /// Whether it has not passed after `delay`.
    fn allows(&self, delay: Duration, clock: &dyn Clock) -> bool {
        self.end == Duration::MAX || clock.monotonic().saturating_add(delay) < self.end
    }

    fn exceeded(&self, outcome_unknown: bool, last: Option<Box<dyn Error + Send + Sync>>) -> StoreError {
        DeadlineExceeded::new(self.limit, outcome_unknown, last).into()
    }
}

/// How one command or load may retry.
#[derive(Clone, Copy)]
pub(crate) struct Retrying<'a> {
    pub(crate) clock: &'a dyn Clock,
    pub(crate) policy: RetryPolicy,
    pub(crate) tokens: &'a RetryTokens,
    pub(crate) deadline: Deadline,
}

/// How often one request was sent without success.
#[derive(Debug)]
pub(crate) struct Sent {
    is_write: bool,
    count: u32,
    /// An error after which it is unknown whether a write was carried out.
    unknown: Option<StoreError>,
}

impl Sent {
    pub(crate) fn read() -> Self {
        Self { is_write: false, count: 0, unknown: None }
    }

    pub(crate) fn write() -> Self {
        Self { is_write: true, ..Self::read() }
    }

    fn is_unknown_after(&self, error: &StoreError) -> bool {
        self.is_write && (self.unknown.is_some() || error.is_outcome_unknown())
    }

    /// Returns the error of the request after its last attempt failed with `error`, which may say that nothing was
    /// written, but only knows about that attempt.
    fn result(&mut self, error: StoreError) -> StoreError {
        match self.unknown.take() {
            _ if !self.is_write => error.of_read(),
            Some(unknown) if !error.is_outcome_unknown() => unknown,
            _ => error,
        }
    }

    /// What to return after the last attempt was refused. A marker refuses every attempt of a write; a claim, or the
    /// condition of a joined write, may let a late one pass.
    pub(crate) fn refused(&mut self, error: WriteError) -> WriteError {
        match (error, self.unknown.take()) {
            (WriteError::Claimed(_) | WriteError::Refused(_), Some(unknown)) => unknown.into(),
            (error, _) => error,
        }
    }
}

impl Retrying<'_> {
    /// Sends a read until it succeeds, or may not be retried.
    pub(crate) async fn read<T, F>(&self, request: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut sent = Sent::read();
        self.check()?;
        loop {
            match request().await {
                Ok(response) => {
                    self.tokens.refill();
                    return Ok(response);
                }
                Err(error) => self.wait(error, &mut sent).await?,
            }
        }
    }

    /// Fails when the deadline has passed.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.deadline.allows(Duration::ZERO, self.clock) {
            true => Ok(()),
            false => Err(self.deadline.exceeded(false, None)),
        }
    }

    /// Waits until a request that failed with `error` may be sent again, or returns why not.
    pub(crate) async fn wait(&self, error: StoreError, sent: &mut Sent) -> Result<(), StoreError> {
        sent.count += 1;
        // Only a repetition resolves an unknown outcome, also if expired credentials, for example, get in its way.
        let resolves = sent.unknown.is_some() && error.is_transient();
        let may_pass = error.is_retryable() || resolves;
        let is_late = matches!(error, StoreError::DeadlineExceeded(_));
        if is_late || !may_pass || !self.policy.allows_another(sent.count) {
            return Err(sent.result(error));
        }
        let delay = self.policy.delay_after(sent.count);
        if !self.deadline.allows(delay, self.clock) {
            let outcome_unknown = sent.is_unknown_after(&error);
            return Err(self.deadline.exceeded(outcome_unknown, Some(error.into())));
        }
        if !self.tokens.take() {
            tracing::debug!("the retry budget is used up");
            return Err(sent.result(error));
        }
        tracing::debug!(error = %error_text(&error), sent = sent.count, "sending a request again");
        self.clock.sleep(delay).await;
        if sent.is_write && error.is_outcome_unknown() {
            sent.unknown = Some(error);
        }
        Ok(())
    }

    /// Waits until a command may be decided again after its attempt number `attempts`, or returns why not.
    pub(crate) async fn wait_after_conflict<E>(
        &self,
        conflict: Conflict,
        attempts: u32,
    ) -> Result<(), ExecuteError<E>> {
        if !self.policy.allows_another(attempts) {
            return Err(ExecuteError::Conflict(conflict));
        }
        let delay = self.policy.delay_after(attempts);
        if !self.deadline.allows(delay, self.clock) {
            return Err(self.deadline.exceeded(false, Some(conflict.into())).into());
        }
        tracing::debug!(stream = %conflict.stream, attempts, "another writer came first");
        self.clock.sleep(delay).await;
        Ok(())
    }
}
