//! Workers that die and restart.

use std::time::Duration;

use chrono::TimeDelta;
use es_core::Projector;
use es_core::testing::Faults;
use fastrand::Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::checker::Report;

use super::ledger::Ledger;
use super::world::{VirtualTime, mortal};
use super::{LEASE, Run, TROUBLE};
use crate::chaos::client::SeededIds;
use crate::chaos::faults;

/// The time limit of a shutdown, regardless of the store.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Workers {
    tasks: JoinSet<Result<Report, String>>,
}

impl Workers {
    pub(super) fn spawn(run: &Run, random: &mut Rng) -> Self {
        let mut tasks = JoinSet::new();
        for _ in 0..random.u8(1..5) {
            tasks.spawn(live(run.clone(), random.fork()));
        }
        Self { tasks }
    }

    /// Waits until all workers have ended.
    pub(super) async fn end(mut self) -> Result<Report, String> {
        let mut report = Report::default();
        while let Some(lived) = self.tasks.join_next().await {
            report += lived.map_err(|error| error.to_string())??;
        }
        Ok(report)
    }
}

/// Returns the projector of a worker, with a separate clock, ids, and faults.
pub(super) fn projector(
    run: &Run,
    handler_timeout: Duration,
    random: &mut Rng,
    faults: Faults,
) -> Projector<Ledger> {
    let store = run.open(random, faults);
    let clock = VirtualTime::new(TimeDelta::seconds(random.i64(-10_000..10_000)));
    Projector::builder(store.clone(), run.projection(store))
        .batch(random.u32(1..60))
        .poll(Duration::from_millis(random.u64(15..80)))
        .lease(LEASE)
        .retry(run.retry)
        .on_failure(run.on_failure)
        .handler_timeout(handler_timeout)
        .clock(clock.stepping(TROUBLE, LEASE * 1_000, random))
        .ids(SeededIds::new(random.fork()))
        .build()
}

/// Runs one incarnation after the other.
async fn live(run: Run, mut random: Rng) -> Result<Report, String> {
    let mut report = Report::default();
    let start = Instant::now();
    while start.elapsed() < TROUBLE {
        let seed = random.u64(..);
        let mut plan = faults(&mut random, seed);
        if random.u8(..4) == 0 {
            plan = plan.crash_after(random.u64(1..150));
        }
        let projector = projector(&run, run.handler_timeout(), &mut random, plan);
        let turns = if random.bool() { random.u32(1..600) } else { u32::MAX };
        let left = TROUBLE.saturating_sub(start.elapsed()).mul_f64(random.f64() * 1.5);
        let asked = async {
            sleep(left).await;
            projector.shutdown();
        };
        let work = async {
            let (worked, ()) = tokio::join!(projector.run(), asked);
            worked
        };
        match timeout(PATIENCE, mortal(work, turns, LEASE, random.fork())).await {
            Ok(Some(Ok(()))) => report.ended += 1,
            Ok(Some(Err(error))) => return Err(format!("a worker ended with an error: {error}")),
            Ok(None) => report.died += 1,
            Err(_) => return Err("a worker does not end".to_owned()),
        }
        sleep(LEASE.mul_f64(random.f64() * 2.0)).await;
    }
    Ok(report)
}
