//! Commands with an idempotency key.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use es_core::clock::ManualClock;
use es_core::store::{Append, EventRange, IdempotencyKey, NewIdempotencyRecord, WriteSet};
use es_core::{
    EventStore, Events, ExecuteError, ExpectedVersion, Metadata, Outcome, Repository, RetryPolicy, Version,
    error_text,
};
use futures_util::future::join_all;
use uuid::Uuid;

use super::{account, append, deposited, new_commit, stream};
use crate::conformance::time;
use crate::domain::{Account, Deposit, Overdrawn, RequireBalance, TakeHandle, Withdraw};

fn shown(outcome: &Outcome<Account>) -> (Account, Version, usize, Option<es_core::event::CommitId>) {
    (outcome.state.clone(), outcome.version, outcome.events.len(), outcome.commit)
}

/// The first delivery costs a load and a transaction. Different keys are different commands.
pub async fn a_command_is_carried_out_once(store: Arc<dyn EventStore>) {
    let ((accounts, id), (_, other)) = (account(&store), account(&store));
    for delivery in 0..3 {
        let done = accounts.once("a").execute(&id, Deposit::one(5, "a")).await.expect("accepted");
        assert_eq!((done.state.balance, done.repeated), (5, delivery > 0));
        assert!(delivery > 0 || done.cost.requests == 2, "{}", done.cost);
    }
    for (account, key, balance) in [(&id, "b", 10), (&id, "a#b", 15), (&other, "a", 5)] {
        let done = accounts.once(key).execute(account, Deposit::one(5, key)).await.expect("accepted");
        assert_eq!((done.state.balance, done.repeated), (balance, false), "{key}");
    }
    assert_eq!(accounts.load(&id).await.expect("loads").state.notes, ["a", "b", "a#b"]);
}

/// Regardless of later events, and of the outcome that the command would have now.
pub async fn the_first_outcome_is_returned_again(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let cached: Repository<Account> = Repository::builder(Arc::clone(&store)).cache(4).build();
    accounts.execute(&id, Deposit::one(10, "before")).await.expect("accepted");
    let audited = || accounts.with_metadata(Metadata::new().with_actor("ann"));
    let first = audited().once("k").execute(&id, Withdraw { cents: 8 }).await.expect("accepted");
    assert_eq!((first.state.balance, first.version, first.repeated), (2, Version::new(2), false));
    // Now it would be rejected, and later accepted again.
    for (balance, notes) in [(2, vec![]), (100, vec![deposited(98, "after")])] {
        if !notes.is_empty() {
            append(&store, &id, notes).await;
        }
        assert_eq!(accounts.load(&id).await.expect("loads").state.balance, balance);
        for repository in [&accounts, &cached] {
            let again = repository.once("k").execute(&id, Withdraw { cents: 8 }).await.expect("was accepted");
            assert!(again.repeated);
            assert_eq!(shown(&again), shown(&first));
        }
    }
    assert_eq!(accounts.load(&id).await.expect("loads").state.balance, 100);
    let history = accounts.history(&id).all().await.expect("reads");
    assert_eq!(history[1].metadata.actor(), Some("ann"));
}

/// The load, the write that finds the key, and the events of the first outcome, even if the loaded state is that of the
/// outcome.
pub async fn a_repetition_reports_all_of_its_cost(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let deposit = || async { accounts.once("k").execute(&id, Deposit::one(10, "once")).await };
    deposit().await.expect("accepted");
    let again = deposit().await.expect("was accepted");
    assert!(again.repeated);
    assert_eq!(again.cost.requests, 3, "{}", again.cost);
}

/// A later delivery may be accepted.
pub async fn a_rejection_is_not_remembered(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let withdraw = || async { accounts.once("k").execute(&id, Withdraw { cents: 8 }).await };
    assert!(withdraw().await.expect_err("nothing is there").rejection().is_some());
    accounts.execute(&id, Deposit::one(10, "first")).await.expect("accepted");
    assert!(!withdraw().await.expect("is there").repeated);
    let again = withdraw().await.expect("was accepted");
    assert_eq!((again.state.balance, again.repeated), (2, true));

    // A refusal because of a taken claim is not remembered either.
    let (_, other) = account(&store);
    let handle = other.clone();
    accounts.execute(&id, TakeHandle { handle: handle.clone() }).await.expect("is free");
    let take = || async { accounts.once("c").execute(&other, TakeHandle { handle: handle.clone() }).await };
    assert!(take().await.expect_err("is taken").claimed().is_some());
    accounts.execute(&id, TakeHandle { handle: id.clone() }).await.expect("is free");
    assert!(!take().await.expect("is free now").repeated);
    assert!(take().await.expect("was taken").repeated);
}

