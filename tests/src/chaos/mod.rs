//! Simulations under faults: several clients die, and their requests are lost, delayed, and refused. Each run ends with
//! a check of the result.
//!
//! The seed determines a run: the faults, the commands, their order, and all interruptions.

mod checker;
mod client;
pub mod divert;
pub mod documents;
pub mod lifecycle;
pub mod processes;
pub mod projections;
mod seeds;
pub mod sharing;
pub mod slow;
pub mod user_code;

use std::sync::Arc;
use std::time::Duration;

use es_core::EventStore;
use es_core::testing::Faults;
use fastrand::Rng;
use futures_util::future::join_all;

use checker::check;
pub use checker::{Report, Verdict};
use client::Client;
pub use seeds::{run_all, run_seeds};

/// The number of accounts that the clients share.
const ACCOUNTS: usize = 3;
/// The number of accounts that the clients try to create.
const CREATED: usize = 6;
/// The number of handles.
const HANDLES: usize = 2;
/// The number of clients.
const CLIENTS: usize = 3;
/// The number of commands of each client.
const COMMANDS: usize = 8;

/// Returns the ids of all accounts.
fn accounts() -> impl Iterator<Item = String> {
    let shared = (0..ACCOUNTS).map(|index| format!("shared-{index}"));
    shared.chain((0..CREATED).map(|index| format!("created-{index}")))
}

/// Runs the clients of one seed, and checks the result.
///
/// `open` returns the store of a client, with the given faults. `truth` is that store without faults.
///
/// # Errors
///
/// The violation found by the check.
pub async fn run(
    seed: u64,
    truth: Arc<dyn EventStore>,
    open: impl Fn(Faults) -> Arc<dyn EventStore>,
) -> Result<Report, String> {
    let mut random = Rng::with_seed(seed);
    let clients = (0..CLIENTS).map(|index| {
        let seed = random.u64(..);
        let faults = faults(&mut random, seed);
        Client::new(index, seed, faults, &open).live(COMMANDS)
    });
    let clients: Vec<_> = clients.collect();
    let logs = join_all(clients).await;
    check(truth, &logs).await
}

/// Returns the faults of a client: some clients have none, and few requests of some succeed.
fn faults(random: &mut Rng, seed: u64) -> Faults {
    let mut rate = |most: f64| if random.bool() { random.f64() * most } else { 0.0 };
    Faults::seeded(seed)
        .lost_answers(rate(0.3))
        .lost_requests(rate(0.2))
        .throttling(rate(0.2))
        .internal_errors(rate(0.1))
        .refusals(rate(0.1))
        .unreadable_answers(rate(0.2))
        .stalls(rate(0.1))
        .transaction_conflicts(rate(0.2))
        .cut_pages(rate(0.3))
        .stale_reads(rate(0.5))
        .delays(rate(0.5), Duration::from_millis(8))
}
