//! The test kit: correct code passes, and failures name the mistake.

mod broken;

use std::panic::{AssertUnwindSafe, catch_unwind};

use es_core::Apply;
use es_core::event::EventData;
use es_core::prelude::*;
use es_core::testing::{AnyCommand, Transacted, check_laws, given, transaction};
use es_tests::conformance::time;
use es_tests::domain::{
    Account, Deposit, Deposited, HandleTaken, Overdrawn, RequireBalance, SetRate, TakeHandle, Withdraw,
    Withdrawn,
};
use proptest::prelude::*;

/// Returns the message of a failing test.
fn message(test: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test)).expect_err("the test should fail");
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => (*panic.downcast::<&str>().expect("a text")).to_owned(),
    }
}

fn deposited(cents: u64) -> Deposited {
    Deposited { cents, note: "a".to_owned() }
}

#[test]
fn events_lead_to_events() {
    given::<Account>([deposited(5)])
        .when(Withdraw { cents: 3 })
        .then([Withdrawn { cents: 3 }])
        .when(Withdraw { cents: 3 })
        .then_error(Overdrawn { balance: 2 });
    given::<Account>(Events::none())
        .after(Deposit::one(5, "a"))
        .after(Withdraw { cents: 4 })
        .when(RequireBalance { cents: 1 })
        .then_nothing();
    let expected = Account { balance: 5, notes: vec!["a".to_owned()], events: 1, ..Account::default() };
    given::<Account>(Events::none()).when(Deposit::one(5, "a")).then_state(expected);
    given::<Account>(events![deposited(5), Withdrawn { cents: 5 }])
        .when(Withdraw { cents: 1 })
        .then_rejected(|error| assert_eq!(error.balance, 0));
}

/// Moves money from Ann, who has 5 cents, to Bob.
fn moved(cents: u64) -> Transacted {
    transaction().given::<Account>("ann", [deposited(5)]).at(time(7)).when(|bank| {
        let accounts = bank.repository::<Account>();
        let transfer = bank.transaction().execute(&accounts, &"ann".to_owned(), Withdraw { cents });
        transfer.execute(&accounts, &"bob".to_owned(), Deposit::one(cents, "a"))
    })
}

#[test]
fn transactions_lead_to_events_of_each_aggregate() {
    let bob = Account { balance: 3, notes: vec!["a".to_owned()], events: 1, ..Account::default() };
    moved(3)
        .then::<Account>("ann", [Withdrawn { cents: 3 }])
        .then::<Account>("bob", [deposited(3)])
        .then::<Account>("cem", Events::none())
        .then_nothing_else()
        .then_state("bob", bob);
    moved(6).then_error::<Account, _>("ann", Overdrawn { balance: 5 });
    moved(6).then_failed("`account#ann`");

    let claims = |handle: &'static str| {
        transaction().when(|bank| {
            let accounts = bank.repository::<Account>();
            let take = || TakeHandle { handle: handle.to_owned() };
            let both = bank.transaction().execute(&accounts, &"ann".to_owned(), take());
            both.execute(&accounts, &"bob".to_owned(), take())
        })
    };
    claims("a").then_failed("claim");
}

#[test]
fn a_failed_expectation_of_a_transaction_shows_the_fields() {
    for (said, parts) in [
        (
            message(|| drop(moved(3).then::<Account>("bob", [deposited(4)]))),
            &["different events of `account#bob`", "-             cents: 4", "+             cents: 3"][..],
        ),
        (
            message(|| drop(moved(3).then::<Account>("ann", [Withdrawn { cents: 3 }]).then_nothing_else())),
            &["also recorded events of `account#bob`: Deposited"],
        ),
        (
            message(|| drop(moved(3).then_state("ann", Account::default()))),
            &["the state of `account#ann` differs", "-     balance: 0", "+     balance: 2"],
        ),
        (
            message(|| drop(moved(6).then::<Account>("ann", Events::none()))),
            &["the transaction was not committed", "`account#ann`"],
        ),
        (
            message(|| moved(6).then_error::<Account, _>("ann", Overdrawn { balance: 6 })),
            &[
                "`account#ann` rejected its command with a different error",
                "-     balance: 6",
                "+     balance: 5",
            ],
        ),
        (
            message(|| moved(6).then_error::<Account, _>("bob", Overdrawn { balance: 5 })),
            &["rejected by another aggregate than `account#bob`"],
        ),
        (
            message(|| moved(6).then_error::<Account, _>("ann", std::fmt::Error)),
            &["an error of another type"],
        ),
        (
            message(|| moved(3).then_failed("claim")),
            &["the transaction was committed: account#ann, account#bob"],
        ),
        (message(|| moved(6).then_failed("claim")), &["a different error", "expected: claim"]),
    ] {
        for part in parts {
            assert!(said.contains(part), "{part:?} is not in: {said}");
        }
    }
}

