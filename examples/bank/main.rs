//! The Bank example as a process: see the library beside it, which is where to read.

mod cli;

use std::error::Error;
use std::io;
use std::process::ExitCode;

use bank::Bank;
use clap::Parser;
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
    let store = options.open_store().await?;
    let settings = options.settings();
    if settings.trust_actor_header {
        eprintln!("{ACTOR_WARNING}");
    }
    let listener = TcpListener::bind(("127.0.0.1", options.port())).await?;
    let stopped = stop_signal()?;
    println!("{}", options.greeting(listener.local_addr()?));
    bank::serve(listener, Bank::new(store), settings, stopped).await;
    Ok(())
}

/// The startup warning of `--trust-actor-header`.
const ACTOR_WARNING: &str = "\
WARNING: --trust-actor-header is set. The bank records the header X-Actor as the actor of a request and does not
         authenticate anyone: a client that reaches it directly can act in every name. Use it only behind a proxy
         that authenticates clients and replaces this header.";

/// Completes at the first SIGTERM, as service managers and container platforms send it, or SIGINT (Ctrl-C).
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send> {
    #[cfg(unix)]
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    Ok(async move {
        #[cfg(unix)]
        let terminated = async move {
            terminated.recv().await;
        };
        #[cfg(not(unix))]
        let terminated = std::future::pending::<()>();
        tokio::select! {
            () = terminated => {}
            // If the handler of Ctrl-C cannot be installed, Ctrl-C ends the process.
            Ok(()) = tokio::signal::ctrl_c() => {}
        }
        println!("no new requests are accepted; those in progress are answered");
    })
}
