//! The embedded engine: the cost of a command as the table grows, in memory and in a file. Prints a markdown document.
//!
//! Without arguments, it takes about an hour. `--in-memory` and `--in-file` measure only one engine. Numbers such as
//! `10000 100000` set the numbers of commands after which to measure. `--quick` checks in seconds that everything runs.

mod domain;
mod run;

use std::cell::Cell;
use std::path::PathBuf;

use es_benches::report::{Table, command, count, number, times};
use es_benches::{Failure, report};
use es_dynamo::embedded::Engine;

use run::{Plan, Sample, WINDOWS, measure};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments: Vec<_> = std::env::args().skip(1).collect();
    let only = arguments.pop_if(|argument| argument.starts_with("--in-"));
    let is_wanted = |name: &str| only.as_ref().is_none_or(|only| only == name);
    let plan = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Plan::full(),
        ["--quick"] => Plan::quick(),
        ref marks => Plan::with_marks(marks)?,
    };
    if is_wanted("--in-memory") {
        eprintln!("in memory");
        let samples = measure(|| Ok(Engine::in_memory()?), &plan).await?;
        introduction(&plan);
        println!("## In memory\n");
        print(&plan, &samples);
    }
    if is_wanted("--in-file") {
        let folder = Folder::new()?;
        eprintln!("in files in {}", folder.0.display());
        let path = |number: u32| folder.0.join(format!("{number}.db"));
        let files = Cell::new(0);
        let new_engine = || Ok(Engine::in_file(path(files.replace(files.get() + 1)))?);
        let samples = measure(new_engine, &plan).await?;
        println!("## In a file\n");
        print(&plan, &samples);
        let bytes = std::fs::metadata(path(0))?.len();
        let commands = plan.marks.last().copied().unwrap_or_default();
        println!(
            "At the end, the file has {} MB, or {} bytes per command: the commit, its share of the feed, the row, and",
            number(bytes as f64 / 1e6),
            number((bytes / commands.max(1)) as f64)
        );
        println!("the indexes of their keys.");
    }
    Ok(())
}

/// A directory that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("es-benches-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn introduction(plan: &Plan) {
    println!("# Benchmarks of the embedded engine\n");
    println!("The cost of a command as the table grows. All numbers were printed by the commands below.\n");
    println!(
        "{} clients send one command after another. Each command creates a stream with a random id and one event",
        plan.clients
    );
    println!(
        "with about 100 bytes of JSON. An indexer and a projection with a row for each stream run in the same process,"
    );
    println!("so a cost includes the command, the feed, and the projection. Each value is the median of");
    println!(
        "{WINDOWS} windows of {} commands, measured until all their events are in the read model.",
        count(plan.window as f64)
    );
    println!(
        "The machine was shared with other work, which slows down everything that runs at the same time."
    );
    println!("Therefore each window follows one on a new table, and the second row has their ratio.");
    println!("Built with the profile `{}`.\n", report::profile());
}

fn print(plan: &Plan, samples: &[Sample]) {
    command("embedded");
    let mut columns = vec!["per command".to_owned()];
    columns.extend(plan.marks.iter().map(|mark| format!("at {}", count(*mark as f64))));
    columns.push("last / first".to_owned());
    let columns: Vec<_> = columns.iter().map(String::as_str).collect();
    let table = Table::new(1, &columns);
    let row = |name: &str, of: fn(&Sample) -> f64| {
        let values: Vec<f64> = samples.iter().map(of).collect();
        let mut cells = vec![name.to_owned()];
        cells.extend(values.iter().map(|value| number(*value)));
        cells.push(match (values.first(), values.last()) {
            (Some(first), Some(last)) => times(last / first),
            _ => String::new(),
        });
        table.row(&cells);
    };
    row("CPU time, µs", |sample| sample.cpu.as_secs_f64() * 1e6);
    row("CPU time ÷ that on a new table", |sample| sample.relative);
    row("wall time, µs", |sample| sample.wall.as_secs_f64() * 1e6);
}
