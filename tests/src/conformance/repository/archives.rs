//! Aggregates that are archived.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use es_core::bytes::Bytes;
use es_core::payloads::{
    MemoryPayloads, PayloadError, PayloadName, PayloadPrefix, PayloadStore, StoredPayload,
};
use es_core::repository::Archives;
use es_core::store::StreamState;
use es_core::{EventStore, Repository, StoreError, Version};
use futures_core::stream::BoxStream;
use futures_util::TryStreamExt;
use futures_util::future::join_all;

use super::{account, stream};
use crate::conformance::support::commits;
use crate::domain::{Account, Deposit, TakeHandle, Withdraw};

fn prefix() -> PayloadPrefix {
    PayloadPrefix::new("accounts/archives").expect("valid")
}

async fn objects(payloads: &dyn PayloadStore) -> Vec<StoredPayload> {
    payloads.list(&prefix()).try_collect().await.expect("lists")
}

/// Returns a closed aggregate with nine events.
async fn closed(store: &Arc<dyn EventStore>) -> (Repository<Account>, String) {
    let (accounts, id) = account(store);
    for number in 0..7 {
        accounts.once(format!("key-{number}")).execute(&id, Deposit::one(1, "note")).await.expect("accepted");
    }
    accounts.execute(&id, TakeHandle { handle: id.clone() }).await.expect("is free");
    accounts.flush().await;
    accounts.close(&id).await.expect("closes");
    (accounts, id)
}

/// Expects that the aggregate is archived in this object.
fn archived(result: Result<impl std::fmt::Debug, StoreError>, archive: &PayloadName) {
    match result.expect_err("is archived") {
        StoreError::Closed(closed) => assert_eq!(closed.archive(), Some(archive)),
        error => panic!("{error:?}"),
    }
}

/// An archived aggregate cannot be loaded, and its errors name the archive. Restoring brings everything back, and
/// deletes the archive. Both can be repeated.
pub async fn an_archived_aggregate_is_restored(store: Arc<dyn EventStore>) {
    let (accounts, id) = closed(&store).await;
    let stale: Repository<Account> = Repository::builder(Arc::clone(&store)).cache(4).build();
    let before = stale.load(&id).await.expect("loads");
    let history = accounts.history(&id).all().await.expect("reads");
    let payloads = MemoryPayloads::new();
    let archives = Archives::new(payloads.clone(), prefix());
    let mut archive = None;
    for repeated in [false, true] {
        let done = accounts.archive(&id, &archives).await.expect("archives");
        assert_eq!((done.version, done.repeated), (Version::new(10), repeated));
        archive = done.archive;
    }
    let archive = archive.expect("has a name");
    assert_eq!(objects(&payloads).await.len(), 1);
    assert!(accounts.close(&id).await.expect("is closed").repeated);

    archived(accounts.load(&id).await, &archive);
    archived(stale.load(&id).await, &archive);
    archived(accounts.load_at(&id, Version::new(1)).await, &archive);
    archived(accounts.history(&id).all().await, &archive);
    assert_eq!(accounts.version(&id).await.expect("is known"), Version::new(10));
    let fresh: Repository<Account> = Repository::builder(Arc::clone(&store)).eventual_reads().build();
    for error in [
        accounts.execute(&id, Deposit::one(1, "again")).await.expect_err("is archived"),
        fresh.execute(&id, Withdraw { cents: 1_000 }).await.expect_err("is archived"),
        accounts.create(&id, Deposit::one(1, "again")).await.expect_err("is archived"),
        stale.execute(&id, Deposit::one(1, "again")).await.expect_err("is archived"),
        stale.execute(&id, Withdraw { cents: 1_000 }).await.expect_err("is archived"),
    ] {
        let closed = error.closed().unwrap_or_else(|| panic!("{error:?}"));
        assert_eq!(closed.archive(), Some(&archive));
    }
    let (_, other) = account(&store);
    let taken = accounts.execute(&other, TakeHandle { handle: id.clone() }).await.expect_err("is taken");
    assert!(taken.claimed().is_some(), "{taken:?}");

    for repeated in [false, true] {
        let done = accounts.restore(&id, &archives).await.expect("restores");
        assert_eq!((done.version, done.repeated), (Version::new(11), repeated));
        assert_eq!(done.archive.as_ref(), Some(&archive));
        assert_eq!(objects(&payloads).await, []);
    }
    let loaded = accounts.load(&id).await.expect("loads");
    assert_eq!((loaded.state, loaded.version), (before.state, Version::new(11)));
    assert_eq!(accounts.history(&id).all().await.expect("reads"), history);
    let error = accounts.execute(&id, Deposit::one(1, "again")).await.expect_err("is closed");
    assert_eq!(error.closed().map(|closed| &closed.state), Some(&StreamState::Closed));
    let again = accounts.once("key-1").execute(&id, Deposit::one(1, "note")).await.expect("was accepted");
    assert!(again.repeated);
}

