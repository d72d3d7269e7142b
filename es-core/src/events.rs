//! The result of a decision: events and claims.

use std::fmt;

use crate::aggregate::Aggregate;
use crate::event::Event;
use crate::store::{Claim, ClaimChange, StoreError};
use crate::stream_id::StreamId;

/// The events and claims that a handler returns.
///
/// Create it from one event with `.into()`, from several events of one type with an array or a `Vec`, from events of
/// different types with [`events!`](crate::events), or without events with [`Events::none`].
///
/// ```
/// use es_core::prelude::*;
/// use es_core::events;
/// # #[event] pub struct Paid { pub cents: u64 }
/// # #[event] pub struct Completed {}
/// # #[derive(Aggregate, Debug, Default)]
/// # #[aggregate(name = "order", id = String, events(Paid, Completed))]
/// # pub struct Order {}
/// # impl Apply<Paid> for Order { fn apply(&mut self, _: &Paid) {} }
/// # impl Apply<Completed> for Order { fn apply(&mut self, _: &Completed) {} }
///
/// let one: Events<Order> = Paid { cents: 500 }.into();
/// let several: Events<Order> = events![Paid { cents: 500 }, Completed {}];
/// assert_eq!((one.len(), several.len(), Events::<Order>::none().len()), (1, 2, 0));
/// ```
#[must_use = "the events of a decision are recorded only when the handler returns them"]
pub struct Events<A: Aggregate> {
    events: Vec<A::Event>,
    claims: Vec<RequestedClaim>,
}

/// A claim that a decision takes or releases, before its name and value are validated.
#[derive(Clone, PartialEq, Eq)]
struct RequestedClaim {
    name: String,
    value: String,
    take: bool,
    personal: bool,
}

impl<A: Aggregate> Events<A> {
    /// Returns no events: the command is accepted, but has nothing to do.
    pub const fn none() -> Self {
        Self { events: Vec::new(), claims: Vec::new() }
    }

    /// Appends an event.
    pub fn push<E>(&mut self, event: E)
    where
        A: HasEvent<E>,
    {
        self.events.push(A::own(event));
    }

    /// Appends an event, and returns the events.
    pub fn and<E>(mut self, event: E) -> Self
    where
        A: HasEvent<E>,
    {
        self.push(event);
        self
    }

    /// Takes the claim `name` on `value` for the aggregate in the transaction that records the events. At most one
    /// aggregate holds a claim at a time.
    ///
    /// If another aggregate holds the claim, nothing is recorded, and the command fails with
    /// [`ExecuteError::Claimed`](crate::ExecuteError::Claimed), which names the holder. Values are compared byte by
    /// byte. A commit with claims is a transaction, which costs twice the write units.
    ///
    /// ```
    /// # use es_core::prelude::*;
    /// # #[event] pub struct Registered { pub email: String }
    /// # #[derive(Aggregate, Debug, Default)]
    /// # #[aggregate(name = "user", id = String, events(Registered))]
    /// # pub struct User { email: String }
    /// # #[handlers]
    /// # impl User {
    /// #     #[apply]
    /// #     fn registered(&mut self, event: &Registered) {
    /// #         self.email = event.email.clone();
    /// #     }
    /// # }
    /// pub struct Register { pub email: String }
    ///
    /// #[handlers]
    /// impl User {
    ///     #[handle]
    ///     fn register(&self, command: &Register) -> Events<Self> {
    ///         let email = command.email.to_lowercase();
    ///         Events::from(Registered { email: email.clone() }).claim("email", email)
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let users: Repository<User> = Repository::new(es_core::MemoryStore::new());
    /// let register = |email: &str| Register { email: email.to_owned() };
    /// users.execute(&"ann".to_owned(), register("a@example.com")).await?;
    /// let error = users.execute(&"bob".to_owned(), register("A@example.com")).await.unwrap_err();
    /// assert_eq!(error.claimed().and_then(|claimed| claimed.holder.as_ref()).map(|holder| holder.id()), Some("ann"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.claims.push(RequestedClaim {
            name: name.into(),
            value: value.into(),
            take: true,
            personal: false,
        });
        self
    }

    /// Takes the claim `name` on personal data, such as an email address: see [`claim`](Self::claim). The store has a
    /// keyed digest of the value, so it does not reveal the value, and the claim cannot be looked up without the
    /// keyring.
    ///
    /// A claim remains when its subject is forgotten. [Release](Self::release_personal) it before that, because the
    /// value is unknown afterwards.
    pub fn claim_personal(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.claims.push(RequestedClaim {
            name: name.into(),
            value: value.into(),
            take: true,
            personal: true,
        });
        self
    }

    /// Releases the claim `name` on `value` in the transaction that records the events. Releasing a claim that is not
    /// held is not an error.
    pub fn release(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.claims.push(RequestedClaim {
            name: name.into(),
            value: value.into(),
            take: false,
            personal: false,
        });
        self
    }

    /// Releases a claim that was taken with [`claim_personal`](Self::claim_personal).
    pub fn release_personal(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.claims.push(RequestedClaim {
            name: name.into(),
            value: value.into(),
            take: false,
            personal: true,
        });
        self
    }

    /// Returns the claims that `stream` takes and releases.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if a claim is invalid, or if there are claims but no events: the stream must record the
    /// reason for a claim.
    pub fn claims(&self, stream: &StreamId) -> Result<Vec<ClaimChange>, StoreError> {
        if self.events.is_empty() && !self.claims.is_empty() {
            return Err(StoreError::invalid(format!(
                "`{stream}` changes the claim `{}` without an event: return an event that records the reason",
                self.claims[0].name
            )));
        }
        let changes = self.claims.iter().map(|wish| {
            let make = if wish.personal { Claim::personal } else { Claim::new };
            let claim = make(wish.name.as_str(), wish.value.as_str())?;
            Ok(match wish.take {
                true => ClaimChange::Take { stream: stream.clone(), claim },
                false => ClaimChange::Release { stream: stream.clone(), claim },
            })
        });
        changes.collect()
    }

    /// Returns the events in order.
    #[must_use]
    pub fn as_slice(&self) -> &[A::Event] {
        &self.events
    }

    /// Returns whether there are no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Returns the number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Returns the events as a vector.
    #[must_use]
    pub fn into_vec(self) -> Vec<A::Event> {
        self.events
    }
}

