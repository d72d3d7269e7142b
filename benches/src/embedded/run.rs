//! Commands on new streams, with an indexer and a projection running.

use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use es_benches::report::median;
use es_core::Repository;
use es_core::prelude::*;
use es_core::snapshot::SnapshotPolicy;
use es_dynamo::embedded::Engine;
use es_dynamo::{DynamoStore, Indexer};
use tokio::task::JoinSet;

use crate::Failure;
use crate::domain::{Claim, Claims, File};

/// The size of the measurement.
pub struct Plan {
    pub clients: u64,
    /// The numbers of commands after which to measure, in ascending order.
    pub marks: Vec<u64>,
    /// The number of commands in a window. The last commands before a mark are measured in [`WINDOWS`] windows.
    pub window: u64,
}

/// The number of windows before each mark.
pub const WINDOWS: usize = 5;

impl Plan {
    pub fn full() -> Self {
        Self { clients: 8, marks: vec![10_000, 100_000, 250_000, 500_000, 1_000_000], window: 1_600 }
    }

    /// Returns a plan with these marks, which must be in ascending order.
    pub fn with_marks(marks: &[&str]) -> Result<Self, Failure> {
        let marks = marks.iter().map(|mark| mark.parse()).collect::<Result<Vec<u64>, _>>();
        let marks = marks.map_err(|_| "expected numbers of commands, `--quick`, or no arguments")?;
        let mut plan = Self { marks, ..Self::full() };
        plan.window = plan.window.min(plan.marks[0] / WINDOWS as u64);
        let needed = plan.window * WINDOWS as u64;
        if plan.marks.windows(2).any(|pair| pair[1] < pair[0] + needed) {
            return Err(
                format!("each number of commands must exceed the previous one by at least {needed}").into()
            );
        }
        Ok(plan)
    }

    /// Returns a plan that only checks that everything runs.
    pub fn quick() -> Self {
        Self { clients: 8, marks: vec![80, 160, 320], window: 8 }
    }
}

/// The cost of a command: medians of the windows before a mark.
pub struct Sample {
    pub cpu: Duration,
    pub wall: Duration,
    /// The CPU time relative to that on a new table. The two measurements alternate, so that other work on the machine,
    /// which slows down both, has little effect.
    pub relative: f64,
}

/// Executes commands up to the last mark, and returns the cost at each mark. `new_engine` starts an empty engine.
pub async fn measure(
    new_engine: impl Fn() -> Result<Engine, Failure>,
    plan: &Plan,
) -> Result<Vec<Sample>, Failure> {
    let application = Application::start(&new_engine()?).await?;
    let mut samples = Vec::new();
    let mut done = 0;
    for mark in &plan.marks {
        let before = mark - plan.window * WINDOWS as u64;
        application.commit(plan.clients, before - done, before).await?;
        done = before;
        let (mut cpu, mut wall, mut relative) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..WINDOWS {
            let other = Application::start(&new_engine()?).await?;
            let on_new_table = other.time(plan, 0).await?;
            other.stop().await?;
            let on_this_table = application.time(plan, done).await?;
            done += plan.window;
            relative.push(on_this_table.0 / on_new_table.0);
            cpu.push(on_this_table.0);
            wall.push(on_this_table.1);
        }
        let sample = Sample {
            cpu: Duration::from_secs_f64(median(cpu.into_iter())),
            wall: Duration::from_secs_f64(median(wall.into_iter())),
            relative: median(relative.into_iter()),
        };
        eprintln!("{done} commands: {:?} CPU time each, {:.2} × new table", sample.cpu, sample.relative);
        samples.push(sample);
    }
    application.stop().await?;
    Ok(samples)
}

/// A store, with an indexer and a projection running.
struct Application {
    store: DynamoStore,
    indexer: Indexer,
    projector: Projector<Claims>,
    running: JoinSet<Result<(), Failure>>,
}

impl Application {
    async fn start(engine: &Engine) -> Result<Self, Failure> {
        let store = engine.store().await?;
        let indexer = Indexer::builder(&store).build()?;
        let projector = Projector::new(store.clone(), Claims::new(&store));
        let mut running = JoinSet::new();
        running.spawn({
            let indexer = indexer.clone();
            async move { Ok(indexer.run().await?) }
        });
        running.spawn({
            let projector = projector.clone();
            async move { Ok(projector.run().await?) }
        });
        Ok(Self { store, indexer, projector, running })
    }

    async fn stop(mut self) -> Result<(), Failure> {
        self.projector.shutdown();
        self.indexer.shutdown();
        while let Some(ended) = self.running.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// Returns the CPU time and the wall time of a command in seconds, over a window after `done` commands.
    async fn time(&self, plan: &Plan, done: u64) -> Result<(f64, f64), Failure> {
        let (cpu, wall) = (ProcessTime::now(), Instant::now());
        self.commit(plan.clients, plan.window, done + plan.window).await?;
        let commands = plan.window as f64;
        Ok((cpu.elapsed().as_secs_f64() / commands, wall.elapsed().as_secs_f64() / commands))
    }

    /// Sends commands, each to a new stream, and waits until `total` events are in the read model.
    async fn commit(&self, clients: u64, commands: u64, total: u64) -> Result<(), Failure> {
        let claims: Repository<Claim> =
            Repository::builder(self.store.clone()).snapshots(SnapshotPolicy::Never).build();
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
        while self.indexer.progress().events < total {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(self.projector.caught_up().await?)
    }
}
