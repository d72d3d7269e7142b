//! Deadlines, the retry budget, and clock skew.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use es_core::clock::{Clock, ManualClock};
use es_core::repository::{RepositoryBuilder, RetryBudget};
use es_core::store::{Append, Conflict, DeadlineExceeded};
use es_core::testing::{Faults, FaultyStore};
use es_core::{
    EventStore, ExecuteError, ExpectedVersion, Repository, RetryPolicy, StoreError, Transaction, Version,
};
use uuid::Uuid;

use super::{account, append, append_commit, deposited, stream};
use crate::conformance::support::{new_commit, time};
use crate::domain::{Account, Deposit, Deposited, Overdrawn, TakeHandle};

/// Returns a builder whose retries end only at the deadline, and the clock that its delays advance.
fn patient(store: impl EventStore) -> (RepositoryBuilder<Account>, ManualClock) {
    let clock = ManualClock::at(time(0));
    let retry = RetryPolicy::default().with_max_attempts(u32::MAX);
    let builder = Repository::builder(store).retry(retry).retry_budget(RetryBudget::unlimited());
    (builder.clock(clock.clone()), clock)
}

fn seconds_on(clock: &ManualClock) -> i64 {
    (clock.now() - time(0)).num_seconds()
}

/// Returns a store that fails after `requests` requests.
fn dead_after(store: &Arc<dyn EventStore>, requests: u64) -> (FaultyStore<Arc<dyn EventStore>>, Faults) {
    let faults = Faults::seeded(1).crash_after(requests + 1);
    (FaultyStore::new(Arc::clone(store), faults.clone()), faults)
}

/// Returns the number of requests of a load without events.
async fn requests_of_a_load(store: &Arc<dyn EventStore>) -> u64 {
    let ((_, id), faults) = (account(store), Faults::seeded(1));
    let accounts: Repository<Account> = Repository::new(FaultyStore::new(Arc::clone(store), faults.clone()));
    accounts.load(&id).await.expect("loads");
    faults.requests()
}

fn deadline(error: &StoreError) -> &DeadlineExceeded {
    match error {
        StoreError::DeadlineExceeded(exceeded) => exceeded,
        error => panic!("{error:?}"),
    }
}

/// Loads and commands end with the last failure, by default after 30 seconds.
pub async fn an_outage_ends_at_the_deadline(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    for (own, limit) in [(None, 30), (Some(Duration::from_secs(5)), 5)] {
        let (dead, _) = dead_after(&store, 0);
        let (builder, clock) = patient(dead);
        let builder = match own {
            Some(limit) => builder.deadline(limit),
            None => builder,
        };
        let accounts = builder.build();
        let error = accounts.load(&id).await.expect_err("is away");
        let exceeded = deadline(&error);
        assert_eq!((exceeded.limit, exceeded.outcome_unknown), (Duration::from_secs(limit as u64), false));
        let last = exceeded.source().and_then(|last| last.downcast_ref::<StoreError>());
        assert!(matches!(last, Some(StoreError::Unavailable(_))), "{exceeded:?}");
        assert!(error.is_transient() && error.is_retryable() && !error.is_outcome_unknown());
        assert!((limit - 2..=limit).contains(&seconds_on(&clock)), "{}", clock.now());

        let before = seconds_on(&clock);
        let error = accounts.execute(&id, Deposit::one(1, "")).await.expect_err("is away");
        assert!(!error.is_outcome_unknown() && error.is_transient());
        assert_eq!(error.deadline_exceeded().map(|exceeded| exceeded.limit), Some(exceeded.limit));
        assert!((limit - 2..=limit).contains(&(seconds_on(&clock) - before)));
    }
    // A request may have another deadline, or none: then the number of attempts limits it.
    let (dead, faults) = dead_after(&store, 0);
    let retry = RetryPolicy::default().with_max_attempts(200).with_base_delay(Duration::from_secs(1));
    let (builder, clock) = patient(dead);
    let accounts = builder.retry(retry).deadline(Duration::ZERO).build();
    let request = || accounts.with_metadata(es_core::Metadata::new());
    let error = request().deadline(Duration::from_secs(3)).execute(&id, Deposit::one(1, "")).await;
    let error = error.expect_err("is away");
    assert_eq!(error.deadline_exceeded().map(|exceeded| exceeded.limit), Some(Duration::from_secs(3)));
    let before = faults.requests();
    let error = request().without_deadline().execute(&id, Deposit::one(1, "")).await.expect_err("is away");
    assert!(matches!(error, ExecuteError::Store(StoreError::Unavailable(_))), "{error:?}");
    assert_eq!(faults.requests() - before, 200);
    assert!(seconds_on(&clock) > 30);
}

