//! Scenarios for transactions: given events of several aggregates, when a transaction is executed, then events follow.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::{self, Debug, Display};

use chrono::{DateTime, Utc};

use super::diff;
use super::projected::FixedClock;
use super::store::{TestStore, at_once, commit_given, forget, new_store, recorded_after, stream};
use crate::aggregate::Aggregate;
use crate::clock::{Clock, ManualClock};
use crate::error_text::error_text;
use crate::event::{Event, EventData};
use crate::events::IntoEvents;
use crate::ids::{RandomIds, SequentialIds};
use crate::personal::MemoryKeyring;
use crate::repository::{Committed, Repository, RetryPolicy, Transaction, TransactionError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// Starts a scenario for a transaction, on a new in-memory store with a keyring. All of it is synchronous.
///
/// The clock is fixed at the start of 1970, or at the time set with [`at`](Transacting::at), and new ids are 1, 2, 3 ….
/// A given event that cannot be encoded, or that decodes to a different event, fails the test.
///
/// ```
/// use es_core::prelude::*;
/// use es_core::testing::transaction;
/// # #[event] pub struct Moved { pub cents: i64 }
/// # #[derive(Aggregate, Debug, Default, PartialEq)]
/// # #[aggregate(name = "account", id = String, events(Moved))]
/// # pub struct Account { balance: i64 }
/// # #[handlers]
/// # impl Account {
/// #     #[apply]
/// #     fn moved(&mut self, event: &Moved) { self.balance += event.cents; }
/// # }
/// # pub struct Move { pub cents: i64 }
/// # #[derive(Debug, PartialEq)]
/// # pub struct Overdrawn { pub balance: i64 }
/// # impl std::fmt::Display for Overdrawn {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("the balance is too low") }
/// # }
/// # impl std::error::Error for Overdrawn {}
/// # #[handlers]
/// # impl Account {
/// #     #[handle]
/// #     fn move_cents(&self, command: &Move) -> Result<Events<Self>, Overdrawn> {
/// #         match self.balance + command.cents < 0 {
/// #             true => Err(Overdrawn { balance: self.balance }),
/// #             false => Ok(Moved { cents: command.cents }.into()),
/// #         }
/// #     }
/// # }
///
/// fn transfer(accounts: &Repository<Account>, transaction: Transaction, cents: i64) -> Transaction {
///     let (ann, bob) = ("ann".to_owned(), "bob".to_owned());
///     transaction.execute(accounts, &ann, Move { cents: -cents }).execute(accounts, &bob, Move { cents })
/// }
///
/// transaction()
///     .given::<Account>("ann", [Moved { cents: 500 }])
///     .when(|bank| transfer(&bank.repository(), bank.transaction(), 300))
///     .then::<Account>("ann", [Moved { cents: -300 }])
///     .then::<Account>("bob", [Moved { cents: 300 }])
///     .then_nothing_else()
///     .then_state("ann", Account { balance: 200 });
///
/// transaction()
///     .given::<Account>("ann", [Moved { cents: 500 }])
///     .when(|bank| transfer(&bank.repository(), bank.transaction(), 700))
///     .then_error::<Account, _>("ann", Overdrawn { balance: 500 });
/// ```
#[must_use = "nothing is tested without `when`"]
pub fn transaction() -> Transacting {
    let (store, keyring) = new_store();
    Transacting { store, keyring, time: ManualClock::at(DateTime::UNIX_EPOCH), given: HashMap::new() }
}

/// The aggregates on which a transaction is tested. Created by [`transaction`].
#[must_use = "nothing is tested without `when`"]
pub struct Transacting {
    store: TestStore,
    keyring: MemoryKeyring,
    time: ManualClock,
    /// The versions of the streams before the transaction.
    given: HashMap<StreamId, Version>,
}

impl Transacting {
    /// Sets the time of the following commits and of the transaction (default: the start of 1970).
    pub fn at(self, now: DateTime<Utc>) -> Self {
        self.time.set(now);
        self
    }

    /// Commits these events to the stream of the aggregate `A` with the id `id`.
    ///
    /// # Panics
    ///
    /// Panics if an event cannot be stored.
    #[track_caller]
    pub fn given<A: Aggregate>(mut self, id: impl Display, events: impl IntoEvents<A>) -> Self {
        let (stream, events) = (stream::<A>(&id), events.into_events());
        let version = self.given.entry(stream.clone()).or_insert(Version::NONE);
        *version = version.plus(events.as_slice().len() as u64);
        // Commit ids must not equal those of the transaction, whose commits would be treated as repetitions.
        at_once(commit_given(&self.store, &RandomIds, self.time.now(), stream, &events));
        self
    }

    /// Forgets the subject with the id `subject`: its [personal data](crate::personal) becomes
    /// [forgotten](crate::Personal::is_forgotten), and a transaction that records new personal data about it fails.
    ///
    /// # Panics
    ///
    /// Panics if the id is not valid: see [`Subject::new`](crate::personal::Subject::new).
    #[track_caller]
    pub fn forgetting(self, subject: impl Display) -> Self {
        forget(&self.keyring, subject);
        self
    }

    /// Returns a repository on the scenario's store.
    #[must_use]
    pub fn repository<A: Aggregate>(&self) -> Repository<A> {
        let clock = FixedClock(self.time.clone());
        Repository::builder(self.store.clone()).clock(clock).ids(SequentialIds::default()).build()
    }

    /// Returns a transaction on the scenario's store, without commands.
    pub fn transaction(&self) -> Transaction {
        Transaction::new(&self.store)
    }

    /// Commits the transaction that `begin` returns. It adds commands to [`transaction`](Self::transaction), for
    /// aggregates of [`repository`](Self::repository).
    #[must_use = "nothing is tested without `then`"]
    pub fn when(self, begin: impl FnOnce(&Self) -> Transaction) -> Transacted {
        let transaction = begin(&self).clock(FixedClock(self.time.clone())).retry(RetryPolicy::never());
        let result = at_once(transaction.commit());
        Transacted { scenario: self, result, expected: Vec::new() }
    }
}

/// The outcome of a transaction. Created by [`Transacting::when`].
pub struct Transacted {
    scenario: Transacting,
    result: Result<Committed, TransactionError>,
    /// The streams that were compared.
    expected: Vec<StreamId>,
}

impl Transacted {
    /// Expects that the transaction recorded exactly these events in the stream of the aggregate `A` with the id `id`.
    ///
    /// # Panics
    ///
    /// Panics if it recorded different events, in which case the message shows the difference, or if it failed.
    #[track_caller]
    pub fn then<A: Aggregate>(mut self, id: impl Display, expected: impl IntoEvents<A>) -> Self {
        self.committed();
        let (stream, expected) = (stream::<A>(&id), expected.into_events());
        let decode = |data: &EventData| match A::Event::decode(data) {
            Ok(event) => event,
            Err(error) => panic!("an event of `{stream}` cannot be read: {error}"),
        };
        let actual: Vec<_> = self.recorded(&stream).iter().map(decode).collect();
        assert!(
            actual == expected.as_slice(),
            "the transaction recorded different events of `{stream}` than expected\n{}",
            diff(&expected.as_slice(), &actual)
        );
        self.expected.push(stream);
        self
    }

    /// Expects that the transaction recorded events only in the streams that were compared with
    /// [`then`](Self::then).
    ///
    /// # Panics
    ///
    /// Panics if it recorded events of another aggregate, or if it failed.
    #[track_caller]
    pub fn then_nothing_else(self) -> Self {
        for stream in self.committed().streams().filter(|stream| !self.expected.contains(stream)) {
            let events = self.recorded(stream);
            let names: Vec<_> = events.iter().map(EventData::name).collect();
            assert!(
                names.is_empty(),
                "the transaction also recorded events of `{stream}`: {}",
                names.join(", ")
            );
        }
        self
    }

    /// Expects that the aggregate with the id `id` has exactly this state after the transaction.
    ///
    /// # Panics
    ///
    /// Panics if the state differs, in which case the message shows the difference, or if the transaction failed.
    #[track_caller]
    #[allow(clippy::needless_pass_by_value)] // reads better at the call site
    pub fn then_state<A>(self, id: impl Into<A::Id>, expected: A) -> Self
    where
        A: Aggregate + Debug + PartialEq,
    {
        self.committed();
        let id = id.into();
        match at_once(self.scenario.repository::<A>().load(&id)) {
            Ok(loaded) => assert!(
                loaded.state == expected,
                "the state of `{}` differs from the expected state\n{}",
                stream::<A>(&id),
                diff(&expected, &loaded.state)
            ),
            Err(error) => panic!("`{}` cannot be loaded: {error}", stream::<A>(&id)),
        }
        self
    }

    /// Expects that the transaction was rejected by the aggregate `A` with the id `id`, with exactly this error.
    ///
    /// # Panics
    ///
    /// Panics if it was committed, failed for another reason, or was rejected by another aggregate or with a different
    /// error, in which case the message shows the difference.
    #[track_caller]
    #[allow(clippy::needless_pass_by_value)] // reads better at the call site
    pub fn then_error<A, E>(self, id: impl Display, expected: E)
    where
        A: Aggregate,
        E: Error + PartialEq + 'static,
    {
        let error = self.failed();
        let Some(rejection) = error.rejection() else {
            panic!(
                "the transaction was not rejected, but failed: {}\nexpected: {expected:?}",
                error_text(error)
            )
        };
        let stream = stream::<A>(&id);
        assert!(
            *rejection.stream() == stream,
            "the transaction was rejected by another aggregate than `{stream}`: {rejection}"
        );
        match rejection.downcast_ref::<E>() {
            Some(actual) => assert!(
                *actual == expected,
                "`{stream}` rejected its command with a different error\n{}",
                diff(&expected, actual)
            ),
            None => panic!("`{stream}` rejected its command with an error of another type: {rejection}"),
        }
    }

    /// Expects that the transaction failed or was rejected, with an error that contains `expected`, for example because
    /// another aggregate holds a claim.
    ///
    /// # Panics
    ///
    /// Panics if it was committed, or failed with a different error.
    #[track_caller]
    pub fn then_failed(self, expected: &str) {
        let reason = error_text(self.failed());
        assert!(
            reason.contains(expected),
            "the transaction failed with a different error: {reason}\nexpected: {expected}"
        );
    }

    /// Returns the events that the transaction recorded in a stream.
    fn recorded(&self, stream: &StreamId) -> Vec<EventData> {
        let before = self.scenario.given.get(stream).copied().unwrap_or(Version::NONE);
        recorded_after(&self.scenario.store, stream, before)
    }

    #[track_caller]
    fn committed(&self) -> &Committed {
        match &self.result {
            Ok(committed) => committed,
            Err(error) => panic!("the transaction was not committed: {}", error_text(error)),
        }
    }

    #[track_caller]
    fn failed(&self) -> &TransactionError {
        match &self.result {
            Err(error) => error,
            Ok(committed) => {
                let streams: Vec<_> = committed.streams().map(ToString::to_string).collect();
                panic!("the transaction was committed: {}", streams.join(", "))
            }
        }
    }
}

impl Debug for Transacting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transacting").field("given", &self.given).finish_non_exhaustive()
    }
}

impl Debug for Transacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transacted").field("result", &self.result).finish_non_exhaustive()
    }
}
