//! Many clients of one process on one aggregate.

use std::time::{Duration, Instant};

use es_benches::Failure;
use es_benches::engine::Engine;
use es_benches::meter::{Meter, Usage};
use es_benches::report::{Table, count, median, number};
use es_core::Repository;
use futures_util::future::join_all;
use uuid::Uuid;

use crate::by_hand::ByHand;
use crate::domain::{Account, Deposit};
use crate::{Plan, repository};

/// The results of clients that execute commands at the same time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Contest {
    pub executed: usize,
    pub failed: usize,
    pub time: Duration,
    pub usage: Usage,
}

pub async fn by_hand(raw: ByHand, id: &str, clients: usize, commands: usize) -> Contest {
    let id = id.to_owned();
    contest(clients, commands, move || {
        let (raw, id) = (raw.clone(), id.clone());
        async move { raw.execute(&id).await }
    })
    .await
}

pub async fn framework(accounts: Repository<Account>, id: &str, clients: usize, commands: usize) -> Contest {
    let id = id.to_owned();
    contest(clients, commands, move || {
        let (accounts, id) = (accounts.clone(), id.clone());
        async move {
            accounts.execute(&id, Deposit).await?;
            Ok(())
        }
    })
    .await
}

/// Lets each client execute commands, one after the other.
async fn contest<F>(
    clients: usize,
    commands: usize,
    execute: impl Fn() -> F + Clone + Send + 'static,
) -> Contest
where
    F: Future<Output = Result<(), Failure>> + Send,
{
    let start = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let execute = execute.clone();
            tokio::spawn(async move {
                let mut failed = 0;
                for _ in 0..commands {
                    failed += usize::from(execute().await.is_err());
                }
                failed
            })
        })
        .collect();
    let failed = join_all(tasks).await.into_iter().map(|failed| failed.unwrap_or(commands)).sum();
    let executed = clients * commands - failed;
    Contest { executed, failed, time: start.elapsed(), usage: Usage::default() }
}

pub const COLUMNS: [&str; 7] =
    ["clients", "contender", "commands/s", "failed", "requests/command", "RCU/command", "WCU/command"];

/// Prints the medians of the rounds.
pub fn row(rows: &Table, clients: &str, contender: &str, rounds: &[Contest]) {
    let middle = |value: fn(&Contest) -> f64| median(rounds.iter().map(value));
    let failed: usize = rounds.iter().map(|round| round.failed).sum();
    let all: usize = rounds.iter().map(|round| round.executed + round.failed).sum();
    rows.row(&[
        clients.to_owned(),
        contender.to_owned(),
        number(middle(|round| round.executed as f64 / round.time.as_secs_f64())),
        format!("{failed} of {all}"),
        count(middle(|round| round.usage.requests / round.executed as f64)),
        count(middle(|round| round.usage.read_units / round.executed as f64)),
        count(middle(|round| round.usage.write_units / round.executed as f64)),
    ]);
}

pub async fn print(engine: &Engine, table: &str, plan: Plan) -> Result<(), Failure> {
    println!("### Clients of one process on one aggregate\n");
    let rows = Table::new(2, &COLUMNS);
    for clients in [1, 64] {
        let (mut raws, mut owns) = (Vec::new(), Vec::new());
        // The first round is a warm-up.
        for round in 0..=plan.rounds {
            let (id, meter) = (Uuid::now_v7().to_string(), Meter::default());
            let raw = ByHand { client: engine.metered_client(&meter), table: table.to_owned() };
            let raw = by_hand(raw, &id, clients, plan.commands).await;
            let raw = Contest { usage: meter.take(), ..raw };
            let accounts = repository(engine.metered_client(&meter), table)?;
            let own = framework(accounts, &id, clients, plan.commands).await;
            let own = Contest { usage: meter.take(), ..own };
            if round > 0 {
                raws.push(raw);
                owns.push(own);
            }
        }
        row(&rows, &clients.to_string(), "SDK loop", &raws);
        row(&rows, &clients.to_string(), "this framework", &owns);
    }
    Ok(())
}
