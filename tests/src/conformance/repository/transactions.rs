//! Transactions: commands for several aggregates in one write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use es_core::repository::TransactionError;
use es_core::{
    EventId, EventStore, ExecuteError, Handle, Metadata, Repository, RetryPolicy, StoreError, StreamId,
    Transaction, Version, error_text,
};
use futures_util::future::join_all;
use uuid::Uuid;

use super::{account, append, deposited, meanwhile};
use crate::domain::{Account, Deposit, Overdrawn, RequireBalance, TakeHandle, Withdraw};

fn transfer(
    store: &Arc<dyn EventStore>,
    accounts: &Repository<Account>,
    from: &String,
    to: &String,
    cents: u64,
) -> Transaction {
    Transaction::new(store).execute(accounts, from, Withdraw { cents }).execute(
        accounts,
        to,
        Deposit::one(cents, "transfer"),
    )
}

async fn balance(accounts: &Repository<Account>, id: &String) -> u64 {
    accounts.load(id).await.expect("loads").state.balance
}

/// Each command is decided on the state of its aggregate. One write records all events with the metadata.
pub async fn are_recorded_as_one(store: Arc<dyn EventStore>) {
    let ((accounts, ann), (_, bob)) = (account(&store), account(&store));
    accounts.execute(&ann, Deposit::one(10, "first")).await.expect("accepted");
    let done = transfer(&store, &accounts, &ann, &bob, 4)
        .with_metadata(Metadata::new().with_actor("cleo"))
        .commit()
        .await
        .expect("accepted");
    assert_eq!((done.attempts, done.repeated, done.cost.requests), (1, false, 3));
    for (id, version, expected) in [(&ann, 2, 6), (&bob, 1, 4)] {
        let outcome = done.outcome::<Account>(id).expect("took part");
        let loaded = accounts.load(id).await.expect("loads");
        assert_eq!((outcome.version, outcome.state.balance), (Version::new(version), expected));
        assert_eq!((outcome.version, &outcome.state), (loaded.version, &loaded.state));
        let last = accounts.history(id).all().await.expect("reads").pop().expect("has events");
        assert_eq!((last.metadata.actor(), outcome.events.len()), (Some("cleo"), 1));
    }
    let streams: Vec<_> = done.streams().map(|stream| stream.id().to_owned()).collect();
    assert_eq!(streams, [ann, bob]);
    assert!(done.outcome::<Account>(&"nobody".to_owned()).is_none());
}

/// At any place in the transaction. The error contains the domain error and names the aggregate.
pub async fn a_rejection_stops_all(store: Arc<dyn EventStore>) {
    for cached in [false, true] {
        let ((_, ann), (_, bob)) = (account(&store), account(&store));
        let builder = Repository::builder(Arc::clone(&store));
        let accounts: Repository<Account> = if cached { builder.cache(4).build() } else { builder.build() };
        accounts.execute(&ann, Deposit::one(3, "first")).await.expect("accepted");
        for transaction in [
            transfer(&store, &accounts, &ann, &bob, 4),
            Transaction::new(&store).execute(&accounts, &bob, Deposit::one(4, "transfer")).execute(
                &accounts,
                &ann,
                Withdraw { cents: 4 },
            ),
        ] {
            let error = transaction.commit().await.expect_err("too little");
            let rejection = error.rejection().unwrap_or_else(|| panic!("{error:?}"));
            assert_eq!(rejection.stream().id(), ann);
            assert_eq!(rejection.downcast_ref(), Some(&Overdrawn { balance: 3 }));
            let text = format!("the command was rejected: `account#{ann}`: the balance is only 3");
            assert_eq!((error.to_string(), error_text(&error)), (text.clone(), text));
        }
        assert!(!accounts.exists(&bob).await.expect("is known"));
        // Another writer makes it possible, which a repository with a cached state notices as well.
        append(&store, &ann, vec![deposited(1, "more")]).await;
        transfer(&store, &accounts, &ann, &bob, 4).commit().await.expect("is there now");
        assert_eq!((balance(&accounts, &ann).await, balance(&accounts, &bob).await), (0, 4));
    }
}

