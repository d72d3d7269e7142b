//! Commits at full speed and at a steady rate.

use std::time::{Duration, Instant};

use es_core::snapshot::SnapshotPolicy;
use es_core::{EventStore, Repository};
use tokio::task::JoinSet;

use crate::Failure;
use crate::balances::Place;
use crate::domain::{Account, Deposit};

/// The size of the cache, which exceeds the number of accounts.
const CACHED: usize = 10_000;

/// The number of accounts to which a client commits in turns.
const ACCOUNTS: u64 = 50;

pub fn repository(store: &(impl EventStore + Clone)) -> Repository<Account> {
    Repository::builder(store.clone()).snapshots(SnapshotPolicy::Never).cache(CACHED).build()
}

/// Commits `events` events one by one with `clients` clients, as fast as possible.
pub async fn fast(accounts: &Repository<Account>, clients: u64, events: u64) -> Result<(), Failure> {
    let mut running = JoinSet::new();
    for client in 0..clients {
        let accounts = accounts.clone();
        running.spawn(async move {
            for turn in 0..events / clients {
                let id = format!("{client}-{}", turn % ACCOUNTS);
                accounts.execute(&id, Deposit).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}

/// Commits `rate` times a second for the given time. Returns each event with the time of its acknowledgment.
pub async fn steady(
    accounts: &Repository<Account>,
    rate: u32,
    duration: Duration,
) -> Result<Vec<(Place, Instant)>, Failure> {
    let mut interval = tokio::time::interval(Duration::from_secs(1) / rate);
    let commits = (duration.as_secs_f64() * f64::from(rate)) as u64;
    let mut acknowledged = Vec::new();
    for turn in 0..commits {
        interval.tick().await;
        let id = (turn % ACCOUNTS).to_string();
        accounts.execute(&id, Deposit).await?;
        acknowledged.push(((id, turn / ACCOUNTS + 1), Instant::now()));
    }
    Ok(acknowledged)
}
