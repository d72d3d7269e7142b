//! Projections of streams that are deleted or archived.

use es_core::documents::Documents;
use es_core::payloads::MemoryPayloads;
use es_core::prelude::*;
use es_core::projection::StreamDeleted;
use es_core::repository::Archives;
use es_core::serde::{Deserialize, Serialize};
use es_core::{MemoryStore, StoreError};
use es_tests::domain::{Account, Deposited};

use super::support::{deposit, projector, slice};

/// The number of deposits in an account, and whether the account was deleted.
#[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "owners", key = account)]
struct Owner {
    account: String,
    deposits: u32,
}

/// Removes the rows of deleted accounts.
#[derive(Clone, Projection)]
#[projection(name = "owners", events(Account(Deposited, StreamDeleted)))]
struct Owners {
    #[read_model]
    owners: ReadModel<Owner>,
}

impl Owners {
    fn new(store: &(impl Documents + Clone)) -> Self {
        Self { owners: ReadModel::of::<Self>(store) }
    }
}

#[handlers]
impl Owners {
    #[project]
    async fn deposited(&mut self, _: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
        let found = self.owners.get(ctx.id()).await?;
        let deposits = found.map_or(1, |owner| owner.deposits + 1);
        Ok(self.owners.put(Owner { account: ctx.id().to_owned(), deposits })?)
    }

    #[project]
    async fn deleted(&mut self, _: &StreamDeleted, ctx: &EventContext) -> Result<(), BoxError> {
        Ok(self.owners.delete(ctx.id())?)
    }
}

async fn rows(store: &MemoryStore) -> Vec<(String, u32)> {
    let rows = Owners::new(store).owners.all().await.expect("reads");
    let mut rows: Vec<_> = rows.into_iter().map(|owner| (owner.account, owner.deposits)).collect();
    rows.sort();
    rows
}

fn row(account: &str, deposits: u32) -> (String, u32) {
    (account.to_owned(), deposits)
}

/// The event arrives after the others of its stream, also in a rebuild, in which the others are passed over and
/// counted.
#[tokio::test(start_paused = true)]
async fn rows_of_deleted_streams_are_removed() {
    let store = MemoryStore::new();
    let accounts: Repository<Account> = Repository::new(store.clone());
    let owners = projector(store.clone(), Owners::new(&store)).build();
    for account in ["ann", "bob"] {
        deposit(&store, account, &["a", "b"]).await;
        deposit(&store, account, &["c"]).await;
    }
    owners.run_until_caught_up().await.expect("runs");
    assert_eq!(rows(&store).await, [row("ann", 3), row("bob", 3)]);

    accounts.delete("ann").await.expect("deletes");
    owners.run_until_caught_up().await.expect("runs");
    assert_eq!(rows(&store).await, [row("bob", 3)]);
    let erased = async || {
        let progress = owners.progress().await.expect("reads");
        let of_slice = async |account: &str| {
            let slice = slice(&store, account).await;
            progress.slices.iter().find(|one| one.slice == slice).expect("is there").erased
        };
        of_slice("ann").await
    };
    assert_eq!(erased().await, 0);

    owners.reset().await.expect("resets");
    owners.run_until_caught_up().await.expect("runs");
    assert_eq!(rows(&store).await, [row("bob", 3)]);
    assert_eq!(erased().await, 3);
}

/// A rebuild passes over the events of archived streams, and counts them. After they are restored, another one finds
/// them.
#[tokio::test(start_paused = true)]
async fn a_rebuild_finds_restored_events() {
    let store = MemoryStore::new();
    let accounts: Repository<Account> = Repository::new(store.clone());
    let archives = Archives::new(MemoryPayloads::new(), "accounts/archives".parse().expect("valid"));
    let owners = projector(store.clone(), Owners::new(&store)).build();
    deposit(&store, "ann", &["a", "b"]).await;
    accounts.close("ann").await.expect("closes");
    owners.run_until_caught_up().await.expect("runs");
    accounts.archive("ann", &archives).await.expect("archives");
    owners.run_until_caught_up().await.expect("runs");
    assert_eq!(rows(&store).await, [row("ann", 2)]);

    for (is_restored, expected) in [(false, vec![]), (true, vec![row("ann", 2)])] {
        if is_restored {
            accounts.restore("ann", &archives).await.expect("restores");
        }
        owners.reset().await.expect("resets");
        owners.run_until_caught_up().await.expect("runs");
        assert_eq!(rows(&store).await, expected);
        let erased: u64 = owners.progress().await.expect("reads").slices.iter().map(|one| one.erased).sum();
        assert_eq!(erased, if is_restored { 0 } else { 2 });
    }
}

#[event]
struct Noted {}

/// Would delete its own stream.
#[derive(Aggregate, Debug, Default)]
#[aggregate(name = "forger", id = String, events(Noted, StreamDeleted))]
struct Forger;

struct Forge;

#[handlers]
impl Forger {
    #[apply]
    fn noted(&mut self, _: &Noted) {}

    #[apply]
    fn deleted(&mut self, _: &StreamDeleted) {}

    #[handle]
    fn forge(&self, _: &Forge) -> StreamDeleted {
        StreamDeleted::new()
    }
}

/// Only the framework records its events.
#[tokio::test]
async fn a_command_does_not_delete_its_stream() {
    let forgers: Repository<Forger> = Repository::new(MemoryStore::new());
    let error = forgers.execute("mallory", Forge).await.expect_err("is refused");
    let ExecuteError::Store(error @ StoreError::Invalid { .. }) = error else { panic!("{error:?}") };
    assert!(error.to_string().contains("only the framework records it"), "{error}");
    assert!(!forgers.exists("mallory").await.expect("is known"));
}
