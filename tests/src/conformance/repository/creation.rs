//! Commands that create their aggregate.

use std::sync::Arc;

use es_core::{
    EventStore, ExecuteError, ExpectedVersion, Metadata, Outcome, Repository, Transaction, Version,
};
use futures_util::future::join_all;

use super::{account, append, deposited};
use crate::domain::{Account, Deposit, Overdrawn, RequireBalance, TakeHandle, Withdraw};

/// Returns the version that the existing aggregate has reached, and expects nothing else to be the reason.
fn existing<T, E: std::fmt::Debug>(result: Result<T, ExecuteError<E>>) -> Version {
    match result.err().expect("the aggregate exists") {
        ExecuteError::AlreadyExists(conflict) => conflict.actual.expect("is known"),
        error => panic!("{error:?}"),
    }
}

fn shown(outcome: &Outcome<Account>) -> (Account, Version, Option<es_core::event::CommitId>) {
    (outcome.state.clone(), outcome.version, outcome.commit)
}

/// The write is the only request, with and without a cache; the metadata is recorded.
pub async fn takes_one_request(store: Arc<dyn EventStore>) {
    for cached in [false, true] {
        let (_, id) = account(&store);
        let builder = Repository::builder(Arc::clone(&store));
        let accounts: Repository<Account> = if cached { builder.cache(4).build() } else { builder.build() };
        let command = Deposit { cents: 5, notes: vec!["a".to_owned(), "b".to_owned()] };
        let request = accounts.with_metadata(Metadata::new().with_actor("ann"));
        let done = request.create(&id, command).await.expect("is new");
        assert_eq!((done.version, done.state.balance, done.attempts), (Version::new(2), 10, 1));
        assert_eq!((done.cost.requests, done.cost.read_units), (1, 0.0), "{}", done.cost);
        let history = accounts.history(&id).all().await.expect("reads");
        assert!(history.iter().all(|recorded| recorded.metadata.actor() == Some("ann")));
        let next = accounts.execute(&id, Withdraw { cents: 3 }).await.expect("accepted");
        assert_eq!((next.version, next.state.balance), (Version::new(3), 7));
        assert_eq!(next.state, accounts.load(&id).await.expect("loads").state);
    }
}

/// An existing aggregate stays as it is, and its state is not decided on.
pub async fn of_an_existing_aggregate_fails(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    append(&store, &id, vec![deposited(100, "a"), deposited(1, "b")]).await;
    let error = accounts.create(&id, Deposit::one(5, "again")).await.expect_err("exists");
    assert!(error.is_already_exists() && !error.is_conflict(), "{error:?}");
    assert!(!error.is_retryable() && !error.is_transient() && !error.is_outcome_unknown());
    assert!(error.to_string().contains(&format!("`account#{id}` exists already")), "{error}");
    existing(accounts.create(&id, Deposit::one(5, "again")).await);
    let state = accounts.load(&id).await.expect("loads").state;
    assert_eq!(state.notes, ["a", "b"]);
}

/// A rejection, or a decision without events, was made on the initial state. It is returned only if that is the state.
pub async fn rejections_are_verified(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let withdraw = async || accounts.create(&id, Withdraw { cents: 1 }).await;
    let nothing = async || accounts.create(&id, RequireBalance { cents: 0 }).await;
    assert_eq!(withdraw().await.expect_err("rejected").rejection(), Some(&Overdrawn { balance: 0 }));
    let done = nothing().await.expect("has nothing to do");
    assert_eq!((done.version, done.commit, done.cost.requests), (Version::NONE, None, 1));

    append(&store, &id, vec![deposited(100, "a")]).await;
    assert_eq!(existing(withdraw().await), Version::new(1));
    assert_eq!(existing(nothing().await), Version::new(1));
}