/// Each is decided on the state after the previous one. Their events are one commit.
pub async fn commands_for_one_aggregate_follow_each_other(store: Arc<dyn EventStore>) {
    let ((accounts, ann), (_, bob)) = (account(&store), account(&store));
    let done = Transaction::new(&store)
        .execute(&accounts, &ann, Deposit { cents: 5, notes: vec!["a".to_owned(), "b".to_owned()] })
        .execute(&accounts, &bob, Deposit::one(1, "c"))
        .execute(&accounts, &ann, Withdraw { cents: 10 })
        .execute(&accounts, &ann, RequireBalance { cents: 0 })
        .commit()
        .await
        .expect("accepted");
    let outcome = done.outcome::<Account>(&ann).expect("took part");
    assert_eq!((outcome.version, outcome.state.balance, outcome.events.len()), (Version::new(3), 0, 3));
    assert_eq!(accounts.load(&ann).await.expect("loads").state, outcome.state);
    let commit = outcome.commit.expect("has events");
    for recorded in accounts.history(&ann).all().await.expect("reads") {
        assert_eq!(recorded.id, EventId::new(commit, recorded.version), "all are of one commit");
    }

    let error = Transaction::new(&store)
        .execute(&accounts, &ann, Deposit::one(5, "d"))
        .execute(&accounts, &ann, Withdraw { cents: 6 })
        .commit()
        .await
        .expect_err("too little");
    let rejection = error.rejection().and_then(|rejection| rejection.downcast_ref());
    assert_eq!(rejection, Some(&Overdrawn { balance: 5 }));
    assert_eq!(balance(&accounts, &ann).await, 0);
}

/// An aggregate whose command records nothing is checked like the others.
pub async fn what_was_seen_is_still_so(store: Arc<dyn EventStore>) {
    let ((accounts, ann), (_, bob)) = (account(&store), account(&store));
    accounts.execute(&ann, Deposit::one(10, "first")).await.expect("accepted");
    let done = Transaction::new(&store)
        .execute(&accounts, &ann, RequireBalance { cents: 10 })
        .execute(&accounts, &bob, Deposit::one(1, "a"))
        .commit()
        .await
        .expect("is so");
    assert_eq!(done.outcome::<Account>(&ann).map(|outcome| outcome.events.len()), Some(0));
    let nothing = Transaction::new(&store).execute(&accounts, &ann, RequireBalance { cents: 1 });
    let done = nothing.commit().await.expect("is so");
    assert_eq!(done.cost.requests, 1, "there is nothing to write");

    // Between the decision and the write, another writer withdraws it.
    let decided = Arc::new(AtomicU32::new(0));
    let command = Interrupted { decided: Arc::clone(&decided), store: Arc::clone(&store), id: ann.clone() };
    let error = Transaction::new(&store)
        .execute(&accounts, &ann, RequireBalance { cents: 10 })
        .execute(&accounts, &bob, command)
        .commit()
        .await
        .expect_err("is no longer so");
    let rejection = error.rejection().and_then(|rejection| rejection.downcast_ref());
    assert_eq!((rejection, decided.load(Ordering::SeqCst)), (Some(&Overdrawn { balance: 5 }), 1));
    assert_eq!(balance(&accounts, &bob).await, 1);
}

/// A command. During its first decision, another writer withdraws 5 from an account.
struct Interrupted {
    decided: Arc<AtomicU32>,
    store: Arc<dyn EventStore>,
    id: String,
}

impl Handle<Interrupted> for Account {
    type Error = Overdrawn;

    fn handle(
        &self,
        command: &Interrupted,
        ctx: &es_core::Context<Self>,
    ) -> Result<es_core::Events<Self>, Overdrawn> {
        if command.decided.fetch_add(1, Ordering::SeqCst) == 0 {
            let (store, id) = (Arc::clone(&command.store), command.id.clone());
            meanwhile(async move {
                let accounts: Repository<Account> = Repository::new(store);
                accounts.execute(&id, Withdraw { cents: 5 }).await.expect("accepted");
            });
        }
        self.handle(&Deposit::one(1, "interrupted"), ctx)
    }
}

