//! Outages of the store and of the keyring, lost responses, and subjects that are forgotten while commands run.

use std::collections::BTreeMap;
use std::time::Duration;

use es_core::personal::{Keyring, MemoryKeyring, Personal, SealedStore, Subject};
use es_core::prelude::*;
use es_core::repository::RetryBudget;
use es_core::testing::{Faults, FaultyStore};
use es_core::{MemoryStore, RetryPolicy, StoreError};
use futures_util::future::join_all;

use super::domain::{Contact, Customer, CustomerEvent, Directory, Move, Register, SendMail, secret};
use crate::projections::support::projector;

const RUNS: u64 = 8;

/// The customers. The last one is never forgotten.
const IDS: [&str; 3] = ["17", "18", "19"];

/// What a run has acknowledged: mails and moves by customer.
type Acknowledged = BTreeMap<&'static str, (u32, usize)>;

/// Executes commands until each is acknowledged or refused. Returns the number of mails and moves.
async fn client(
    customers: &Repository<Customer>,
    seed: u64,
    number: u64,
) -> Vec<(&'static str, (u32, usize))> {
    let mut random = fastrand::Rng::with_seed(seed * 100 + number);
    let mut acknowledged = Vec::new();
    for step in 0..8 {
        let id = IDS[random.usize(..IDS.len())];
        let (is_mail, key) = (random.bool(), format!("{number}/{step}"));
        let count = loop {
            let result = match is_mail {
                true => customers.once(&key).execute(id, SendMail).await.map(|_| (1, 0)),
                false => {
                    let relocate = Move { street: secret(id) };
                    customers.once(&key).execute(id, relocate).await.map(|_| (0, 1))
                }
            };
            match result {
                Ok(count) => break count,
                Err(ExecuteError::Store(StoreError::Invalid { reason, .. })) => {
                    assert!(reason.contains("was forgotten") && !is_mail, "seed {seed}: {reason}");
                    break (0, 0);
                }
                Err(error) => assert!(error.is_transient(), "seed {seed}: {error}"),
            }
        };
        acknowledged.push((id, count));
    }
    acknowledged
}

async fn run(seed: u64) {
    let (memory, keys) = (MemoryStore::new(), MemoryKeyring::new());
    let clean = SealedStore::new(memory.clone(), keys.clone());
    let customers: Repository<Customer> = Repository::builder(clean.clone()).build();
    for id in IDS {
        customers.execute(id, Register { name: secret(id) }).await.expect("accepted");
    }

    let faults = Faults::seeded(seed).lost_requests(0.05).lost_answers(0.1).throttling(0.05);
    let faults = faults.delays(0.3, Duration::from_millis(5));
    let keyring_faults =
        Faults::seeded(seed + 1_000_000).lost_requests(0.1).lost_answers(0.1).throttling(0.1);
    let faulty = SealedStore::new(
        FaultyStore::new(memory.clone(), faults),
        keys.clone().with_faults(keyring_faults.clone()),
    );
    let retry = RetryPolicy::default().with_base_delay(Duration::from_millis(1));
    let faulty: Repository<Customer> =
        Repository::builder(faulty).retry(retry).retry_budget(RetryBudget::unlimited()).build();
    let clients = join_all((0..4).map(|number| client(&faulty, seed, number)));
    let forgetting = async {
        for id in &IDS[..2] {
            tokio::time::sleep(Duration::from_millis(fastrand::Rng::with_seed(seed).u64(..40))).await;
            let subject = Subject::new(id).expect("valid");
            while keys.clone().with_faults(keyring_faults.clone()).forget(&subject).await.is_err() {}
        }
    };
    let (results, ()) = tokio::join!(clients, forgetting);
    let mut acknowledged = Acknowledged::new();
    for (id, (mails, moves)) in results.into_iter().flatten() {
        let sum = acknowledged.entry(id).or_default();
        *sum = (sum.0 + mails, sum.1 + moves);
    }

    faulty.flush().await;
    let directory = Directory { entries: ReadModel::of::<Directory>(&clean) };
    let entries = directory.entries.clone();
    projector(clean.clone(), directory).build().run_until_caught_up().await.expect("caught up");
    for id in IDS {
        let loaded = customers.load(id).await.expect("loaded");
        let (mails, moves) = acknowledged.get(id).copied().unwrap_or_default();
        assert_eq!(loaded.state.mails, mails, "seed {seed}: all acknowledged mails of {id}, each once");
        let history = customers.history(id).all().await.expect("read");
        let moved = history
            .iter()
            .filter(|event| matches!(&event.event, CustomerEvent::Contact(Contact::Moved { .. })));
        assert!(moved.count() >= moves, "seed {seed}: all acknowledged moves of {id}");
        let is_forgotten = id != IDS[2];
        let name = loaded.state.name.expect("registered");
        assert_eq!(name.is_forgotten(), is_forgotten, "seed {seed}: {id}");
        assert!(loaded.state.address.is_none_or(|address| address.is_forgotten() == is_forgotten));
        for event in history {
            if let CustomerEvent::Contact(Contact::Moved { address: Some(address), .. }) = event.event {
                assert_eq!(address.is_forgotten(), is_forgotten, "seed {seed}: {id}");
            }
        }
        let row = entries.get(id).await.expect("read").expect("a row");
        assert_eq!(
            (Personal::is_forgotten(&row.name), row.mails),
            (is_forgotten, mails),
            "seed {seed}: {id}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_acknowledged_is_lost_and_nothing_forgotten_comes_back() {
    for seed in 0..RUNS {
        run(seed).await;
    }
}
