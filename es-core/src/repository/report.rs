//! Spans and logs of commands and loads.

use std::error::Error;
use std::fmt::Display;

use tracing::{Span, field};

use crate::aggregate::Aggregate;
use crate::cost::Cost;
use crate::error_text::error_text;
use crate::measure::{self, Operation, Stopwatch};
use crate::repository::ExecuteError;
use crate::store::StoreError;
use crate::version::Version;

/// The numbers of a command, for its span.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) attempts: u32,
    pub(crate) version: Version,
    pub(crate) events: usize,
    /// The number of commits that were written together with that of the command, if it waited for others.
    pub(crate) group: Option<usize>,
    pub(crate) cost: Cost,
}

/// The span and the metrics of a command, a transaction, or a load. Its outcome is recorded once: as `dropped` or
/// `panicked` if the future is dropped before it completes.
pub(crate) struct Report {
    span: Span,
    operation: Operation,
    since: Stopwatch,
    ended: bool,
}

impl Report {
    /// Starts the span of a command. `name` is called only if it is needed.
    pub(crate) fn command<A: Aggregate>(id: &A::Id, name: impl Fn() -> &'static str) -> Self {
        let span = tracing::info_span!(
            "execute",
            aggregate = A::NAME,
            %id,
            command = name(),
            outcome = field::Empty,
            attempts = field::Empty,
            version = field::Empty,
            events = field::Empty,
            group = field::Empty,
            requests = field::Empty,
            rcu = field::Empty,
            wcu = field::Empty,
        );
        let command = if cfg!(feature = "metrics") { name() } else { "" };
        Self::new(span, Operation::Command { aggregate: A::NAME, command })
    }

    /// Starts the span of one command in a transaction. Its cost is in the span of the transaction.
    pub(crate) fn part<A: Aggregate>(id: &A::Id, name: &'static str) -> Self {
        let span = tracing::info_span!(
            "execute",
            aggregate = A::NAME,
            %id,
            command = name,
            outcome = field::Empty,
            version = field::Empty,
            events = field::Empty,
        );
        Self::new(span, Operation::Part { aggregate: A::NAME, command: name })
    }

    pub(crate) fn transaction(aggregates: usize) -> Self {
        let span = tracing::info_span!(
            "transaction",
            aggregates,
            outcome = field::Empty,
            attempts = field::Empty,
            events = field::Empty,
            requests = field::Empty,
            rcu = field::Empty,
            wcu = field::Empty,
        );
        Self::new(span, Operation::Transaction)
    }

    pub(crate) fn load<A: Aggregate>(id: &A::Id) -> Self {
        let span = tracing::info_span!(
            "load",
            aggregate = A::NAME,
            %id,
            outcome = field::Empty,
            version = field::Empty,
            snapshot = field::Empty,
            requests = field::Empty,
            rcu = field::Empty,
        );
        Self::new(span, Operation::Load { aggregate: A::NAME })
    }

    fn new(span: Span, operation: Operation) -> Self {
        Self { span, operation, since: Stopwatch::start(), ended: false }
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// Records the outcome. The span ignores fields that it does not have.
    pub(crate) fn end(&mut self, outcome: &'static str, numbers: Numbers) {
        self.ended = true;
        self.operation.ended(outcome, Some(numbers.attempts), self.since);
        if self.span.is_disabled() {
            return;
        }
        self.span.record("outcome", outcome);
        self.span.record("attempts", numbers.attempts);
        self.span.record("version", numbers.version.get());
        self.span.record("events", numbers.events);
        if let Some(group) = numbers.group {
            self.span.record("group", group);
        }
        self.end_with_cost(numbers.cost);
    }

    /// Records the outcome of a load.
    pub(crate) fn end_load(
        &mut self,
        outcome: &'static str,
        version: Version,
        snapshot: Version,
        cost: Cost,
    ) {
        self.ended = true;
        self.operation.ended(outcome, None, self.since);
        if self.span.is_disabled() {
            return;
        }
        self.span.record("outcome", outcome);
        self.span.record("version", version.get());
        if !snapshot.is_none() {
            self.span.record("snapshot", snapshot.get());
        }
        self.end_with_cost(cost);
    }

    fn end_with_cost(&self, cost: Cost) {
        self.span.record("requests", cost.requests);
        self.span.record("rcu", cost.read_units);
        self.span.record("wcu", cost.write_units);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if !self.ended {
            let outcome = measure::interrupted();
            self.span.record("outcome", outcome);
            self.operation.ended(outcome, None, self.since);
        }
    }
}

impl<E> ExecuteError<E> {
    /// Returns the outcome of a failed command for its span.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Rejected(_) => "rejected",
            Self::Conflict(_) => "conflict",
            Self::AlreadyExists(_) => "already exists",
            Self::Closed(_) => "closed",
            Self::Outdated(_) => "outdated",
            Self::Claimed(_) => "claimed",
            Self::Refused(_) => "refused",
            Self::KeyReused(_) => "key reused",
            Self::Store(error) => store_outcome(error),
        }
    }

    /// Logs why the command failed, with its stream and name, because the span may be disabled. The reason for a
    /// rejection is not logged: it is meant for the caller, and may be confidential.
    pub(crate) fn log(&self, stream: &dyn Display, command: &str, attempts: u32) {
        match self {
            Self::Rejected(_) => {
                tracing::debug!(%stream, command, "the command was rejected");
            }
            Self::Conflict(conflict) => {
                let error = error_text(conflict);
                tracing::warn!(%stream, command, attempts, error, "every attempt ended with a conflict");
            }
            Self::Store(error) => log_failure(error, stream, command),
            Self::AlreadyExists(error) | Self::Outdated(error) => not_executed(error, stream, command),
            Self::Claimed(error) => not_executed(error, stream, command),
            Self::Closed(error) => not_executed(error, stream, command),
            Self::Refused(error) => not_executed(error, stream, command),
            Self::KeyReused(error) => {
                tracing::warn!(%stream, command, error = error_text(error), "an idempotency key was reused");
            }
        }
    }
}

fn not_executed(error: &(dyn Error + 'static), stream: &dyn Display, command: &str) {
    tracing::debug!(%stream, command, error = error_text(error), "the command was not executed");
}

/// Returns the outcome of a command or a load that failed in the store for its span.
pub(crate) fn store_outcome(error: &StoreError) -> &'static str {
    match error {
        StoreError::DeadlineExceeded(_) => "deadline",
        StoreError::Closed(_) => "closed",
        _ => "store error",
    }
}

/// Logs and counts a failure of the store: as an error, unless the request is invalid.
pub(crate) fn log_failure(error: &StoreError, stream: &dyn Display, command: &str) {
    measure::store_error(error);
    let text = error_text(error);
    match error {
        StoreError::Closed(_) => not_executed(error, stream, command),
        StoreError::Invalid { .. } | StoreError::TooLarge { .. } | StoreError::Encode(_) => {
            tracing::warn!(%stream, command, error = text, "the request is invalid");
        }
        _ => tracing::error!(%stream, command, error = text, "the store failed"),
    }
}
