//! Concurrent commands.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use es_core::event::EventData;
use es_core::{
    Context, EventStore, Events, ExecuteError, Handle, Repository, RetryPolicy, Transaction, Version,
};

use super::{account, append, deposited, meanwhile};
use crate::domain::{Account, Deposit, Deposited, Overdrawn, RequireBalance, Withdraw};

/// Every acknowledged command is in the stream exactly once, and the state is the sum of all.
pub async fn sixteen_writers_of_fifty_commands_lose_nothing(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    let retry = RetryPolicy::default().with_max_attempts(1_000).with_max_delay(Duration::from_millis(50));
    let accounts: Repository<Account> = Repository::builder(store).retry(retry).without_deadline().build();
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let (accounts, id) = (accounts.clone(), id.clone());
            tokio::spawn(async move {
                for n in 0..50 {
                    // Commits of one and two events, so that their boundaries differ.
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

/// The second decision sees what the winner recorded, which the conflict contains: nothing is read for it.
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
    assert_eq!(done.cost.requests, 3, "a Query, and a PutItem for each decision");
    assert_eq!(done.state, accounts.load(&id).await.expect("loads").state);

    // A command that the winner made impossible is rejected, with the winner's state.
    let decisions = AtomicU32::new(0);
    let error = accounts
        .decide(&id, async |state, ctx| {
            if decisions.fetch_add(1, Ordering::SeqCst) == 0 {
                accounts.execute(&id, Withdraw { cents: 246 }).await.expect("accepted");
            }
            state.handle(&Withdraw { cents: 1 }, ctx)
        })
        .await
        .expect_err("rejected");
    assert_eq!(error.rejection(), Some(&Overdrawn { balance: 0 }));
}

/// Every decision follows the last commit, whether that was in the conflict or was read.
pub async fn a_busy_stream_is_read_after_three_lost_races(store: Arc<dyn EventStore>) {
    for cached in [false, true] {
        for (lost, requests) in [(1, 3), (3, 5), (4, 7), (5, 8)] {
            let (_, id) = account(&store);
            let retry = RetryPolicy::default().with_base_delay(Duration::from_millis(1));
            let builder = Repository::builder(Arc::clone(&store)).retry(retry);
            let accounts: Repository<Account> =
                if cached { builder.cache(4).build() } else { builder.build() };
            accounts.execute(&id, Deposit::one(1, "first")).await.expect("accepted");
            let decisions = AtomicU32::new(0);
            let done = accounts
                .decide(&id, async |state, ctx| {
                    let decision = decisions.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(ctx.version(), Version::new(1 + 2 * u64::from(decision)));
                    assert_eq!(
                        (state.notes.len(), state.events),
                        (1 + 2 * decision as usize, ctx.version().get())
                    );
                    if decision < lost {
                        append(&store, &id, vec![deposited(1, "a"), deposited(1, "b")]).await;
                    }
                    Ok::<_, Overdrawn>(Deposited { cents: 1, note: "last".to_owned() }.into())
                })
                .await
                .expect("accepted");
            assert_eq!((done.attempts, done.version), (lost + 1, Version::new(2 + 2 * u64::from(lost))));
            assert_eq!(
                done.cost.requests,
                requests - u32::from(cached),
                "{lost} lost races, cached: {cached}"
            );
            assert_eq!(done.state, accounts.load_at(&id, done.version).await.expect("loads").state);
        }
    }
}

/// A commit larger than an item is read.
pub async fn a_winner_of_any_size_is_followed(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let large = "x".repeat(250_000);
    let winner: Vec<_> = (0..3).map(|_| deposited(1, &large)).collect();
    let decisions = AtomicU32::new(0);
    let done = accounts
        .decide(&id, async |state, _| {
            if decisions.fetch_add(1, Ordering::SeqCst) == 0 {
                append(&store, &id, winner.clone()).await;
            }
            Ok::<_, Overdrawn>(Deposited { cents: state.balance, note: "doubled".to_owned() }.into())
        })
        .await
        .expect("accepted");
    assert_eq!((done.attempts, done.version, done.state.balance), (2, Version::new(4), 6));
    assert_eq!(done.state, accounts.load_at(&id, done.version).await.expect("loads").state);
}

/// The winner made the command impossible, but the commit after it made it possible again.
pub async fn a_rejection_after_a_lost_race_is_verified(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    append(&store, &id, vec![deposited(10, "first")]).await;
    let seen = Mutex::new(Vec::new());
    let done = accounts
        .decide(&id, async |state, ctx| {
            let is_first = seen.lock().expect("is not poisoned").is_empty();
            seen.lock().expect("is not poisoned").push(state.balance);
            if is_first {
                append(&store, &id, vec![EventData::new("Withdrawn", 1, r#"{"cents":10}"#)]).await;
                append(&store, &id, vec![deposited(100, "more")]).await;
            }
            state.handle(&Withdraw { cents: 5 }, ctx)
        })
        .await
        .expect("is possible");
    assert_eq!((seen.into_inner().expect("is not poisoned"), done.state.balance), (vec![10, 0, 100], 95));
}

/// One aggregate follows the winner, and the other is not read again, whether it records something or not.
pub async fn a_lost_race_in_a_transaction_costs_one_request(store: Arc<dyn EventStore>) {
    let ((accounts, ann), (_, bob)) = (account(&store), account(&store));
    accounts.execute(&ann, Deposit::one(10, "first")).await.expect("accepted");
    accounts.execute(&bob, Deposit::one(10, "first")).await.expect("accepted");
    for asked in [false, true] {
        let before = accounts.load(&ann).await.expect("loads").state;
        let deposit =
            DepositAfterOthers { left: AtomicU32::new(2), store: Arc::clone(&store), other: ann.clone() };
        let transaction = Transaction::new(&store);
        let transaction = match asked {
            true => transaction.execute(&accounts, &ann, RequireBalance { cents: 1 }),
            false => transaction.execute(&accounts, &ann, Withdraw { cents: 1 }),
        };
        let done = transaction.execute(&accounts, &bob, deposit).commit().await.expect("accepted");
        assert_eq!((done.attempts, done.cost.requests), (3, 5), "two loads, two lost races, and the write");
        let balance = done.outcome::<Account>(&ann).expect("took part").state.balance;
        assert_eq!(balance, before.balance + 2 - u64::from(!asked));
        assert_eq!(accounts.load(&ann).await.expect("loads").state.balance, balance);
    }
    assert_eq!(accounts.load(&bob).await.expect("loads").state.balance, 12);
}

/// A deposit during whose first decisions others deposit in another account.
struct DepositAfterOthers {
    left: AtomicU32,
    store: Arc<dyn EventStore>,
    other: String,
}

impl Handle<DepositAfterOthers> for Account {
    type Error = Overdrawn;

    fn handle(&self, command: &DepositAfterOthers, ctx: &Context<Self>) -> Result<Events<Self>, Overdrawn> {
        let lose = |left: u32| left.checked_sub(1);
        if command.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose).is_ok() {
            let (store, id) = (Arc::clone(&command.store), command.other.clone());
            meanwhile(async move { append(&store, &id, vec![deposited(1, "other")]).await });
        }
        self.handle(&Deposit::one(1, "late"), ctx)
    }
}

/// Retries are bounded, and the error says why they ended. Decisions that follow a winner belong to one attempt.
pub async fn a_conflict_at_every_attempt_is_reported(store: Arc<dyn EventStore>) {
    let retry = RetryPolicy::default().with_max_attempts(3).with_base_delay(Duration::from_millis(1));
    a_conflict_after(&store, &accounts_with(&store, retry), 12).await;
    a_conflict_after(&store, &accounts_with(&store, RetryPolicy::never()), 1).await;
}

fn accounts_with(store: &Arc<dyn EventStore>, retry: RetryPolicy) -> Repository<Account> {
    Repository::builder(Arc::clone(store)).retry(retry).build()
}

/// Expects a command that loses every race to be decided that many times.
async fn a_conflict_after(store: &Arc<dyn EventStore>, accounts: &Repository<Account>, expected: u32) {
    let (_, id) = account(store);
    let decisions = AtomicU32::new(0);
    let error = accounts
        .decide(&id, async |_, _| {
            decisions.fetch_add(1, Ordering::SeqCst);
            append(store, &id, vec![deposited(1, "first")]).await;
            Ok::<_, Overdrawn>(Deposited { cents: 1, note: "late".to_owned() }.into())
        })
        .await
        .expect_err("too late each time");
    assert!(error.is_conflict() && error.is_retryable(), "{error:?}");
    let ExecuteError::Conflict(conflict) = &error else { panic!("{error:?}") };
    assert_eq!((conflict.stream.id(), decisions.into_inner()), (id.as_str(), expected));
    let notes = accounts.load(&id).await.expect("loads").state.notes;
    assert_eq!(notes, vec!["first"; expected as usize]);
}
