//! Spans and logs of commands, transactions, and loads.

use es_core::clock::ManualClock;
use es_core::event::{CommitId, EventData};
use es_core::store::{Append, NewCommit};
use es_core::testing::{Faults, FaultyStore};
use es_core::{
    EventStore, Events, ExpectedVersion, MemoryStore, Metadata, Repository, RetryPolicy, StreamId,
    Transaction,
};
use es_tests::conformance::time;
use es_tests::domain::{Account, Deposit, Deposited, Overdrawn, RequireBalance, TakeHandle, Withdraw};
use futures_util::FutureExt;
use tracing::Level;

use es_tests::recorder::{Fields, Seen};

const ANN: &str = "ann";

fn accounts(store: impl EventStore) -> Repository<Account> {
    let retry = RetryPolicy::default().with_max_attempts(3);
    Repository::builder(store).retry(retry).clock(ManualClock::at(time(0))).build()
}

async fn deposited(store: &MemoryStore) {
    let stream = StreamId::new("account", ANN).expect("a valid stream");
    let event = EventData::new("Deposited", 1, r#"{"cents":1,"note":""}"#);
    let commit = NewCommit::new(CommitId::new(uuid::Uuid::new_v4()), time(0), vec![event]);
    store.append(&Append::new(stream, ExpectedVersion::Any, commit)).await.expect("appends");
}

/// The span of a command records its outcome once, with all figures.
#[test]
fn the_span_of_a_command_tells_its_outcome_once() {
    let (seen, id) = (Seen::default(), ANN.to_owned());
    let spans = seen.of("execute", async {
        let store = MemoryStore::new();
        let accounts = accounts(store.clone());
        let one = || Deposit::one(1, "");
        accounts.once("k").execute(&id, one()).await.expect("accepted");
        accounts.once("k").execute(&id, one()).await.expect("was accepted");
        accounts.execute(&id, RequireBalance { cents: 0 }).await.expect("has nothing to do");
        accounts.execute(&id, Withdraw { cents: 9 }).await.expect_err("too little");
        accounts.expected_version(ExpectedVersion::NoStream).execute(&id, one()).await.expect_err("is there");
        accounts.once("k").execute(&id, Withdraw { cents: 1 }).await.expect_err("is another command");
        let conflicting = async |_: &Account, _: &_| {
            deposited(&store).await;
            Ok::<_, Overdrawn>(Events::from(Deposited { cents: 1, note: String::new() }))
        };
        accounts.decide(&id, conflicting).await.expect_err("never first");
        accounts.execute(&"bob".to_owned(), TakeHandle { handle: "h".to_owned() }).await.expect("is free");
        accounts.execute(&id, TakeHandle { handle: "h".to_owned() }).await.expect_err("is taken");
        let late = accounts.with_metadata(Metadata::new()).deadline(std::time::Duration::ZERO);
        late.execute(&id, one()).await.expect_err("is late");
        accounts.execute(&String::new(), one()).await.expect_err("needs an id");
        let dropped = accounts.decide(&id, async |_: &Account, _: &_| {
            std::future::pending::<Result<Events<Account>, Overdrawn>>().await
        });
        assert!(dropped.now_or_never().is_none());
    });
    let told: Vec<_> =
        spans.iter().map(|span| (span.text("command"), span.text("outcome"), span.text("id"))).collect();
    assert_eq!(
        told,
        [
            ("Deposit", "accepted", ANN),
            ("Deposit", "repeated", ANN),
            ("RequireBalance", "nothing", ANN),
            ("Withdraw", "rejected", ANN),
            ("Deposit", "outdated", ANN),
            ("Withdraw", "key reused", ANN),
            ("decide", "conflict", ANN),
            ("TakeHandle", "accepted", "bob"),
            ("TakeHandle", "claimed", ANN),
            ("Deposit", "deadline", ANN),
            ("Deposit", "store error", ""),
            ("decide", "dropped", ANN),
        ]
    );
    for span in spans.iter().filter(|span| span.text("outcome") != "dropped") {
        assert_eq!(span.text("aggregate"), "account");
        for number in ["attempts", "version", "events", "requests", "rcu", "wcu"] {
            span.text(number);
        }
    }
    let numbers = |span: &Fields| ["attempts", "version", "events", "requests"].map(|name| span.number(name));
    assert_eq!(numbers(&spans[0]), [1, 1, 1, 2]);
    assert_eq!(numbers(&spans[3])[..3], [1, 1, 0]);
    // Each of three attempts follows the winner three times.
    assert_eq!(numbers(&spans[6])[..3], [12, 12, 0]);
}

/// Conflicts and failures of the store are logged with the stream and the command; errors of the domain are not.
#[test]
fn failures_are_logged_with_their_causes() {
    let (seen, id) = (Seen::default(), ANN.to_owned());
    seen.of("execute", async {
        let store = MemoryStore::new();
        let accounts = accounts(store.clone());
        accounts.execute(&id, Withdraw { cents: 9 }).await.expect_err("too little");
        let conflicting = async |_: &Account, _: &_| {
            deposited(&store).await;
            Ok::<_, Overdrawn>(Events::from(Deposited { cents: 1, note: String::new() }))
        };
        accounts.decide(&id, conflicting).await.expect_err("never first");
    });
    let log = seen.log(Level::WARN);
    let [conflict] = log.as_slice() else { panic!("{log:?}") };
    assert_eq!((conflict.text("stream"), conflict.text("command")), ("account#ann", "decide"));
    assert!(conflict.text("error").contains("`account#ann` is not at"), "{conflict:?}");

    let spans = seen.of("load", async {
        let away = FaultyStore::new(MemoryStore::new(), Faults::seeded(1).lost_requests(1.0));
        let accounts = accounts(away.clone());
        accounts.execute(&id, Deposit::one(1, "")).await.expect_err("is away");
        accounts.load(&id).await.expect_err("is away");
        let transaction = Transaction::new(&away).execute(&accounts, &id, Deposit::one(1, ""));
        transaction.clock(ManualClock::at(time(0))).commit().await.expect_err("is away");
    });
    let log = seen.log(Level::ERROR);
    let told: Vec<_> = log.iter().map(|event| (event.text("stream"), event.text("command"))).collect();
    assert_eq!(told, ["Deposit", "load", "Deposit"].map(|command| ("account#ann", command)));
    for event in &log {
        assert_eq!(event.text("error"), "the store is unavailable: injected loss of the request");
    }
    assert_eq!((spans[0].text("outcome"), spans[0].number("requests")), ("store error", 3));
}

/// A transaction has a span, which contains a span for each command.
#[test]
fn a_transaction_has_a_span_for_each_command() {
    let (seen, ann, bob) = (Seen::default(), ANN.to_owned(), "bob".to_owned());
    let work = async |cents| {
        let store = MemoryStore::new();
        let accounts = accounts(store.clone());
        let transaction = Transaction::new(&store)
            .execute(&accounts, &ann, Deposit { cents: 2, notes: vec![String::new(); 2] })
            .execute(&accounts, &bob, Deposit::one(1, ""))
            .execute(&accounts, &ann, Withdraw { cents })
            .execute(&accounts, &bob, RequireBalance { cents: 0 });
        assert_eq!(transaction.commit().await.is_ok(), cents <= 4);
    };
    let spans = seen.of("execute", work(3));
    let told = |span: &Fields| {
        let texts = ["id", "command", "outcome"].map(|name| span.text(name).to_owned());
        (texts.join(" "), span.number("version"), span.number("events"))
    };
    let mut told: Vec<_> = spans.iter().map(told).collect();
    told.sort();
    let expected = [
        ("ann Deposit accepted", 3, 2),
        ("ann Withdraw accepted", 3, 1),
        ("bob Deposit accepted", 1, 1),
        ("bob RequireBalance accepted", 1, 0),
    ];
    assert_eq!(told, expected.map(|(text, version, events)| (text.to_owned(), version, events)));

    let spans = seen.of("transaction", work(3));
    let [span] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!((span.text("outcome"), span.number("aggregates")), ("accepted", 2));
    assert_eq!(["attempts", "events", "requests"].map(|name| span.number(name)), [1, 4, 3]);

    let spans = seen.of("execute", work(5));
    let mut outcomes: Vec<_> = spans.iter().map(|span| (span.text("id"), span.text("outcome"))).collect();
    outcomes.sort_unstable();
    assert_eq!(
        outcomes,
        [(ANN, "rejected"), (ANN, "rejected"), ("bob", "not recorded"), ("bob", "not recorded")]
    );
}

/// A clock that is behind is not logged for each command, because it affects all of them.
#[test]
fn a_clock_that_is_behind_is_a_warning_once_a_minute() {
    let (seen, id) = (Seen::default(), ANN.to_owned());
    seen.of("execute", async {
        let (store, clock) = (MemoryStore::new(), ManualClock::at(time(-600)));
        deposited(&store).await;
        let accounts: Repository<Account> = Repository::builder(store).clock(clock.clone()).build();
        for seconds in [0, 1, 58, 1, 59, 1] {
            clock.advance(chrono::TimeDelta::seconds(seconds));
            accounts.execute(&id, Deposit::one(1, "")).await.expect("accepted");
        }
    });
    let log = seen.log(Level::WARN);
    // At the seconds 0, 60, and 120.
    assert_eq!(log.len(), 3, "{log:?}");
    assert!(log.iter().all(|event| event.text("stream") == "account#ann"), "{log:?}");
}

/// A rejected request is not blamed on a snapshot, although the next one succeeds.
#[test]
fn a_snapshot_is_not_blamed_for_requests_that_fail() {
    let (seen, id) = (Seen::default(), ANN.to_owned());
    let spans = seen.of("load", async {
        let store = MemoryStore::new();
        let accounts = accounts(store.clone());
        for _ in 0..20 {
            accounts.execute(&id, Deposit::one(1, "")).await.expect("accepted");
        }
        let faults = Faults::seeded(1).refusals(0.5);
        let failing = self::accounts(FaultyStore::new(store, faults));
        for _ in 0..20 {
            let _ = failing.load(&id).await;
        }
    });
    let outcomes: Vec<_> = spans.iter().map(|span| span.text("outcome")).collect();
    assert!(outcomes.contains(&"loaded") && outcomes.contains(&"store error"), "{outcomes:?}");
    let log = seen.log(Level::WARN);
    assert!(log.iter().all(|event| event.text("message") == "the store failed"), "{log:?}");
}

/// Without a snapshot, an event that cannot be decoded is not blamed on one.
#[test]
fn a_snapshot_is_blamed_only_if_there_is_one() {
    let (seen, id) = (Seen::default(), ANN.to_owned());
    let spans = seen.of("load", async {
        let store = MemoryStore::new();
        let accounts = accounts(store.clone());
        accounts.execute(&id, Deposit::one(1, "")).await.expect("accepted");
        accounts.load(&id).await.expect("loads");
        let stream = StreamId::new("account", ANN).expect("a valid stream");
        let commit = NewCommit::new(
            CommitId::new(uuid::Uuid::new_v4()),
            time(0),
            vec![EventData::new("Unknown", 1, "{}")],
        );
        store.append(&Append::new(stream, ExpectedVersion::Any, commit)).await.expect("appends");
        accounts.load(&id).await.expect_err("is unknown");
    });
    let outcomes: Vec<_> = spans.iter().map(|span| (span.text("outcome"), span.number("version"))).collect();
    assert_eq!(outcomes, [("loaded", 1), ("store error", 1)]);
    let log = seen.log(Level::WARN);
    let [error] = log.as_slice() else { panic!("{log:?}") };
    assert_eq!((error.text("message"), error.text("command")), ("the store failed", "load"));
}
