//! Given these events, when this command comes, then those events follow.

use std::fmt::{self, Debug};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::diff::diff;
use super::stage::Stage;
use crate::aggregate::Aggregate;
use crate::command::{Context, HandledBy};
use crate::events::Events;
use crate::ids::IdSource;
use crate::metadata::Metadata;

/// An aggregate after `events`, to test commands on, without a store.
///
/// Time stands still at the start of 1970, or where [`at`](Given::at) sets it, and new ids are 1, 2, 3 ….
/// An event that cannot be stored, or is read back as another one, fails the test: those that are given, and those
/// that the command leads to.
///
/// ```
/// use es_core::prelude::*;
/// use es_core::testing::given;
/// # #[event] pub struct Deposited { pub cents: u64 }
/// # #[event] pub struct Withdrawn { pub cents: u64 }
/// # #[derive(Aggregate, Debug, Default, PartialEq)]
/// # #[aggregate(name = "account", id = String, events(Deposited, Withdrawn))]
/// # pub struct Account { balance: u64 }
/// # impl Apply<Deposited> for Account { fn apply(&mut self, event: &Deposited) { self.balance += event.cents; } }
/// # impl Apply<Withdrawn> for Account { fn apply(&mut self, event: &Withdrawn) { self.balance -= event.cents; } }
/// # pub struct Deposit { pub cents: u64 }
/// # impl Handle<Deposit> for Account {
/// #     type Error = std::convert::Infallible;
/// #     fn handle(&self, command: &Deposit, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
/// #         Ok(Deposited { cents: command.cents }.into())
/// #     }
/// # }
/// # pub struct Withdraw { pub cents: u64 }
/// # #[derive(Debug, PartialEq)]
/// # pub struct Overdrawn { pub balance: u64 }
/// # impl Handle<Withdraw> for Account {
/// #     type Error = Overdrawn;
/// #     fn handle(&self, command: &Withdraw, _: &Context<Self>) -> Result<Events<Self>, Overdrawn> {
/// #         match command.cents {
/// #             0 => Ok(Events::none()),
/// #             cents if cents > self.balance => Err(Overdrawn { balance: self.balance }),
/// #             cents => Ok(Withdrawn { cents }.into()),
/// #         }
/// #     }
/// # }
///
/// given::<Account>([Deposited { cents: 5 }])
///     .when(Withdraw { cents: 3 })
///     .then([Withdrawn { cents: 3 }])
///     .then_state(Account { balance: 2 });
///
/// given::<Account>(events![Deposited { cents: 5 }, Withdrawn { cents: 3 }])
///     .when(Withdraw { cents: 3 })
///     .then_error(Overdrawn { balance: 2 });
///
/// // By earlier commands instead of events.
/// given::<Account>(Events::none()).after(Deposit { cents: 5 }).when(Withdraw { cents: 0 }).then_nothing();
/// ```
///
/// # Panics
///
/// When an event cannot be stored, or read back.
#[track_caller]
#[must_use = "nothing is tested without `when`"]
pub fn given<A: Aggregate>(events: impl Into<Events<A>>) -> Given<A> {
    let mut stage = Stage::new();
    if let Err(reason) = stage.record(&events.into()) {
        panic!("given events: {reason}");
    }
    Given { stage }
}

/// An aggregate to test commands on: made by [`given`].
#[must_use = "nothing is tested without `when`"]
pub struct Given<A: Aggregate> {
    stage: Stage<A>,
}

impl<A: Aggregate> Given<A> {
    /// The aggregate's id, for handlers that look at it.
    pub fn id(mut self, id: A::Id) -> Self {
        self.stage.id = Some(id);
        self
    }

    /// The time from here on.
    pub fn at(mut self, now: DateTime<Utc>) -> Self {
        self.stage.now = now;
        self
    }

    /// The metadata of the commands from here on.
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.stage.metadata = Arc::new(metadata);
        self
    }

    /// Where handlers get new ids from.
    pub fn ids(mut self, ids: impl IdSource) -> Self {
        self.stage.ids = Arc::new(ids);
        self
    }

    /// More events.
    ///
    /// # Panics
    ///
    /// When one cannot be stored, or read back.
    #[track_caller]
    pub fn and(mut self, events: impl Into<Events<A>>) -> Self {
        if let Err(reason) = self.stage.record(&events.into()) {
            panic!("given events: {reason}");
        }
        self
    }

    /// An earlier command, and what it led to.
    ///
    /// # Panics
    ///
    /// When it is rejected.
    #[track_caller]
    pub fn after<C>(self, command: C) -> Self
    where
        C: HandledBy<A>,
        C::Error: Debug,
    {
        match command.handled_by(&self.stage.state, &self.stage.context()) {
            Ok(events) => self.and(events),
            Err(error) => panic!("an earlier command was rejected: {error:?}"),
        }
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> &A {
        &self.stage.state
    }

    /// The command to test.
    #[must_use = "nothing is tested without `then`"]
    pub fn when<C>(self, command: C) -> Then<A, C::Error>
    where
        C: HandledBy<A>,
    {
        self.when_decided(|state, context| command.handled_by(state, context))
    }

    /// A decision to test that is made in a closure.
    #[must_use = "nothing is tested without `then`"]
    pub fn when_decided<E>(self, decide: impl FnOnce(&A, &Context<A>) -> Result<Events<A>, E>) -> Then<A, E> {
        let result = decide(&self.stage.state, &self.stage.context());
        Then { stage: self.stage, result }
    }
}