/// A repeated call returns the first outcome; another key, or another command, does not.
pub async fn under_a_key_is_repeated(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let create = async |key: &str| accounts.once(key).create(&id, Deposit::one(5, "once")).await;
    let first = create("k").await.expect("is new");
    assert_eq!((first.repeated, first.cost.requests), (false, 1));
    for _ in 0..2 {
        let again = create("k").await.expect("was created");
        assert!(again.repeated);
        assert_eq!(shown(&again), shown(&first));
        append(&store, &id, vec![deposited(1, "after")]).await;
    }
    existing(create("other").await);
    for command in [Withdraw { cents: 0 }, Withdraw { cents: 1 }] {
        let error = accounts.once("k").create(&id, command).await.expect_err("is another command");
        assert!(matches!(error, ExecuteError::KeyReused(_)), "{error:?}");
    }

    // A creation with nothing to do is remembered, whatever happens to the stream afterwards.
    let (_, id) = account(&store);
    let nothing = async || accounts.once("n").create(&id, RequireBalance { cents: 0 }).await;
    assert!(!nothing().await.expect("has nothing to do").repeated);
    append(&store, &id, vec![deposited(1, "after")]).await;
    let again = nothing().await.expect("had nothing to do");
    assert_eq!((again.repeated, again.version), (true, Version::NONE));
}

/// One of many creates the aggregate, and all others learn that.
pub async fn by_many_at_once_succeeds_once(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let creations = (0..8).map(|n| accounts.create(&id, Deposit::one(1, n.to_string())));
    let (created, others): (Vec<_>, Vec<_>) = join_all(creations).await.into_iter().partition(Result::is_ok);
    assert_eq!((created.len(), others.len()), (1, 7));
    for other in others {
        assert_eq!(existing(other), Version::new(1));
    }
    let loaded = accounts.load(&id).await.expect("loads");
    assert_eq!(loaded.state, created.into_iter().flatten().next().expect("one was created").state);
}

/// Claims are taken with the first commit; an expected version that contradicts the creation is reported.
pub async fn keeps_the_other_options(store: Arc<dyn EventStore>) {
    let ((accounts, id), (_, other)) = (account(&store), account(&store));
    let handle = id.clone();
    let done = accounts.create(&id, TakeHandle { handle: handle.clone() }).await.expect("is free");
    assert_eq!((done.version, done.cost.requests), (Version::new(1), 1));
    let error = accounts.create(&other, TakeHandle { handle }).await.expect_err("is taken");
    assert!(error.claimed().is_some(), "{error:?}");
    assert!(!accounts.exists(&other).await.expect("is known"));

    let third = ExpectedVersion::Exact(Version::new(3));
    let request = || accounts.expected_version(third);
    let error = request().create(&other, Deposit::one(1, "a")).await.expect_err("is not at version 3");
    assert!(matches!(error, ExecuteError::Outdated(_)), "{error:?}");
    assert_eq!(existing(request().create(&id, Deposit::one(1, "a")).await), Version::new(1));
}

/// Only the other aggregates are loaded; nothing is recorded if one of the new ones exists.
pub async fn in_a_transaction_reads_the_others_only(store: Arc<dyn EventStore>) {
    let ((accounts, ann), (_, bob)) = (account(&store), account(&store));
    accounts.execute(&ann, Deposit::one(10, "first")).await.expect("accepted");
    let open = |key: &str| {
        Transaction::new(&store)
            .execute(&accounts, &ann, Withdraw { cents: 4 })
            .create(&accounts, &bob, Deposit::one(4, "opening"))
            .execute(&accounts, &bob, Withdraw { cents: 1 })
            .once(key)
    };
    let done = open("k").commit().await.expect("is new");
    assert_eq!((done.attempts, done.cost.requests), (1, 2), "one read and one write");
    let outcome = done.outcome::<Account>(&bob).expect("took part");
    assert_eq!((outcome.version, outcome.state.balance), (Version::new(2), 3));
    assert!(open("k").commit().await.expect("was created").repeated);
    existing(open("other").commit().await);

    // A rejection is verified, even if the transaction fails for another reason.
    let rejected = Transaction::new(&store).create(&accounts, &bob, Withdraw { cents: 1 }).commit().await;
    assert_eq!(existing(rejected), Version::new(2));
    let rejected = Transaction::new(&store).create(&accounts, &format!("{ann}2"), Withdraw { cents: 1 });
    let error = rejected.commit().await.expect_err("is rejected");
    assert_eq!(
        error.rejection().and_then(|rejection| rejection.downcast_ref()),
        Some(&Overdrawn { balance: 0 })
    );
    assert_eq!(accounts.load(&ann).await.expect("loads").state.balance, 6);
}
