//! Projections: state derived from the events of the feed.

mod context;
mod deleted;
mod error;
pub(crate) mod guard;
mod projector;
mod registry;
pub(crate) mod timeout;

use std::error::Error;
use std::future::{Future, ready};
use std::sync::Arc;

#[doc(hidden)]
pub use context::Tick;
pub use context::{EventContext, InvalidId};
pub use deleted::StreamDeleted;
pub use error::{Interrupted, ProjectError, ProjectorError, Transient, WaitError};
pub use projector::{
    Delay, FailedEvent, FailedKind, Failure, OnFailure, Parked, PassedOver, PendingTimeout, Progress,
    ProjectionStatus, Projector, ProjectorBuilder, SeekTo, SliceProgress, SliceStatus, Start,
    workers_without_splits,
};
pub(crate) use projector::{Fate, Origin, active_build, fate};
pub use registry::{Registration, registered};
#[doc(hidden)]
pub use timeout::{Due, Timeout};

use futures_core::future::BoxFuture;

use crate::clock::Clock;
use crate::documents::DocumentChange;
use crate::event::EventData;
use crate::feed::EventFilter;
use crate::ids::IdSource;
use crate::store::AdditionalWrite;

/// The error of a handler: any error, converted by `?` or by `"text".into()`.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// State derived from events: a read model, a search index, or messages to other systems.
///
/// Derive it, and implement [`Project`] for each event:
///
/// ```
/// use es_core::prelude::*;
/// # #[event]
/// # pub struct OrderPlaced { pub total_cents: u64 }
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "order", id = String, events(OrderPlaced))]
/// # pub struct Order;
/// # #[handlers]
/// # impl Order {
/// #     #[apply]
/// #     fn order_placed(&mut self, _: &OrderPlaced) {}
/// # }
///
/// #[derive(Clone, Projection)]
/// #[projection(name = "mails", events(Order(OrderPlaced)))]
/// struct Mails;
///
/// #[handlers]
/// impl Mails {
///     #[project]
///     async fn order_placed(&mut self, event: &OrderPlaced, ctx: &EventContext) -> Result<(), BoxError> {
///         println!("order {} was placed, over {} cents", ctx.id(), event.total_cents);
///         Ok(())
///     }
/// }
/// ```
///
/// # Execution
///
/// A [`Projector`] runs a clone for each slice of the feed, so share data between clones through an `Arc`. The
/// events of a stream are handled one at a time, in the order of their versions. Changes of a [read
/// model](crate::ReadModel) take effect exactly once. Other side effects happen at least once; use
/// [`EventContext::event_id`] as an idempotency key.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a projection",
    label = "not a projection",
    note = "write `#[derive(Clone, Projection)]` and `#[projection(name = \"…\", events(Aggregate(Event, …)))]` above the definition of `{Self}`",
    note = "if `{Self}` is a process, run it with `Projector::of_process` or `Projector::process_builder`"
)]
pub trait Projection: Clone + Send + Sync + 'static {
    /// The name of the projection. Its checkpoints are stored under this name: never change it.
    const NAME: &'static str;

    /// Whether the projection can be replayed from the first event. A process cannot: it would issue its commands
    /// again.
    const IS_REPLAYABLE: bool = true;

    /// Returns the name of this instance, if several share a type (default: [`NAME`](Self::NAME)).
    fn name(&self) -> &str {
        Self::NAME
    }

    /// Receives the projector's clock and source of ids. Called once, before the projection runs.
    #[doc(hidden)]
    fn equip(&mut self, clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>) {
        let _ = (clock, ids);
    }

    /// Returns the events that the projection handles.
    fn filter(&self) -> EventFilter;

    /// Handles one event that matches the filter.
    ///
    /// # Errors
    ///
    /// [`ProjectError`] if the event cannot be decoded or its handler failed.
    fn handle(
        &mut self,
        event: &EventData,
        ctx: &EventContext,
    ) -> impl Future<Output = Result<(), ProjectError>> + Send;

    /// Returns the read models, whose changes are written together with the checkpoint.
    #[doc(hidden)]
    fn stages(&mut self) -> Vec<&mut dyn Stage> {
        Vec::new()
    }

    /// Completes the work of [`handle`](Self::handle), for projections that send in batches. Called before each
    /// checkpoint.
    ///
    /// # Errors
    ///
    /// Any error. The call is retried.
    fn flush(&mut self) -> impl Future<Output = Result<(), BoxError>> + Send {
        ready(Ok(()))
    }

    /// Returns the due timeouts of a process, which are then [handled](Self::handle) like events. Called between
    /// pages of events. Other projections return none.
    ///
    /// # Errors
    ///
    /// Any error. The call is retried.
    #[doc(hidden)]
    fn tick(&mut self, tick: Tick<'_>) -> impl Future<Output = Result<Due, ProjectError>> + Send {
        let _ = tick;
        ready(Ok(Due::default()))
    }
}

