//! Commands: the trait of their handlers, and the context of a decision.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::aggregate::Aggregate;
use crate::events::Events;
use crate::ids::IdSource;
use crate::metadata::Metadata;
use crate::version::Version;

/// Handles the command `C`: decides which events it causes.
///
/// A handler is a pure function of the state, the command, and the context. It uses no clock, no random numbers, and no
/// services. After a conflict with another writer, it runs again on the new state.
///
/// `handle` is not `async`. For a decision that needs a service, use [`Repository::decide`](crate::Repository::decide),
/// which takes an async closure.
///
/// A method with `#[handle]` in a block with [`#[handlers]`](crate::handlers) implements this trait. Such a method may
/// omit the context, and may return any type that implements [`IntoEvents`](crate::IntoEvents). To implement the trait
/// directly:
///
/// ```
/// use es_core::prelude::*;
///
/// #[event]
/// pub struct Withdrawn { pub cents: u64 }
///
/// #[derive(Aggregate, Default)]
/// #[aggregate(name = "account", id = String, events(Withdrawn))]
/// pub struct Account { balance: u64 }
///
/// impl Apply<Withdrawn> for Account {
///     fn apply(&mut self, event: &Withdrawn) { self.balance -= event.cents; }
/// }
///
/// pub struct Withdraw { pub cents: u64 }
///
/// #[derive(Debug, PartialEq)]
/// pub struct Overdrawn { pub balance: u64 }
///
/// impl Handle<Withdraw> for Account {
///     type Error = Overdrawn;
///
///     fn handle(&self, command: &Withdraw, _: &Context<Self>) -> Result<Events<Self>, Overdrawn> {
///         if command.cents > self.balance {
///             return Err(Overdrawn { balance: self.balance });
///         }
///         Ok(Withdrawn { cents: command.cents }.into())
///     }
/// }
/// ```
pub trait Handle<C>: Aggregate {
    /// The error of a rejected command.
    type Error;

    /// Returns the events that the command causes, or [`Events::none`] if there is nothing to do.
    ///
    /// # Errors
    ///
    /// An error of the domain if the command is not allowed in this state.
    fn handle(&self, command: &C, ctx: &Context<Self>) -> Result<Events<Self>, Self::Error>;
}

/// A command that the aggregate `A` handles: implemented for each command `C` with `A: Handle<C>`.
///
/// This is the bound of [`Repository::execute`](crate::Repository::execute). With the bound `A: Handle<C>`, the
/// compiler would infer the command of an aggregate that handles only one, and report mismatched types where an
/// implementation is missing. The module is private, so the trait cannot be named or implemented outside this crate.
// A missing implementation is reported three times: for the argument, the call, and `.await`. The future of an
// `async fn` repeats the bounds of the function, also with a type parameter for the error, with `impl Future`, and with
// `do_not_recommend`. A boxed future would be reported once, but costs an allocation per command.
#[diagnostic::on_unimplemented(
    message = "`{A}` does not handle the command `{Self}`",
    label = "missing `impl Handle<{Self}> for {A}`",
    note = "write `#[handle] fn …(&self, command: &{Self}) -> Result<…, …> {{ … }}` in an `impl {A}` with `#[handlers]`, or implement the trait"
)]
pub trait HandledBy<A: Aggregate> {
    /// The error of a rejection.
    type Error;

    /// Calls [`Handle::handle`].
    ///
    /// # Errors
    ///
    /// The aggregate's own error if it rejects the command.
    fn handled_by(&self, aggregate: &A, ctx: &Context<A>) -> Result<Events<A>, Self::Error>;
}

#[diagnostic::do_not_recommend]
impl<A: Handle<C>, C> HandledBy<A> for C {
    type Error = A::Error;

    fn handled_by(&self, aggregate: &A, ctx: &Context<A>) -> Result<Events<A>, Self::Error> {
        aggregate.handle(self, ctx)
    }
}

/// The context of a decision: the aggregate's id and version, the time, and the metadata.
///
/// ```
/// use es_core::chrono::{DateTime, TimeDelta, Utc};
/// use es_core::prelude::*;
/// # #[event] pub struct Reserved { pub until: DateTime<Utc> }
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "seat", id = String, events(Reserved))]
/// # pub struct Seat {}
/// # impl Apply<Reserved> for Seat { fn apply(&mut self, _: &Reserved) {} }
/// # pub struct Reserve;
///
/// #[handlers]
/// impl Seat {
///     #[handle]
///     fn reserve(&self, _: &Reserve, ctx: &Context<Self>) -> Reserved {
///         Reserved { until: ctx.now() + TimeDelta::minutes(10) }
///     }
/// }
/// ```
pub struct Context<A: Aggregate> {
    id: Option<A::Id>,
    version: Version,
    now: DateTime<Utc>,
    metadata: Arc<Metadata>,
    ids: Arc<dyn IdSource>,
}

impl<A: Aggregate> Context<A> {
    /// Creates the context of a decision on the aggregate `id` at `version`, at the time `now`.
    ///
    /// A [`Repository`](crate::Repository) creates contexts. Use this function in tests that call a handler directly.
    #[must_use]
    pub fn new(id: A::Id, version: Version, now: DateTime<Utc>, ids: Arc<dyn IdSource>) -> Self {
        Self::staged(Some(id), version, now, ids)
    }

    /// Like [`new`](Self::new), but without an id if the test does not need one.
    pub(crate) fn staged(
        id: Option<A::Id>,
        version: Version,
        now: DateTime<Utc>,
        ids: Arc<dyn IdSource>,
    ) -> Self {
        Self { id, version, now, metadata: Arc::default(), ids }
    }

    /// Sets the metadata of the command.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Arc<Metadata>) -> Self {
        self.metadata = metadata;
        self
    }

    /// Returns the aggregate's id.
    ///
    /// # Panics
    ///
    /// In a test with `given` that does not set an id.
    #[must_use]
    pub fn id(&self) -> &A::Id {
        match &self.id {
            Some(id) => id,
            None => {
                panic!("the handler needs the aggregate's id: set it with `.id(…)` after `given(…)`")
            }
        }
    }

    /// Returns the version of the aggregate's last event, or [`Version::NONE`] if it has none.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns whether the aggregate has events.
    #[must_use]
    pub fn exists(&self) -> bool {
        !self.version.is_none()
    }

    /// Returns the time of the decision, in whole milliseconds. It is never before the time of the last commit.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// Returns a new id from the repository's [`IdSource`].
    #[must_use]
    pub fn new_id(&self) -> Uuid {
        self.ids.new_id()
    }

    /// Returns the metadata that is recorded with the command's events, such as the actor, the correlation, and the
    /// causation.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl<A: Aggregate> fmt::Debug for Context<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("aggregate", &A::NAME)
            .field("id", &self.id.as_ref().map(ToString::to_string))
            .field("version", &self.version)
            .field("now", &self.now)
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}