/// An open aggregate is not archived, and one that is not archived is not restored.
pub async fn only_a_closed_aggregate_is_archived(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let payloads = MemoryPayloads::new();
    let archives = Archives::new(payloads.clone(), prefix());
    let is_refused = |result: Result<_, StoreError>| {
        let error = result.map(|_: es_core::repository::StreamEnd| ()).expect_err("is open");
        assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
    };
    for result in [accounts.archive(&id, &archives).await, accounts.restore(&id, &archives).await] {
        let error = result.expect_err("has no events").to_string();
        assert_eq!(error, format!("the stream `{}` has no events: check the id", stream(&id)));
    }
    accounts.execute(&id, Deposit::one(1, "a")).await.expect("accepted");
    is_refused(accounts.archive(&id, &archives).await);
    is_refused(accounts.restore(&id, &archives).await);
    accounts.close(&id).await.expect("closes");
    assert_eq!(accounts.restore(&id, &archives).await.expect("is closed").archive, None);
    accounts.delete(&id).await.expect("deletes");
    for result in [accounts.archive(&id, &archives).await, accounts.restore(&id, &archives).await] {
        assert!(matches!(result, Err(StoreError::Closed(_))), "{result:?}");
    }
    assert_eq!(objects(&payloads).await, []);
}

/// An archived aggregate is deleted together with its archive.
pub async fn an_archive_is_deleted_with_its_aggregate(store: Arc<dyn EventStore>) {
    for is_restored in [false, true] {
        let (accounts, id) = closed(&store).await;
        let payloads = MemoryPayloads::new();
        let archives = Archives::new(payloads.clone(), prefix());
        let archive = accounts.archive(&id, &archives).await.expect("archives").archive.expect("has a name");
        archived(accounts.delete(&id).await, &archive);
        let content = payloads.get(&archive).await.expect("reads");
        if is_restored {
            accounts.restore(&id, &archives).await.expect("restores");
        }
        for repeated in [false, true] {
            if repeated && !is_restored {
                // As after an interruption before the archive was deleted.
                payloads.put(&archive, content.clone()).await.expect("stores");
            }
            let done = accounts.delete_archived(&id, &archives).await.expect("deletes");
            assert_eq!(done.repeated, repeated);
        }
        assert_eq!(objects(&payloads).await, []);
        let error = accounts.load(&id).await.expect_err("is deleted");
        assert_eq!(error.to_string(), format!("the stream `account#{id}` is deleted: use another id"));
        assert!(matches!(accounts.restore(&id, &archives).await, Err(StoreError::Closed(_))));
        let (_, other) = account(&store);
        accounts.execute(&other, TakeHandle { handle: id.clone() }).await.expect("the claim is free");
    }
}

/// Otherwise, the archive would remain, and its name be lost.
pub async fn an_archive_is_not_deleted_in_another_payload_store(store: Arc<dyn EventStore>) {
    let (accounts, id) = closed(&store).await;
    let archives = Archives::new(MemoryPayloads::new(), prefix());
    let archive = accounts.archive(&id, &archives).await.expect("archives").archive.expect("has a name");
    let others = Archives::new(MemoryPayloads::new(), prefix());
    for result in [accounts.delete_archived(&id, &others).await, accounts.restore(&id, &others).await] {
        let error = result.expect_err("is missing").to_string();
        assert!(error.contains(&archive.to_string()), "{error}");
        assert!(error.contains("check that this is the payload store to which it was written"), "{error}");
    }
    archived(accounts.load(&id).await, &archive);
    accounts.restore(&id, &archives).await.expect("restores");
}

