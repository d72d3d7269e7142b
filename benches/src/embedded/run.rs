//! Commands on new streams, with an indexer and a projection running.

use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use es_core::prelude::*;
use es_core::{Repository, SnapshotPolicy};
use es_dynamo::embedded::Engine;
use es_dynamo::{DynamoStore, Indexer};
use tokio::task::JoinSet;

use crate::Failure;
use crate::domain::{Claim, Claims, File};

/// What is measured.
pub struct Plan {
    pub clients: u64,
    /// After how many commands, in ascending order.
    pub marks: Vec<u64>,
    /// How many commands a window has. The last ones before a mark are measured in [`WINDOWS`] windows.
    pub window: u64,
}

/// How many windows are measured before each mark.
pub const WINDOWS: usize = 5;

impl Plan {
    pub fn full() -> Self {
        Self { clients: 8, marks: vec![10_000, 100_000, 250_000, 500_000, 1_000_000], window: 1_600 }
    }

    /// Measures after so many commands, which must ascend.
    pub fn with_marks(marks: &[&str]) -> Result<Self, Failure> {
        let marks = marks.iter().map(|mark| mark.parse()).collect::<Result<Vec<u64>, _>>();
        let marks = marks.map_err(|_| "expected numbers of commands, `--quick`, or nothing")?;
        let mut plan = Self { marks, ..Self::full() };
        plan.window = plan.window.min(plan.marks[0] / WINDOWS as u64);
        let needed = plan.window * WINDOWS as u64;
        if plan.marks.windows(2).any(|pair| pair[1] < pair[0] + needed) {
            return Err(
                format!("each number of commands has to be at least {needed} above the one before").into()
            );
        }
        Ok(plan)
    }

    /// Shows that everything runs, not how fast.
    pub fn quick() -> Self {
        Self { clients: 8, marks: vec![80, 160, 320], window: 8 }
    }
}

/// The cost of a command: the median of the windows before a mark.
pub struct Sample {
    pub cpu: Duration,
    pub wall: Duration,
}

/// Commits up to the last mark, and returns the cost at each mark.
pub async fn measure(engine: &Engine, plan: &Plan) -> Result<Vec<Sample>, Failure> {
    let store = engine.store().await?;
    let indexer = Indexer::builder(&store).build()?;
    let projector = Projector::new(store.clone(), Claims::new(&store));
    let indexing = tokio::spawn({
        let indexer = indexer.clone();
        async move { indexer.run().await }
    });
    let projecting = tokio::spawn({
        let projector = projector.clone();
        async move { projector.run().await }
    });

    let mut samples = Vec::new();
    let mut done = 0;
    for mark in &plan.marks {
        let before = mark - plan.window * WINDOWS as u64;
        commit(&store, plan.clients, before - done).await?;
        caught_up(&indexer, &projector, before).await?;
        done = before;
        let mut windows = Vec::with_capacity(WINDOWS);
        for _ in 0..WINDOWS {
            let (cpu, wall) = (ProcessTime::now(), Instant::now());
            commit(&store, plan.clients, plan.window).await?;
            done += plan.window;
            caught_up(&indexer, &projector, done).await?;
            let commands = plan.window as u32;
            windows.push(Sample { cpu: cpu.elapsed() / commands, wall: wall.elapsed() / commands });
        }
        let sample = Sample {
            cpu: median(&windows, |window| window.cpu),
            wall: median(&windows, |window| window.wall),
        };
        eprintln!("{done} commands: {:?} CPU time each", sample.cpu);
        samples.push(sample);
    }

    projector.shutdown();
    projecting.await??;
    indexer.shutdown();
    indexing.await??;
    Ok(samples)
}

fn median(windows: &[Sample], of: fn(&Sample) -> Duration) -> Duration {
    let mut values: Vec<_> = windows.iter().map(of).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Commits so many events, each to a stream of its own.
async fn commit(store: &DynamoStore, clients: u64, commands: u64) -> Result<(), Failure> {
    let claims: Repository<Claim> =
        Repository::builder(store.clone()).snapshots(SnapshotPolicy::Never).build();
    let mut running = JoinSet::new();
    for client in 0..clients {
        let claims = claims.clone();
        let share = commands / clients + u64::from(client < commands % clients);
        running.spawn(async move {
            for _ in 0..share {
                claims.execute(&uuid::Uuid::new_v4().to_string(), File).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

/// Waits until so many events are in the feed, and in the read model.
async fn caught_up(indexer: &Indexer, projector: &Projector<Claims>, events: u64) -> Result<(), Failure> {
    while indexer.progress().events < events {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(projector.caught_up().await?)
}