/// A decision without events is an outcome: a later delivery has no effect.
pub async fn nothing_to_do_is_remembered(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    accounts.execute(&id, Deposit::one(5, "first")).await.expect("accepted");
    let sweep = || async {
        accounts
            .once("k")
            .decide(&id, async |state, _| {
                Ok::<_, Overdrawn>(match state.balance > 5 {
                    true => crate::domain::Withdrawn { cents: state.balance }.into(),
                    false => Events::none(),
                })
            })
            .await
            .expect("accepted")
    };
    let first = sweep().await;
    assert_eq!((first.version, first.repeated), (Version::new(1), false));
    accounts.execute(&id, Deposit::one(5, "second")).await.expect("accepted");
    let again = sweep().await;
    assert_eq!((again.version, again.state.balance, again.repeated), (Version::new(1), 5, true));
    assert_eq!((again.events.len(), again.commit), (0, None));
    let accepted = accounts.once("empty").execute(&id, RequireBalance { cents: 0 }).await.expect("accepted");
    assert!(!accepted.repeated);
}

/// Concurrent deliveries of one message, among other commands.
pub async fn deliveries_at_the_same_time_are_one(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    let retry = RetryPolicy::default().with_max_attempts(1_000).with_max_delay(Duration::from_millis(20));
    let accounts: Repository<Account> = Repository::builder(store).retry(retry).without_deadline().build();
    let deliveries = (0..8)
        .map(|_| async { accounts.once("k").execute(&id, Deposit::one(1, "once")).await.expect("accepted") });
    let others =
        (0..8).map(|_| async { accounts.execute(&id, Deposit::one(100, "other")).await.expect("accepted") });
    let (outcomes, _) = futures_util::future::join(join_all(deliveries), join_all(others)).await;
    assert_eq!(outcomes.iter().filter(|outcome| !outcome.repeated).count(), 1);
    assert!(outcomes.iter().all(|outcome| shown(outcome) == shown(&outcomes[0])));
    assert_eq!(accounts.load(&id).await.expect("loads").state.balance, 801);
}

/// After its expiration, a key can be used again.
pub async fn a_key_expires(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    let clock = ManualClock::at(time(0));
    let accounts: Repository<Account> = Repository::builder(store).clock(clock.clone()).build();
    let deposit = || async {
        let request = accounts.once_for(Duration::from_secs(10), "k");
        request.execute(&id, Deposit::one(1, "once")).await.expect("accepted")
    };
    assert!(!deposit().await.repeated);
    clock.advance(TimeDelta::seconds(10));
    assert!(deposit().await.repeated);
    clock.advance(TimeDelta::seconds(1));
    assert!(!deposit().await.repeated);
    assert!(deposit().await.repeated);
    assert_eq!(accounts.load(&id).await.expect("loads").state.balance, 2);
}

fn first_use<E: std::fmt::Debug>(error: ExecuteError<E>) -> Option<String> {
    match error {
        ExecuteError::KeyReused(reused) => reused.first,
        error => panic!("{error:?}"),
    }
}

