//! Requests and read units of loads from a snapshot, in a process that has not seen the aggregate before and
//! afterwards.

use es_core::snapshot::SnapshotPolicy;
use es_core::{Cost, Metadata, Repository, Version};
use es_dynamo::DynamoStore;
use es_tests::domain::{Account, Deposit, Withdraw};

use crate::engine::dynamo_store;

/// Returns a repository that knows nothing about the snapshots of any aggregate.
fn new_process(store: &DynamoStore) -> Repository<Account> {
    Repository::builder(store.clone()).snapshots(SnapshotPolicy::Every(100)).build()
}

/// Creates an account with a snapshot after 1,000 events, and `tail` later events, and returns its id. Apart from its
/// key and numbers, each item has about 100 bytes.
async fn account(store: &DynamoStore, tail: u64) -> String {
    let padding = Metadata::new().with_entry("padding", "x".repeat(60));
    let policy = SnapshotPolicy::Every(100);
    let accounts: Repository<Account> = Repository::builder(store.clone()).snapshots(policy).cache(1).build();
    let id = uuid::Uuid::now_v7().to_string();
    let opening = Deposit { cents: 10_000, notes: vec![String::new()] };
    accounts.execute(&id, opening).await.expect("accepted");
    for _ in 1..1_000 + tail {
        let request = accounts.with_metadata(padding.clone());
        request.execute(&id, Withdraw { cents: 1 }).await.expect("accepted");
        accounts.flush().await;
    }
    id
}

async fn load(accounts: &Repository<Account>, id: &String, tail: u64) -> Cost {
    let loaded = accounts.load(id).await.expect("loads");
    assert_eq!((loaded.version.get(), loaded.snapshot.map(Version::get)), (1_000 + tail, Some(1_000)));
    assert_eq!((loaded.state.events, loaded.state.balance), (1_000 + tail, 9_001 - tail));
    loaded.cost
}

#[tokio::test]
async fn a_cold_load_takes_few_read_units() {
    let store = dynamo_store().await;
    let id = account(&store, 5).await;
    let accounts = new_process(&store);
    let cold = load(&accounts, &id, 5).await;
    assert_eq!((cold.requests, cold.read_units <= 3.0), (1, true), "{cold}");
    let again = load(&accounts, &id, 5).await;
    assert_eq!((again.requests, again.read_units < cold.read_units), (1, true), "{again} after {cold}");
}

#[tokio::test]
async fn a_load_far_after_the_snapshot_takes_one_request_more_at_first() {
    let store = dynamo_store().await;
    let id = account(&store, 98).await;
    let accounts = new_process(&store);
    assert_eq!(load(&accounts, &id, 98).await.requests, 2);
    assert_eq!(load(&accounts, &id, 98).await.requests, 1, "the version of the snapshot is known");
}

#[tokio::test]
async fn a_command_takes_one_read_at_any_age_of_the_snapshot() {
    let store = dynamo_store().await;
    let id = account(&store, 98).await;
    let accounts = new_process(&store);
    for attempt in ["cold", "with a known snapshot"] {
        let done = accounts.execute(&id, Withdraw { cents: 1 }).await.expect("accepted");
        assert_eq!(done.cost.requests, 2, "{attempt}");
        accounts.flush().await;
    }
    // The second command has taken a snapshot of version 1,100.
    let done = accounts.execute(&id, Withdraw { cents: 1 }).await.expect("accepted");
    assert_eq!((done.cost.requests, done.cost.read_units), (2, 1.0), "{}", done.cost);
}
