//! Scenarios for command handlers: given events, when a command is handled, then events follow.

use std::collections::BTreeSet;
use std::fmt::{self, Debug};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::diff;
use crate::aggregate::Aggregate;
use crate::command::{Context, HandledBy};
use crate::event::{Event, EventData};
use crate::events::{Events, IntoEvents};
use crate::ids::{IdSource, SequentialIds};
use crate::metadata::Metadata;
use crate::personal::Subject;
use crate::personal::testing::{check_recordable, forgetting};
use crate::stream_id::StreamId;
use crate::version::Version;

/// Starts a scenario with an aggregate in the state after `events`. No store is needed.
///
/// The clock is fixed at the start of 1970, or at the time set with [`at`](Given::at), and new ids are 1, 2, 3 ….
/// A given or resulting event that cannot be encoded, or that decodes to a different event, fails the test.
///
/// ```
/// use es_core::prelude::*;
/// use es_core::testing::given;
/// # #[event] pub struct Deposited { pub cents: u64 }
/// # #[event] pub struct Withdrawn { pub cents: u64 }
/// # #[derive(Aggregate, Debug, Default, PartialEq)]
/// # #[aggregate(name = "account", id = String, events(Deposited, Withdrawn))]
/// # pub struct Account { balance: u64 }
/// # #[handlers]
/// # impl Account {
/// #     #[apply]
/// #     fn deposited(&mut self, event: &Deposited) { self.balance += event.cents; }
/// #     #[apply]
/// #     fn withdrawn(&mut self, event: &Withdrawn) { self.balance -= event.cents; }
/// # }
/// # pub struct Deposit { pub cents: u64 }
/// # #[handlers]
/// # impl Account {
/// #     #[handle]
/// #     fn deposit(&self, command: &Deposit) -> Deposited {
/// #         Deposited { cents: command.cents }
/// #     }
/// # }
/// # pub struct Withdraw { pub cents: u64 }
/// # #[derive(Debug, PartialEq)]
/// # pub struct Overdrawn { pub balance: u64 }
/// # #[handlers]
/// # impl Account {
/// #     #[handle]
/// #     fn withdraw(&self, command: &Withdraw) -> Result<Events<Self>, Overdrawn> {
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
/// // Earlier commands instead of events.
/// given::<Account>(Events::none()).after(Deposit { cents: 5 }).when(Withdraw { cents: 0 }).then_nothing();
/// ```
///
/// # Panics
///
/// Panics if an event cannot be encoded and decoded.
#[track_caller]
#[must_use = "nothing is tested without `when`"]
pub fn given<A: Aggregate>(events: impl IntoEvents<A>) -> Given<A> {
    let mut stage = Stage::new();
    if let Err(reason) = stage.record(&events.into_events()) {
        panic!("given events: {reason}");
    }
    Given { stage }
}

/// An aggregate to test commands on. Created by [`given`].
#[must_use = "nothing is tested without `when`"]
pub struct Given<A: Aggregate> {
    stage: Stage<A>,
}

impl<A: Aggregate> Given<A> {
    /// Sets the aggregate's id, for handlers that use it.
    pub fn id(mut self, id: A::Id) -> Self {
        self.stage.id = Some(id);
        self
    }

    /// Sets the time for the following commands (default: the start of 1970).
    pub fn at(mut self, now: DateTime<Utc>) -> Self {
        self.stage.now = now;
        self
    }

