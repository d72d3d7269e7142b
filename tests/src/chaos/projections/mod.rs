//! Simulations of a projection under faults: workers die, stall, and restart; an operator interferes; slices
//! are split; handlers fail.
//! Each run ends with a check of the result.
//!
//! The seed determines a run. Time is tokio's, which must be paused, and advances only while all tasks wait.

mod checker;
mod ledger;
mod operator;
mod worker;
mod world;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use es_core::feed::Feed;
use es_core::projection::OnFailure;
use es_core::snapshot::SnapshotPolicy;
use es_core::testing::{Faults, FaultyStore};
use es_core::{Repository, RetryPolicy, StreamId};
use fastrand::Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

pub use checker::Report;
use ledger::{Ledger, Trouble};
use operator::Operator;
use worker::Workers;
pub use world::VirtualTime;
pub(super) use world::mortal;

use super::client::SeededIds;
use super::divert::{Divert, Sent};
use super::faults;
use super::slow::Slow;
use crate::domain::{Account, Deposit, SetRate, Withdraw};

/// The number of accounts, which is larger than that of slices.
const ACCOUNTS: usize = 6;
/// The number of writers, and the commands of each.
const WRITERS: usize = 2;
const COMMANDS: usize = 12;
/// The lease of the workers.
const LEASE: Duration = Duration::from_millis(60);
/// The fraction of slow transmissions to and from the store.
const LATE: f64 = 1.0 / 400.0;
/// The maximum duration of an outage for all: longer than three leases.
const OUTAGE: Duration = Duration::from_millis(300);
/// The duration of the faults.
const TROUBLE: Duration = Duration::from_millis(600);

/// The shared parts of a run.
#[derive(Clone)]
struct Run {
    truth: Arc<dyn Feed>,
    trouble: Trouble,
    on_failure: OnFailure,
    retry: RetryPolicy,
    clock: VirtualTime,
    /// The time of the outage, by the clock.
    outage: Range<Duration>,
}

impl Run {
    /// Returns the store with slow and failing requests.
    fn open(&self, random: &mut Rng, faults: Faults) -> Arc<dyn Feed> {
        let slow = Slow::new(Arc::clone(&self.truth), LATE, LEASE * 4, random.fork());
        let unreached = FaultyStore::new(slow.clone(), Faults::seeded(0).refusals(1.0));
        let (clock, outage) = (self.clock, self.outage.clone());
        let is_out = move |_: Sent<'_>| outage.contains(&clock.elapsed());
        Arc::new(Divert::to(FaultyStore::new(slow, faults), unreached, is_out))
    }

    /// Handlers time out only in runs in which some hang on purpose, so that late requests do not count as failures.
    fn handler_timeout(&self) -> Duration {
        if self.trouble.interrupts() { LEASE * 2 } else { TROUBLE * 100 }
    }

    fn projection(&self, store: Arc<dyn Feed>) -> Ledger {
        Ledger::new(&store, self.trouble.clone())
    }
}

/// Runs the workers of one seed on an empty store, and checks the result.
///
/// # Errors
///
/// The violation found by the check.
pub async fn run(seed: u64, truth: Arc<dyn Feed>) -> Result<Report, String> {
    fastrand::seed(seed);
    let mut random = Rng::with_seed(seed);
    let begins = TROUBLE.mul_f64(random.f64());
    let on_failure = if random.bool() { OnFailure::Park } else { OnFailure::Stop };
    let run = Run {
        truth,
        trouble: Trouble::new(&mut random),
        on_failure,
        retry: RetryPolicy::default()
            .with_max_attempts(3)
            .with_base_delay(Duration::from_millis(1))
            .with_max_delay(Duration::from_millis(8)),
        clock: VirtualTime::new(chrono::TimeDelta::zero()),
        outage: if random.bool() {
            begins..(begins + OUTAGE.mul_f64(random.f64())).min(TROUBLE)
        } else {
            begins..begins
        },
    };
    let mut tasks = JoinSet::new();
    if random.bool() {
        for _ in 0..random.u8(1..3) {
            let seed = random.u64(..);
            let faults = faults(&mut random, seed);
            tasks.spawn(split(run.open(&mut random, faults), TROUBLE, random.fork()));
        }
    }
    for writer in 0..WRITERS {
        tasks.spawn(write(writer, run.open(&mut random, Faults::seeded(0)), random.fork()));
    }
    let workers = Workers::spawn(&run, &mut random);
    let operator = Operator::new(run.clone(), &mut random);
    let operated = operator.interfere(TROUBLE).await;
    if run.trouble.is_none() && operated.report.stops > 0 {
        return Err("a slice has stopped, and nothing was wrong but the store".to_owned());
    }
    while let Some(written) = tasks.join_next().await {
        written.map_err(|error| error.to_string())?;
    }
    let mut report = workers.end().await?;
    report += operated.report;
    report += checker::check(&run, &operated.skipped, &mut random).await?;
    Ok(report)
}

/// Splits slices for some time, with pauses: the slices of accounts, or any.
async fn split(store: Arc<dyn Feed>, time: Duration, mut random: Rng) {
    let start = Instant::now();
    while start.elapsed() < time {
        sleep(time.mul_f64(random.f64() / 3.0)).await;
        let Ok(tree) = store.slice_tree().await else { continue };
        let account = StreamId::new("account", format!("account-{}", random.usize(..ACCOUNTS)));
        let open: Vec<_> = tree.open().collect();
        let slice = match random.bool() {
            true => tree.of(&account.expect("is valid")),
            false => open[random.usize(..open.len())],
        };
        // Its response may be lost, or another caller may be faster.
        let _ = store.split(slice).await;
    }
}

/// Executes commands, with pauses.
async fn write(writer: usize, store: Arc<dyn Feed>, mut random: Rng) {
    let accounts: Repository<Account> = Repository::builder(store)
        .ids(SeededIds::new(random.fork()))
        .clock(VirtualTime::new(chrono::TimeDelta::zero()))
        // Snapshots would be written on another thread.
        .snapshots(SnapshotPolicy::Never)
        .build();
    for number in 0..COMMANDS {
        let account = format!("account-{}", random.usize(..ACCOUNTS));
        let notes = (0..random.usize(1..4)).map(|part| format!("{writer}.{number}.{part}")).collect();
        let result = match random.u8(..8) {
            0 => accounts.execute(&account, SetRate { rate: 0.5 }).await.map(drop),
            1 => accounts.execute(&account, Withdraw { cents: 1 }).await.map(drop),
            _ => accounts.execute(&account, Deposit { cents: 1, notes }).await.map(drop),
        };
        // Rejected because of the balance, or failed after too many conflicts.
        drop(result);
        sleep(Duration::from_millis(random.u64(..60))).await;
    }
}
