//! Real processes under faults, and a check of the table that they leave.
//!
//! A driver starts copies of this program: processes with clients, an indexer, a projection, a process with timeouts,
//! and a publisher. It kills, pauses and upgrades them, and a proxy between them and a DynamoDB-compatible server loses,
//! damages and delays requests and responses. Each process keeps a journal of what it sends and what it is told. In the
//! end, [`check`] compares the raw table, the feed, the rows and the published events with the journals.
//!
//! `scripts/chaos` runs it on DynamoDB Local. The plan of faults follows from the seed; when they happen in relation to
//! the requests does not, since the processes are real. The runs in `es_tests::chaos` are the reproducible ones.

mod broker;
mod check;
mod client;
mod domain;
mod driver;
mod journal;
mod proxy;
mod table;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use es_core::{BoxError, error_text};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(about = "Runs several processes under faults, and checks the table that they leave")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    plan: Plan,
}

#[derive(Subcommand)]
enum Command {
    /// One of the processes; started by the driver
    #[command(hide = true)]
    Worker(Worker),
}

/// What the driver does.
#[derive(Args)]
struct Plan {
    /// The server; by default that of `ES_DYNAMO_ENDPOINT`, or DynamoDB Local on its usual port
    #[arg(long)]
    endpoint: Option<String>,
    /// How many processes run at once
    #[arg(long, default_value_t = 3)]
    processes: usize,
    /// How long they run under faults, in seconds
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// The share of requests that fail, from 0 to 1
    #[arg(long, default_value_t = 0.05)]
    faults: f64,
    /// Replaces the processes, one after another, by those of a release with a new version of an event
    #[arg(long)]
    upgrade: bool,
    /// Decides the faults; random if there is none
    #[arg(long)]
    seed: Option<u64>,
}

impl Plan {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn endpoint(&self) -> String {
        let endpoint = self.endpoint.clone().or_else(|| std::env::var("ES_DYNAMO_ENDPOINT").ok());
        endpoint.unwrap_or_else(|| "http://localhost:8000".to_owned())
    }
}

/// The release that a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Version {
    Old,
    New,
}

/// What one process does.
#[derive(Args)]
struct Worker {
    /// The proxy
    #[arg(long)]
    endpoint: String,
    /// The table
    #[arg(long)]
    table: String,
    /// The release that it runs
    #[arg(long)]
    version: Version,
    /// Decides its commands
    #[arg(long)]
    seed: u64,
    /// The journal that it keeps
    #[arg(long)]
    journal: PathBuf,
    /// The file to which it publishes
    #[arg(long)]
    broker: PathBuf,
    /// It ends when this file exists
    #[arg(long)]
    stop: PathBuf,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Worker(worker)) => {
            tracing_subscriber::fmt()
                .with_max_level(tracing::Level::WARN)
                .with_writer(std::io::stderr)
                .with_ansi(false)
                .init();
            match worker.version {
                Version::Old => worker::run::<domain::old::Code>(worker).await,
                Version::New => worker::run::<domain::new::Code>(worker).await,
            }
        }
        None => {
            let seed = cli.plan.seed.unwrap_or_else(|| fastrand::u64(..));
            // Dropping the run kills the processes, also those that are paused.
            tokio::select! {
                result = driver::run(&cli.plan, seed) => {
                    result.map_err(|error| format!("seed {seed}: {}", error_text(&*error)).into())
                }
                () = interrupted() => Err("interrupted".into()),
            }
        }
    }
}

/// Completes when this process is asked to end, or the one that has started it has ended.
async fn interrupted() {
    let parent = std::os::unix::process::parent_id();
    let orphaned = async {
        while std::os::unix::process::parent_id() == parent {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let asked = async |kind| match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = orphaned => {}
        () = asked(SignalKind::interrupt()) => {}
        () = asked(SignalKind::terminate()) => {}
    }
}
