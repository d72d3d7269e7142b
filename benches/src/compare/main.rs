//! This framework beside others, on the same engine, in one run. Prints a markdown document.
//!
//! Without arguments it takes some minutes; `--quick` shows in seconds that everything runs, `--rounds N`
//! sets how often the contenders take turns. The engine is the embedded one, or the server that
//! `ES_DYNAMO_ENDPOINT` names; on a server, what needs no engine is left out.

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

/// How often the contenders take turns, unless it is said.
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
        _ => Err("expected nothing, `--quick`, or `--rounds N`".into()),
    }
}
