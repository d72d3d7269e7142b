//! The list of all metrics.

use ::metrics::Unit;

use super::{Metric, MetricKind};

/// Defines each metric as a constant, and the list of all of them.
macro_rules! metrics {
    ($($constant:ident = $kind:ident($name:literal, $unit:ident, [$($label:literal),*]), $description:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $description)]
            pub const $constant: Metric = Metric {
                name: $name,
                kind: MetricKind::$kind,
                unit: Unit::$unit,
                labels: &[$($label),*],
                description: $description,
            };
        )*

        /// All metrics of the framework, including those of stores.
        pub const METRICS: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    COMMAND_DURATION = Histogram("es.command.duration", Seconds, ["aggregate", "command"]),
        "The duration of a command, with all attempts.";
    COMMAND_ATTEMPTS = Histogram("es.command.attempts", Count, ["aggregate", "command"]),
        "The number of times that a command was decided: 1 without conflicts.";
    COMMAND_OUTCOME = Counter("es.command.outcome", Count, ["aggregate", "command", "outcome"]),
        "The number of commands by outcome, including those of transactions.";
    COMMAND_CONFLICTS = Counter("es.command.conflicts", Count, ["aggregate"]),
        "The number of writes that lost the race against another writer.";
    COMMAND_GROUP = Histogram("es.command.group", Count, ["aggregate"]),
        "The number of commits in a write that concurrent commands share.";
    TRANSACTION_DURATION = Histogram("es.transaction.duration", Seconds, []),
        "The duration of a transaction, with all attempts.";
    TRANSACTION_ATTEMPTS = Histogram("es.transaction.attempts", Count, []),
        "The number of times that a transaction was decided.";
    TRANSACTION_OUTCOME = Counter("es.transaction.outcome", Count, ["outcome"]),
        "The number of transactions by outcome.";
    LOAD_DURATION = Histogram("es.load.duration", Seconds, ["aggregate", "outcome"]),
        "The duration of a load by the application. Loads of commands are part of the command.";
    LOAD_EVENTS = Histogram("es.load.events", Count, ["aggregate", "source"]),
        "The number of events that were read to get a state: from the `start`, from a `snapshot`, or from a state \
         in memory (`cache`).";
    SNAPSHOT_WRITES = Counter("es.snapshot.writes", Count, ["aggregate", "outcome"]),
        "The number of snapshots by outcome: `written` or `failed`.";
    STORE_ERRORS = Counter("es.store.errors", Count, ["kind"]),
        "The number of commands and reads that ended with an error of the store, by kind: `throttled`, \
         `unavailable`, `deadline`, `setup`, `corrupt`, `decode`, `feed`, `closed`, `invalid`, or `backend`.";
    REQUEST_RETRIES = Counter("es.request.retries", Count, ["kind"]),
        "The number of requests of commands and loads that were sent again, by the kind of the error.";
    RETRY_BUDGET_EXHAUSTED = Counter("es.request.retry_budget_exhausted", Count, []),
        "The number of requests that were not sent again because the retry budget was used up.";
    CAPACITY = Histogram("es.capacity", Count, ["operation"]),
        "The capacity units of a DynamoDB request, by operation. The sum is the consumption, the count the number \
         of requests.";
    PROJECTION_LAG = Gauge("es.projection.lag", Seconds, ["projection", "slice"]),
        "The age of the oldest event that is known and not handled. 0 if there is none, or if this process does not \
         process the slice.";
    PROJECTION_PARKED = Gauge("es.projection.parked", Count, ["projection", "slice"]),
        "The number of parked events (dead letters). Every worker reports all slices.";
    PROJECTION_STOPPED = Gauge("es.projection.stopped", Count, ["projection", "slice"]),
        "1 while the slice is stopped at a failure, else 0. Every worker reports all slices.";
    PROJECTION_SLICES = Gauge("es.projection.slices", Count, ["projection"]),
        "The number of slices that this process processes.";
    PROJECTION_EVENTS = Counter("es.projection.events", Count, ["projection", "outcome"]),
        "The number of events and timeouts in checkpoints by outcome: `handled`, `parked`, or `skipped`.";
    PROJECTION_CHECKPOINTS = Counter("es.projection.checkpoints", Count, ["projection"]),
        "The number of checkpoints.";
    PROJECTION_RETRIES = Counter("es.projection.retries", Count, ["projection", "kind"]),
        "The number of attempts that failed and are repeated: after an error of a handler (`handler`), or a \
         `transient` error of the store or a service.";
    PROJECTION_FAILURES = Counter("es.projection.failures", Count, ["projection", "kind"]),
        "The number of times that the work on a slice ended: at an event (`stopped`), because stored data cannot be \
         processed (`error`), without progress (`stalled`), or by a panic (`panicked`).";
    TIMEOUT_LAG = Histogram("es.process.timeout.lag", Seconds, ["process"]),
        "The time from when a timeout is due until a process has reacted to it.";
    PUBLISH_DURATION = Histogram("es.publish.duration", Seconds, ["publisher", "outcome"]),
        "The duration of sending a batch to a broker, by outcome: `accepted`, `partial`, `failed`, `dropped`, or \
         `panicked`.";
    PUBLISH_EVENTS = Counter("es.publish.events", Count, ["publisher", "outcome"]),
        "The number of events that were sent to a broker by outcome: `accepted`, `transient` (sent again), or \
         `permanent` (rejected).";
    INDEXER_LAG = Gauge("es.indexer.lag", Seconds, []),
        "An upper bound for the lag of the feed behind the table, of the shards that this process reads.";
    INDEXER_EVENTS = Counter("es.indexer.events", Count, []),
        "The number of events that were added to the feed.";
    INDEXER_DAMAGED = Gauge("es.indexer.damaged", Count, []),
        "The number of streams that this process has found damaged and does not index any further.";
    FEED_HELD = Gauge("es.feed.held", Seconds, ["schema"]),
        "How long an open transaction of PostgreSQL has held back commits from the feed, as far as this process has \
         seen. 0 if no commit waits.";
    WORKER_FAILURES = Counter("es.worker.failures", Count, ["worker"]),
        "The number of errors and panics that ended a worker. It is restarted.";
    WORKER_SHUTDOWNS = Counter("es.worker.shutdowns", Count, ["outcome"]),
        "The number of shutdowns of all workers by outcome: `complete`, `incomplete`, or `dropped` (interrupted by \
         a second signal).";
}
