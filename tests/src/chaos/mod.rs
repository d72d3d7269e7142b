//! Runs under faults: several clients, whose requests are lost, delayed and refused, and who die; and a
//! check of what is left.
//!
//! A run follows from its seed: the plan of faults, the commands, their order, and who is interrupted where.

mod checker;
mod client;
pub mod divert;
pub mod documents;
pub mod processes;
pub mod projections;
mod seeds;
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
pub use seeds::run_seeds;

/// How many accounts the clients share.
const ACCOUNTS: usize = 3;
/// How many accounts the clients try to create.
const CREATED: usize = 6;
/// How many handles there are for them.
const HANDLES: usize = 2;
/// How many clients there are.
const CLIENTS: usize = 3;
/// How many commands each of them has.
const COMMANDS: usize = 8;

/// The ids of all accounts.
fn accounts() -> impl Iterator<Item = String> {
    let shared = (0..ACCOUNTS).map(|index| format!("shared-{index}"));
    shared.chain((0..CREATED).map(|index| format!("created-{index}")))
}

/// Runs the clients of one seed, and checks what is left.
///
/// `open` gives the store that a client sees, with the faults that it is given; `truth` is the same store
/// without any.
///
/// # Errors
///
/// What the check found.
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

/// A plan of faults that is different for each client: some live in peace, some hardly get through.
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
