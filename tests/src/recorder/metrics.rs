//! Records the metrics of a test.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use es_core::metrics::{METRICS, MetricKind};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

/// The recorded values by metric, as in `es.load.events{account,start}`.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    values: Arc<Mutex<BTreeMap<String, Vec<f64>>>>,
    described: Arc<Mutex<Vec<String>>>,
}

impl Recorded {
    /// Runs `work` on this thread with paused time, and returns what it records.
    pub fn of(work: impl Future<Output = ()>) -> Self {
        let recorded = Self::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        recorded.during(|| runtime.expect("starts").block_on(work));
        recorded
    }

    /// Runs `work`, and records its metrics of this thread.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(self, work)
    }

    /// Returns the values of a metric in the order of their recording. `labels` are the values of its labels.
    pub fn values(&self, name: &str, labels: &[&str]) -> Vec<f64> {
        let values = self.values.lock().expect("is not poisoned");
        values.get(&format!("{name}{{{}}}", labels.join(","))).cloned().unwrap_or_default()
    }

    /// Returns the sum of the values of a metric.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.values(name, labels).iter().sum()
    }

    /// Returns the last value of a metric.
    pub fn last(&self, name: &str, labels: &[&str]) -> f64 {
        *self.values(name, labels).last().unwrap_or_else(|| panic!("{name} {labels:?} is not in {self:?}"))
    }

    /// Returns all series of a metric, with the number of their values and the sum.
    pub fn series(&self, name: &str) -> Vec<(String, usize, f64)> {
        let values = self.values.lock().expect("is not poisoned");
        let start = format!("{name}{{");
        let series = values.iter().filter_map(|(series, values)| {
            let labels = series.strip_prefix(&start)?.strip_suffix('}')?;
            Some((labels.to_owned(), values.len(), values.iter().sum()))
        });
        series.collect()
    }

    /// Returns the names of the metrics that were described, in their order.
    pub fn described(&self) -> Vec<String> {
        self.described.lock().expect("is not poisoned").clone()
    }

    /// Returns a handle for the values of a metric, which must be in the list of all metrics.
    fn handle(&self, kind: MetricKind, key: &Key) -> Arc<Handle> {
        let metric = METRICS.iter().find(|metric| metric.name == key.name());
        let metric = metric.unwrap_or_else(|| panic!("the list of metrics has no {}", key.name()));
        let labels: Vec<_> = key.labels().map(metrics::Label::key).collect();
        assert_eq!((metric.kind, metric.labels), (kind, &*labels), "{}", metric.name);
        let values: Vec<_> = key.labels().map(metrics::Label::value).collect();
        let series = format!("{}{{{}}}", key.name(), values.join(","));
        Arc::new(Handle { series, values: Arc::clone(&self.values) })
    }

    fn describe(&self, name: &KeyName, unit: Option<Unit>, description: &str) {
        assert!(unit.is_some() && description.ends_with('.'), "{name:?}: {description}");
        self.described.lock().expect("is not poisoned").push(name.as_str().to_owned());
    }
}

struct Handle {
    series: String,
    values: Arc<Mutex<BTreeMap<String, Vec<f64>>>>,
}

impl Handle {
    fn push(&self, value: f64) {
        let mut values = self.values.lock().expect("is not poisoned");
        values.entry(self.series.clone()).or_default().push(value);
    }
}

impl CounterFn for Handle {
    fn increment(&self, value: u64) {
        self.push(value as f64);
    }

    fn absolute(&self, _: u64) {
        unreachable!("counters are incremented");
    }
}

impl GaugeFn for Handle {
    fn increment(&self, _: f64) {
        unreachable!("gauges are set");
    }

    fn decrement(&self, _: f64) {
        unreachable!("gauges are set");
    }

    fn set(&self, value: f64) {
        self.push(value);
    }
}

impl HistogramFn for Handle {
    fn record(&self, value: f64) {
        self.push(value);
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&name, unit, &description);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&name, unit, &description);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&name, unit, &description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.handle(MetricKind::Counter, key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.handle(MetricKind::Gauge, key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.handle(MetricKind::Histogram, key))
    }
}