/// After a conflict on one aggregate, all commands are decided again. Only new events are read.
pub async fn are_decided_again_as_a_whole(store: Arc<dyn EventStore>) {
    let ((accounts, ann), (_, bob)) = (account(&store), account(&store));
    accounts.execute(&ann, Deposit::one(10, "first")).await.expect("accepted");
    let decided = Arc::new(AtomicU32::new(0));
    let command = Interrupted { decided: Arc::clone(&decided), store: Arc::clone(&store), id: ann.clone() };
    let done = Transaction::new(&store)
        .execute(&accounts, &ann, Withdraw { cents: 5 })
        .execute(&accounts, &bob, command)
        .commit()
        .await
        .expect("is still there");
    assert_eq!((done.attempts, decided.load(Ordering::SeqCst)), (2, 2));
    assert_eq!((balance(&accounts, &ann).await, balance(&accounts, &bob).await), (0, 1));

    let ((_, ann), (_, bob)) = (account(&store), account(&store));
    accounts.execute(&ann, Deposit::one(10, "first")).await.expect("accepted");
    let command = Interrupted { decided: Arc::default(), store: Arc::clone(&store), id: ann.clone() };
    let error: TransactionError = Transaction::new(&store)
        .execute(&accounts, &ann, Withdraw { cents: 1 })
        .execute(&accounts, &bob, command)
        .retry(RetryPolicy::never())
        .commit()
        .await
        .expect_err("too late");
    assert!(matches!(&error, ExecuteError::Conflict(conflict) if conflict.stream.id() == ann), "{error:?}");
    assert_eq!((balance(&accounts, &ann).await, balance(&accounts, &bob).await), (5, 0));
}

/// Several commands for an aggregate apply their events to its state before these are recorded. After a conflict, they
/// are decided on the state of the stream.
pub async fn commands_that_lost_leave_nothing_in_the_state(store: Arc<dyn EventStore>) {
    let ((_, ann), (_, bob)) = (account(&store), account(&store));
    let accounts: Repository<Account> = Repository::builder(Arc::clone(&store)).cache(4).build();
    accounts.execute(&ann, Deposit::one(10, "first")).await.expect("accepted");
    let command = Interrupted { decided: Arc::default(), store: Arc::clone(&store), id: ann.clone() };
    let done = Transaction::new(&store)
        .execute(&accounts, &ann, Deposit::one(100, "a"))
        .execute(&accounts, &ann, Deposit::one(1_000, "b"))
        .execute(&accounts, &bob, command)
        .commit()
        .await
        .expect("accepted");
    assert_eq!(done.attempts, 2);
    let uncached: Repository<Account> = Repository::new(Arc::clone(&store));
    let stored = uncached.load(&ann).await.expect("loads");
    let outcome = done.outcome::<Account>(&ann).expect("has a part");
    assert_eq!((&outcome.state, outcome.version), (&stored.state, stored.version));
    assert_eq!(accounts.load(&ann).await.expect("loads").state, stored.state);
}

/// However often it is repeated. Another transaction cannot reuse its key.
pub async fn are_carried_out_once(store: Arc<dyn EventStore>) {
    let ((accounts, ann), (_, bob)) = (account(&store), account(&store));
    accounts.execute(&ann, Deposit::one(10, "first")).await.expect("accepted");
    let key = Uuid::new_v4().to_string();
    // Without the key, the third one would be rejected.
    for delivery in 0..3 {
        let transaction = transfer(&store, &accounts, &ann, &bob, 4);
        let done = transaction.once(&key).commit().await.expect("was accepted");
        assert_eq!(done.repeated, delivery > 0);
        let (from, to) = (done.outcome::<Account>(&ann), done.outcome::<Account>(&bob));
        let balances = (from.map(|outcome| outcome.state.balance), to.map(|outcome| outcome.state.balance));
        assert_eq!(balances, (Some(6), Some(4)));
        if delivery < 2 {
            accounts.execute(&ann, Withdraw { cents: 3 }).await.expect("accepted");
        }
    }
    // The order of the aggregates does not matter.
    let reversed = Transaction::new(&store).execute(&accounts, &bob, Deposit::one(4, "transfer")).execute(
        &accounts,
        &ann,
        Withdraw { cents: 4 },
    );
    assert!(reversed.once(&key).commit().await.expect("was accepted").repeated);

    let (_, cleo) = account(&store);
    let one = |id| Transaction::new(&store).execute(&accounts, id, Deposit::one(1, "a"));
    for other in [
        one(&cleo),
        one(&ann),
        one(&ann).execute(&accounts, &bob, Deposit::one(1, "b")),
        transfer(&store, &accounts, &ann, &bob, 4).execute(&accounts, &cleo, Deposit::one(1, "c")),
        transfer(&store, &accounts, &ann, &bob, 4).fingerprint("POST /transfers"),
    ] {
        let error = other.once(&key).commit().await.expect_err("is another one");
        let ExecuteError::KeyReused(reused) = &error else { panic!("{error:?}") };
        assert!(reused.first.as_deref().is_some_and(|first| first.contains("Withdraw")), "{reused:?}");
    }
    // Transactions without a name still differ by their aggregates.
    let digest = || one(&cleo).fingerprint("x").once(format!("{key}/x"));
    assert!(!digest().commit().await.expect("accepted").repeated);
    assert!(digest().commit().await.expect("was accepted").repeated);
    assert_eq!(accounts.version(&cleo).await.expect("is known"), Version::new(1));
}