/// What a command led to: made by [`Given::when`].
#[must_use = "nothing is tested without `then`"]
pub struct Then<A: Aggregate, E> {
    stage: Stage<A>,
    result: Result<Events<A>, E>,
}

impl<A: Aggregate, E: Debug> Then<A, E> {
    /// Exactly these events, with the claims that go with them.
    ///
    /// # Panics
    ///
    /// When it led to anything else; the message shows the difference.
    #[track_caller]
    pub fn then(self, expected: impl Into<Events<A>>) -> Recorded<A> {
        let expected = expected.into();
        match self.result {
            Ok(actual) if actual == expected => Recorded::new(self.stage, actual),
            Ok(actual) => {
                panic!("the command led to other events than expected\n{}", diff(&expected, &actual))
            }
            Err(error) => {
                panic!("the command was rejected: {error:?}\nexpected were the events {expected:#?}")
            }
        }
    }

    /// No events: the command is accepted, and there is nothing to do.
    ///
    /// # Panics
    ///
    /// When it led to events, or was rejected.
    #[track_caller]
    pub fn then_nothing(self) -> Recorded<A> {
        self.then(Events::none())
    }

    /// Events that satisfy a condition of the test's own.
    ///
    /// # Panics
    ///
    /// When the command was rejected, or the closure panics.
    #[track_caller]
    pub fn then_events(self, check: impl FnOnce(&[A::Event])) -> Recorded<A> {
        match self.result {
            Ok(actual) => {
                check(actual.as_slice());
                Recorded::new(self.stage, actual)
            }
            Err(error) => panic!("the command was rejected: {error:?}"),
        }
    }

    /// Exactly this state after the command.
    ///
    /// # Panics
    ///
    /// When the command was rejected, or the state is another one; the message shows the difference.
    #[track_caller]
    pub fn then_state(self, expected: A) -> Recorded<A>
    where
        A: Debug + PartialEq,
    {
        self.then_events(|_| {}).then_state(expected)
    }

    /// Exactly this rejection.
    ///
    /// # Panics
    ///
    /// When the command was accepted, or rejected for another reason; the message shows the difference.
    #[track_caller]
    #[allow(clippy::needless_pass_by_value)] // reads better where it is called
    pub fn then_error(self, expected: E)
    where
        E: PartialEq,
    {
        self.then_rejected(|actual| {
            assert!(
                *actual == expected,
                "the command was rejected for another reason\n{}",
                diff(&expected, actual)
            );
        });
    }

    /// A rejection that satisfies a condition of the test's own.
    ///
    /// # Panics
    ///
    /// When the command was accepted, or the closure panics.
    #[track_caller]
    pub fn then_rejected(self, check: impl FnOnce(&E)) {
        match self.result {
            Err(error) => check(&error),
            Ok(events) => panic!("the command was accepted, and led to {events:#?}"),
        }
    }
}

/// An aggregate after the command that was tested: made by [`Then::then`].
pub struct Recorded<A: Aggregate> {
    stage: Stage<A>,
}

impl<A: Aggregate> Recorded<A> {
    #[track_caller]
    fn new(mut stage: Stage<A>, events: Events<A>) -> Self {
        if let Err(reason) = stage.record(&events) {
            panic!("the command led to an event that cannot be recorded: {reason}");
        }
        Self { stage }
    }

    /// Exactly this state.
    ///
    /// # Panics
    ///
    /// When it is another one; the message shows the difference.
    #[track_caller]
    #[allow(clippy::needless_pass_by_value)] // reads better where it is called
    pub fn then_state(self, expected: A) -> Self
    where
        A: Debug + PartialEq,
    {
        let actual = &self.stage.state;
        assert!(*actual == expected, "the state is another one than expected\n{}", diff(&expected, actual));
        self
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> &A {
        &self.stage.state
    }

    /// The next command to test, on what the one before led to.
    #[must_use = "nothing is tested without `then`"]
    pub fn when<C>(self, command: C) -> Then<A, C::Error>
    where
        C: HandledBy<A>,
    {
        Given { stage: self.stage }.when(command)
    }
}

impl<A: Aggregate> Debug for Given<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").field("version", &self.stage.version).finish_non_exhaustive()
    }
}

impl<A: Aggregate, E: Debug> Debug for Then<A, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Then").field("result", &self.result).finish_non_exhaustive()
    }
}

impl<A: Aggregate> Debug for Recorded<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded").field("version", &self.stage.version).finish_non_exhaustive()
    }
}