/// The error says so. If the store recovers before the deadline, the outcome is resolved.
pub async fn a_write_without_a_response_ends_with_an_unknown_outcome(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    let (dead, _) = dead_after(&store, requests_of_a_load(&store).await);
    let accounts = patient(dead).0.build();
    let error = accounts.execute(&id, Deposit::one(1, "")).await.expect_err("is away");
    assert!(error.is_outcome_unknown(), "{error:?}");
    assert!(error.deadline_exceeded().is_some_and(|exceeded| exceeded.outcome_unknown), "{error:?}");
    assert!(es_core::error_text(&error).contains("may have been recorded"), "{error:?}");

    let (_, id) = account(&store);
    let flaky = FaultyStore::new(Arc::clone(&store), Faults::seeded(3).lost_answers(0.7));
    let accounts = patient(flaky).0.build();
    let done = accounts.execute(&id, Deposit::one(1, "once")).await.expect("is resolved");
    assert_eq!((done.version, done.attempts), (Version::new(1), 1));
    assert_eq!(store.head(&stream(&id)).await.expect("is known").version, Version::new(1));
}

/// The caller no longer waits for it.
pub async fn a_late_decision_is_not_written(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    let (builder, clock) = patient(Arc::clone(&store));
    let accounts = builder.build();
    let decide = async |_: &Account, _: &_| {
        clock.advance(TimeDelta::seconds(31));
        Ok::<_, Overdrawn>(Deposited { cents: 1, note: "late".to_owned() }.into())
    };
    let error = accounts.decide(&id, decide).await.expect_err("is late");
    assert!(error.deadline_exceeded().is_some_and(|exceeded| !exceeded.outcome_unknown), "{error:?}");
    assert!(!accounts.exists(&id).await.expect("is known"));
    accounts
        .with_metadata(es_core::Metadata::new())
        .without_deadline()
        .decide(&id, decide)
        .await
        .expect("may be late");
}

/// Conflicts do not use the retry budget. The last one is the source of the deadline error.
pub async fn contention_ends_at_the_deadline(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    let (builder, clock) = patient(Arc::clone(&store));
    let accounts = builder.retry_budget(RetryBudget::default().with_burst(0)).build();
    let decide = async |_: &Account, _: &_| {
        append(&store, &id, vec![deposited(1, "another")]).await;
        Ok::<_, Overdrawn>(Deposited { cents: 1, note: "loser".to_owned() }.into())
    };
    let error = accounts.decide(&id, decide).await.expect_err("never first");
    let exceeded = error.deadline_exceeded().unwrap_or_else(|| panic!("{error:?}"));
    assert!(!exceeded.outcome_unknown);
    assert!(exceeded.source().is_some_and(<dyn Error>::is::<Conflict>), "{exceeded:?}");
    assert!((28..=30).contains(&seconds_on(&clock)), "{}", clock.now());
}

/// During an outage, commands send little more than one request each. Successes refill the budget.
pub async fn retries_share_a_budget(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    let (dead, faults) = dead_after(&store, 0);
    let (builder, _) = patient(dead);
    let accounts = builder.retry_budget(RetryBudget::default()).build();
    let mut sent = Vec::new();
    for _ in 0..3 {
        let before = faults.requests();
        let error = accounts.load(&id).await.expect_err("is away");
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        sent.push(faults.requests() - before);
    }
    assert_eq!(sent, [11, 1, 1], "a burst of 10, and nothing more");

    let faults = Faults::seeded(1).lost_requests(0.3);
    let flaky = FaultyStore::new(Arc::clone(&store), faults.clone());
    let accounts = patient(flaky).0.retry_budget(RetryBudget::default().with_burst(5)).build();
    let mut loaded = 0;
    for _ in 0..300 {
        loaded += u64::from(accounts.load(&id).await.is_ok());
    }
    // Each fault led to a retry or ended a load.
    let retries = faults.injected() - (300 - loaded);
    let earned = loaded / 10;
    assert!((earned + 4..=earned + 5).contains(&retries), "{retries} retries, {loaded} loaded");
}

