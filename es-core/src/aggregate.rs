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
/// impl Apply<Deposited> for Account {
///     fn apply(&mut self, event: &Deposited) { self.balance += event.cents; }
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
/// The result must depend only on the state and the event. An event cannot be rejected, because it is a fact.
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
