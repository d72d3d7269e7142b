//! Aggregates that are closed.

use std::sync::Arc;

use es_core::store::StreamState;
use es_core::{EventStore, ExecuteError, Metadata, Repository, StoreError, Transaction, Version};
use futures_util::future::join_all;

use super::{account, append, deposited, stream};
use crate::conformance::support::commits;
use crate::domain::{Account, Deposit, RequireBalance, TakeHandle, Withdraw};

/// Expects that the aggregate is deleted.
fn deleted<T, E: std::fmt::Debug>(result: Result<T, ExecuteError<E>>) {
    let error = result.err().expect("the aggregate is deleted");
    let closed = error.closed().unwrap_or_else(|| panic!("{error:?}"));
    assert_eq!(closed.state, StreamState::Deleted);
}

/// Expects that the aggregate is closed at `version`.
fn closed<T, E: std::fmt::Debug>(result: Result<T, ExecuteError<E>>, version: u64) {
    let error = result.err().expect("the aggregate is closed");
    let closed = error.closed().unwrap_or_else(|| panic!("{error:?}"));
    assert_eq!((closed.version, &closed.state), (Version::new(version), &StreamState::Closed));
    assert!(!error.is_transient() && !error.is_retryable() && !error.is_outcome_unknown());
}

/// A closed aggregate rejects every command, also one that it would reject anyway or that has nothing to do. It can be
/// read as before.
pub async fn a_closed_aggregate_accepts_no_commands(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let before = accounts.execute(&id, Deposit::one(5, "a")).await.expect("accepted");
    let request = accounts.with_metadata(Metadata::new().with_actor("ann"));
    let done = request.close(&id).await.expect("closes");
    assert_eq!((done.version, done.repeated), (Version::new(2), false));

    closed(accounts.execute(&id, Deposit::one(5, "b")).await, 2);
    closed(accounts.execute(&id, Withdraw { cents: 1_000 }).await, 2);
    closed(accounts.execute(&id, RequireBalance { cents: 0 }).await, 2);
    closed(accounts.once("key").execute(&id, Deposit::one(5, "b")).await, 2);
    let transaction = Transaction::new(&store).execute(&accounts, &id, Deposit::one(5, "b"));
    closed(transaction.commit().await, 2);
    let created = accounts.create(&id, Deposit::one(5, "b")).await.expect_err("exists");
    assert!(created.is_already_exists(), "{created:?}");

    let loaded = accounts.load(&id).await.expect("loads");
    assert_eq!((loaded.state, loaded.version), (before.state.clone(), Version::new(2)));
    assert_eq!(accounts.load_at(&id, Version::new(1)).await.expect("loads").state, before.state);
    assert_eq!(accounts.history(&id).all().await.expect("reads").len(), 1);
    let stored = commits(&*store, &stream(&id)).await;
    assert_eq!(stored[1].metadata.actor(), Some("ann"));
    assert!(stored[0].time <= stored[1].time);

    let again = accounts.close(&id).await.expect("is closed");
    assert_eq!((again.version, again.repeated), (Version::new(2), true));
    assert_eq!(commits(&*store, &stream(&id)).await, stored);
}

/// An aggregate without events is not closed: its id is probably wrong.
pub async fn an_unknown_aggregate_is_not_closed(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let error = accounts.close(&id).await.expect_err("has no events");
    assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
    accounts.create(&id, Deposit::one(5, "a")).await.expect("is new");
}

/// A repeated command returns its first outcome, although the aggregate was closed since.
pub async fn a_repeated_command_returns_its_first_outcome(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let deposit = async || accounts.once("key").execute(&id, Deposit::one(5, "once")).await;
    let first = deposit().await.expect("accepted");
    accounts.close(&id).await.expect("closes");
    let again = deposit().await.expect("was accepted");
    assert_eq!((again.repeated, again.version, again.state), (true, first.version, first.state));
}

/// A state that was cached or read eventually does not know of the end, which the write discovers.
pub async fn a_stale_state_learns_of_the_end(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let cached: Repository<Account> = Repository::builder(Arc::clone(&store)).cache(4).build();
    let eventual: Repository<Account> = Repository::builder(Arc::clone(&store)).eventual_reads().build();
    cached.execute(&id, Deposit::one(5, "a")).await.expect("accepted");
    accounts.close(&id).await.expect("closes");
    for _ in 0..2 {
        closed(cached.execute(&id, Deposit::one(5, "b")).await, 2);
        closed(cached.execute(&id, Withdraw { cents: 1_000 }).await, 2);
        closed(eventual.execute(&id, Deposit::one(5, "b")).await, 2);
    }
}

/// Snapshots do not hide the end of a stream, whatever their version.
pub async fn snapshots_do_not_hide_the_end(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    for number in 0..7 {
        accounts.execute(&id, Deposit::one(1, number.to_string())).await.expect("accepted");
    }
    accounts.flush().await;
    accounts.close(&id).await.expect("closes");
    let loaded = accounts.load(&id).await.expect("loads");
    assert_eq!((loaded.state.balance, loaded.version), (7, Version::new(8)));
    closed(accounts.execute(&id, Deposit::one(1, "b")).await, 8);
}