/// Another command under a used key is an error, whatever its outcome would be.
pub async fn a_key_is_for_one_command(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    accounts.once("k").execute(&id, Deposit::one(5, "a")).await.expect("accepted");
    for cents in [1, 100] {
        let error = accounts.once("k").execute(&id, Withdraw { cents }).await.expect_err("is another one");
        assert!(!error.is_retryable() && !error.is_transient() && !error.is_outcome_unknown());
        assert_eq!(first_use(error).as_deref(), Some("Deposit"));
    }
    let nothing = accounts.once("k").execute(&id, RequireBalance { cents: 0 }).await;
    assert_eq!(first_use(nothing.expect_err("is another one")).as_deref(), Some("Deposit"));
    // A decision without a name may be any command. The first command can still be repeated.
    let decide = async |_: &Account, _: &_| Ok::<_, Overdrawn>(Events::none());
    assert!(accounts.once("k").decide(&id, decide).await.expect("was accepted").repeated);
    assert!(accounts.once("k").execute(&id, Deposit::one(5, "a")).await.expect("was accepted").repeated);

    let by = |body: &'static str| accounts.once("body").fingerprint(body);
    assert!(!by("5").execute(&id, Deposit::one(5, "b")).await.expect("accepted").repeated);
    assert!(by("5").execute(&id, Deposit::one(5, "b")).await.expect("was accepted").repeated);
    let error = by("6").execute(&id, Deposit::one(6, "b")).await.expect_err("is another one");
    assert!(first_use(error).is_some_and(|first| first.len() == 32), "a digest, not the content");
    assert_eq!(accounts.load(&id).await.expect("loads").state.notes, ["a", "b"]);
}

/// The cost does not grow with the stream.
pub async fn a_repetition_reads_from_the_snapshot(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    for n in 0..250 {
        append(&store, &id, vec![deposited(1, &format!("{n:0100}"))]).await;
    }
    accounts.execute(&id, Deposit::one(1, "the snapshot")).await.expect("accepted");
    accounts.flush().await;
    let replay = accounts.load_at(&id, Version::new(251)).await.expect("loads");
    let first = accounts.once("k").execute(&id, Deposit::one(1, "once")).await.expect("accepted");
    for notes in [vec![], vec![deposited(1, "after")]] {
        if !notes.is_empty() {
            append(&store, &id, notes).await;
        }
        let again = accounts.once("k").execute(&id, Deposit::one(1, "once")).await.expect("was accepted");
        assert_eq!(shown(&again), shown(&first));
        assert!(again.cost.requests <= 4, "{}", again.cost);
        assert!(again.cost.read_units <= replay.cost.read_units, "{} after {}", again.cost, replay.cost);
    }
    // A snapshot later than the command cannot be used.
    let more: Vec<_> = (0..7).map(|n| n.to_string()).collect();
    accounts.execute(&id, Deposit { cents: 1, notes: more }).await.expect("accepted");
    accounts.flush().await;
    let again = accounts.once("k").execute(&id, Deposit::one(1, "once")).await.expect("was accepted");
    assert_eq!(shown(&again), shown(&first));
}

/// Its events are whole commits of the stream.
pub async fn a_damaged_record_is_reported(store: Arc<dyn EventStore>) {
    for (first, last, expected) in [
        (1, 2, "refers to a part of the commit at version 1"),
        (2, 3, "refers to a part of the commit at version 1"),
        (3, 4, "refers to a part of the commit at version 1"),
        (4, 6, "refers to version 6, which is missing"),
        (9, 9, "refers to version 9, which is missing"),
    ] {
        let ((_, id), (_, other)) = (account(&store), account(&store));
        append(&store, &id, vec![deposited(1, "a"), deposited(2, "b"), deposited(3, "c")]).await;
        append(&store, &id, vec![deposited(4, "d")]).await;
        let key = IdempotencyKey::new(Some(stream(&id)), "k").expect("valid");
        let range = EventRange::new(stream(&id), Version::new(first), Version::new(last));
        let record = NewIdempotencyRecord::new(key, Uuid::new_v4(), time(0), time(60), vec![range]);
        let commit = new_commit(vec![deposited(1, "another stream")]);
        let append = Append::new(stream(&other), ExpectedVersion::NoStream, commit);
        store.write(&WriteSet::new().append(append).idempotent(record)).await.expect("writes");

        let clock = ManualClock::at(time(1));
        let accounts = Repository::<Account>::builder(Arc::clone(&store)).clock(clock).build();
        let error = accounts.once("k").execute(&id, Deposit::one(5, "")).await.expect_err("is damaged");
        assert!(error_text(&error).contains(expected), "{first} to {last}: {error:?}");
        assert_eq!(accounts.load(&id).await.expect("loads").version, Version::new(4));
    }
}