/// A history whose pages fail halfway is retried as well, each page until a separate deadline.
pub async fn all_reads_are_retried(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    for note in 0..20 {
        accounts.execute(&id, Deposit::one(1, note.to_string())).await.expect("accepted");
    }
    let handle = Uuid::new_v4().to_string();
    accounts.execute(&id, TakeHandle { handle: handle.clone() }).await.expect("accepted");
    let history = accounts.history(&id).all().await.expect("reads");

    for seed in 0..10 {
        let faults = Faults::seeded(seed).lost_requests(0.3).throttling(0.2).cut_pages(0.4);
        let flaky = FaultyStore::new(Arc::clone(&store), faults.clone());
        let accounts = patient(flaky).0.build();
        assert_eq!(accounts.history(&id).all().await.expect("reads"), history, "seed {seed}");
        let part = accounts.history_between(&id, Version::new(3), Version::new(9)).all().await;
        assert_eq!(part.expect("reads"), history[3..9], "seed {seed}");
        assert_eq!(accounts.version(&id).await.expect("is known"), Version::new(21), "seed {seed}");
        assert!(accounts.exists(&id).await.expect("is known"), "seed {seed}");
        let holder = accounts.claim_holder("handle", &handle).await.expect("is known");
        assert_eq!(holder, Some(stream(&id)), "seed {seed}");
        assert!(faults.injected() > 0, "seed {seed}");
    }

    let (dead, _) = dead_after(&store, 0);
    let (builder, clock) = patient(dead);
    let accounts = builder.build();
    let errors = [
        accounts.version(&id).await.expect_err("is away"),
        accounts.exists(&id).await.expect_err("is away"),
        accounts.claim_holder("handle", &handle).await.expect_err("is away"),
        accounts.history(&id).all().await.expect_err("is away"),
    ];
    for error in &errors {
        assert_eq!(deadline(error).limit, Duration::from_secs(30));
    }
    assert!((4 * 28..=4 * 30).contains(&seconds_on(&clock)), "{}", clock.now());
}

/// An outage before the write leaves no doubt; one during the write does.
pub async fn only_writes_have_unknown_outcomes(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    let once = |store: FaultyStore<Arc<dyn EventStore>>| -> Repository<Account> {
        Repository::builder(store).retry(RetryPolicy::never()).build()
    };
    let (dead, _) = dead_after(&store, 0);
    let accounts = once(dead.clone());
    for error in [
        accounts.load(&id).await.expect_err("is away"),
        accounts.load_at(&id, Version::new(1)).await.expect_err("is away"),
        accounts.version(&id).await.expect_err("is away"),
        accounts.history(&id).all().await.expect_err("is away"),
    ] {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert!(!error.is_outcome_unknown() && error.is_retryable() && error.is_transient(), "{error:?}");
    }
    let error = accounts.execute(&id, Deposit::one(1, "")).await.expect_err("is away");
    assert!(matches!(error, ExecuteError::Store(StoreError::Unavailable(_))), "{error:?}");
    assert!(!error.is_outcome_unknown() && error.is_retryable(), "{error:?}");
    let transaction = Transaction::new(&dead).execute(&accounts, &id, Deposit::one(1, ""));
    let error = transaction.retry(RetryPolicy::never()).commit().await.expect_err("is away");
    assert!(!error.is_outcome_unknown(), "{error:?}");

    let loads = requests_of_a_load(&store).await;
    let accounts = once(dead_after(&store, loads).0);
    let error = accounts.execute(&id, Deposit::one(1, "")).await.expect_err("is away");
    assert!(error.is_outcome_unknown(), "{error:?}");

    // Recorded before, with an unknown outcome.
    let (accounts, id) = account(&store);
    accounts.once("k").execute(&id, Deposit::one(1, "")).await.expect("accepted");
    accounts.execute(&id, Deposit::one(2, "")).await.expect("accepted");
    let faults = Faults::seeded(1);
    let accounts = once(FaultyStore::new(Arc::clone(&store), faults.clone()));
    let done = accounts.once("k").execute(&id, Deposit::one(1, "")).await.expect("is repeated");
    assert!(done.repeated);
    let accounts = once(dead_after(&store, faults.requests() - 1).0);
    let error = accounts.once("k").execute(&id, Deposit::one(1, "")).await.expect_err("is away");
    assert!(error.is_outcome_unknown(), "{error:?}");
}

