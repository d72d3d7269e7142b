//! Runs real processes under faults, and checks the resulting store.
//!
//! A driver starts copies of this program: processes with clients, an indexer, a projection, a process with timeouts,
//! and a publisher. It kills, pauses, and upgrades them. A proxy between them and a DynamoDB-compatible server or
//! PostgreSQL loses, damages, and delays requests and responses. The driver also kills connections of PostgreSQL, and
//! restarts the server. Each process keeps a journal of its commands and their outcomes. At the end, [`check`] compares
//! the raw table, the feed, the rows, and the published events with the journals.
//!
//! `scripts/chaos` runs it on DynamoDB Local, and `scripts/chaos --postgres` on PostgreSQL. The seed determines the
//! faults, but not their timing relative to the requests, which depends on the operating system. The simulations in
//! `es_tests::chaos` are fully reproducible.

mod broker;
mod check;
mod client;
mod domain;
mod driver;
mod journal;
mod proxy;
mod store;
mod table;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use es_core::{BoxError, error_text};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(about = "Runs several processes under faults, and checks the store that they leave")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    plan: Plan,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one of the processes; started by the driver
    #[command(hide = true)]
    Worker(Worker),
}

/// The options of a run.
#[derive(Args)]
struct Plan {
    /// The URL of the server (default: `ES_DYNAMO_ENDPOINT`, or DynamoDB Local on its default port)
    #[arg(long)]
    endpoint: Option<String>,
    /// Uses the PostgreSQL server at `ES_POSTGRES_URL`, and restarts it with the program at `ES_POSTGRES_RESTART`, if
    /// it is set
    #[arg(long, conflicts_with = "endpoint")]
    postgres: bool,
    /// The number of processes
    #[arg(long, default_value_t = 3)]
    processes: usize,
    /// The duration of the faults, in seconds
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// The fraction of requests with a fault, from 0 to 1
    #[arg(long, default_value_t = 0.05)]
    faults: f64,
    /// Replaces the processes one by one with a release that has a new version of an event
    #[arg(long)]
    upgrade: bool,
    /// The seed of the faults (default: random)
    #[arg(long)]
    seed: Option<u64>,
}

impl Plan {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn endpoint(&self) -> Result<String, BoxError> {
        if self.postgres {
            return Ok(std::env::var("ES_POSTGRES_URL").map_err(|_| "ES_POSTGRES_URL is not set")?);
        }
        let endpoint = self.endpoint.clone().or_else(|| std::env::var("ES_DYNAMO_ENDPOINT").ok());
        Ok(endpoint.unwrap_or_else(|| "http://localhost:8000".to_owned()))
    }
}

/// The release of the domain in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Version {
    Old,
    New,
}

/// The options of one process.
#[derive(Args)]
struct Worker {
    /// The URL of the proxy
    #[arg(long)]
    endpoint: String,
    /// The name of the table or schema
    #[arg(long)]
    table: String,
    /// The release of the domain
    #[arg(long)]
    version: Version,
    /// The seed of its commands
    #[arg(long)]
    seed: u64,
    /// The path of its journal
    #[arg(long)]
    journal: PathBuf,
    /// The path of the file that it publishes to
    #[arg(long)]
    broker: PathBuf,
    /// The path of a file whose existence ends the process
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
            // Dropping the run kills the processes, including paused ones.
            tokio::select! {
                result = driver::run(&cli.plan, seed) => {
                    result.map_err(|error| format!("seed {seed}: {}", error_text(&*error)).into())
                }
                () = interrupted() => Err("interrupted".into()),
            }
        }
    }
}

/// Completes when this process receives SIGINT or SIGTERM, or its parent has ended.
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
