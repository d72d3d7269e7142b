//! Spans of projections, processes, and publishers. Those of commands are in `repository/report.rs`.

use tracing::{Span, field};

use crate::measure::interrupted;

/// A span whose outcome is recorded once: at its end, or as `dropped` or `panicked` if its future is dropped before.
pub(crate) struct Operation {
    span: Span,
    ended: bool,
}

impl Operation {
    /// Starts the span of a page of events of a projection.
    pub(crate) fn page(projection: &str, build: u32, slice: u32) -> Self {
        Self::new(tracing::info_span!(
            "project",
            projection,
            build,
            slice,
            outcome = field::Empty,
            events = field::Empty,
            position = field::Empty,
        ))
    }

    /// Starts the span of the reaction of an instance to an event or a timeout.
    pub(crate) fn reaction(process: &str, instance: &str, event: &str, is_timeout: bool) -> Self {
        Self::new(tracing::info_span!(
            "react",
            process,
            instance,
            event,
            timeout = is_timeout,
            outcome = field::Empty
        ))
    }

    /// Starts the span of a batch that is sent to a broker.
    pub(crate) fn publish(system: &str, events: usize) -> Self {
        Self::new(tracing::info_span!(
            "publish",
            otel.kind = "producer",
            messaging.system = system,
            messaging.operation.name = "publish",
            "messaging.operation.type" = "send",
            messaging.batch.message_count = events,
            outcome = field::Empty,
            accepted = field::Empty,
        ))
    }

    fn new(span: Span) -> Self {
        Self { span, ended: false }
    }

    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    pub(crate) fn end(mut self, outcome: &'static str) {
        self.ended = true;
        self.span.record("outcome", outcome);
    }

    /// Records a figure, before the end.
    pub(crate) fn record(&self, figure: &'static str, value: u64) {
        self.span.record(figure, value);
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if !self.ended {
            self.span.record("outcome", interrupted());
        }
    }
}
