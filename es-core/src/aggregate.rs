//! Aggregates: the traits of their state and their events.

use std::borrow::Cow;
use std::fmt::Display;

use crate::event::Event;
use crate::snapshot::Snapshots;

/// A consistency boundary of the domain. Its state is the fold of its stream of events.
///
/// `#[derive(Aggregate)]` implements this trait. Its attribute lists the events, and the aggregate must implement
/// [`Apply`] for each of them. The initial state is the [`Default`].
///
/// ```
/// use es_core::prelude::*;
///
/// #[event]
/// pub struct Deposited { pub cents: u64 }
///
/// #[derive(Aggregate, Default)]
/// #[aggregate(name = "account", id = String, events(Deposited))]
/// pub struct Account { balance: u64 }
///
/// #[handlers]
/// impl Account {
///     #[apply]
///     fn deposited(&mut self, event: &Deposited) {
///         self.balance += event.cents;
///     }
/// }
///
/// let mut account = Account::default();
/// account.apply_event(&Deposited { cents: 500 }.into());
/// assert_eq!(account.balance, 500);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an aggregate",
    label = "not an aggregate",
    note = "write `#[derive(Aggregate, Default)]` and `#[aggregate(name = \"…\", id = …, events(…))]` above the definition of `{Self}`"
)]
pub trait Aggregate: Default + Send + Sync + Sized + 'static {
    /// The type of the aggregate's id. Its text is part of the stream id.
    type Id: Display + Clone + Send + Sync + 'static;

    /// The enum of the aggregate's events.
    type Event: Event;

    /// The aggregate's name, the first part of its stream ids. It is stored: never change it.
    const NAME: &'static str;

    /// The stored names of retired events. They are no longer written, and loads skip them.
    const RETIRED: &'static [&'static str] = &[];

    /// Applies `event` to the state. The result must depend only on the state and the event, and an event cannot be
    /// rejected, because it is a fact.
    fn apply_event(&mut self, event: &Self::Event);

    /// Returns the snapshot settings of the state, or `None` if the aggregate has no snapshots.
    #[must_use]
    fn snapshots() -> Option<Snapshots<Self>> {
        None
    }

    /// Returns a copy of the state, or `None` if states cannot be copied. The derive clones a type that implements
    /// `Clone`.
    ///
    /// Commands in one process that target the same aggregate at the same time share a write, for which each of them
    /// needs a copy of the state. Without copies, they race for the stream, and all but one of them are decided again.
    /// Derive `Clone` for aggregates that receive many commands at a time.
    #[must_use]
    fn try_clone(&self) -> Option<Self> {
        None
    }
}

/// Copies a state that implements `Clone`. Generated code calls `(&CloneProbe::new(&state)).try_clone()`, for which the
/// compiler selects the first of the two traits below that applies.
#[derive(Debug)]
pub struct CloneProbe<'a, A>(&'a A);

impl<'a, A> CloneProbe<'a, A> {
    #[allow(missing_docs)] // for generated code alone
    #[must_use]
    pub const fn new(state: &'a A) -> Self {
        Self(state)
    }
}

#[allow(missing_docs)] // for generated code alone
pub(crate) mod probes {
    use super::CloneProbe;

    pub trait Cloned<A> {
        fn try_clone(&self) -> Option<A>;
    }

    impl<A: Clone> Cloned<A> for CloneProbe<'_, A> {
        fn try_clone(&self) -> Option<A> {
            Some(self.0.clone())
        }
    }

    pub trait NotCloned<A> {
        fn try_clone(&self) -> Option<A>;
    }

    impl<A> NotCloned<A> for &CloneProbe<'_, A> {
        fn try_clone(&self) -> Option<A> {
            None
        }
    }
}

/// An id that can be given as a `&Q`, similar to the keys of a map and [`Borrow`](std::borrow::Borrow).
///
/// Methods that take an id accept a reference to the id, and for `String` ids also a `&str`, as in
/// `accounts.load("ann")`. [`#[derive(Id)]`](derive@crate::Id) on a newtype over `String` adds `&str` and `&String`.
#[diagnostic::on_unimplemented(
    message = "`{Q}` does not identify an aggregate whose id is `{Self}`",
    label = "expected a reference to `{Self}`"
)]
pub trait IdFrom<Q: ?Sized>: Clone {
    /// Converts `value` to an id, without a copy if it is one already.
    fn id_from(value: &Q) -> Cow<'_, Self>;
}

impl<I: Clone> IdFrom<I> for I {
    fn id_from(value: &I) -> Cow<'_, I> {
        Cow::Borrowed(value)
    }
}

impl IdFrom<str> for String {
    fn id_from(value: &str) -> Cow<'_, Self> {
        Cow::Owned(value.to_owned())
    }
}

/// Applies the event `E` to the state of an aggregate.
///
/// The result must depend only on the state and the event. An event cannot be rejected, because it is a fact. For the
/// same reason, applying it must not panic: the event is stored first, and the aggregate cannot be loaded until the
/// code is corrected. Check in the command that a balance cannot become negative, for example, or use saturating
/// arithmetic.
///
/// A method with `#[apply]` in a block with [`#[handlers]`](crate::handlers) implements this trait.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not apply the event `{E}`",
    label = "missing `impl Apply<{E}> for {Self}`",
    note = "each event in `#[aggregate(events(…))]` requires one: write `#[apply] fn …(&mut self, event: &{E}) {{ … }}` in an `impl {Self}` with `#[handlers]`, or implement the trait"
)]
pub trait Apply<E>: Lists<E> {
    /// Applies `event` to the state.
    fn apply(&mut self, event: &E);
}

/// An aggregate that lists the event `E` in `#[aggregate(events(…))]`. Implemented by the derive.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not list the event `{E}`",
    label = "`{E}` is not in `events(…)`",
    note = "add it to the attribute above the definition of `{Self}`, as in `#[aggregate(events(…, {E}))]`: other events are never applied"
)]
pub trait Lists<E> {}
