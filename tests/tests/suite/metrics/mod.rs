//! Metrics: each outcome is recorded once, and the list of metrics is complete.

mod commands;
pub(crate) mod consumers;

use std::collections::BTreeSet;
use std::path::Path;

use es_core::metrics::{METRICS, Metric, MetricKind};
use es_tests::recorder::Recorded;

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

/// Returns the names of metrics in a dashboard or in rules, as Prometheus shows them, with the labels that select them.
fn queried(text: &str) -> Vec<(&str, Vec<&str>)> {
    let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let mut found = Vec::new();
    for (start, _) in text.match_indices("es_") {
        if text[..start].ends_with(is_name) {
            continue;
        }
        let rest = &text[start..];
        let end = rest.find(|char| !is_name(char)).unwrap_or(rest.len());
        let selector = rest[end..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let selectors = selector.map_or("", |(selectors, _)| selectors).split(',');
        let labels = selectors.filter_map(|label| label.split_once(['=', '!']));
        found.push((&rest[..end], labels.map(|(label, _)| label).collect()));
    }
    found
}

/// The dashboard and the alarms use metrics of the code, with their labels, and the dashboard shows all of them.
#[test]
fn the_dashboard_and_the_alarms_use_existing_metrics() {
    let mut shown = BTreeSet::new();
    for file in ["docs/operations/grafana.json", "docs/operations/alarms.yaml"] {
        for (name, labels) in queried(&read(file)) {
            let parts = ["_bucket", "_sum", "_count"].map(|part| name.strip_suffix(part));
            let histogram = parts.into_iter().flatten().next();
            let is_same = |metric: &&Metric| {
                let exported = metric.name.replace('.', "_");
                match metric.kind {
                    MetricKind::Histogram => histogram == Some(exported.as_str()),
                    _ => name == exported,
                }
            };
            let metric =
                METRICS.iter().find(is_same).unwrap_or_else(|| panic!("{file}: {name} does not exist"));
            for label in labels {
                assert!(metric.labels.contains(&label), "{file}: {name} has no label {label}");
            }
            if file.ends_with("json") {
                shown.insert(metric.name);
            }
        }
    }
    let all: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(shown, all);
}

/// The book says what to do for each alarm.
#[test]
fn the_book_lists_all_alarms() {
    let (rules, book) = (read("docs/operations/alarms.yaml"), read("docs/src/metrics.md"));
    let alarms: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(alarms.len(), rules.matches("summary:").count());
    let rows: Vec<_> = book.lines().filter_map(|line| line.strip_prefix("| `Es")?.split_once('`')).collect();
    for alarm in &alarms {
        assert!(rows.iter().any(|(name, _)| format!("Es{name}") == *alarm), "the book has no {alarm}");
    }
    for (name, _) in rows {
        assert!(alarms.contains(&format!("Es{name}").as_str()), "there is no rule Es{name}");
    }
}

#[test]
fn every_metric_is_described_once() {
    let recorded = Recorded::default();
    recorded.during(es_core::metrics::describe);
    assert_eq!(recorded.described(), METRICS.iter().map(|metric| metric.name).collect::<Vec<_>>());
}