/// Claims are part of a decision.
#[test]
fn claims_are_compared() {
    let take = || given::<Account>(Events::none()).when(TakeHandle { handle: "ann".to_owned() });
    let taken = || Events::from(HandleTaken { handle: "ann".to_owned() });
    take().then(taken().claim("handle", "ann"));
    for expected in [taken(), taken().claim("handle", "bob"), taken().release("handle", "ann")] {
        assert!(message(|| drop(take().then(expected))).contains("different events than expected"));
    }
}

/// The same in every run: time, ids, metadata, and the aggregate's own id.
#[test]
fn the_context_is_fixed() {
    let decide = |_: &Account, context: &Context<Account>| {
        let note = format!(
            "{} {} {} {} {:?}",
            context.id(),
            context.version(),
            context.now().timestamp_millis(),
            context.new_id().as_u128(),
            context.metadata().actor(),
        );
        Ok::<_, Overdrawn>(Deposited { cents: 1, note }.into())
    };
    let note = |note: &str| [Deposited { cents: 1, note: note.to_owned() }];
    given::<Account>([deposited(5)])
        .id("ann".to_owned())
        .at(time(0))
        .with_metadata(Metadata::new().with_actor("bob"))
        .when_decided(decide)
        .then(note("ann 1 1700000000123 1 Some(\"bob\")"));
    given::<Account>(Events::none()).id("ann".to_owned()).when_decided(decide).then(note("ann 0 0 1 None"));
    let without = || given::<Account>(Events::none()).when_decided(decide);
    assert!(message(|| drop(without())).contains("set it with `.id(…)`"));
}

/// Each failure shows the actual result, down to the field.
#[test]
fn failures_show_the_difference() {
    let withdraw = |cents| given::<Account>([deposited(5)]).when(Withdraw { cents });
    for (failure, parts) in [
        (
            message(|| drop(withdraw(3).then([Withdrawn { cents: 4 }]))),
            &["different events than expected", "-             cents: 4,", "+             cents: 3,"][..],
        ),
        (
            message(|| drop(withdraw(3).then_nothing())),
            &["different events than expected", "+     Withdrawn("],
        ),
        (message(|| drop(withdraw(6).then_nothing())), &["was rejected: Overdrawn { balance: 5 }"]),
        (
            message(|| withdraw(6).then_error(Overdrawn { balance: 6 })),
            &["with a different error", "-     balance: 6,", "+     balance: 5,"],
        ),
        (message(|| withdraw(3).then_error(Overdrawn { balance: 5 })), &["was accepted", "cents: 3"]),
        (
            message(|| drop(withdraw(3).then_state(Account::default()))),
            &["state differs from the expected state", "-     balance: 0,", "+     balance: 2,"],
        ),
        (
            message(|| drop(given::<Account>(Events::none()).after(Withdraw { cents: 1 }))),
            &["an earlier command was rejected: Overdrawn { balance: 0 }"],
        ),
    ] {
        for part in parts {
            assert!(failure.contains(part), "{part} is missing in\n{failure}");
        }
    }
}

/// Decisions that a repository rejects are also rejected in tests.
#[test]
fn what_cannot_be_stored_fails_the_test() {
    let rate = || given::<Account>(Events::none()).when(SetRate { rate: f64::NAN });
    assert!(message(|| drop(rate().then_events(|_| {}))).contains("cannot be decoded again"));
    let given_it = || given::<Account>([es_tests::domain::RateSet { rate: f64::INFINITY }]);
    assert!(message(|| drop(given_it())).contains("given events: "));
    let claim = || {
        given::<Account>(Events::none())
            .when_decided(|_, _| Ok::<_, Overdrawn>(Events::none().claim("handle", "x")))
            .then_events(|_| {})
    };
    assert!(message(|| drop(claim())).contains("without an event"));
}

fn commands() -> impl Strategy<Value = AnyCommand<Account>> {
    prop_oneof![
        (0..9_u64, prop::collection::vec("[a-z]{0,3}", 0..3))
            .prop_map(|(cents, notes)| AnyCommand::new(Deposit { cents, notes })),
        (0..9_u64).prop_map(|cents| AnyCommand::new(Withdraw { cents })),
        (0..9_u64).prop_map(|cents| AnyCommand::new(RequireBalance { cents })),
        any::<u32>().prop_map(|rate| AnyCommand::new(SetRate { rate: f64::from(rate) / 7.0 })),
        "[ab]".prop_map(|handle| AnyCommand::new(TakeHandle { handle })),
    ]
}

