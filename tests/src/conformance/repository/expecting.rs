//! Commands with an expected version.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use es_core::{EventStore, ExecuteError, ExpectedVersion, Repository, Transaction, Version};

use super::{account, append, deposited};
use crate::domain::{Account, Deposit, Deposited, Overdrawn, Withdraw};

fn exact(version: u64) -> ExpectedVersion {
    ExpectedVersion::Exact(Version::new(version))
}

/// Returns the version of the aggregate if the command was refused because of it.
fn outdated<E: std::fmt::Debug>(error: ExecuteError<E>) -> Version {
    match error {
        ExecuteError::Outdated(conflict) => conflict.actual.expect("is known"),
        error => panic!("expected to be outdated, got {error:?}"),
    }
}

/// At any other version, the handler does not run, even if a cached state is stale.
pub async fn a_command_is_carried_out_at_the_version_expected(store: Arc<dyn EventStore>) {
    for cached in [false, true] {
        let (_, id) = account(&store);
        let builder = Repository::builder(Arc::clone(&store));
        let accounts: Repository<Account> = if cached { builder.cache(4).build() } else { builder.build() };
        let decisions = AtomicU32::new(0);
        let deposit = async |expected| {
            accounts
                .expected_version(expected)
                .decide(&id, async |_, _| {
                    decisions.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, Overdrawn>(Deposited { cents: 1, note: "a".to_owned() }.into())
                })
                .await
        };
        for expected in [exact(1), ExpectedVersion::StreamExists] {
            let error = deposit(expected).await.expect_err("does not exist");
            assert!(!error.is_conflict() && !error.is_retryable(), "{error:?}");
            assert_eq!(outdated(error), Version::NONE);
        }
        let accepted =
            [ExpectedVersion::NoStream, exact(1), ExpectedVersion::StreamExists, ExpectedVersion::Any];
        for (expected, version) in accepted.into_iter().zip(1..) {
            assert_eq!(deposit(expected).await.expect("is as expected").version, Version::new(version));
        }
        // Another writer appends, which a cache does not know yet.
        append(&store, &id, vec![deposited(1, "b")]).await;
        for expected in [exact(4), exact(6), ExpectedVersion::NoStream] {
            assert_eq!(outdated(deposit(expected).await.expect_err("has gone on")), Version::new(5));
        }
        assert_eq!(deposit(exact(5)).await.expect("is as expected").version, Version::new(6));
        // A stale cache decides once in vain: the write finds out.
        assert_eq!(decisions.into_inner(), if cached { 6 } else { 5 });
    }
}

/// A lost race is reported and not retried.
pub async fn a_lost_race_is_outdated(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let decisions = AtomicU32::new(0);
    let error = accounts
        .expected_version(exact(0))
        .decide(&id, async |_, _| {
            decisions.fetch_add(1, Ordering::SeqCst);
            append(&store, &id, vec![deposited(1, "first")]).await;
            Ok::<_, Overdrawn>(Deposited { cents: 1, note: "late".to_owned() }.into())
        })
        .await
        .expect_err("too late");
    assert_eq!((outdated(error), decisions.into_inner()), (Version::new(1), 1));
    assert_eq!(accounts.version(&id).await.expect("is known"), Version::new(1));
}

/// The expected version of a redelivered message is outdated because of its first delivery.
pub async fn a_repeated_command_is_answered_as_before(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    for delivery in 0..3 {
        let request = accounts.once("k").expected_version(ExpectedVersion::NoStream);
        let done = request.execute(&id, Deposit::one(5, "once")).await.expect("was as expected");
        assert_eq!((done.repeated, done.version), (delivery > 0, Version::new(1)));
    }
    let error = accounts.once("other").expected_version(exact(0)).execute(&id, Deposit::one(5, "a")).await;
    assert_eq!(outdated(error.expect_err("has gone on")), Version::new(1));
}

/// Each aggregate of a transaction can have an expected version.
pub async fn a_transaction_expects_versions_too(store: Arc<dyn EventStore>) {
    let ((accounts, ann), (_, bob)) = (account(&store), account(&store));
    accounts.execute(&ann, Deposit::one(10, "first")).await.expect("accepted");
    let transfer = |from, to| {
        Transaction::new(&store)
            .execute(&accounts, &ann, Withdraw { cents: 1 })
            .execute(&accounts, &bob, Deposit::one(1, "transfer"))
            .expected_version(&accounts, &ann, from)
            .expected_version(&accounts, &bob, to)
    };
    for (from, to, actual) in [(exact(2), exact(0), 1), (exact(1), exact(1), 0)] {
        let error = transfer(from, to).commit().await.expect_err("is not so");
        assert_eq!(outdated(error), Version::new(actual));
    }
    let mut done = transfer(exact(1), ExpectedVersion::NoStream).commit().await.expect("is so");
    let taken = done.take_outcome::<Account>(&bob).expect("took part");
    assert_eq!((taken.version, taken.state.balance), (Version::new(1), 1));
    assert!(done.take_outcome::<Account>(&bob).is_none() && done.outcome::<Account>(&ann).is_some());
    let idle = Transaction::new(&store).expected_version(&accounts, &ann, exact(2));
    assert!(matches!(idle.commit().await, Err(ExecuteError::Store(_))));
}
