//! Runs of a projection under faults: workers that die, stall and come back, an operator who interferes, handlers
//! that fail; and a check of what is left.
//!
//! A run follows from its seed. Time is tokio's, which has to be paused, and which passes when there is nothing else
//! to do.

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
use es_core::testing::{Faults, FaultyStore};
use es_core::{Repository, RetryPolicy, SnapshotPolicy};
use fastrand::Rng;
use tokio::task::JoinSet;

pub use checker::Report;
use ledger::{Ledger, Trouble};
use operator::Operator;
use worker::Workers;
pub use world::VirtualTime;
pub(super) use world::mortal;

use super::client::SeededIds;
use super::divert::{Divert, Sent};
use super::slow::Slow;
use crate::domain::{Account, Deposit, SetRate, Withdraw};

/// How many accounts there are, on fewer slices.
const ACCOUNTS: usize = 6;
/// How many writers there are, and how many commands each has.
const WRITERS: usize = 2;
const COMMANDS: usize = 12;
/// The workers' lease.
const LEASE: Duration = Duration::from_millis(60);
/// Which part of the ways to and from the store take long.
const LATE: f64 = 1.0 / 400.0;
/// How long the store may be out of reach for all: longer than three leases.
const OUTAGE: Duration = Duration::from_millis(300);
/// For how long workers live and die.
const TROUBLE: Duration = Duration::from_millis(600);

/// What the parts of a run share.
#[derive(Clone)]
struct Run {
    truth: Arc<dyn Feed>,
    trouble: Trouble,
    on_failure: OnFailure,
    retry: RetryPolicy,
    clock: VirtualTime,
    /// When the store is out of reach, in the time of the clock.
    outage: Range<Duration>,
}

impl Run {
    /// The store as somebody sees it whose requests take their time, and perhaps fail.
    fn open(&self, random: &mut Rng, faults: Faults) -> Arc<dyn Feed> {
        let slow = Slow::new(Arc::clone(&self.truth), LATE, LEASE * 4, random.fork());
        let unreached = FaultyStore::new(slow.clone(), Faults::seeded(0).refusals(1.0));
        let (clock, outage) = (self.clock, self.outage.clone());
        let is_out = move |_: Sent<'_>| outage.contains(&clock.elapsed());
        Arc::new(Divert::to(FaultyStore::new(slow, faults), unreached, is_out))
    }

    /// Handlers are interrupted only where some hang on purpose: a late request does not count.
    fn handler_timeout(&self) -> Duration {
        if self.trouble.interrupts() { LEASE * 2 } else { TROUBLE * 100 }
    }

    fn projection(&self, store: Arc<dyn Feed>) -> Ledger {
        Ledger::new(&store, self.trouble.clone())
    }
}

/// Runs the workers of one seed on an empty store, and checks what is left.
///
/// # Errors
///
/// What the check found.
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

/// Carries out commands, with pauses.
async fn write(writer: usize, store: Arc<dyn Feed>, mut random: Rng) {
    let accounts: Repository<Account> = Repository::builder(store)
        .ids(SeededIds::new(random.fork()))
        .clock(VirtualTime::new(chrono::TimeDelta::zero()))
        // They would be taken on a separate thread.
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
        // Refused for want of money, or after too many conflicts.
        drop(result);
        tokio::time::sleep(Duration::from_millis(random.u64(..60))).await;
    }
}