#[test]
fn laws_hold_for_the_account() {
    check_laws::<Account>("ann".to_owned(), commands());
}

/// For each law, there is one aggregate that breaks only this law.
#[test]
fn laws_find_what_is_broken() {
    use broken::*;
    for (failure, law) in [
        (message(|| check_laws::<Forgetful>(1, steps())), "the snapshot after"),
        (
            message(|| check_laws::<Random>(1, steps())),
            "is decided differently when handled twice in the same state",
        ),
        (message(|| check_laws::<Secretive>(1, steps())), "changes the state without an event"),
        (message(|| check_laws::<Lossy>(1, steps())), "an event changes when it is encoded and decoded"),
        (message(|| check_laws::<Moody>(1, steps())), "the state"),
    ] {
        assert!(failure.contains(law), "{law} is not what was found:\n{failure}");
        assert!(failure.contains("breaks a law of aggregates"), "{failure}");
        assert!(failure.contains("Step"), "the commands are shown:\n{failure}");
    }
}

/// A shrunk sequence contains only necessary commands.
#[test]
fn laws_show_a_short_sequence() {
    let failure = message(|| check_laws::<broken::Lossy>(1, broken::steps()));
    assert_eq!(failure.matches("Step {").count(), 1, "{failure}");
}

#[test]
fn stored_events_can_be_given() {
    let stored = EventData::new("Deposited", 1, r#"{"cents":7,"note":"old"}"#);
    let event = Deposited::decode(&stored).expect("fits");
    let mut account = Account::default();
    account.apply(&event);
    assert_eq!(given::<Account>([event]).state(), &account);
}

/// Events that decode to different events.
mod unfaithful {
    use es_core::prelude::*;
    use es_core::serde::{Deserialize, Serialize};

    /// The variants look alike in JSON.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(crate = "es_core::serde", untagged)]
    pub(crate) enum Price {
        Cents { amount: u64 },
        Points { amount: u64 },
    }

    #[event]
    pub(crate) struct Paid {
        pub(crate) price: Price,
        #[serde(skip)]
        pub(crate) by: String,
        pub(crate) limit: Option<f64>,
    }

    impl Paid {
        pub(crate) fn of(price: Price) -> Self {
            Self { price, by: String::new(), limit: None }
        }
    }

    #[derive(Aggregate, Debug, Default, PartialEq)]
    #[aggregate(name = "till", id = String, events(Paid))]
    pub(crate) struct Till;

    impl Apply<Paid> for Till {
        fn apply(&mut self, _: &Paid) {}
    }

    pub(crate) struct Pay(pub(crate) Paid);

    impl Handle<Pay> for Till {
        type Error = std::convert::Infallible;

        fn handle(&self, command: &Pay, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
            Ok(command.0.clone().into())
        }
    }

    #[derive(Clone, Projection)]
    #[projection(name = "till", events(Till(Paid)))]
    pub(crate) struct Tills;

    impl Project<Paid> for Tills {
        async fn project(&mut self, _: &Paid, _: &EventContext) -> Result<(), BoxError> {
            Ok(())
        }
    }
}

#[test]
fn an_event_that_is_read_back_as_another_one_fails_the_test() {
    use unfaithful::{Paid, Pay, Price, Till, Tills};

    let cents = || Paid::of(Price::Cents { amount: 3 });
    given::<Till>([cents()]).when(Pay(cents())).then([cents()]);

    let unfaithful = [
        Paid::of(Price::Points { amount: 3 }),
        Paid { by: "ann".to_owned(), ..cents() },
        Paid { limit: Some(f64::INFINITY), ..cents() },
    ];
    for paid in unfaithful {
        let paid = || paid.clone();
        let failures = [
            message(|| drop(given::<Till>([paid()]))),
            message(|| drop(given::<Till>(Events::none()).when(Pay(paid())).then([paid()]))),
            message(|| drop(given::<Till>(Events::none()).when(Pay(paid())).then_events(|_| {}))),
            message(|| {
                let projected = es_core::testing::project(|_: &es_core::testing::TestStore| Tills);
                drop(futures_util::FutureExt::now_or_never(projected.given::<Till>("1", [paid()])));
            }),
        ];
        for failure in failures {
            assert!(failure.contains("changes when it is encoded and decoded"), "{failure}");
        }
    }
}