/// The handler of a projection for one event type.
///
/// Write it as `async fn project(&mut self, event: &E, ctx: &EventContext) -> Result<(), BoxError>`. A failed call
/// is retried, so the handler must tolerate being called more than once for the same event. Changes of read models
/// made before the failure are undone. A transient error of a store is not counted as a failure of the event if it
/// is returned unchanged: the event waits until the store responds.
///
/// A method with `#[project]` in a block with [`#[handlers]`](crate::handlers) implements this trait.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not project the event `{E}`",
    label = "missing `impl Project<{E}> for {Self}`",
    note = "each event in `#[projection(events(…))]` requires one: write `#[project] async fn …(&mut self, event: &{E}, ctx: &EventContext) -> Result<(), BoxError> {{ … }}` in an `impl {Self}` with `#[handlers]`, or implement the trait"
)]
pub trait Project<E>: Lists<E> {
    /// Handles `event`.
    ///
    /// # Errors
    ///
    /// Any error. The event is retried, and then parked or the slice stopped, depending on the settings of the
    /// [`Projector`].
    fn project(&mut self, event: &E, ctx: &EventContext)
    -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// A projection that lists the event `E` in `#[projection(events(…))]`. Implemented by the derive.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not list the event `{E}`",
    label = "`{E}` is not in `events(…)`",
    note = "add it to the attribute above the definition of `{Self}`, as in `#[projection(events(Aggregate({E})))]`: other events are never handled"
)]
pub trait Lists<E> {}

/// Pending changes that are written in one transaction with a projection's checkpoint. Implemented by
/// [`ReadModel`](crate::ReadModel).
///
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a read model",
    label = "not a read model",
    note = "write `#[read_model]` only above fields of the type `ReadModel<…>`, whose rows have `#[derive(Row)]`"
)]
pub trait Stage: Send {
    /// Returns the name under which the changes are stored.
    fn name(&self) -> &str;

    /// Sets the projection and build.
    fn bind(&mut self, projection: &str, build: u32);

    /// Keeps the changes of the event that was just handled.
    fn keep(&mut self);

    /// Undoes the changes of the event that was just handled.
    fn undo(&mut self);

    /// Returns an upper bound of the documents to change, including those for the event that was just handled.
    fn most_changes(&self) -> usize;

    /// Returns an upper bound of the bytes to write for them.
    fn most_bytes(&self) -> u64;

    /// Returns the document changes for all kept events. Called again until they are written.
    fn changes(&mut self) -> BoxFuture<'_, Result<Vec<DocumentChange>, BoxError>>;

    /// Returns the write that makes the checkpoint part of a transaction that the handlers have used, if there is one.
    /// Called after [`changes`](Self::changes), and not again until the checkpoint is written or the projection is
    /// replaced.
    fn transaction(&mut self) -> Option<AdditionalWrite> {
        None
    }

    /// Returns whether the kept changes were lost when the last event was undone. The events since the last checkpoint
    /// are then handled again.
    fn is_lost(&self) -> bool {
        false
    }

    /// Returns whether the error of a handler is a transient error of a type that es-core does not know.
    fn is_transient(&self, error: &(dyn Error + 'static)) -> bool {
        let _ = error;
        false
    }

    /// Deletes all stored data of a build.
    fn delete<'a>(&'a self, projection: &'a str, build: u32) -> BoxFuture<'a, Result<(), BoxError>>;

    /// Discards all pending changes, because they are written or will be made again.
    fn forget(&mut self);
}
