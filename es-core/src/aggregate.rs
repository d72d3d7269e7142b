//! Aggregates: what a command is decided on.

use std::borrow::Cow;
use std::fmt::Display;

use crate::event::Event;
use crate::snapshot::Snapshots;

/// A consistency boundary of the domain, whose state is the fold of its stream of events.
///
/// Derive it: `#[derive(Aggregate)]` generates this implementation from the events that the attribute
/// lists, and asks for one [`Apply`] for each. The aggregate's initial state is its [`Default`].
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
    /// What identifies one aggregate of this type; its text ends up in the name of the stream.
    type Id: Display + Clone + Send + Sync + 'static;

    /// The events of this aggregate.
    type Event: Event;

    /// The aggregate's name, the first part of the names of its streams. It is stored: never change it.
    const NAME: &'static str;

    /// Stored names of events that no longer matter: they are skipped, and nothing writes them any more.
    const RETIRED: &'static [&'static str] = &[];

    /// Changes the state as `event` says. Must depend on nothing else, and cannot refuse: it happened.
    fn apply_event(&mut self, event: &Self::Event);

    /// How the state is kept in snapshots; `None` when it is always folded from the first event.
    #[must_use]
    fn snapshots() -> Option<Snapshots<Self>> {
        None
    }
}

/// An id for which a reference to a `Q` can stand, as a key of a map can be given as what it borrows as.
///
/// Methods that take an id accept a reference to the id itself, and for `String` ids a `&str`, as in
/// `accounts.load("ann")`. [`#[derive(Id)]`](derive@crate::Id) for a type over `String` adds `&str` and `&String`.
#[diagnostic::on_unimplemented(
    message = "`{Q}` does not identify an aggregate whose id is `{Self}`",
    label = "expected a reference to `{Self}`"
)]
pub trait IdFrom<Q: ?Sized>: Clone {
    /// Returns the id, without a copy if `value` is one.
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

/// How one event changes the state of an aggregate.
///
/// Must depend on nothing but the state and the event, and cannot refuse: the event is a fact.
///
/// A method with `#[apply]` in a block with [`#[handlers]`](crate::handlers) implements this trait.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not apply the event `{E}`",
    label = "missing `impl Apply<{E}> for {Self}`",
    note = "each event in `#[aggregate(events(…))]` requires one: write `#[apply] fn …(&mut self, event: &{E}) {{ … }}` in an `impl {Self}` with `#[handlers]`, or implement the trait"
)]
pub trait Apply<E>: Lists<E> {
    /// Changes the state as `event` says.
    fn apply(&mut self, event: &E);
}

/// Marks an event that an aggregate lists in `#[aggregate(…)]`; implemented by the derive.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not list the event `{E}`",
    label = "`{E}` is not in `events(…)`",
    note = "add it to the attribute above the definition of `{Self}`, as in `#[aggregate(events(…, {E}))]`: other events are never applied"
)]
pub trait Lists<E> {}
