//! Measures the feed from a commit to the read model: speed and capacity units. Prints a markdown document.
//!
//! Without arguments, it takes some minutes. `--quick` checks in seconds that everything runs.

mod balances;
mod costs;
mod document;
mod domain;
mod flow;
mod idle;
mod load;
mod place;
mod plan;
mod rebuild;
mod sliced;

use es_benches::{Failure, engine, meter, report, tables};

use document::Measured;
use plan::Plan;

fn main() -> Result<(), Failure> {
    let plan = plan()?;
    let rebuilds = rebuild::measure(&plan)?;
    let idle = idle::measure()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let measured = runtime.block_on(async {
        Ok::<_, Failure>(Measured {
            rebuilds,
            idle,
            rebuilt_on_engine: rebuild::on_engine(&plan).await?,
            flows: flow::measure(&plan).await?,
            costs: costs::measure(&plan).await?,
        })
    })?;
    document::print(&plan, &measured);
    Ok(())
}

fn plan() -> Result<Plan, Failure> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(Plan::full()),
        ["--quick"] => Ok(Plan::quick()),
        _ => Err("expected no arguments, or `--quick`".into()),
    }
}