/// An aggregate with the event `E`, which is an event in its attribute or its enum of events.
///
/// Implemented if the enum of the aggregate's events implements `From<E>`, which `#[derive(Aggregate)]` generates.
/// The module is private, so the trait cannot be named or implemented outside this crate.
#[diagnostic::on_unimplemented(
    message = "`{E}` is not an event of `{Self}`",
    label = "not an event of `{Self}`",
    note = "list it as in `#[aggregate(events(…, {E}))]`, and apply it: `#[apply] fn …(&mut self, event: &{E}) {{ … }}`"
)]
pub trait HasEvent<E>: Aggregate {
    /// Converts the event to the aggregate's enum of events.
    fn own(event: E) -> Self::Event;
}

#[diagnostic::do_not_recommend]
impl<A: Aggregate, E> HasEvent<E> for A
where
    A::Event: From<E>,
{
    fn own(event: E) -> A::Event {
        event.into()
    }
}

/// A type that can be converted to the [`Events`] of the aggregate `A`. Methods with `#[handle]` or `#[react]` return
/// such types.
///
/// | type | becomes |
/// |---|---|
/// | an event of `A` | this event |
/// | `Option<T>` | the events of the value; none for `None` |
/// | `[T; N]`, `Vec<T>` | the events of all elements, in order |
/// | a tuple of up to eight | the events of all parts, in order |
/// | [`Events<A>`](Events) | unchanged, with its claims |
/// | `()` | no events; for `#[react]` only, because a command without events is rarely intended |
///
/// The types can be nested, as in `(OrderPaid, Option<OrderCompleted>)`. Implement the trait for a type of your domain
/// if several handlers return it.
///
/// ```
/// use es_core::prelude::*;
///
/// #[event]
/// pub struct Deposited { pub cents: u64 }
/// #[event]
/// pub struct LimitReached;
///
/// #[derive(Aggregate, Default)]
/// #[aggregate(name = "account", id = String, events(Deposited, LimitReached))]
/// pub struct Account { balance: u64 }
///
/// pub struct Deposit { pub cents: u64 }
///
/// #[handlers]
/// impl Account {
///     #[apply]
///     fn deposited(&mut self, event: &Deposited) { self.balance += event.cents; }
///
///     #[apply]
///     fn limit_reached(&mut self, _: &LimitReached) {}
///
///     #[handle]
///     fn deposit(&self, command: &Deposit) -> (Deposited, Option<LimitReached>) {
///         let is_full = self.balance + command.cents > 100_000;
///         (Deposited { cents: command.cents }, is_full.then_some(LimitReached))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not consist of events of `{A}`",
    label = "neither an event of `{A}` nor made of its events",
    note = "list events in the attribute above the definition of `{A}`, as in `#[aggregate(events(OrderPlaced))]`",
    note = "a handler returns one event, an `Option`, an array, a tuple, `Events<{A}>`, or a `Result` with one of these"
)]
pub trait IntoEvents<A: Aggregate>: Sized {
    /// Appends the events to `events`.
    fn append_to(self, events: &mut Events<A>);