/// Its write uses the budget of the first repository.
pub async fn a_transaction_has_the_same_limits(store: Arc<dyn EventStore>) {
    let ((_, ann), (_, bob)) = (account(&store), account(&store));
    let (dead, faults) = dead_after(&store, 2 * requests_of_a_load(&store).await);
    let retry = RetryPolicy::default().with_max_attempts(u32::MAX);
    let (builder, _) = patient(dead.clone());
    let accounts = builder.build();
    let transaction = |accounts: &Repository<Account>, clock: &ManualClock| {
        Transaction::new(&dead)
            .execute(accounts, &ann, Deposit::one(1, "a"))
            .execute(accounts, &bob, Deposit::one(1, "b"))
            .retry(retry)
            .clock(clock.clone())
    };
    let clock = ManualClock::at(time(0));
    let error = transaction(&accounts, &clock).commit().await.expect_err("is away");
    assert!(error.deadline_exceeded().is_some_and(|exceeded| exceeded.outcome_unknown), "{error:?}");
    assert!((28..=30).contains(&seconds_on(&clock)), "{}", clock.now());

    let (builder, clock) = patient(dead.clone());
    let accounts = builder.retry_budget(RetryBudget::default().with_burst(4)).build();
    let before = faults.requests();
    let error = transaction(&accounts, &clock).without_deadline().commit().await.expect_err("is away");
    assert!(matches!(error, ExecuteError::Store(StoreError::Unavailable(_))), "{error:?}");
    assert!(faults.requests() - before <= 6, "two loads, and four retries of both together");
}

/// A commit from a clock far ahead must not determine the times of all later commits.
pub async fn a_clock_far_behind_is_an_error(store: Arc<dyn EventStore>) {
    for (ahead, is_allowed) in [(59, true), (3_600, true), (3_601, false)] {
        let (_, id) = account(&store);
        let mut commit = new_commit(vec![deposited(1, "ahead")]);
        commit.time = time(ahead);
        append_commit(&store, &id, commit).await;
        let (builder, _) = patient(Arc::clone(&store));
        let accounts = builder.build();
        match accounts.execute(&id, Deposit::one(1, "")).await {
            Ok(_) => assert!(is_allowed, "{ahead} s"),
            Err(error) => {
                assert!(matches!(error, ExecuteError::Store(StoreError::Setup { .. })), "{error:?}");
                assert!(!is_allowed && error.is_transient(), "{ahead} s");
                assert!(es_core::error_text(&error).contains("max_clock_skew"), "{error:?}");
                assert_eq!(accounts.version(&id).await.expect("is known"), Version::new(1));
            }
        }
        let (builder, _) = patient(Arc::clone(&store));
        let accounts = builder.max_clock_skew(Duration::MAX).build();
        accounts.execute(&id, Deposit::one(1, "")).await.expect("is allowed");
        let last = accounts.load(&id).await.expect("loads");
        assert_eq!(last.time, Some(time(ahead)), "times never run backwards");
    }
}

/// They have no RFC 3339 form, so stores and repositories refuse them.
pub async fn times_beyond_the_calendar_are_refused(store: Arc<dyn EventStore>) {
    for year in ["0000", "+10000"] {
        let (_, id) = account(&store);
        let far = format!("{year}-06-01T00:00:00Z").parse().expect("a time");
        let mut commit = new_commit(vec![deposited(1, "far")]);
        commit.time = far;
        let error = store.append(&Append::new(stream(&id), ExpectedVersion::Any, commit)).await;
        assert!(error.expect_err("is refused").to_string().contains("years 1 to 9999"), "{year}");
        let accounts: Repository<Account> =
            Repository::builder(Arc::clone(&store)).clock(ManualClock::at(far)).build();
        let once = accounts.once("k").execute(&id, Deposit::one(1, "")).await;
        for result in [once, accounts.execute(&id, Deposit::one(1, "")).await] {
            let error = result.expect_err("is refused");
            assert!(matches!(error, ExecuteError::Store(StoreError::Invalid { .. })), "{error:?}");
        }
        assert!(!accounts.exists(&id).await.expect("is known"));
    }
}
