//! Compares this framework with other libraries on the same engine. Prints a markdown document.
//!
//! Without arguments, it takes some minutes. `--quick` checks in seconds that everything runs, and `--rounds N` sets
//! the number of rounds. The engine is the embedded one, or the server at `ES_DYNAMO_ENDPOINT`. On a server,
//! measurements that need no engine are omitted.

mod canned;
mod commands;
mod contenders;
mod costs;
mod document;
mod domain;
mod folding;
mod loads;
mod memory;
mod memory_store;
mod plan;

use es_benches::{Failure, engine, meter, report, tables};

use document::{OnEngine, WithoutEngine};
use engine::Engine;
use plan::Plan;

/// The default number of rounds.
const ROUNDS: usize = 3;

fn main() -> Result<(), Failure> {
    let plan = plan()?;
    let engine = Engine::from_env()?;
    let without_engine = engine.is_embedded().then(|| {
        eprintln!("without an engine");
        WithoutEngine {
            foldings: folding::measure(&plan),
            memory: memory::measure(&plan),
            memory_speeds: memory_store::measure(&plan),
        }
    });
    let runtime = tokio::runtime::Runtime::new()?;
    let on_engine = runtime.block_on(async {
        OnEngine {
            speeds: commands::measure(&engine, &plan).await,
            costs: costs::measure(&engine, &plan).await,
            loadings: loads::measure(&engine, &plan).await,
        }
    });

    if engine.is_embedded() {
        document::introduction(&plan);
    }
    document::heading(&engine);
    document::on_engine(&plan, &on_engine);
    if let Some(measured) = &without_engine {
        document::without_engine(&plan, measured);
    }
    Ok(())
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
