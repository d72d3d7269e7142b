//! Cached states: fewer requests, unchanged results.

use std::sync::Arc;

use es_core::{EventStore, Events, Repository, Version};

use super::{account, append, deposited};
use crate::domain::{Account, Deposit, Deposited, Overdrawn, Withdraw};

fn cached(store: &Arc<dyn EventStore>, entries: usize) -> Repository<Account> {
    Repository::builder(Arc::clone(store)).cache(entries).build()
}

/// A cached state is not read again: the write verifies it.
pub async fn a_warm_command_is_one_request(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    let accounts = cached(&store, 10);
    let cold = accounts.execute(&id, Deposit::one(100, "a")).await.expect("accepted");
    assert_eq!(cold.cost.requests, 2);
    for version in 2..20 {
        let warm = accounts.execute(&id, Deposit::one(1, "b")).await.expect("accepted");
        assert_eq!((warm.cost.requests, warm.version, warm.attempts), (1, Version::new(version), 1));
        assert_eq!(warm.state.balance, 99 + version);
    }
    let fresh = Repository::<Account>::new(Arc::clone(&store)).load(&id).await.expect("loads");
    assert_eq!(accounts.load(&id).await.expect("loads").state, fresh.state);
}

/// The write detects events of another process, and the command is decided again with them.
pub async fn a_stale_state_that_accepts_is_found_by_the_write(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    let accounts = cached(&store, 10);
    accounts.execute(&id, Deposit::one(100, "a")).await.expect("accepted");
    append(&store, &id, vec![deposited(20, "b"), deposited(3, "c")]).await;
    let done = accounts.execute(&id, Withdraw { cents: 10 }).await.expect("accepted");
    assert_eq!((done.state.balance, done.version, done.attempts), (113, Version::new(4), 2));
    assert_eq!(done.cost.requests, 2, "the write that returns the winner, and the next write");
}

/// No write verifies a rejection, so the current state is read: it may allow the command.
pub async fn a_stale_state_that_rejects_is_checked(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    let accounts = cached(&store, 10);
    accounts.execute(&id, Deposit::one(100, "a")).await.expect("accepted");
    append(&store, &id, vec![deposited(900, "b")]).await;
    let done = accounts.execute(&id, Withdraw { cents: 500 }).await.expect("there is enough");
    assert_eq!((done.state.balance, done.version), (500, Version::new(3)));

    let error = accounts.execute(&id, Withdraw { cents: 501 }).await.expect_err("there is not enough");
    assert_eq!(error.rejection(), Some(&Overdrawn { balance: 500 }));
}

/// No write verifies a decision without events either.
pub async fn a_stale_state_with_nothing_to_do_is_checked(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    let accounts = cached(&store, 10);
    let top_up = async || {
        accounts
            .decide(&id, async |account, _| {
                let missing = 100_u64.saturating_sub(account.balance);
                Ok::<Events<_>, Overdrawn>(match missing {
                    0 => Events::none(),
                    cents => Deposited { cents, note: "top-up".to_owned() }.into(),
                })
            })
            .await
            .expect("accepted")
    };
    assert_eq!(top_up().await.version, 1);
    assert_eq!(top_up().await.commit, None);
    append(&store, &id, vec![es_core::event::EventData::new("Withdrawn", 1, "{\"cents\":30}")]).await;
    let done = top_up().await;
    assert_eq!((done.state.balance, done.version), (100, Version::new(3)));
}

/// A cache does not make loads stale.
pub async fn a_load_sees_what_others_recorded(store: Arc<dyn EventStore>) {
    let (plain, id) = account(&store);
    let accounts = cached(&store, 10);
    assert!(!accounts.load(&id).await.expect("loads").exists());
    for n in 0..10 {
        append(&store, &id, vec![deposited(1, &format!("{n}"))]).await;
        let loaded = accounts.load(&id).await.expect("loads");
        assert_eq!((loaded.version, loaded.state.balance), (Version::new(n + 1), n + 1));
        assert_eq!(loaded.state, plain.load(&id).await.expect("loads").state);
    }
}

/// Evicted states are loaded again.
pub async fn a_small_cache_changes_nothing(store: Arc<dyn EventStore>) {
    let accounts = cached(&store, 2);
    let ids: Vec<_> = (0..8).map(|_| account(&store).1).collect();
    for round in 1..=5_u64 {
        for id in &ids {
            let done = accounts.execute(id, Deposit::one(1, format!("{round}"))).await.expect("accepted");
            assert_eq!((done.version, done.state.balance), (Version::new(round), round));
        }
    }
}
