//! The throughput and the latency of commands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::contenders::{Failure, Kind, reason};
use crate::engine::Engine;
use crate::plan::Plan;
use crate::report::{median, percentile};

/// The number of clients, and the number of events in each command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub clients: usize,
    pub events: u64,
}

/// The result of one contender under one load.
pub struct Speed {
    pub per_second: f64,
    /// The speed relative to the raw loop: the median of the ratios of all rounds.
    pub ratio: f64,
    pub p50: Duration,
    pub p99: Duration,
}

pub type Speeds = Vec<(Load, Vec<(Kind, Result<Speed, String>)>)>;

pub async fn measure(engine: &Engine, plan: &Plan) -> Speeds {
    let mut speeds = Vec::new();
    for clients in [1, plan.many] {
        for events in [1, 5] {
            let load = Load { clients, events };
            eprintln!("commands: {clients} clients, {events} events");
            speeds.push((load, measure_load(engine, plan, load).await));
        }
    }
    speeds
}

/// The results of a contender so far, or the reason why it does not run.
struct Turns {
    kind: Kind,
    failed: Option<String>,
    per_second: Vec<f64>,
    latencies: Vec<Duration>,
}

async fn measure_load(engine: &Engine, plan: &Plan, load: Load) -> Vec<(Kind, Result<Speed, String>)> {
    let mut all =
        Kind::ALL.map(|kind| Turns { kind, failed: None, per_second: Vec::new(), latencies: Vec::new() });
    // The first round is a short warm-up and is not counted. Each round starts with another contender.
    for round in 0..=plan.rounds {
        let life = if round == 0 { plan.life.div_ceil(10) } else { plan.life };
        for place in 0..all.len() {
            let turns = &mut all[(place + round) % Kind::ALL.len()];
            if turns.failed.is_some() {
                continue;
            }
            match turn(engine, plan, turns.kind, load, round, life).await {
                Ok((per_second, mut latencies)) if round > 0 => {
                    turns.per_second.push(per_second);
                    turns.latencies.append(&mut latencies);
                }
                Ok(_) => {}
                Err(error) => turns.failed = Some(reason(error)),
            }
        }
    }
    let raw = all[0].per_second.clone();
    all.into_iter().map(|turns| (turns.kind, summary(turns, &raw))).collect()
}

fn summary(mut turns: Turns, raw: &[f64]) -> Result<Speed, String> {
    if let Some(reason) = turns.failed {
        return Err(reason);
    }
    let ratio = median(turns.per_second.iter().zip(raw).map(|(own, raw)| own / raw));
    turns.latencies.sort_unstable();
    Ok(Speed {
        per_second: median(turns.per_second.iter().copied()),
        ratio,
        p50: percentile(&turns.latencies, 0.50),
        p99: percentile(&turns.latencies, 0.99),
    })
}

/// Each client executes commands on a separate account until the account has its events.
async fn turn(
    engine: &Engine,
    plan: &Plan,
    kind: Kind,
    load: Load,
    round: usize,
    life: u64,
) -> Result<(f64, Vec<Duration>), Failure> {
    // In each transaction, the embedded engine visits the tokens of all earlier ones, which would be a disadvantage for
    // contenders that use transactions. Each turn therefore has a new engine.
    let engine = engine.renewed()?;
    let contender = kind.open(&engine.client(), &format!("speed-{kind:?}")).await?;
    let name = format!("{}-{}-{round}", load.clients, load.events);
    contender.execute(&format!("{name}-first"), load.events).await?;

    let lives = if load.clients == 1 { plan.lives_of_one } else { 1 };
    let commands = life.div_ceil(load.events);
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..load.clients {
        let contender = Arc::clone(&contender);
        let name = format!("{name}-{client}");
        clients.spawn(async move {
            let mut latencies = Vec::new();
            for life in 0..lives {
                let id = format!("{name}-{life}");
                for _ in 0..commands {
                    let start = Instant::now();
                    contender.execute(&id, load.events).await?;
                    latencies.push(start.elapsed());
                }
            }
            Ok::<_, Failure>(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(client) = clients.join_next().await {
        latencies.append(&mut client??);
    }
    contender.settle().await;
    Ok((latencies.len() as f64 / start.elapsed().as_secs_f64(), latencies))
}