/// Commands that race with the end are recorded before it, or fail.
pub async fn commands_that_race_with_the_end_come_before_it(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    append(&store, &id, vec![deposited(1, "first")]).await;
    let other: Repository<Account> = Repository::new(Arc::clone(&store));
    let deposits = join_all((0..24).map(async |number: u32| {
        let repository = if number.is_multiple_of(2) { &accounts } else { &other };
        tokio::time::sleep(std::time::Duration::from_millis(u64::from(number / 4))).await;
        repository.execute(&id, Deposit::one(1, number.to_string())).await
    }));
    let (deposits, end) = futures_util::future::join(deposits, accounts.close(&id)).await;
    let end = end.expect("closes").version;
    let mut accepted = 0;
    for deposit in deposits {
        match deposit {
            Ok(done) => {
                assert!(done.version < end);
                accepted += 1;
            }
            Err(ExecuteError::Closed(closed)) => assert_eq!(closed.version, end),
            Err(error) => panic!("{error:?}"),
        }
    }
    let loaded = accounts.load(&id).await.expect("loads");
    assert_eq!((loaded.state.balance, loaded.version), (accepted + 1, end));
}

/// Nothing of a deleted aggregate can be read, its claims are free, and no command brings it back.
pub async fn a_deleted_aggregate_is_gone(store: Arc<dyn EventStore>) {
    let ((accounts, id), (_, other)) = (account(&store), account(&store));
    let stale: Repository<Account> = Repository::builder(Arc::clone(&store)).cache(4).build();
    stale.execute(&id, Deposit::one(1, "first")).await.expect("accepted");
    for number in 0..7 {
        let request = accounts.once(format!("key-{number}"));
        request.execute(&id, Deposit::one(1, "next")).await.expect("accepted");
    }
    let handle = || TakeHandle { handle: id.clone() };
    accounts.execute(&id, handle()).await.expect("is free");
    accounts.flush().await;

    for (is_closed, repeated) in [(false, false), (true, true), (false, true)] {
        if is_closed {
            assert!(accounts.close(&id).await.expect("is closed").repeated);
        }
        let done = accounts.delete(&id).await.expect("deletes");
        assert_eq!((done.version, done.repeated), (Version::new(10), repeated));
    }

    let is_deleted = |error: StoreError| match error {
        StoreError::Closed(closed) => assert_eq!(closed.state, StreamState::Deleted),
        error => panic!("{error:?}"),
    };
    is_deleted(accounts.load(&id).await.expect_err("is deleted"));
    is_deleted(stale.load(&id).await.expect_err("is deleted"));
    is_deleted(accounts.load_at(&id, Version::new(1)).await.expect_err("is deleted"));
    is_deleted(accounts.history(&id).all().await.expect_err("is deleted"));
    is_deleted(accounts.exists(&id).await.expect_err("is deleted"));

    let created = accounts.create(&id, Deposit::one(1, "again")).await;
    deleted(created);
    deleted(accounts.execute(&id, Deposit::one(1, "again")).await);
    deleted(accounts.once("key-1").execute(&id, Deposit::one(1, "next")).await);
    deleted(accounts.execute(&id, RequireBalance { cents: 0 }).await);
    let transaction = Transaction::new(&store).execute(&accounts, &other, Deposit::one(1, "a")).create(
        &accounts,
        &id,
        Deposit::one(1, "again"),
    );
    deleted(transaction.commit().await);
    assert!(!accounts.exists(&other).await.expect("is known"));
    let other_stale: Repository<Account> = Repository::builder(Arc::clone(&store)).eventual_reads().build();
    deleted(other_stale.execute(&id, Withdraw { cents: 1_000 }).await);
    deleted(stale.execute(&id, Deposit::one(1, "again")).await);

    accounts.execute(&other, handle()).await.expect("the claim is free");
    let stored = commits(&*store, &stream(&id)).await;
    assert!(stored.iter().flat_map(|commit| &commit.events).all(|event| event.name().starts_with('$')));
}

/// A closed aggregate can be deleted. It takes one more version.
pub async fn a_closed_aggregate_can_be_deleted(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    accounts.execute(&id, Deposit::one(5, "a")).await.expect("accepted");
    accounts.close(&id).await.expect("closes");
    let done = accounts.delete(&id).await.expect("deletes");
    assert_eq!((done.version, done.repeated), (Version::new(3), false));
    deleted(accounts.execute(&id, Deposit::one(5, "b")).await);
}

/// Commands that race with the deletion are recorded before it, or fail. Nothing of them is left.
pub async fn commands_that_race_with_deletion_leave_nothing(store: Arc<dyn EventStore>) {
    for _ in 0..4 {
        let (accounts, id) = account(&store);
        append(&store, &id, vec![deposited(1, "first")]).await;
        let other: Repository<Account> = Repository::builder(Arc::clone(&store)).cache(4).build();
        let deposits = join_all((0..16).map(async |number: u32| {
            let repository = if number.is_multiple_of(2) { &accounts } else { &other };
            tokio::time::sleep(std::time::Duration::from_millis(u64::from(number / 4))).await;
            repository.execute(&id, Deposit::one(1, number.to_string())).await
        }));
        let (deposits, end) = futures_util::future::join(deposits, accounts.delete(&id)).await;
        let end = end.expect("deletes").version;
        for deposit in deposits {
            match deposit {
                Ok(done) => assert!(done.version < end),
                error => deleted(error),
            }
        }
        let stored = commits(&*store, &stream(&id)).await;
        assert_eq!(stored.last().map(es_core::store::Commit::last), Some(end));
        assert!(stored.iter().flat_map(|commit| &commit.events).all(|event| event.name().starts_with('$')));
    }
}
