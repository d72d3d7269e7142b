//! Metrics of commands, projections, and workers, through the facade of the crate [`metrics`] (feature
//! `metrics`).
//!
//! The framework records its metrics with the recorder that the application installs, for example an exporter for
//! Prometheus or OpenTelemetry. Without a recorder, they cost almost nothing. [`METRICS`] lists all of them. Call
//! [`describe`] once, after the recorder is installed:
//!
//! ```
//! # fn install_recorder() {}
//! install_recorder(); // for example `metrics_exporter_prometheus::PrometheusBuilder::new().install()`
//! es_core::metrics::describe();
//! ```
//!
//! # Labels
//!
//! The values of labels are names from the code: of aggregates, command types, projections, workers, and outcomes. Ids
//! are never labels, so the number of time series is bounded.
//!
//! # Outcomes
//!
//! The outcome of an operation is recorded once, when it ends: also if it panics (`panicked`), if its future is dropped
//! (`dropped`), or if its deadline passes (`deadline`).

mod catalog;
mod keys;

use ::metrics::{
    Counter, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit, with_recorder,
};

pub use catalog::*;
use keys::with_key;

/// A metric: its name, and how to interpret its values.
#[derive(Debug)]
#[non_exhaustive]
pub struct Metric {
    /// The name, such as `es.command.duration`.
    pub name: &'static str,
    /// The kind of its values.
    pub kind: MetricKind,
    /// The unit of its values.
    pub unit: Unit,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// The description of its values.
    pub description: &'static str,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetricKind {
    /// A number that only increases.
    Counter,
    /// A number that increases and decreases. Each process reports its own.
    Gauge,
    /// A distribution of numbers.
    Histogram,
}

impl MetricKind {
    /// Returns the name of the kind: `counter`, `gauge`, or `histogram`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Passes the unit and the description of every metric to the installed recorder. Exporters show them.
pub fn describe() {
    with_recorder(|recorder| METRICS.iter().for_each(|metric| metric.describe(recorder)));
}

/// Where the metrics are recorded, for recorders that filter by it.
static METADATA: Metadata<'static> = Metadata::new("es_core", Level::INFO, Some("es_core::metrics"));

impl Metric {
    fn describe(&self, recorder: &dyn Recorder) {
        let describe = match self.kind {
            MetricKind::Counter => Recorder::describe_counter,
            MetricKind::Gauge => Recorder::describe_gauge,
            MetricKind::Histogram => Recorder::describe_histogram,
        };
        describe(recorder, KeyName::from_const_str(self.name), Some(self.unit), self.description.into());
    }

    /// Adds `count` to the counter with these values of its labels. For authors of stores and workers.
    pub fn add<const N: usize>(&self, labels: [SharedString; N], count: u64) {
        self.counter(&self.key(labels)).increment(count);
    }

    /// Sets the gauge with these values of its labels. For authors of stores and workers.
    pub fn set<const N: usize>(&self, labels: [SharedString; N], value: f64) {
        let key = self.key(labels);
        with_recorder(|recorder| recorder.register_gauge(&key, &METADATA)).set(value);
    }

    /// Like [`add`](Self::add), and faster. The values of the labels are constants.
    pub fn add_constant<const N: usize>(&self, labels: [&'static str; N], count: u64) {
        with_key(self, labels, |key| self.counter(key)).increment(count);
    }

    /// Adds `value` to the histogram with these values of its labels. For authors of stores and workers.
    pub fn record<const N: usize>(&self, labels: [SharedString; N], value: f64) {
        self.histogram(&self.key(labels)).record(value);
    }

    /// Like [`record`](Self::record), and faster. The values of the labels are constants.
    pub fn record_constant<const N: usize>(&self, labels: [&'static str; N], value: f64) {
        with_key(self, labels, |key| self.histogram(key)).record(value);
    }

    fn counter(&self, key: &Key) -> Counter {
        debug_assert_eq!(self.kind, MetricKind::Counter, "{}", self.name);
        with_recorder(|recorder| recorder.register_counter(key, &METADATA))
    }

    fn histogram(&self, key: &Key) -> Histogram {
        debug_assert_eq!(self.kind, MetricKind::Histogram, "{}", self.name);
        with_recorder(|recorder| recorder.register_histogram(key, &METADATA))
    }

    fn key<const N: usize>(&self, values: [SharedString; N]) -> Key {
        debug_assert_eq!(self.labels.len(), N, "{}", self.name);
        let labels: Vec<_> =
            self.labels.iter().zip(values).map(|(name, value)| Label::new(*name, value)).collect();
        Key::from_parts(self.name, labels)
    }
}
