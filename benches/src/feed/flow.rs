//! The latency and the throughput from a commit to the read model.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use es_core::MemoryStore;
use es_core::feed::Feed;
use es_core::prelude::*;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::Failure;
use crate::balances::{Place, Watched};
use crate::domain::{Account, Deposit};
use crate::load;
use crate::place::{Effort, Indexed, Indexing};
use crate::plan::Plan;
use crate::report::percentile;

/// The maximum time to wait for an event.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// The results at full speed.
pub struct Speed {
    pub events: u64,
    /// Commits per second, until the last commit is acknowledged.
    pub commits_per_second: f64,
    /// Events per second, until the row of the last event is written.
    pub events_per_second: f64,
}

/// The lag under a steady load.
pub struct Lag {
    pub commits_per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
}

/// The results of one setup.
pub struct Flow {
    /// The settings of the indexer; `None` for the store in memory.
    pub indexing: Option<Indexing>,
    pub speed: Speed,
    pub lag: Lag,
    /// The work of the indexer under the steady load.
    pub effort: Option<Effort>,
}

pub async fn measure(plan: &Plan) -> Result<Vec<Flow>, Failure> {
    let indexings = [
        Indexing::DEFAULT,
        Indexing::ELSEWHERE,
        Indexing::STREAM,
        Indexing::STREAM_ELSEWHERE,
        Indexing::QUICK,
        Indexing::PATIENT,
        Indexing::SLICED,
    ];
    // The setups take turns, so that other work on the machine affects all of them.
    let mut speeds: Vec<Vec<Speed>> = (0..=indexings.len()).map(|_| Vec::new()).collect();
    for round in 0..plan.rounds {
        eprintln!("flow: round {round}");
        speeds[0].push(speed(&MemoryStore::new(), plan, plan.events_in_memory).await?);
        for (speeds, indexing) in speeds[1..].iter_mut().zip(indexings) {
            let indexed = Indexed::start(indexing).await?;
            speeds.push(speed(&indexed.store, plan, plan.events_on_engine).await?);
            indexed.stop().await?;
        }
    }
    let mut speeds = speeds.into_iter().filter_map(middle);
    let mut speed = || speeds.next().ok_or("there was no round");

    eprintln!("flow: steady");
    let lag_in_memory = lag(&MemoryStore::new(), plan).await?;
    let mut flows = vec![Flow { indexing: None, speed: speed()?, lag: lag_in_memory, effort: None }];
    for indexing in indexings {
        eprintln!("flow: steady, {indexing:?}");
        let indexed = Indexed::start(indexing).await?;
        let lag = lag(&indexed.store, plan).await?;
        let effort = Some(indexed.stop().await?);
        flows.push(Flow { indexing: Some(indexing), speed: speed()?, lag, effort });
    }
    Ok(flows)
}

/// Returns the round with the median speed.
fn middle(mut rounds: Vec<Speed>) -> Option<Speed> {
    rounds.sort_by(|a, b| a.events_per_second.total_cmp(&b.events_per_second));
    let middle = rounds.len() / 2;
    rounds.into_iter().nth(middle)
}

async fn speed(store: &(impl Feed + Clone), plan: &Plan, events: u64) -> Result<Speed, Failure> {
    let (accounts, mut watching) = (load::repository(store), Watching::start(store).await?);
    let start = Instant::now();
    load::fast(&accounts, plan.clients, events).await?;
    let committed = start.elapsed();
    let events = events / plan.clients * plan.clients;
    let written = watching.first(events as usize).await?;
    let last = written.values().max().ok_or("no event came")?;
    watching.stop().await?;
    Ok(Speed {
        events,
        commits_per_second: events as f64 / committed.as_secs_f64(),
        events_per_second: events as f64 / last.duration_since(start).as_secs_f64(),
    })
}

async fn lag(store: &(impl Feed + Clone), plan: &Plan) -> Result<Lag, Failure> {
    let (accounts, mut watching) = (load::repository(store), Watching::start(store).await?);
    let start = Instant::now();
    let acknowledged = load::steady(&accounts, plan.rate, plan.duration).await?;
    let elapsed = start.elapsed();
    let written = watching.first(acknowledged.len()).await?;
    watching.stop().await?;
    let mut lags = Vec::new();
    for (place, time) in &acknowledged {
        let written = written.get(place).ok_or("an event did not come")?;
        lags.push(written.saturating_duration_since(*time));
    }
    lags.sort();
    Ok(Lag {
        commits_per_second: acknowledged.len() as f64 / elapsed.as_secs_f64(),
        p50: percentile(&lags, 0.5),
        p99: percentile(&lags, 0.99),
    })
}

/// A running projection that reports the events it has written.
struct Watching {
    projector: Projector<Watched>,
    running: JoinHandle<Result<(), es_core::projection::ProjectorError>>,
    written: UnboundedReceiver<(Place, Instant)>,
}

impl Watching {
    /// Starts it, and waits for the first event.
    async fn start(store: &(impl Feed + Clone)) -> Result<Self, Failure> {
        let (projector, written) = Watched::on(store);
        let running = tokio::spawn({
            let projector = projector.clone();
            async move { projector.run().await }
        });
        let mut watching = Self { projector, running, written };
        let account: Repository<Account> = load::repository(store);
        account.execute(&"first".to_owned(), Deposit).await?;
        watching.first(1).await?;
        Ok(watching)
    }

    /// Waits for `count` events.
    async fn first(&mut self, count: usize) -> Result<HashMap<Place, Instant>, Failure> {
        let mut found = HashMap::new();
        while found.len() < count {
            let (place, time) =
                timeout(MAX_WAIT, self.written.recv()).await?.ok_or("the projection ended")?;
            // If an event is handled twice, the first time counts.
            found.entry(place).or_insert(time);
        }
        Ok(found)
    }

    async fn stop(self) -> Result<(), Failure> {
        self.projector.shutdown();
        Ok(self.running.await??)
    }
}
