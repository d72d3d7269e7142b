//! Compares the store on PostgreSQL with a hand-written loop and other libraries on the same server. Prints a markdown
//! document.
//!
//! Without arguments, it takes some minutes. `--quick` checks in seconds that everything runs, and `--rounds N` sets
//! the number of rounds. `ES_POSTGRES_URL` names the server.

mod commands;
mod contenders;
mod costs;
mod document;
#[path = "../../src/compare/domain.rs"]
#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod domain;
mod feeds;
mod interleavings;
mod loads;
mod plan;
mod proxy;
#[path = "../../src/report.rs"]
#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod report;
mod server;

use document::Measured;
use plan::Plan;
use server::Server;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The default number of rounds.
const ROUNDS: usize = 3;

fn main() -> Result<(), Failure> {
    let plan = plan()?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let server = Server::from_env().await?;
        let measured = Measured {
            speeds: commands::measure(&server, &plan).await?,
            round_trips: costs::round_trips(&server).await,
            sizes: costs::sizes(&server, &plan).await,
            loadings: loads::measure(&server, &plan).await?,
            feeds: feeds::measure(&server, &plan).await,
            deliveries: interleavings::measure(&server, &plan).await,
        };
        document::print(&plan, &server.description().await?, &measured);
        Ok(())
    })
}

fn plan() -> Result<Plan, Failure> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(Plan::full(ROUNDS)),
        ["--quick"] => Ok(Plan::quick()),
        ["--rounds", rounds] => Ok(Plan::full(rounds.parse()?)),
        _ => Err("expected no arguments, `--quick`, or `--rounds N`".into()),
    }
}