    /// Sets the metadata of the following commands.
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.stage.metadata = Arc::new(metadata);
        self
    }

    /// Sets the source of new ids (default: 1, 2, 3 …).
    pub fn ids(mut self, ids: impl IdSource) -> Self {
        self.stage.ids = Arc::new(ids);
        self
    }

    /// Applies more events.
    ///
    /// # Panics
    ///
    /// Panics if an event cannot be encoded and decoded.
    #[track_caller]
    pub fn and(mut self, events: impl IntoEvents<A>) -> Self {
        if let Err(reason) = self.stage.record(&events.into_events()) {
            panic!("given events: {reason}");
        }
        self
    }

    /// Forgets the subject with the id `subject`: its [personal data](crate::personal) in the state becomes
    /// [forgotten](crate::Personal::is_forgotten), and a command that records new personal data about it fails the
    /// test.
    ///
    /// ```
    /// # use es_core::prelude::*;
    /// # use es_core::Personal;
    /// use es_core::testing::given;
    /// # #[event]
    /// # pub struct Registered {
    /// #     pub customer: String,
    /// #     #[personal(subject = customer)]
    /// #     pub name: Personal<String>,
    /// # }
    /// # #[derive(Aggregate, Default)]
    /// # #[aggregate(name = "customer", id = String, events(Registered))]
    /// # pub struct Customer { name: Option<Personal<String>> }
    /// # #[handlers]
    /// # impl Customer {
    /// #     #[apply]
    /// #     fn registered(&mut self, event: &Registered) { self.name = Some(event.name.clone()); }
    /// # }
    /// let registered = Registered { customer: "17".into(), name: Personal::new("Ann".into()) };
    /// let customer = given::<Customer>([registered]).forgetting("17");
    /// assert!(customer.state().name.as_ref().is_some_and(Personal::is_forgotten));
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if the id is not valid: see [`Subject::new`].
    #[track_caller]
    pub fn forgetting(mut self, subject: impl fmt::Display) -> Self {
        if let Err(reason) = self.stage.forget(subject) {
            panic!("forgetting a subject: {reason}");
        }
        self
    }

    /// Handles a command and applies its events.
    ///
    /// # Panics
    ///
    /// Panics if the command is rejected.
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

    /// Returns the current state.
    #[must_use]
    pub fn state(&self) -> &A {
        &self.stage.state
    }

    /// Handles a command, and returns its result for the assertions.
    #[must_use = "nothing is tested without `then`"]
    pub fn when<C>(self, command: C) -> Then<A, C::Error>
    where
        C: HandledBy<A>,
    {
        self.when_decided(|state, context| command.handled_by(state, context))
    }

    /// Tests a decision that a closure makes.
    #[must_use = "nothing is tested without `then`"]
    pub fn when_decided<E>(self, decide: impl FnOnce(&A, &Context<A>) -> Result<Events<A>, E>) -> Then<A, E> {
        let result = decide(&self.stage.state, &self.stage.context());
        Then { stage: self.stage, result }
    }
}

/// The result of a tested command, returned by [`Given::when`].
#[must_use = "nothing is tested without `then`"]
pub struct Then<A: Aggregate, E> {
    stage: Stage<A>,
    result: Result<Events<A>, E>,
}

impl<A: Aggregate, E: Debug> Then<A, E> {
    /// Expects exactly these events, with their claims.
    ///
    /// # Panics
    ///
    /// Panics if the result differs. The message shows the difference.
    #[track_caller]
    pub fn then(self, expected: impl IntoEvents<A>) -> AfterCommand<A> {
        let expected = expected.into_events();
        match self.result {
            Ok(actual) if actual == expected => AfterCommand::new(self.stage, actual),
            Ok(actual) => {
                panic!("the command recorded different events than expected\n{}", diff(&expected, &actual))
            }
            Err(error) => {
                panic!("the command was rejected: {error:?}\nexpected events: {expected:#?}")
            }
        }
    }

    /// Expects that the command is accepted and records no events.
    ///
    /// # Panics
    ///
    /// Panics if the command recorded events or was rejected.
    #[track_caller]
    pub fn then_nothing(self) -> AfterCommand<A> {
        self.then(Events::none())
    }

    /// Checks the events with `check`.
    ///
    /// # Panics
    ///
    /// Panics if the command was rejected, or if `check` panics.
    #[track_caller]
    pub fn then_events(self, check: impl FnOnce(&[A::Event])) -> AfterCommand<A> {
        match self.result {
            Ok(actual) => {
                check(actual.as_slice());
                AfterCommand::new(self.stage, actual)
            }
            Err(error) => panic!("the command was rejected: {error:?}"),
        }
    }

    /// Expects exactly this state after the command.
    ///
    /// # Panics
    ///
    /// Panics if the command was rejected or the state differs. The message shows the difference.
    #[track_caller]
    pub fn then_state(self, expected: A) -> AfterCommand<A>
    where
        A: Debug + PartialEq,
    {
        self.then_events(|_| {}).then_state(expected)
    }

    /// Expects exactly this rejection.
    ///
    /// # Panics
    ///
    /// Panics if the command was accepted or rejected with a different error. The message shows the difference.
    #[track_caller]
    #[allow(clippy::needless_pass_by_value)] // reads better at the call site
    pub fn then_error(self, expected: E)
    where
        E: PartialEq,
    {
        self.then_rejected(|actual| {
            assert!(
                *actual == expected,
                "the command was rejected with a different error\n{}",
                diff(&expected, actual)
            );
        });
    }

    /// Checks the rejection with `check`.
    ///
    /// # Panics
    ///
    /// Panics if the command was accepted, or if `check` panics.
    #[track_caller]
    pub fn then_rejected(self, check: impl FnOnce(&E)) {
        match self.result {
            Err(error) => check(&error),
            Ok(events) => panic!("the command was accepted and recorded {events:#?}"),
        }
    }
}