/// A transaction can move a claim from one aggregate to another.
pub async fn with_claims_move_them(store: Arc<dyn EventStore>) {
    let ((accounts, ann), (_, bob)) = (account(&store), account(&store));
    let (old, new) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
    accounts.execute(&ann, TakeHandle { handle: old.clone() }).await.expect("is free");
    let swap =
        |first: (&String, &String), second: (&String, &String)| {
            Transaction::new(&store)
                .execute(&accounts, first.0, TakeHandle { handle: first.1.clone() })
                .execute(&accounts, second.0, TakeHandle { handle: second.1.clone() })
        };
    let error = swap((&bob, &old), (&ann, &new)).commit().await.expect_err("bob is too early");
    assert!(error.claimed().is_some(), "{error:?}");
    swap((&ann, &new), (&bob, &old)).commit().await.expect("ann gives it back first");
    for (handle, id) in [(&old, &bob), (&new, &ann)] {
        let holder = accounts.claim_holder("handle", handle).await.expect("is known");
        assert_eq!(holder.as_ref().map(StreamId::id), Some(id.as_str()));
    }
}

/// Each error says what to do.
pub async fn that_cannot_be_are_refused(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let elsewhere: Repository<Account> = Repository::new(es_core::MemoryStore::new());
    let nothing = |_: &es_core::repository::Decided<'_, Account>| Vec::<u8>::new();
    for (transaction, reason) in [
        (Transaction::new(&store), "has no commands"),
        (Transaction::new(&store).execute(&elsewhere, &id, Deposit::one(1, "a")), "another store"),
        (
            Transaction::new(&store).execute(&accounts, &String::new(), Deposit::one(1, "a")),
            "`account` is empty",
        ),
        (
            Transaction::new(&store).execute(&accounts, &id, Deposit::one(1, "a")).with_writes(
                &accounts,
                &"other".to_owned(),
                nothing,
            ),
            "but no command",
        ),
        (
            Transaction::new(&store).execute(&accounts, &id, Deposit::one(1, "a")).with_write("not a write"),
            "does not support additional writes",
        ),
    ] {
        let error = transaction.commit().await.expect_err(reason);
        assert!(matches!(error, ExecuteError::Store(StoreError::Invalid { .. })), "{error:?}");
        let source = std::error::Error::source(&error).expect("has a reason").to_string();
        assert!(source.contains(reason), "{source}");
    }
    assert!(!accounts.exists(&id).await.expect("is known"));
}

/// Concurrent transfers between four accounts, with and without caches, preserve the sum of the balances.
pub async fn transfers_keep_the_sum(store: Arc<dyn EventStore>) {
    let retry = RetryPolicy::default().with_max_attempts(1_000).with_max_delay(Duration::from_millis(30));
    let ids: Vec<_> = (0..4).map(|_| account(&store).1).collect();
    let plain: Repository<Account> = Repository::new(Arc::clone(&store));
    for id in &ids {
        plain.execute(id, Deposit::one(100, "first")).await.expect("accepted");
    }
    let workers = (0..8_usize).map(|worker| {
        let builder = Repository::builder(Arc::clone(&store)).retry(retry).without_deadline();
        let accounts: Repository<Account> =
            if worker % 2 == 0 { builder.cache(2).build() } else { builder.build() };
        let (store, ids) = (Arc::clone(&store), ids.clone());
        tokio::spawn(async move {
            let mut done = 0;
            for n in 0..10_usize {
                let (from, to) = (&ids[(worker + n) % 4], &ids[(worker + n + 1 + n % 3) % 4]);
                let transaction = transfer(&store, &accounts, from, to, 30 + n as u64);
                let transaction = transaction.retry(retry).without_deadline();
                match transaction.commit().await {
                    Ok(_) => done += 1,
                    Err(error) => assert!(error.rejection().is_some(), "{error:?}"),
                }
            }
            done
        })
    });
    let done: usize = join_all(workers).await.into_iter().map(|done| done.expect("does not panic")).sum();
    let mut sum = 0;
    let mut events = 0;
    for id in &ids {
        let loaded = plain.load(id).await.expect("loads");
        sum += loaded.state.balance;
        events += loaded.state.events;
    }
    assert_eq!((sum, events), (400, 4 + 2 * done as u64));
    assert!(done > 0);
}