    /// Returns the events.
    fn into_events(self) -> Events<A> {
        let mut events = Events::none();
        self.append_to(&mut events);
        events
    }
}

// For a type that is not an event, the compiler message should not list implementations.
#[diagnostic::do_not_recommend]
impl<A: HasEvent<E>, E: Event> IntoEvents<A> for E {
    fn append_to(self, events: &mut Events<A>) {
        events.push(self);
    }
}

#[diagnostic::do_not_recommend]
impl<A: Aggregate> IntoEvents<A> for Events<A> {
    fn append_to(self, events: &mut Self) {
        events.events.extend(self.events);
        events.claims.extend(self.claims);
    }

    fn into_events(self) -> Self {
        self
    }
}

#[diagnostic::do_not_recommend]
impl<A: Aggregate, T: IntoEvents<A>> IntoEvents<A> for Option<T> {
    fn append_to(self, events: &mut Events<A>) {
        if let Some(more) = self {
            more.append_to(events);
        }
    }
}

#[diagnostic::do_not_recommend]
impl<A: Aggregate, T: IntoEvents<A>, const N: usize> IntoEvents<A> for [T; N] {
    fn append_to(self, events: &mut Events<A>) {
        self.into_iter().for_each(|more| more.append_to(events));
    }
}

#[diagnostic::do_not_recommend]
impl<A: Aggregate, T: IntoEvents<A>> IntoEvents<A> for Vec<T> {
    fn append_to(self, events: &mut Events<A>) {
        self.into_iter().for_each(|more| more.append_to(events));
    }
}

macro_rules! into_events_of_tuples {
    ($(($($part:ident)*))*) => {$(
        #[diagnostic::do_not_recommend]
        impl<A: Aggregate, $($part: IntoEvents<A>),*> IntoEvents<A> for ($($part,)*) {
            fn append_to(self, events: &mut Events<A>) {
                #[allow(non_snake_case)]
                let ($($part,)*) = self;
                let _ = &events; // unused by the empty tuple
                $($part.append_to(events);)*
            }
        }
    )*};
}

into_events_of_tuples! {
    () (T1) (T1 T2) (T1 T2 T3) (T1 T2 T3 T4) (T1 T2 T3 T4 T5) (T1 T2 T3 T4 T5 T6) (T1 T2 T3 T4 T5 T6 T7)
    (T1 T2 T3 T4 T5 T6 T7 T8)
}

// `Events` does not implement `Event`, so these implementations do not overlap with `From<T> for T`.
impl<A: HasEvent<E>, E: Event> From<E> for Events<A> {
    fn from(event: E) -> Self {
        Self { events: vec![A::own(event)], claims: Vec::new() }
    }
}

impl<A: HasEvent<E>, E: Event, const N: usize> From<[E; N]> for Events<A> {
    fn from(events: [E; N]) -> Self {
        events.into_iter().collect()
    }
}

impl<A: HasEvent<E>, E: Event> From<Vec<E>> for Events<A> {
    fn from(events: Vec<E>) -> Self {
        events.into_iter().collect()
    }
}

impl<A: HasEvent<E>, E: Event> FromIterator<E> for Events<A> {
    fn from_iter<I: IntoIterator<Item = E>>(events: I) -> Self {
        Self { events: events.into_iter().map(A::own).collect(), claims: Vec::new() }
    }
}

impl<A: HasEvent<E>, E: Event> Extend<E> for Events<A> {
    fn extend<I: IntoIterator<Item = E>>(&mut self, events: I) {
        self.events.extend(events.into_iter().map(A::own));
    }
}

impl<A: Aggregate> Clone for Events<A> {
    fn clone(&self) -> Self {
        Self { events: self.events.clone(), claims: self.claims.clone() }
    }
}

impl<A: Aggregate> PartialEq for Events<A> {
    fn eq(&self, other: &Self) -> bool {
        self.events == other.events && self.claims == other.claims
    }
}

impl<A: Aggregate> fmt::Debug for Events<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.claims.is_empty() {
            return f.debug_list().entries(&self.events).finish();
        }
        f.debug_struct("Events").field("events", &self.events).field("claims", &self.claims).finish()
    }
}

/// Shows the name of the claim, but not its value, which may be confidential.
impl fmt::Debug for RequestedClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.take { "take" } else { "release" }, self.name)
    }
}

/// Creates [`Events`] from events of different types, in order: `events![placed, paid]`.
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
/// #[handlers]
/// impl Account {
///     #[apply]
///     fn opened(&mut self, _: &Opened) {}
///
///     #[apply]
///     fn deposited(&mut self, event: &Deposited) {
///         self.balance += event.cents;
///     }
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
