//! Commands: load, decide, record.

use std::sync::Arc;

use chrono::Duration;
use es_core::clock::{Clock, ManualClock};
use es_core::store::Read;
use es_core::{EventStore, Events, ExecuteError, Metadata, Repository, StoreError, Version};

use super::{account, stream};
use crate::conformance::support::{read_all, time};
use crate::domain::{Account, Deposit, Deposited, Overdrawn, SetRate, Withdraw};

/// A load returns the state and version of the outcome.
pub async fn a_command_is_loaded_decided_and_recorded(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let done = accounts.execute(&id, Deposit::one(500, "first")).await.expect("accepted");
    assert_eq!((done.version, done.attempts), (Version::FIRST, 1));
    assert_eq!(done.events, [Deposited { cents: 500, note: "first".to_owned() }.into()]);
    assert_eq!(done.cost.requests, 2, "one Query and one PutItem");

    let done = accounts.execute(&id, Withdraw { cents: 200 }).await.expect("accepted");
    assert_eq!((done.state.balance, done.version), (300, Version::new(2)));
    let loaded = accounts.load(&id).await.expect("loads");
    assert_eq!((loaded.state, loaded.version), (done.state, done.version));
    let stored = read_all(&*store, Read::all(stream(&id))).await.commits;
    assert_eq!(stored.last().map(|commit| commit.id), done.commit);
}

/// The error contains the domain error.
pub async fn a_rejected_command_records_nothing(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    accounts.execute(&id, Deposit::one(100, "")).await.expect("accepted");
    let error = accounts.execute(&id, Withdraw { cents: 101 }).await.expect_err("rejected");
    assert_eq!(error.rejection(), Some(&Overdrawn { balance: 100 }));
    assert!(!error.is_conflict() && !error.is_retryable());
    assert_eq!(accounts.load(&id).await.expect("loads").version, 1);
}

/// Without events, there is no commit.
pub async fn a_command_with_nothing_to_do_records_nothing(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let done = accounts.execute(&id, Deposit { cents: 1, notes: Vec::new() }).await.expect("accepted");
    assert_eq!((done.version, done.commit, done.cost.requests), (Version::NONE, None, 1));
    assert!(!accounts.exists(&id).await.expect("is known"));
}

/// An async closure may await other work before it decides.
pub async fn a_decision_may_be_async(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    accounts.execute(&id, Deposit::one(7, "a")).await.expect("accepted");
    let done = accounts
        .decide(&id, async |account, ctx| {
            let cents = futures_util::future::ready(account.balance * 2).await;
            assert_eq!((ctx.version(), ctx.exists()), (Version::FIRST, true));
            Ok::<Events<_>, Overdrawn>(Deposited { cents, note: ctx.id().clone() }.into())
        })
        .await
        .expect("accepted");
    assert_eq!((done.state.balance, done.version), (21, Version::new(2)));

    let error = accounts.decide(&id, async |_, _| Err(Overdrawn { balance: 0 })).await.expect_err("rejected");
    assert!(matches!(error, ExecuteError::Rejected(Overdrawn { .. })));
}

/// JSON has no `NaN`: it is encoded as `null`, which would make the stream unreadable.
pub async fn what_cannot_be_read_back_is_not_stored(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    accounts.execute(&id, SetRate { rate: 0.1 + 0.2 }).await.expect("accepted");
    let error = accounts.execute(&id, SetRate { rate: f64::NAN }).await.expect_err("refused");
    let ExecuteError::Store(StoreError::Encode(error)) = error else { panic!("{error:?}") };
    let text = error.to_string();
    assert!(
        text.starts_with("the event `RateSet` cannot be stored: it could not be decoded again"),
        "{text}"
    );
    let loaded = accounts.load(&id).await.expect("is still readable");
    assert_eq!((loaded.version, loaded.state.rate.to_bits()), (Version::FIRST, (0.1_f64 + 0.2).to_bits()));
}

/// The metadata of a request is recorded in its commits and in no others.
pub async fn metadata_is_recorded(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let metadata = Metadata::new().with_actor("alice").with_entry("tenant", "acme");
    accounts.with_metadata(metadata.clone()).execute(&id, Deposit::one(1, "")).await.expect("accepted");
    accounts.execute(&id, Deposit::one(2, "")).await.expect("accepted");
    let seen = accounts
        .with_metadata(metadata.clone())
        .decide(&id, async |_, ctx| Err::<Events<_>, _>(ctx.metadata().clone()))
        .await
        .expect_err("rejected");
    assert_eq!(seen.rejection(), Some(&metadata));
    let history = accounts.history(&id).all().await.expect("reads");
    assert_eq!(*history[0].metadata, metadata);
    assert!(history[1].metadata.is_empty());
}

/// A writer whose clock is behind uses the time of the previous commit.
pub async fn times_in_a_stream_never_run_backwards(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    let clock = ManualClock::at(time(0));
    let accounts = Repository::<Account>::builder(store).clock(clock.clone()).build();
    for step in [0, 10, -20, -5, 40] {
        clock.advance(Duration::seconds(step));
        accounts.execute(&id, Deposit::one(1, "")).await.expect("accepted");
    }
    let times: Vec<_> =
        accounts.history(&id).all().await.expect("reads").into_iter().map(|event| event.time).collect();
    assert_eq!(times, [0, 10, 10, 10, 25].map(time));
    assert_eq!(clock.now(), time(25));
}

/// The futures are `Send`.
pub async fn futures_of_commands_can_be_spawned(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let spawned = {
        let (accounts, id) = (accounts.clone(), id.clone());
        tokio::spawn(async move {
            accounts.execute(&id, Deposit::one(1, "")).await.expect("accepted");
            let note = String::from("2");
            accounts
                .decide(&id, async move |_, _| {
                    tokio::task::yield_now().await;
                    Ok::<_, Overdrawn>(Deposited { cents: 2, note: note.clone() }.into())
                })
                .await
                .expect("accepted");
            let mut history = accounts.history(&id);
            let mut seen = 0;
            while let Some(event) = history.next().await {
                event.expect("reads");
                seen += 1;
            }
            seen
        })
    };
    assert_eq!(spawned.await.expect("does not panic"), 2);
}

/// Commands without explicit metadata take it from the repository's source. Metadata derived from an event propagates
/// its correlation.
pub async fn metadata_comes_from_where_it_is_told(store: Arc<dyn EventStore>) {
    let (_, id) = account(&store);
    let source = || Metadata::new().with_actor("everyone").with_correlation("all");
    let accounts: Repository<Account> = Repository::builder(store).metadata(source).build();
    accounts.execute(&id, Deposit::one(1, "a")).await.expect("accepted");
    accounts
        .with_metadata(Metadata::new().with_actor("ann"))
        .execute(&id, Deposit::one(1, "b"))
        .await
        .expect("accepted");
    accounts.once("k").execute(&id, Deposit::one(1, "c")).await.expect("accepted");
    let history = accounts.history(&id).all().await.expect("reads");
    let actors: Vec<_> = history.iter().map(|recorded| recorded.metadata.actor()).collect();
    assert_eq!(actors, [Some("everyone"), Some("ann"), Some("everyone")]);

    let next = history[0].metadata.following(history[0].id);
    accounts.with_metadata(next).execute(&id, Deposit::one(1, "d")).await.expect("accepted");
    let last = accounts.history(&id).all().await.expect("reads").pop().expect("has events");
    assert_eq!((last.metadata.actor(), last.metadata.correlation()), (Some("everyone"), Some("all")));
    assert_eq!(last.metadata.causation(), Some(history[0].id.to_string().as_str()));
}
