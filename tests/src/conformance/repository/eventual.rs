//! Decisions on eventually consistent reads.

use std::sync::Arc;

use es_core::testing::{Faults, FaultyStore};
use es_core::{EventStore, Events, Repository, Version};

use super::{account, append, deposited};
use crate::domain::{Account, Deposit, Overdrawn, RequireBalance, Withdraw};

/// Returns a repository whose eventually consistent reads miss at least the last commit.
fn behind(store: &Arc<dyn EventStore>) -> Repository<Account> {
    let lagging = FaultyStore::new(Arc::clone(store), Faults::seeded(1).stale_reads(1.0));
    Repository::builder(lagging).eventual_reads().build()
}

/// The write detects a stale state, and the command is decided again on the current one.
pub async fn a_command_that_is_accepted_is_verified_by_its_write(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    append(&store, &id, vec![deposited(10, "a")]).await;
    let done = behind(&store)
        .decide(&id, async |state, _| {
            let note = format!("after {}", state.balance);
            Ok::<_, Overdrawn>(crate::domain::Deposited { cents: 1, note }.into())
        })
        .await
        .expect("accepted");
    assert_eq!((done.attempts, done.version, done.state.balance), (2, Version::new(2), 11));
    assert_eq!(done.state.notes, ["a", "after 10"]);
}

/// No write verifies these decisions, so they are repeated on a consistent read.
pub async fn what_is_rejected_or_nothing_is_checked(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    append(&store, &id, vec![deposited(10, "a")]).await;
    let accounts = behind(&store);
    let done = accounts.execute(&id, Withdraw { cents: 4 }).await.expect("is there");
    assert_eq!(done.state.balance, 6);
    assert_eq!(accounts.execute(&id, RequireBalance { cents: 6 }).await.expect("is so").state.balance, 6);
    let error = accounts.execute(&id, Withdraw { cents: 7 }).await.expect_err("is not there");
    assert_eq!(error.rejection(), Some(&Overdrawn { balance: 6 }), "not that of the state that is behind");
    let swept = accounts
        .decide(&id, async |state, _| {
            Ok::<_, Overdrawn>(match state.balance {
                0 => Events::none(),
                cents => crate::domain::Withdrawn { cents }.into(),
            })
        })
        .await
        .expect("accepted");
    assert_eq!((swept.state.balance, swept.events.len()), (0, 1));
}

/// A load is always strongly consistent.
pub async fn loads_are_never_behind(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    let accounts = behind(&store);
    for n in 1..=3 {
        accounts.execute(&id, Deposit::one(1, "a")).await.expect("accepted");
        assert_eq!(accounts.load(&id).await.expect("loads").version, Version::new(n));
        assert_eq!(accounts.history(&id).all().await.expect("reads").len() as u64, n);
    }
}
