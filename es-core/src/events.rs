//! What a decision led to.

use std::fmt;

use crate::aggregate::Aggregate;
use crate::event::Event;

/// The events that a command leads to, in order: what a handler returns.
///
/// Made from one event with `.into()`, from several of one type as an array or a `Vec`, from several of
/// different types with [`events!`](crate::events), and empty with [`Events::none`].
#[must_use = "the events of a decision are recorded only when the handler returns them"]
pub struct Events<A: Aggregate> {
    events: Vec<A::Event>,
}

impl<A: Aggregate> Events<A> {
    /// No events: the command is accepted, and there is nothing to do.
    pub const fn none() -> Self {
        Self { events: Vec::new() }
    }

    /// Adds an event at the end.
    pub fn push(&mut self, event: impl Into<A::Event>) {
        self.events.push(event.into());
    }

    /// These events and then `event`.
    pub fn and(mut self, event: impl Into<A::Event>) -> Self {
        self.push(event);
        self
    }

    /// The events, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[A::Event] {
        &self.events
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// The events as a plain vector.
    #[must_use]
    pub fn into_vec(self) -> Vec<A::Event> {
        self.events
    }
}

// `Events` itself is no `Event`, which is what keeps these apart from `From<T> for T`.
impl<A: Aggregate, E: Event> From<E> for Events<A>
where
    A::Event: From<E>,
{
    fn from(event: E) -> Self {
        Self { events: vec![event.into()] }
    }
}

impl<A: Aggregate, E: Event, const N: usize> From<[E; N]> for Events<A>
where
    A::Event: From<E>,
{
    fn from(events: [E; N]) -> Self {
        events.into_iter().collect()
    }
}

impl<A: Aggregate, E: Event> From<Vec<E>> for Events<A>
where
    A::Event: From<E>,
{
    fn from(events: Vec<E>) -> Self {
        events.into_iter().collect()
    }
}

impl<A: Aggregate, E: Event> FromIterator<E> for Events<A>
where
    A::Event: From<E>,
{
    fn from_iter<I: IntoIterator<Item = E>>(events: I) -> Self {
        Self { events: events.into_iter().map(Into::into).collect() }
    }
}

impl<A: Aggregate, E: Event> Extend<E> for Events<A>
where
    A::Event: From<E>,
{
    fn extend<I: IntoIterator<Item = E>>(&mut self, events: I) {
        self.events.extend(events.into_iter().map(Into::into));
    }
}

impl<A: Aggregate> Clone for Events<A> {
    fn clone(&self) -> Self {
        Self { events: self.events.clone() }
    }
}

impl<A: Aggregate> PartialEq for Events<A> {
    fn eq(&self, other: &Self) -> bool {
        self.events == other.events
    }
}

impl<A: Aggregate> fmt::Debug for Events<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.events).finish()
    }
}

/// The [`Events`] of a decision, of different types and in order: `events![placed, paid]`.
///
/// ```
/// use es_core::prelude::*;
///
/// #[event]
/// pub struct Opened { pub owner: String }
/// #[event]
/// pub struct Deposited { pub cents: u64 }
///
/// #[derive(Aggregate, Default)]
/// #[aggregate(name = "account", id = String, events(Opened, Deposited))]
/// pub struct Account { balance: u64 }
///
/// impl Apply<Opened> for Account {
///     fn apply(&mut self, _: &Opened) {}
/// }
/// impl Apply<Deposited> for Account {
///     fn apply(&mut self, event: &Deposited) { self.balance += event.cents; }
/// }
///
/// let events: Events<Account> = events![Opened { owner: "Ann".into() }, Deposited { cents: 500 }];
/// assert_eq!(events.len(), 2);
/// ```
#[macro_export]
macro_rules! events {
    ($($event:expr),* $(,)?) => {
        $crate::Events::none()$(.and($event))*
    };
}
