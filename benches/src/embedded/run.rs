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
    /// Up to which commands, counted from the first one.
    pub marks: Vec<u64>,
    /// How many commands before each mark count.
    pub window: u64,
}

impl Plan {
    pub fn full() -> Self {
        Self { clients: 8, marks: vec![10_000, 100_000, 1_000_000], window: 8_000 }
    }

    /// That everything runs, not how fast.
    pub fn quick() -> Self {
        Self { clients: 8, marks: vec![80, 160, 320], window: 40 }
    }
}

/// The cost of a command.
pub struct Sample {
    pub cpu: Duration,
    pub wall: Duration,
}

/// Commits up to the last mark; the cost at each of them.
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
        let before = mark - plan.window;
        commit(&store, plan.clients, before - done).await?;
        caught_up(&indexer, &projector, before).await?;
        let (cpu, wall) = (ProcessTime::now(), Instant::now());
        commit(&store, plan.clients, plan.window).await?;
        caught_up(&indexer, &projector, *mark).await?;
        let commands = plan.window as u32;
        samples.push(Sample { cpu: cpu.elapsed() / commands, wall: wall.elapsed() / commands });
        done = *mark;
        eprintln!("{done} commands: {:?} CPU time each", cpu.elapsed() / commands);
    }

    projector.shutdown();
    projecting.await??;
    indexer.shutdown();
    indexing.await??;
    Ok(samples)
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
