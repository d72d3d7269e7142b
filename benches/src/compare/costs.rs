//! Requests, capacity units, and bytes for each command.

use crate::contenders::{Failure, Kind, reason};
use crate::engine::Engine;
use crate::meter::{Meter, Usage};
use crate::plan::Plan;
use crate::tables;

pub struct Cost {
    /// The usage of the first command on an account.
    pub first: Usage,
    /// The average usage of all commands on an account, including their snapshots.
    pub average: Usage,
    /// The growth of the tables for each command.
    pub bytes: f64,
}

/// The costs by number of events in a command.
pub type Costs = Vec<(u64, Vec<(Kind, Result<Cost, String>)>)>;

pub async fn measure(engine: &Engine, plan: &Plan) -> Costs {
    let mut costs = Vec::new();
    for events in [1, 5] {
        eprintln!("costs: {events} events");
        let mut all = Vec::new();
        for kind in Kind::ALL {
            let cost = cost(engine, plan, kind, events).await.map_err(reason);
            all.push((kind, cost));
        }
        costs.push((events, all));
    }
    costs
}

async fn cost(engine: &Engine, plan: &Plan, kind: Kind, events: u64) -> Result<Cost, Failure> {
    let meter = Meter::default();
    let prefix = format!("cost-{kind:?}-{events}");
    let contender = kind.open(&engine.metered_client(&meter), &prefix).await?;
    let before = bytes(engine, kind, &prefix).await?;
    meter.take();

    contender.execute("a", events).await?;
    contender.settle().await;
    let first = meter.take();
    let commands = plan.life / events;
    for _ in 1..commands {
        contender.execute("a", events).await?;
    }
    contender.settle().await;
    let others = meter.take();

    let each = |first: f64, others: f64| (first + others) / commands as f64;
    Ok(Cost {
        first,
        average: Usage {
            requests: each(first.requests, others.requests),
            read_units: each(first.read_units, others.read_units),
            write_units: each(first.write_units, others.write_units),
        },
        bytes: (bytes(engine, kind, &prefix).await? - before) as f64 / commands as f64,
    })
}

async fn bytes(engine: &Engine, kind: Kind, prefix: &str) -> Result<u64, Failure> {
    let client = engine.client();
    let mut sum = 0;
    for table in kind.layout().tables(prefix) {
        sum += tables::bytes(&client, &table).await?;
    }
    Ok(sum)
}
