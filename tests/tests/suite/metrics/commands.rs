//! Metrics of commands, transactions, and loads.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use es_core::clock::ManualClock;
use es_core::event::EventData;
use es_core::repository::RetryBudget;
use es_core::store::Append;
use es_core::testing::{Faults, FaultyStore};
use es_core::{
    Aggregate, Apply, Context, EventStore, Events, ExecuteError, ExpectedVersion, Handle, MemoryStore,
    Repository, RetryPolicy, StreamId, Transaction, event,
};
use es_tests::chaos::projections::VirtualTime;
use es_tests::conformance::{new_commit, time};
use es_tests::domain::{Account, Deposit, Deposited, Overdrawn, RequireBalance, TakeHandle, Withdraw};
use es_tests::gate::Gate;
use futures_util::FutureExt;
use futures_util::future::join_all;

use crate::engine;
use es_tests::recorder::Recorded;

const ANN: &str = "ann";

fn accounts(store: impl EventStore) -> Repository<Account> {
    let retry = RetryPolicy::default().with_max_attempts(3);
    Repository::builder(store).retry(retry).clock(ManualClock::at(time(0))).build()
}

async fn deposited(store: &MemoryStore) {
    let stream = StreamId::new("account", ANN).expect("a valid stream");
    let event = EventData::new("Deposited", 1, r#"{"cents":1,"note":""}"#);
    store.append(&Append::new(stream, ExpectedVersion::Any, new_commit(vec![event]))).await.expect("appends");
}

fn one() -> Deposit {
    Deposit::one(1, "")
}

/// An aggregate whose command panics.
#[derive(Aggregate, Clone, Debug, Default)]
#[aggregate(name = "bomb", id = String, events(Exploded))]
struct Bomb;

#[event]
struct Exploded;

impl Apply<Exploded> for Bomb {
    fn apply(&mut self, _: &Exploded) {}
}

struct Explode;

impl Handle<Explode> for Bomb {
    type Error = std::convert::Infallible;

    fn handle(&self, _: &Explode, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
        panic!("on purpose")
    }
}

/// Whatever becomes of a command, its outcome and its duration are recorded once.
#[test]
fn each_command_has_one_outcome_and_one_duration() {
    let recorded = Recorded::of(async {
        let (store, id) = (MemoryStore::new(), ANN.to_owned());
        let accounts = accounts(store.clone());
        accounts.once("k").execute(&id, one()).await.expect("accepted");
        accounts.once("k").execute(&id, one()).await.expect("was accepted");
        accounts.execute(&id, RequireBalance { cents: 0 }).await.expect("has nothing to do");
        accounts.execute(&id, Withdraw { cents: 9 }).await.expect_err("too little");
        accounts.expected_version(ExpectedVersion::NoStream).execute(&id, one()).await.expect_err("is there");
        accounts.create(&id, one()).await.expect_err("is there");
        accounts.once("k").execute(&id, Withdraw { cents: 1 }).await.expect_err("is another command");
        let conflicting = async |_: &Account, _: &_| {
            deposited(&store).await;
            Ok::<_, Overdrawn>(Events::from(Deposited { cents: 1, note: String::new() }))
        };
        accounts.decide(&id, conflicting).await.expect_err("never first");
        accounts.execute("bob", TakeHandle { handle: "h".to_owned() }).await.expect("is free");
        accounts.execute(&id, TakeHandle { handle: "h".to_owned() }).await.expect_err("is taken");
        let late = accounts.expected_version(ExpectedVersion::Any).deadline(Duration::ZERO);
        late.execute(&id, one()).await.expect_err("is late");
        accounts.execute("", one()).await.expect_err("needs an id");
        let dropped = accounts.decide(&id, async |_: &Account, _: &_| {
            std::future::pending::<Result<Events<Account>, Overdrawn>>().await
        });
        assert!(dropped.now_or_never().is_none());
        let bombs = Repository::<Bomb>::new(store.clone());
        let panics = AssertUnwindSafe(bombs.execute("b", Explode)).catch_unwind();
        panics.await.expect_err("panics");
    });
    let outcomes = recorded.series("es.command.outcome");
    let outcomes: Vec<_> =
        outcomes.iter().map(|(labels, count, sum)| (labels.as_str(), *count, *sum)).collect();
    assert_eq!(
        outcomes,
        [
            ("account,Deposit,accepted", 1, 1.0),
            ("account,Deposit,already exists", 1, 1.0),
            ("account,Deposit,deadline", 1, 1.0),
            ("account,Deposit,outdated", 1, 1.0),
            ("account,Deposit,repeated", 1, 1.0),
            ("account,Deposit,store error", 1, 1.0),
            ("account,RequireBalance,nothing", 1, 1.0),
            ("account,TakeHandle,accepted", 1, 1.0),
            ("account,TakeHandle,claimed", 1, 1.0),
            ("account,Withdraw,key reused", 1, 1.0),
            ("account,Withdraw,rejected", 1, 1.0),
            ("account,decide,conflict", 1, 1.0),
            ("account,decide,dropped", 1, 1.0),
            ("bomb,Explode,panicked", 1, 1.0),
        ]
    );
    let count = |name| recorded.series(name).iter().map(|(_, count, _)| count).sum::<usize>();
    assert_eq!((count("es.command.duration"), count("es.command.attempts")), (14, 12));
    // Each of three attempts follows the winner three times.
    assert_eq!(recorded.values("es.command.attempts", &["account", "decide"]), [12.0]);
    assert_eq!(recorded.sum("es.command.conflicts", &["account"]), 12.0);
    assert_eq!(recorded.sum("es.store.errors", &["deadline"]), 1.0);
    assert_eq!(recorded.sum("es.store.errors", &["invalid"]), 1.0);
}

/// Commands of a transaction have outcomes; its duration and its attempts are those of the transaction.
#[test]
fn a_transaction_has_one_outcome_and_one_for_each_command() {
    let recorded = Recorded::of(async {
        for cents in [3, 5] {
            let store = MemoryStore::new();
            let accounts = accounts(store.clone());
            let transaction = Transaction::new(&store)
                .execute(&accounts, ANN, Deposit { cents: 2, notes: vec![String::new(); 2] })
                .execute(&accounts, "bob", one())
                .execute(&accounts, ANN, Withdraw { cents });
            assert_eq!(transaction.commit().await.is_ok(), cents <= 4);
        }
        let store = MemoryStore::new();
        let accounts = accounts(Gate::new(Arc::new(store.clone())));
        let transaction = Transaction::new(&Gate::new(Arc::new(store))).execute(&accounts, ANN, one());
        assert!(transaction.commit().now_or_never().is_none(), "it is dropped at its first request");
    });
    let expected = [("accepted", 1, 1.0), ("dropped", 1, 1.0), ("rejected", 1, 1.0)];
    let expected = expected.map(|(outcome, count, sum)| (outcome.to_owned(), count, sum));
    assert_eq!(recorded.series("es.transaction.outcome"), expected);
    assert_eq!(recorded.values("es.transaction.duration", &[]).len(), 3);
    assert_eq!(recorded.values("es.transaction.attempts", &[]), [1.0, 1.0]);
    let outcome = |command, outcome| recorded.sum("es.command.outcome", &["account", command, outcome]);
    assert_eq!((outcome("Withdraw", "accepted"), outcome("Withdraw", "rejected")), (1.0, 1.0));
    assert_eq!((outcome("Deposit", "accepted"), outcome("Deposit", "not recorded")), (2.0, 1.0));
    assert_eq!(outcome("Deposit", "dropped"), 1.0);
    assert_eq!(recorded.series("es.command.duration"), []);
}

#[test]
fn loads_record_how_many_events_they_read_from_where() {
    let recorded = Recorded::of(async {
        let store = MemoryStore::new();
        let cold = accounts(store.clone());
        for _ in 0..6 {
            cold.execute(ANN, one()).await.expect("accepted");
        }
        cold.load(ANN).await.expect("loads");
        // An account has a snapshot every seven events.
        cold.execute(ANN, one()).await.expect("accepted");
        cold.flush().await;
        cold.execute(ANN, one()).await.expect("accepted");
        let warm: Repository<Account> = Repository::builder(store).cache(10).build();
        warm.load(ANN).await.expect("loads");
        cold.execute(ANN, one()).await.expect("accepted");
        warm.load(ANN).await.expect("loads");
        warm.execute(ANN, one()).await.expect("accepted");
    });
    // The commands, and a load of all six events.
    let start = [0, 1, 2, 3, 4, 5, 6, 6].map(f64::from);
    assert_eq!(recorded.values("es.load.events", &["account", "start"]), start);
    assert_eq!(recorded.values("es.load.events", &["account", "snapshot"]), [0, 1, 1].map(f64::from));
    assert_eq!(recorded.values("es.load.events", &["account", "cache"]), [1.0, 0.0]);
    assert_eq!(recorded.values("es.load.duration", &["account", "loaded"]).len(), 3);
    assert_eq!(recorded.values("es.snapshot.writes", &["account", "written"]), [1.0]);
}

#[test]
fn commands_that_share_a_write_record_its_size() {
    let recorded = Recorded::of(async {
        let gate = Gate::new(Arc::new(MemoryStore::new()));
        let clock = VirtualTime::new(TimeDelta::zero());
        let accounts: Repository<Account> = Repository::builder(gate.clone()).clock(clock).build();
        for outcome in join_all((0..5).map(|_| accounts.execute(ANN, one()))).await {
            outcome.expect("accepted");
        }
        assert_eq!(gate.appends(), [1, 4]);
    });
    assert_eq!(recorded.values("es.command.group", &["account"]), [4.0]);
    assert_eq!(recorded.sum("es.command.outcome", &["account", "Deposit", "accepted"]), 5.0);
}

#[test]
fn retries_are_counted_until_the_budget_is_used_up() {
    let recorded = Recorded::of(async {
        let away = FaultyStore::new(MemoryStore::new(), Faults::seeded(1).lost_requests(1.0));
        let accounts: Repository<Account> = Repository::builder(away)
            .retry(RetryPolicy::default().with_max_attempts(3))
            .retry_budget(RetryBudget::default().with_burst(3))
            .clock(ManualClock::at(time(0)))
            .build();
        accounts.load(ANN).await.expect_err("is away");
        accounts.load(ANN).await.expect_err("is away");
    });
    assert_eq!(recorded.sum("es.request.retries", &["unavailable"]), 3.0);
    assert_eq!(recorded.sum("es.request.retry_budget_exhausted", &[]), 1.0);
    assert_eq!(recorded.values("es.load.duration", &["account", "store error"]).len(), 2);
    assert_eq!(recorded.sum("es.store.errors", &["unavailable"]), 2.0);
}

/// The capacity units and the requests are those of the outcomes, also of those that lost the race.
#[test]
fn capacity_is_recorded_by_operation() {
    let (mut cost, mut store) = (es_core::Cost::ZERO, None);
    // Creating the table writes an item.
    Recorded::of(async { store = Some(engine::dynamo_store().await) });
    let recorded = Recorded::of(async {
        let accounts: Repository<Account> = Repository::new(store.expect("was created"));
        cost += accounts.execute(ANN, one()).await.expect("accepted").cost;
        cost += accounts.execute("bob", TakeHandle { handle: "h".to_owned() }).await.expect("is free").cost;
        cost += accounts.load(ANN).await.expect("loads").cost;
        match accounts.create(ANN, one()).await.expect_err("exists") {
            ExecuteError::AlreadyExists(lost) => cost += lost.cost,
            other => panic!("{other}"),
        }
    });
    let sum = |operation| recorded.sum("es.capacity", &[operation]);
    assert_eq!(sum("Query"), cost.read_units);
    assert_eq!(sum("PutItem") + sum("TransactWriteItems"), cost.write_units);
    assert!(sum("PutItem") >= 2.0 && sum("TransactWriteItems") > 0.0, "{recorded:?}");
    let requests: usize = recorded.series("es.capacity").iter().map(|(_, count, _)| count).sum();
    assert_eq!(requests, cost.requests as usize);
}
