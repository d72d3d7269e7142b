//! Consumers of a feed whose slices are split while they run and die.

mod old_versions;
mod publishers;
mod traces;

use std::time::Duration;

use es_core::feed::Feed;
use es_core::projection::{Projection, ProjectorBuilder, ProjectorError};
use es_core::{MemoryStore, Metadata, Projector, Repository, RetryPolicy, StreamId};
use es_tests::chaos::projections::VirtualTime;
use es_tests::domain::{Account, Deposit};
use fastrand::Rng;
use tokio::task::JoinHandle;

const LEASE: Duration = Duration::from_millis(300);
const ACCOUNTS: usize = 4;

/// Returns a projector on tokio's time, which is paused in these tests.
fn projector<P: Projection>(store: impl Feed, projection: P) -> ProjectorBuilder<P> {
    let retry = RetryPolicy::default().with_max_attempts(20).with_base_delay(Duration::from_millis(1));
    Projector::builder(store, projection)
        .clock(VirtualTime::new(chrono::TimeDelta::zero()))
        .poll(Duration::from_millis(10))
        .lease(LEASE)
        .retry(retry)
}

/// The workers of a run.
#[derive(Default)]
struct Life {
    workers: [Option<JoinHandle<Result<(), ProjectorError>>>; 3],
    deaths: u64,
    splits: u64,
}

impl Life {
    /// Kills some workers, and starts those that are dead.
    fn step<P: Projection>(&mut self, random: &mut Rng, open: impl Fn(u32) -> Projector<P>) {
        for worker in &mut self.workers {
            if random.u8(..4) != 0 && worker.is_some() {
                continue;
            }
            let projector = open(random.u32(1..6));
            let started = tokio::spawn(async move { projector.run().await });
            if let Some(dead) = worker.replace(started) {
                dead.abort();
                self.deaths += 1;
            }
        }
    }

    /// Splits the slice of an account, sometimes.
    async fn split(&mut self, store: &MemoryStore, random: &mut Rng) -> Result<(), String> {
        if random.u8(..3) == 0 {
            let account = StreamId::new("account", format!("account-{}", random.usize(..ACCOUNTS)));
            let tree = store.slice_tree().await.map_err(|error| error.to_string())?;
            let slice = tree.of(&account.expect("valid"));
            store.split(slice).await.map_err(|error| error.to_string())?;
            self.splits += 1;
        }
        Ok(())
    }

    /// Kills all workers.
    fn end(&self) {
        self.workers.iter().flatten().for_each(JoinHandle::abort);
    }
}

/// Appends a commit with `count` deposits, and returns their versions.
async fn deposit(store: &MemoryStore, account: &str, count: usize) -> std::ops::RangeInclusive<u64> {
    deposit_with(store, account, count, Metadata::new()).await
}

async fn deposit_with(
    store: &MemoryStore,
    account: &str,
    count: usize,
    metadata: Metadata,
) -> std::ops::RangeInclusive<u64> {
    let accounts = Repository::<Account>::new(store.clone());
    let deposit = Deposit { cents: 1, notes: vec![String::new(); count] };
    let done = accounts.with_metadata(metadata).execute(account, deposit).await.expect("accepted");
    let last = done.version.get();
    last + 1 - count as u64..=last
}