/// A payload store that returns damaged content while it is `damaged`: with another time in the header of gzip. It can
/// still be decompressed, so only its digest reveals the damage.
#[derive(Clone, Debug)]
struct Damaging {
    payloads: MemoryPayloads,
    damaged: Arc<AtomicBool>,
}

#[async_trait]
impl PayloadStore for Damaging {
    async fn put(&self, name: &PayloadName, content: Bytes) -> Result<(), PayloadError> {
        self.payloads.put(name, content).await
    }

    async fn get(&self, name: &PayloadName) -> Result<Bytes, PayloadError> {
        let content = self.payloads.get(name).await?;
        match self.damaged.load(Ordering::SeqCst) {
            true => Ok([&content[..4], &[!content[4]], &content[5..]].concat().into()),
            false => Ok(content),
        }
    }

    async fn delete(&self, name: &PayloadName) -> Result<(), PayloadError> {
        self.payloads.delete(name).await
    }

    fn list(&self, prefix: &PayloadPrefix) -> BoxStream<'_, Result<StoredPayload, PayloadError>> {
        self.payloads.list(prefix)
    }
}

/// Nothing is erased before the archive was read and verified, and nothing is restored from an archive that is damaged
/// or missing.
pub async fn a_damaged_archive_changes_nothing(store: Arc<dyn EventStore>) {
    let (accounts, id) = closed(&store).await;
    let payloads = Damaging { payloads: MemoryPayloads::new(), damaged: Arc::new(AtomicBool::new(true)) };
    let archives = Archives::new(payloads.clone(), prefix());
    let before = commits(&*store, &stream(&id)).await;
    let is_corrupt = |result: Result<_, StoreError>| {
        let error = result.map(|_: es_core::repository::StreamEnd| ()).expect_err("is damaged");
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    };
    is_corrupt(accounts.archive(&id, &archives).await);
    assert_eq!(commits(&*store, &stream(&id)).await, before);

    payloads.damaged.store(false, Ordering::SeqCst);
    let archive = accounts.archive(&id, &archives).await.expect("archives").archive.expect("has a name");
    let erased = commits(&*store, &stream(&id)).await;
    payloads.damaged.store(true, Ordering::SeqCst);
    is_corrupt(accounts.restore(&id, &archives).await);
    is_corrupt(accounts.restore(&id, &Archives::new(MemoryPayloads::new(), prefix())).await);
    assert_eq!(commits(&*store, &stream(&id)).await, erased);
    archived(accounts.load(&id).await, &archive);

    payloads.damaged.store(false, Ordering::SeqCst);
    accounts.restore(&id, &archives).await.expect("restores");
    assert_eq!(commits(&*store, &stream(&id)).await[..before.len()], before);
}

/// Archives and restores at the same time leave the aggregate whole, archived or not.
pub async fn operations_at_the_same_time_lose_nothing(store: Arc<dyn EventStore>) {
    for _ in 0..4 {
        let (accounts, id) = closed(&store).await;
        let before = accounts.load(&id).await.expect("loads").state;
        let payloads = MemoryPayloads::new();
        let archives = Archives::new(payloads.clone(), prefix());
        let results = join_all((0..8).map(async |number: u32| match number % 2 {
            0 => accounts.archive(&id, &archives).await,
            _ => accounts.restore(&id, &archives).await,
        }))
        .await;
        assert!(results.iter().any(Result::is_ok), "{results:?}");
        accounts.restore(&id, &archives).await.expect("restores");
        assert_eq!(accounts.load(&id).await.expect("loads").state, before);
        assert_eq!(objects(&payloads).await, [], "{results:?}");
    }
}
