//! Commands on the store in memory: the cost of the framework without a database.

use std::time::Instant;

use es_core::snapshot::SnapshotPolicy;
use es_core::{MemoryStore, Repository};

use crate::domain::{Account, Deposit};
use crate::plan::Plan;
use crate::report::median;

pub struct MemorySpeed {
    pub cached: bool,
    pub events: u64,
    pub per_second: f64,
}

pub fn measure(plan: &Plan) -> Vec<MemorySpeed> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut speeds = Vec::new();
    for cached in [false, true] {
        for events in [1, 5] {
            let turns = (0..plan.rounds).map(|_| runtime.block_on(turn(plan, cached, events)));
            speeds.push(MemorySpeed { cached, events, per_second: median(turns) });
        }
    }
    speeds
}

/// Runs one client, which opens a new account when the current one has all its events.
async fn turn(plan: &Plan, cached: bool, events: u64) -> f64 {
    let builder = Repository::builder(MemoryStore::new()).snapshots(SnapshotPolicy::Never);
    let accounts: Repository<Account> = if cached { builder.cache(1_000).build() } else { builder.build() };
    let commands_a_life = plan.life / events;
    let start = Instant::now();
    for command in 0..plan.commands {
        let id = (command / commands_a_life).to_string();
        accounts.execute(&id, Deposit { times: events }).await.expect("accepted");
    }
    plan.commands as f64 / start.elapsed().as_secs_f64()
}
