//! The cost of calls that do not return it, by the metric `es.capacity`.

use es_core::Cost;
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

/// Counts all requests of this process to DynamoDB.
#[derive(Clone, Debug)]
pub(super) struct Meter(PrometheusHandle);

impl Meter {
    /// Installs the recorder of the metrics.
    pub(super) fn install() -> Result<Self, BuildError> {
        PrometheusBuilder::new().install_recorder().map(Self)
    }

    /// Returns the cost of all requests so far.
    fn total(&self) -> Cost {
        let text = self.0.render();
        let of = |name: &str| {
            let lines = text
                .lines()
                .filter_map(|line| line.strip_prefix("es_capacity_")?.strip_prefix(name)?.split_once(' '));
            lines
                .map(|(labels, value)| (labels.contains("PutItem"), value.parse::<f64>().unwrap_or_default()))
                .fold((0.0, 0.0), |(reads, writes), (is_write, value)| match is_write {
                    true => (reads, writes + value),
                    false => (reads + value, writes),
                })
        };
        let ((read_units, write_units), (reads, writes)) = (of("sum"), of("count"));
        let mut total = Cost::ZERO;
        total.requests = (reads + writes) as u32;
        (total.read_units, total.write_units) = (read_units, write_units);
        total
    }

    /// Returns the output of a future, and the cost of the requests during it.
    pub(super) async fn measure<T>(&self, call: impl Future<Output = T>) -> (T, Cost) {
        let before = self.total();
        let output = call.await;
        let mut cost = self.total();
        cost.requests -= before.requests;
        cost.read_units -= before.read_units;
        cost.write_units -= before.write_units;
        (output, cost)
    }
}
