//! Commands that come at the same time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use es_core::{EventStore, ExecuteError, Repository, RetryPolicy, Version};

use super::{account, append, deposited};
use crate::domain::{Account, Deposit, Deposited, Overdrawn, Withdraw};

/// Every acknowledged command is in the stream exactly once, and the state is the sum of them.
pub async fn sixteen_writers_of_fifty_commands_lose_nothing(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    let retry = RetryPolicy::default().with_max_attempts(1_000).with_max_delay(Duration::from_millis(50));
    let accounts: Repository<Account> = Repository::builder(store).retry(retry).without_deadline().build();
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let (accounts, id) = (accounts.clone(), id.clone());
            tokio::spawn(async move {
                for n in 0..50 {
                    // Commits of one and of two events, so that boundaries differ.
                    let notes = (0..1 + n % 2).map(|part| format!("{writer}.{n}.{part}")).collect();
                    accounts.execute(&id, Deposit { cents: 1, notes }).await.expect("accepted");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("does not panic");
    }

    let loaded = accounts.load(&id).await.expect("loads");
    assert_eq!((loaded.version, loaded.state.balance), (Version::new(16 * 75), 16 * 75));
    let notes: BTreeSet<_> = loaded.state.notes.iter().collect();
    assert_eq!(notes.len(), 16 * 75, "a command was applied twice");
    let replay = accounts.load_at(&id, loaded.version).await.expect("loads");
    assert_eq!(replay.state, loaded.state);
}

/// The second decision sees what the winner recorded, and only the tail is read for it.
pub async fn a_retry_decides_on_the_state_of_the_winner(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    append(&store, &id, vec![deposited(100, "a")]).await;
    let decisions = AtomicU32::new(0);
    let done = accounts
        .decide(&id, async |state, ctx| {
            if decisions.fetch_add(1, Ordering::SeqCst) == 0 {
                assert_eq!((state.balance, ctx.version()), (100, Version::new(1)));
                append(&store, &id, vec![deposited(20, "b"), deposited(3, "c")]).await;
            }
            Ok::<_, Overdrawn>(Deposited { cents: state.balance, note: "doubled".to_owned() }.into())
        })
        .await
        .expect("accepted");
    assert_eq!((done.attempts, done.version, done.state.balance), (2, Version::new(4), 246));
    assert_eq!(done.cost.requests, 4, "a Query and a PutItem for each attempt");
    assert_eq!(done.state, accounts.load(&id).await.expect("loads").state);

    // A command that the winner made impossible is rejected, with the winner's state.
    let decisions = AtomicU32::new(0);
    let error = accounts
        .decide(&id, async |state, ctx| {
            use es_core::Handle;
            if decisions.fetch_add(1, Ordering::SeqCst) == 0 {
                accounts.execute(&id, Withdraw { cents: 246 }).await.expect("accepted");
            }
            state.handle(&Withdraw { cents: 1 }, ctx)
        })
        .await
        .expect_err("rejected");
    assert_eq!(error.rejection(), Some(&Overdrawn { balance: 0 }));
}

/// Retries are bounded, and the error says why they ended.
pub async fn a_conflict_at_every_attempt_is_reported(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    let retry = RetryPolicy::default().with_max_attempts(3).with_base_delay(Duration::from_millis(1));
    let accounts: Repository<Account> = Repository::builder(Arc::clone(&store)).retry(retry).build();
    let decisions = AtomicU32::new(0);
    let error = accounts
        .decide(&id, async |_, _| {
            decisions.fetch_add(1, Ordering::SeqCst);
            append(&store, &id, vec![deposited(1, "first")]).await;
            Ok::<_, Overdrawn>(Deposited { cents: 1, note: "late".to_owned() }.into())
        })
        .await
        .expect_err("too late each time");
    assert!(error.is_conflict() && error.is_retryable(), "{error:?}");
    let ExecuteError::Conflict(conflict) = &error else { panic!("{error:?}") };
    assert_eq!((conflict.stream.id(), decisions.into_inner()), (id.as_str(), 3));
    let notes = accounts.load(&id).await.expect("loads").state.notes;
    assert_eq!(notes, ["first", "first", "first"]);
}