/// An aggregate after a tested command. Created by [`Then::then`].
pub struct AfterCommand<A: Aggregate> {
    stage: Stage<A>,
}

impl<A: Aggregate> AfterCommand<A> {
    #[track_caller]
    fn new(mut stage: Stage<A>, events: Events<A>) -> Self {
        if let Err(reason) = stage.record(&events) {
            panic!("the command returned an event that cannot be recorded: {reason}");
        }
        Self { stage }
    }

    /// Expects exactly this state.
    ///
    /// # Panics
    ///
    /// Panics if the state differs. The message shows the difference.
    #[track_caller]
    #[allow(clippy::needless_pass_by_value)] // reads better at the call site
    pub fn then_state(self, expected: A) -> Self
    where
        A: Debug + PartialEq,
    {
        let actual = &self.stage.state;
        assert!(
            *actual == expected,
            "the state differs from the expected state\n{}",
            diff(&expected, actual)
        );
        self
    }

    /// Returns the current state.
    #[must_use]
    pub fn state(&self) -> &A {
        &self.stage.state
    }

    /// Handles another command on the resulting state, and returns its result for the assertions.
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

impl<A: Aggregate> Debug for AfterCommand<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AfterCommand").field("version", &self.stage.version).finish_non_exhaustive()
    }
}

/// The state of an aggregate in a test, without a store.
pub(crate) struct Stage<A: Aggregate> {
    pub(crate) state: A,
    pub(crate) version: Version,
    pub(crate) id: Option<A::Id>,
    pub(crate) now: DateTime<Utc>,
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) ids: Arc<dyn IdSource>,
    /// The events as encoded.
    recorded: Vec<EventData>,
    forgotten: BTreeSet<Subject>,
}

impl<A: Aggregate> Stage<A> {
    pub(crate) fn new() -> Self {
        Self {
            state: A::default(),
            version: Version::NONE,
            id: None,
            now: DateTime::UNIX_EPOCH,
            metadata: Arc::default(),
            ids: Arc::new(SequentialIds::default()),
            recorded: Vec::new(),
            forgotten: BTreeSet::new(),
        }
    }

    pub(crate) fn context(&self) -> Context<A> {
        Context::staged(self.id.clone(), self.version, self.now, Arc::clone(&self.ids))
            .with_metadata(Arc::clone(&self.metadata))
    }

    /// Applies events as a repository would, after encoding and decoding them.
    pub(crate) fn record(&mut self, events: &Events<A>) -> Result<(), String> {
        check_claims(events)?;
        for event in events.as_slice() {
            let (decoded, stored) = faithful(event)?;
            check_recordable(stored.payload(), &self.forgotten)?;
            self.state.apply_event(&decoded);
            self.version = self.version.next();
            self.recorded.push(stored);
        }
        Ok(())
    }

    /// Folds the state again, with the values of a subject forgotten.
    fn forget(&mut self, subject: impl fmt::Display) -> Result<(), String> {
        self.forgotten.insert(Subject::new(subject).map_err(|error| error.to_string())?);
        self.state = A::default();
        for stored in &self.recorded {
            let payload = forgetting(stored.payload(), &self.forgotten)?;
            let event = A::Event::decode(&stored.with_payload(payload)).map_err(|error| error.to_string())?;
            self.state.apply_event(&event);
        }
        Ok(())
    }
}

/// Encodes events, and verifies that each decodes to an equal event. This fails for skipped fields, `NaN`, and
/// enums with ambiguous JSON forms.
pub(crate) fn faithful_data<E: Event>(events: &[E]) -> Result<Vec<EventData>, String> {
    events.iter().map(|event| faithful(event).map(|(_, stored)| stored)).collect()
}

/// Returns the decoded event if it equals the original, and its encoded form.
fn faithful<E: Event>(event: &E) -> Result<(E, EventData), String> {
    let (decoded, stored) = encoded(event)?;
    match decoded == *event {
        true => Ok((decoded, stored)),
        false => Err(format!("an event changes when it is encoded and decoded\n{}", diff(event, &decoded))),
    }
}

/// Encodes an event, and decodes it again.
pub(crate) fn encoded<E: Event>(event: &E) -> Result<(E, EventData), String> {
    let stored = event.to_data().map_err(|error| format!("{event:?} cannot be encoded: {error}"))?;
    match E::decode(&stored) {
        Ok(decoded) => Ok((decoded, stored)),
        Err(error) => Err(format!("{event:?} cannot be decoded again: {error}")),
    }
}

fn check_claims<A: Aggregate>(events: &Events<A>) -> Result<(), String> {
    let stream = StreamId::new(A::NAME, "test").map_err(|error| error.to_string())?;
    events.claims(&stream).map(drop).map_err(|error| error.to_string())
}
