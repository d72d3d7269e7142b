//! Laws that every aggregate obeys, checked with random commands.

use std::fmt::{self, Debug};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta};
use proptest::collection::vec;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::diff;
use super::scenario::{Stage, encoded};
use crate::aggregate::Aggregate;
use crate::command::{Context, HandledBy};
use crate::events::Events;
use crate::ids::SequentialIds;
use crate::version::Version;

/// A command of any type for the aggregate `A`, so that strategies can mix them.
pub struct AnyCommand<A: Aggregate> {
    shown: String,
    decide: Arc<Decide<A>>,
}

type Decide<A> = dyn Fn(&A, &Context<A>) -> Result<Events<A>, String>;

impl<A: Aggregate> AnyCommand<A> {
    /// Wraps a command.
    pub fn new<C>(command: C) -> Self
    where
        C: HandledBy<A> + Debug + 'static,
        C::Error: Debug,
    {
        Self {
            shown: format!("{command:?}"),
            decide: Arc::new(move |state, context| {
                command.handled_by(state, context).map_err(|error| format!("{error:?}"))
            }),
        }
    }
}

impl<A: Aggregate> Clone for AnyCommand<A> {
    fn clone(&self) -> Self {
        Self { shown: self.shown.clone(), decide: Arc::clone(&self.decide) }
    }
}

impl<A: Aggregate> Debug for AnyCommand<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Checks the laws of aggregates with random sequences of `commands`:
///
/// - A handler is deterministic, and does not change the state.
/// - An event is unchanged by encoding and decoding.
/// - The state is the fold of the recorded events.
/// - A snapshot and the events after it give the same state as all events, at every version.
///
/// A failing sequence is shrunk to a short one.
///
/// ```
/// use es_core::prelude::*;
/// use es_core::testing::{AnyCommand, check_laws};
/// use proptest::prelude::*;
/// # #[event] pub struct Deposited { pub cents: u64 }
/// # #[derive(Aggregate, Debug, Default, PartialEq)]
/// # #[aggregate(name = "account", id = String, events(Deposited))]
/// # pub struct Account { balance: u64 }
/// # #[handlers]
/// # impl Account {
/// #     #[apply]
/// #     fn deposited(&mut self, event: &Deposited) { self.balance += event.cents; }
/// # }
/// # #[derive(Debug)]
/// # pub struct Deposit { pub cents: u64 }
/// # #[handlers]
/// # impl Account {
/// #     #[handle]
/// #     fn deposit(&self, command: &Deposit) -> Deposited {
/// #         Deposited { cents: command.cents }
/// #     }
/// # }
///
/// check_laws::<Account>("ann".to_owned(), (0..100_u64).prop_map(|cents| AnyCommand::new(Deposit { cents })));
/// ```
///
/// Mix several commands with `prop_oneof!`.
///
/// # Panics
///
/// Panics if a law is broken. The message names the law and shows the shortest failing sequence.
#[track_caller]
#[allow(clippy::needless_pass_by_value)] // reads better at the call site
pub fn check_laws<A>(id: A::Id, commands: impl Strategy<Value = AnyCommand<A>>)
where
    A: Aggregate + Debug + PartialEq,
{
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let checked = runner.run(&vec(commands, 0..32), |commands| {
        Run::new(id.clone()).carry_out(&commands).map_err(TestCaseError::fail)
    });
    if let Err(error) = checked {
        panic!("`{}` breaks a law of aggregates: {error}", A::NAME);
    }
}

/// One sequence of commands.
struct Run<A: Aggregate> {
    stage: Stage<A>,
    events: Vec<A::Event>,
}

impl<A: Aggregate + Debug + PartialEq> Run<A> {
    fn new(id: A::Id) -> Self {
        let mut stage = Stage::new();
        stage.id = Some(id);
        Self { stage, events: Vec::new() }
    }

    fn carry_out(mut self, commands: &[AnyCommand<A>]) -> Result<(), String> {
        for command in commands {
            self.stage.now += TimeDelta::seconds(1);
            let events = self.decide(command)?;
            for event in events.as_slice() {
                let (again, _) = encoded(event)?;
                if again != *event {
                    return Err(format!(
                        "an event changes when it is encoded and decoded\n{}",
                        diff(event, &again)
                    ));
                }
            }
            self.stage.record(&events)?;
            self.events.extend(events.into_vec());
        }
        same(
            "the state is not the fold of its events",
            &fold(A::default(), &self.events),
            &self.stage.state,
        )?;
        self.check_snapshots()
    }

    fn decide(&self, command: &AnyCommand<A>) -> Result<Events<A>, String> {
        let decide = || {
            let ids = Arc::new(SequentialIds::default());
            let context = Context::staged(self.stage.id.clone(), self.stage.version, self.stage.now, ids);
            (command.decide)(&self.stage.state, &context)
        };
        let (first, second) = (decide(), decide());
        let before = fold(A::default(), &self.events);
        same(&format!("{command:?} changes the state without an event"), &before, &self.stage.state)?;
        if first != second {
            let difference = diff(&first, &second);
            return Err(format!(
                "{command:?} is decided differently when handled twice in the same state\n{difference}"
            ));
        }
        Ok(first.unwrap_or_else(|_| Events::none()))
    }

    /// Checks a snapshot at every version against the fold of all events.
    fn check_snapshots(&self) -> Result<(), String> {
        let Some(snapshots) = A::snapshots() else { return Ok(()) };
        let time = DateTime::UNIX_EPOCH;
        let mut state = A::default();
        for index in 0..=self.events.len() {
            let version = Version::new(index as u64);
            let snapshot = snapshots
                .take(&state, version, time)
                .map_err(|error| format!("the state after {index} events has no snapshot: {error}"))?;
            let restored = snapshots
                .restore(&snapshot)
                .map_err(|error| format!("the snapshot after {index} events cannot be restored: {error}"))?;
            let what =
                format!("the snapshot after {index} events and the events after it differ from all events");
            same(&what, &self.stage.state, &fold(restored, &self.events[index..]))?;
            if let Some(event) = self.events.get(index) {
                state.apply_event(event);
            }
        }
        Ok(())
    }
}

fn fold<A: Aggregate>(mut state: A, events: &[A::Event]) -> A {
    for event in events {
        state.apply_event(event);
    }
    state
}

fn same<A: Debug + PartialEq>(what: &str, expected: &A, actual: &A) -> Result<(), String> {
    match expected == actual {
        true => Ok(()),
        false => Err(format!("{what}\n{}", diff(expected, actual))),
    }
}
