//! The embedded engine: what a command costs as the table grows, in memory and in a file. Prints a markdown document.
//!
//! Without arguments it takes about an hour; `--quick` shows in seconds that everything runs.

mod domain;
mod run;

use std::path::PathBuf;

use es_benches::report::{Table, command, count, number, times};
use es_benches::{Failure, report};
use es_dynamo::embedded::Engine;

use run::{Plan, Sample, measure};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let plan = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Plan::full(),
        ["--quick"] => Plan::quick(),
        _ => return Err("expected nothing, or `--quick`".into()),
    };
    eprintln!("in memory");
    let in_memory = measure(&Engine::in_memory()?, &plan).await?;
    let folder = Folder::new()?;
    let path = folder.0.join("events.db");
    eprintln!("in the file {}", path.display());
    let in_file = measure(&Engine::in_file(&path)?, &plan).await?;
    let bytes = std::fs::metadata(&path)?.len();
    print(&plan, &in_memory, &in_file, bytes);
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

fn print(plan: &Plan, in_memory: &[Sample], in_file: &[Sample], bytes: u64) {
    println!("# Benchmarks of the embedded engine\n");
    println!("What a command costs as the table grows. The table was printed by this command; no number was");
    println!("written by hand.\n");
    command("embedded");
    println!(
        "Each command creates a stream with a random id and one event with about 100 bytes of JSON. {} clients",
        plan.clients
    );
    println!(
        "send one command after the other. An indexer and a projection with a row for each stream run all the time,"
    );
    println!(
        "in the same process. A cost is that of the last {} commands up to a count, from the first of them",
        count(plan.window as f64)
    );
    println!(
        "until all their events are in the read model, so it includes the command, the feed and the projection."
    );
    println!("The machine was shared with other work, which wall time shows, and CPU time hardly.\n");
    let mut columns = vec!["per command".to_owned()];
    columns.extend(plan.marks.iter().map(|mark| format!("at {}", count(*mark as f64))));
    columns.push("last / first".to_owned());
    let columns: Vec<_> = columns.iter().map(String::as_str).collect();
    let table = Table::new(1, &columns);
    let row = |name: &str, samples: &[Sample], of: fn(&Sample) -> f64| {
        let values: Vec<f64> = samples.iter().map(of).collect();
        let mut cells = vec![name.to_owned()];
        cells.extend(values.iter().map(|value| number(*value)));
        cells.push(match (values.first(), values.last()) {
            (Some(first), Some(last)) => times(last / first),
            _ => String::new(),
        });
        table.row(&cells);
    };
    row("in memory, CPU time, µs", in_memory, |sample| sample.cpu.as_secs_f64() * 1e6);
    row("in memory, wall time, µs", in_memory, |sample| sample.wall.as_secs_f64() * 1e6);
    row("in a file, CPU time, µs", in_file, |sample| sample.cpu.as_secs_f64() * 1e6);
    row("in a file, wall time, µs", in_file, |sample| sample.wall.as_secs_f64() * 1e6);
    drop(table);
    let commands = plan.marks.last().copied().unwrap_or_default();
    println!(
        "The file has {} MB at the end, {} bytes for each command: its commit, its share of the feed, its row, and",
        number(bytes as f64 / 1e6),
        number((bytes / commands.max(1)) as f64)
    );
    println!("the index of their keys. Built as `{}`.", report::profile());
}
