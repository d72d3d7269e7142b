//! The Bank example as a process: see the library beside it, which is where to read.

mod cli;

use std::error::Error;
use std::process::ExitCode;

use bank::Bank;
use clap::Parser;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&cli::Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &cli::Options) -> Result<(), Box<dyn Error>> {
    let store = options.open_store().await?;
    let listener = TcpListener::bind(("127.0.0.1", options.port())).await?;
    println!("{}", options.greeting(listener.local_addr()?));
    let interrupted = async {
        // Without a way to hear of Ctrl-C, the process just ends when it comes.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        println!("no more requests are taken; those that are under way are answered");
    };
    bank::serve(listener, Bank::new(store), interrupted).await?;
    Ok(())
}
