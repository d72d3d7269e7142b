//! The process of the Bank example. Start reading in the library.

mod cli;
mod metrics;
#[path = "../place.rs"]
mod place;

use std::error::Error;
use std::process::ExitCode;

use bank::Bank;
use clap::Parser;
use es_core::Projector;
use es_core::workers::{Workers, shutdown_signal};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&cli::Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", es_core::error_text(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &cli::Options) -> Result<(), Box<dyn Error>> {
    let metrics = match options.metrics() {
        Some(address) => Some(metrics::serve(address).await?),
        None => None,
    };
    let opened = options.place.open().await?;
    let settings = options.settings();
    if settings.trust_actor_header {
        eprintln!("{ACTOR_WARNING}");
    }
    let listener = TcpListener::bind(("127.0.0.1", options.port())).await?;
    let stopped = shutdown_signal()?;
    println!("{}", options.greeting(listener.local_addr()?));
    if let Some(address) = metrics {
        println!("Metrics for Prometheus: http://{address}/metrics");
    }

    let bank = Bank::new(opened.store.clone());
    // Keeps the list of all accounts.
    let ids = Projector::new(opened.store, bank.ids.clone());
    let mut workers = Workers::new().add(ids).flush(&bank.accounts);
    if let Some(indexer) = opened.indexer {
        workers = workers.add(indexer);
    }
    let workers = workers.spawn();
    bank::serve(listener, bank, workers.health(), settings, async {
        stopped.await;
        println!("no new requests are accepted; those in progress are answered");
    })
    .await;
    Ok(workers.shutdown().await?)
}

/// The startup warning of `--trust-actor-header`.
const ACTOR_WARNING: &str = "\
WARNING: --trust-actor-header is set. The bank records the header X-Actor as the actor of a request and does not
         authenticate anyone: a client that reaches it directly can act in every name. Use it only behind a proxy
         that authenticates clients and replaces this header.";
