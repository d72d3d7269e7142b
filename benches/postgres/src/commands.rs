//! The throughput and the latency of commands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::Failure;
use crate::contenders::{Contender, Delivered, Kind, Opened, reason};
use crate::plan::Plan;
use crate::report::{median, percentile};
use crate::server::{CONNECTIONS, Server};

/// The number of clients, and the number of events in each command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub clients: usize,
    pub events: u64,
}

/// The result of one contender under one load.
pub struct Speed {
    pub per_second: f64,
    /// The time per command relative to the raw loop: the median of the ratios of all rounds.
    pub ratio: f64,
    pub p50: Duration,
    pub p99: Duration,
}

pub type Speeds = Vec<(Load, Vec<(Kind, Result<Speed, String>)>)>;

/// The results of a contender so far, or the reason why it does not run.
struct Turns {
    kind: Kind,
    contender: Option<Arc<dyn Contender>>,
    failed: Option<String>,
    per_second: Vec<f64>,
    latencies: Vec<Duration>,
}

pub async fn measure(server: &Server, plan: &Plan) -> Result<Speeds, Failure> {
    let mut contenders = Vec::new();
    for kind in Kind::COMMANDS {
        let database = server.create(&database(kind)).await?;
        let opened = match kind.create(&database).await {
            Ok(()) => kind.open(&database.url(), CONNECTIONS, &Delivered::default()).await,
            Err(error) => Err(error),
        };
        contenders.push((kind, opened.map_err(reason)));
    }
    let mut speeds = Vec::new();
    for clients in [1, plan.many] {
        for events in [1, 5] {
            let load = Load { clients, events };
            eprintln!("commands: {clients} clients, {events} events");
            speeds.push((load, measure_load(plan, &contenders, load).await));
        }
    }
    drop(contenders);
    for kind in Kind::COMMANDS {
        server.drop(&database(kind)).await?;
    }
    Ok(speeds)
}

fn database(kind: Kind) -> String {
    format!("commands_{kind:?}").to_lowercase()
}

async fn measure_load(plan: &Plan, contenders: &[Opened], load: Load) -> Vec<(Kind, Result<Speed, String>)> {
    let mut all: Vec<_> = contenders
        .iter()
        .map(|(kind, opened)| Turns {
            kind: *kind,
            contender: opened.as_ref().ok().cloned(),
            failed: opened.as_ref().err().cloned(),
            per_second: Vec::new(),
            latencies: Vec::new(),
        })
        .collect();
    // The first round is a short warm-up and is not counted. Each round starts with another contender.
    for round in 0..=plan.rounds {
        let life = if round == 0 { plan.life.div_ceil(10) } else { plan.life };
        for place in 0..all.len() {
            let count = all.len();
            let turns = &mut all[(place + round) % count];
            let Some(contender) = turns.contender.as_ref().filter(|_| turns.failed.is_none()) else {
                continue;
            };
            match turn(plan, contender, load, round, life).await {
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
    let ratio = median(turns.per_second.iter().zip(raw).map(|(own, raw)| raw / own));
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
    plan: &Plan,
    contender: &Arc<dyn Contender>,
    load: Load,
    round: usize,
    life: u64,
) -> Result<(f64, Vec<Duration>), Failure> {
    let name = format!("{}-{}-{round}", load.clients, load.events);
    let lives = if load.clients == 1 { plan.lives_of_one } else { 1 };
    let commands = life.div_ceil(load.events);
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..load.clients {
        let (contender, name) = (Arc::clone(contender), format!("{name}-{client}"));
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
    Ok((latencies.len() as f64 / start.elapsed().as_secs_f64(), latencies))
}
