//! Commands: requests to an aggregate.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::aggregate::Aggregate;
use crate::events::Events;
use crate::ids::IdSource;
use crate::metadata::Metadata;
use crate::version::Version;

/// How an aggregate decides on the command `C`.
///
/// A pure function of the state, the command and the context: no clock, no random numbers, no services.
/// It may run several times for one command, when other writers come first.
///
/// `handle` is not `async`, and nothing in it can be awaited. A decision that needs a service is made in
/// [`Repository::decide`](crate::Repository::decide), which takes an async closure.
///
/// A method with `#[handle]` in a block with [`#[handlers]`](crate::handlers) implements this trait. It can leave out the
/// context, and may return any type that can be turned into events. To implement the trait directly:
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
    /// Why the command may be rejected.
    type Error;

    /// Decides: the events that the command leads to, [`Events::none`] when there is nothing to do.
    ///
    /// # Errors
    ///
    /// The domain's own error when the command is not allowed in this state.
    fn handle(&self, command: &C, ctx: &Context<Self>) -> Result<Events<Self>, Self::Error>;
}

/// A command that the aggregate `A` handles: implemented for each command `C` with `A: Handle<C>`.
///
/// This is the bound of [`Repository::execute`](crate::Repository::execute). With the bound `A: Handle<C>`, the compiler
/// would infer the command of an aggregate that handles only one, and report mismatched types where an implementation is
/// missing. The module is private, so the trait cannot be named or implemented outside this crate.
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

/// The context of a command: the id, the version, the time, and the metadata.
pub struct Context<A: Aggregate> {
    id: Option<A::Id>,
    version: Version,
    now: DateTime<Utc>,
    metadata: Arc<Metadata>,
    ids: Arc<dyn IdSource>,
}

impl<A: Aggregate> Context<A> {
    /// The context of a command for the aggregate `id`, whose stream is at `version`, at the time `now`.
    ///
    /// A [`Repository`](crate::Repository) makes it; tests that call a handler directly may, too.
    #[must_use]
    pub fn new(id: A::Id, version: Version, now: DateTime<Utc>, ids: Arc<dyn IdSource>) -> Self {
        Self::staged(Some(id), version, now, ids)
    }

    /// Like [`new`](Self::new), for tests that need no id.
    pub(crate) fn staged(
        id: Option<A::Id>,
        version: Version,
        now: DateTime<Utc>,
        ids: Arc<dyn IdSource>,
    ) -> Self {
        Self { id, version, now, metadata: Arc::default(), ids }
    }

    /// Adds the metadata of a command.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Arc<Metadata>) -> Self {
        self.metadata = metadata;
        self
    }

    /// The aggregate's id.
    ///
    /// # Panics
    ///
    /// In a test with `given` that gives none.
    #[must_use]
    pub fn id(&self) -> &A::Id {
        match &self.id {
            Some(id) => id,
            None => {
                panic!("the handler asks for the aggregate's id: give one with `.id(…)` after `given(…)`")
            }
        }
    }

    /// The version of the aggregate's last event, [`Version::NONE`] when it has none.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether the aggregate has any events yet.
    #[must_use]
    pub fn exists(&self) -> bool {
        !self.version.is_none()
    }

    /// The time of the decision, in whole milliseconds; never before the last commit's.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// A new id, from the repository's [`IdSource`].
    #[must_use]
    pub fn new_id(&self) -> Uuid {
        self.ids.new_id()
    }

    /// Returns the metadata that the command's events will record, such as actor, correlation, and causation.
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
