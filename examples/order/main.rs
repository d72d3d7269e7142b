//! The Order example: the story of a shop's orders, on DynamoDB or PostgreSQL.
//!
//! Start reading in [`domain`]; [`story`] uses the domain. [`overview`] is a projection and [`fulfillment`] a process;
//! [`whole_shop`] runs both. [`place`] opens the store, and [`admin`] is the command line for operators.

mod admin;
mod cli;
mod domain;
mod fulfillment;
mod overview;
#[path = "../place.rs"]
mod place;
mod report;
mod story;
mod whole_shop;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    let mut options = cli::Options::parse();
    if let Some(cli::Command::Admin { arguments }) = options.command.take() {
        return admin::run(arguments).await;
    }
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::failure(&*error);
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &cli::Options) -> Result<(), Box<dyn Error>> {
    let opened = options.place.open().await?;
    report::title(&format!("Orders, kept {}", options.place.describe()));
    story::tell(opened).await
}
