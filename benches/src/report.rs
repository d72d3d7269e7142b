//! Numbers as text, and tables as markdown.

use std::fmt::Display;
use std::time::Duration;

/// Returns the median, or NaN if there are no values.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns a percentile of sorted durations.
pub fn percentile(sorted: &[Duration], part: f64) -> Duration {
    let place = (sorted.len() as f64 * part) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Formats a number with about three significant digits, in groups of three.
pub fn number(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

/// Formats a count, or an average of counts.
pub fn count(value: f64) -> String {
    let text = number(value);
    match text.split_once('.') {
        Some((whole, "0" | "00")) => whole.to_owned(),
        _ => text,
    }
}

pub fn milliseconds(duration: Duration) -> String {
    number(duration.as_secs_f64() * 1e3)
}

/// Formats a ratio with two significant digits.
pub fn times(ratio: f64) -> String {
    let decimals = match ratio {
        ratio if ratio < 0.001 => 5,
        ratio if ratio < 0.01 => 4,
        ratio if ratio < 0.1 => 3,
        _ => 2,
    };
    format!("{ratio:.decimals$}")
}

/// Prints the command line of this run of `program`.
pub fn command(program: &str) {
    let mut command = String::new();
    if std::env::var_os("ES_DYNAMO_ENDPOINT").is_some() {
        command += "scripts/dynamodb-local ";
    }
    command += &match &*profile() {
        "debug" => "cargo run ".to_owned(),
        "release" => "cargo run --release ".to_owned(),
        profile => format!("cargo run --profile {profile} "),
    };
    command += "-p es-benches --bin ";
    command += program;
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if !arguments.is_empty() {
        command += " -- ";
        command += &arguments.join(" ");
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("```console\n$ {command}     # on {cores} cores\n```\n");
}

/// Returns the profile of the build, which is the name of the directory of the program.
pub fn profile() -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let directory = program.parent().and_then(std::path::Path::file_name).unwrap_or_default();
    directory.to_string_lossy().into_owned()
}

/// A table whose first `texts` columns contain text, and the others numbers.
pub struct Table {
    columns: usize,
}

impl Table {
    pub fn new(texts: usize, columns: &[&str]) -> Self {
        println!("| {} |", columns.join(" | "));
        let rules = (0..columns.len()).map(|column| if column < texts { "---" } else { "---:" });
        println!("|{}|", rules.collect::<Vec<_>>().join("|"));
        Self { columns: columns.len() }
    }

    pub fn row(&self, cells: &[String]) {
        println!("| {} |", cells.join(" | "));
    }

    /// Prints a row without numbers, and the reason.
    pub fn without(&self, cells: &[String], why: impl Display) {
        let mut cells = cells.to_vec();
        cells.push(why.to_string().replace(['|', '\n'], " "));
        cells.resize(self.columns, String::new());
        self.row(&cells);
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        println!();
    }
}
