//! Commands beside a hand-written loop on the SDK: one at a time, and many on one aggregate. Prints a markdown
//! document.
//!
//! `--quick` shows in seconds that everything runs. The engine is the embedded one, or the server that
//! `ES_DYNAMO_ENDPOINT` names, on which several processes compete.

mod by_hand;
#[path = "../overhead/canned.rs"]
mod canned;
mod cpu;
mod domain;
mod many;
mod processes;
mod single;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ScalarAttributeType;
use es_benches::engine::Engine;
use es_benches::{Failure, report, tables};
use es_core::{Aggregate, Repository};
use es_dynamo::{DynamoStore, names};
use uuid::Uuid;

#[derive(Clone, Copy)]
pub struct Plan {
    pub rounds: usize,
    /// The number of commands of each client in a round.
    pub commands: usize,
    /// The number of commands whose CPU time is measured in a turn.
    pub cpu_commands: u32,
}

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let plan = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Plan { rounds: 3, commands: 5, cpu_commands: 1_000 },
        ["--quick"] => Plan { rounds: 1, commands: 2, cpu_commands: 20 },
        // One of several processes that compete.
        ["worker", contender, table, id, commands] => {
            return runtime.block_on(processes::work(contender, table, id, commands.parse()?));
        }
        _ => return Err("expected nothing, or `--quick`".into()),
    };
    let engine = Engine::from_env()?;
    let table = format!("contention-{}", Uuid::now_v7());
    introduction(&engine, plan);
    runtime.block_on(async {
        create(&engine.client(), &table).await?;
        single::print(&engine, &table).await?;
        many::print(&engine, &table, plan).await?;
        if !engine.is_embedded() {
            processes::print(&engine, &table, plan).await?;
        }
        Ok::<_, Failure>(())
    })?;
    cpu::print(plan)
}

fn introduction(engine: &Engine, plan: Plan) {
    println!("## Commands beside a loop on the SDK, on {}\n", engine.name());
    report::command("contention");
    println!(
        "The loop loads with one `Query`, writes with one conditional `PutItem`, and starts again after a lost race, up to 16
times in all. Requests and capacity units are counted below the SDK. Payloads have about 100 bytes. Where several clients
compete, each executes {} commands in each of {} rounds, in which the contenders take turns. The figures are medians of
the rounds.
",
        plan.commands, plan.rounds
    );
}

async fn create(client: &Client, table: &str) -> Result<(), Failure> {
    let keys = [names::PARTITION_KEY, names::SORT_KEY].map(|name| (name, ScalarAttributeType::S));
    tables::create(client, table, &keys, None).await
}

fn store(client: Client, table: &str) -> Result<DynamoStore, Failure> {
    Ok(DynamoStore::builder().client(client).table(table).build()?)
}

fn repository<A: Aggregate>(client: Client, table: &str) -> Result<Repository<A>, Failure> {
    Ok(Repository::new(store(client, table)?))
}
