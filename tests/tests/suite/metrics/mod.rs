//! Metrics: each outcome is recorded once, and the list of metrics is complete.

mod commands;
pub(crate) mod consumers;
mod recorder;

use std::collections::BTreeSet;
use std::path::Path;

use es_core::metrics::{METRICS, Metric};

use recorder::Recorded;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the row of a metric in the table of the book.
fn row(metric: &Metric) -> String {
    let Metric { name, kind, unit, labels, description, .. } = metric;
    let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
    format!("| `{name}` | {} | {} | {} | {description} |", kind.as_str(), unit.as_str(), labels.join(", "))
}

/// The table in the book is the list of metrics in the code.
#[test]
fn the_book_lists_all_metrics() {
    let header = "| metric | kind | unit | labels | meaning |\n|---|---|---|---|---|";
    let rows: Vec<_> = METRICS.iter().map(row).collect();
    let table = format!("{header}\n{}\n", rows.join("\n"));
    let book = read("docs/src/metrics.md");
    assert!(book.contains(&table), "docs/src/metrics.md does not contain this table:\n\n{table}");
}

#[test]
fn names_are_unique_and_follow_the_rules() {
    let mut names = BTreeSet::new();
    for metric in METRICS {
        assert!(names.insert(metric.name), "{} is there twice", metric.name);
        let is_allowed = |char: char| char.is_ascii_lowercase() || char == '.' || char == '_';
        assert!(metric.name.starts_with("es.") && metric.name.chars().all(is_allowed), "{}", metric.name);
        for label in metric.labels {
            assert!(
                !["id", "stream", "key", "version", "position"].contains(label),
                "{} {label}",
                metric.name
            );
        }
    }
}

#[test]
fn every_metric_is_described_once() {
    let recorded = Recorded::default();
    metrics::with_local_recorder(&recorded, es_core::metrics::describe);
    assert_eq!(recorded.described(), METRICS.iter().map(|metric| metric.name).collect::<Vec<_>>());
}
