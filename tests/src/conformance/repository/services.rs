//! Decisions that call services, which may be slow, be called twice, or be cancelled.

use std::future::{self, Future};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use es_core::repository::RetryBudget;
use es_core::testing::{Faults, FaultyStore};
use es_core::{EventStore, Events, ExecuteError, Repository, RetryPolicy, Version, events};
use tokio::time::timeout;

use super::{account, append, deposited};
use crate::domain::{Account, Deposited};

/// The reason for a rejection.
#[derive(Debug, PartialEq)]
enum Refused {
    Late,
}

/// A service that returns an amount, and counts its calls.
#[derive(Default)]
struct Bureau {
    asked: AtomicU32,
}

impl Bureau {
    async fn amount(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        5
    }

    /// Never returns.
    async fn silence(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::SeqCst);
        future::pending().await
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

fn two_deposits(cents: u64) -> Events<Account> {
    let event = |note: &str| Deposited { cents, note: note.to_owned() };
    events![event("first"), event("second")]
}

/// A timeout in the decision is a rejection: nothing is recorded, and the service is not called again.
pub async fn one_that_is_late_is_a_rejection(store: Arc<dyn EventStore>) {
    let ((accounts, id), bureau) = (account(&store), Bureau::default());
    let error = accounts
        .decide(&id, async |_, _| {
            let cents = timeout(Duration::from_millis(5), bureau.silence()).await;
            cents.map(two_deposits).map_err(|_| Refused::Late)
        })
        .await
        .expect_err("late");
    assert!(matches!(error, ExecuteError::Rejected(Refused::Late)), "{error:?}");
    assert!(!error.is_retryable());
    assert_eq!((bureau.asked(), accounts.version(&id).await.expect("is known")), (1, Version::NONE));
}

/// After a conflict, the decision runs again and calls the service again. A call before the decision is made once.
pub async fn are_asked_again_after_a_conflict(store: Arc<dyn EventStore>) {
    let ((accounts, id), [before, within]) = (account(&store), [Bureau::default(), Bureau::default()]);
    let known = before.amount().await;
    let done = accounts
        .decide(&id, async |_, _| {
            let cents = within.amount().await + known;
            if within.asked() == 1 {
                append(&store, &id, vec![deposited(1, "another")]).await;
            }
            Ok::<_, Refused>(two_deposits(cents))
        })
        .await
        .expect("accepted");
    assert_eq!((before.asked(), within.asked(), done.attempts), (1, 2, 2));
    assert_eq!((done.state.balance, done.version), (21, Version::new(3)));
}

/// A write whose response was lost is sent again unchanged, without another call of the service.
pub async fn are_not_asked_again_when_an_answer_is_lost(store: Arc<dyn EventStore>) {
    let mut lost = 0;
    for seed in 0..20 {
        // Responses to the load, before the decision, are lost as well.
        let faults = Faults::seeded(seed).lost_answers(0.5);
        let retry = RetryPolicy::default().with_max_attempts(50).with_max_delay(Duration::from_millis(1));
        let faulty = FaultyStore::new(Arc::clone(&store), faults.clone());
        let builder = Repository::builder(faulty).retry(retry).retry_budget(RetryBudget::unlimited());
        let accounts: Repository<Account> = builder.build();
        let ((_, id), bureau) = (account(&store), Bureau::default());
        let before = AtomicU32::new(0);
        let done = accounts
            .decide(&id, async |_, _| {
                before.store(u32::try_from(faults.injected()).expect("few"), Ordering::SeqCst);
                Ok::<_, Refused>(two_deposits(bureau.amount().await))
            })
            .await
            .expect("accepted");
        assert_eq!((bureau.asked(), done.attempts, done.version), (1, 1, Version::new(2)), "seed {seed}");
        lost += faults.injected() - u64::from(before.into_inner());
    }
    assert!(lost > 0, "no answer to a write was lost");
}

/// A redelivery under a known key decides again and calls the service, but returns the first outcome.
pub async fn are_asked_again_under_a_key(store: Arc<dyn EventStore>) {
    let ((accounts, id), bureau) = (account(&store), Bureau::default());
    for delivery in 1..=2 {
        let decide = async |_: &Account, _: &_| Ok::<_, Refused>(two_deposits(bureau.amount().await));
        let done = accounts.once("message").decide(&id, decide).await.expect("accepted");
        assert_eq!((bureau.asked(), done.repeated, done.state.balance), (delivery, delivery == 2, 10));
    }
}

/// Polls a future at most `polls` times, then drops it.
async fn give_up_after<F: Future>(polls: u32, future: F) -> Option<F::Output> {
    let (mut future, mut left) = (pin!(future), polls);
    future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// A command that is cancelled at any await point is recorded in full or not at all. Repeated under its key, it takes
/// effect once.
pub async fn given_up_are_whole_or_nothing(store: Arc<dyn EventStore>) {
    let (mut nothing, mut recorded, mut ended) = (0, 0, 0);
    for polls in 1..=60 {
        let faults =
            Faults::seeded(u64::from(polls)).lost_answers(0.4).delays(0.6, Duration::from_millis(12));
        let faulty = FaultyStore::new(Arc::clone(&store), faults);
        let retry = RetryPolicy::default().with_max_attempts(50).with_max_delay(Duration::from_millis(1));
        let builder = Repository::builder(faulty).retry(retry).retry_budget(RetryBudget::unlimited());
        let unsteady: Repository<Account> = builder.build();
        let ((accounts, id), bureau) = (account(&store), Bureau::default());
        let decide = async |_: &Account, _: &_| Ok::<_, Refused>(two_deposits(bureau.amount().await));

        let outcome = give_up_after(polls, unsteady.once("message").decide(&id, &decide)).await;
        let version = accounts.version(&id).await.expect("is known");
        match (outcome, version.get()) {
            (Some(outcome), 2) => ended += u32::from(outcome.is_ok()),
            (None, 0) => nothing += 1,
            (None, 2) => recorded += 1,
            other => panic!("after {polls} polls: {other:?}"),
        }

        let done = accounts.once("message").decide(&id, &decide).await.expect("accepted");
        assert_eq!((done.version, done.state.balance), (Version::new(2), 10), "after {polls} polls");
        assert!(done.repeated || version.is_none(), "after {polls} polls");
    }
    assert!(
        nothing > 0 && recorded > 0 && ended > 0,
        "{nothing} nothing, {recorded} recorded, {ended} ended"
    );
}
