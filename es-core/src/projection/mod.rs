//! Projections: what is derived from the events of the feed.

mod context;
mod error;
pub(crate) mod guard;
mod projector;
mod stage;
pub(crate) mod timeout;

use std::error::Error;
use std::future::{Future, ready};
use std::sync::Arc;

pub use context::{EventContext, InvalidId, Tick};
pub use error::{Interrupted, ProjectError, ProjectorError, Transient, WaitError};
pub use projector::{
    Delay, FailedEvent, FailedKind, Failure, OnFailure, Parked, PassedOver, Progress, Projector,
    ProjectorBuilder, SeekTo, SliceProgress, SliceStatus, Start,
};
pub(crate) use projector::{Fate, Origin, active_build, fate};
pub use stage::Stage;
pub use timeout::{Due, Timeout};

use crate::clock::Clock;
use crate::event::EventData;
use crate::feed::EventFilter;
use crate::ids::IdSource;

/// Why a handler failed: any error, made by `?` or by `"text".into()`.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Something that is derived from events: a read model, a search index, messages to others.
///
/// Derive it, and write one [`Project`] for each event:
///
/// ```
/// use es_core::prelude::*;
/// # #[event]
/// # pub struct OrderPlaced { pub total_cents: u64 }
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "order", id = String, events(OrderPlaced))]
/// # pub struct Order;
/// # impl Apply<OrderPlaced> for Order { fn apply(&mut self, _: &OrderPlaced) {} }
///
/// #[derive(Clone, Projection)]
/// #[projection(name = "mails", events(Order(OrderPlaced)))]
/// struct Mails;
///
/// impl Project<OrderPlaced> for Mails {
///     async fn project(&mut self, event: &OrderPlaced, ctx: &EventContext) -> Result<(), BoxError> {
///         println!("order {} was placed, over {} cents", ctx.id(), event.total_cents);
///         Ok(())
///     }
/// }
/// ```
///
/// # How it runs
///
/// A [`Projector`] runs it: a clone for each slice of the feed, so that what the clones share has to be behind
/// an `Arc`. The events of one stream come one after the other, in the order of their versions, each after
/// the one before was finished. What happened to a [read model](crate::ReadModel) happened exactly once;
/// what a handler does elsewhere it does at least once, and [`EventContext::event_id`] tells repetitions.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a projection",
    label = "not a projection",
    note = "write `#[derive(Clone, Projection)]` and `#[projection(name = \"…\", events(Aggregate(Event, …)))]` above the definition of `{Self}`",
    note = "if `{Self}` is a process, run it with `Projector::of_process` or `Projector::process_builder`"
)]
pub trait Projection: Clone + Send + Sync + 'static {
    /// The projection's name. Its checkpoints are stored under it: never change it.
    const NAME: &'static str;

    /// Whether it may start from the first event again. A process may not: it would issue its commands again.
    const IS_REPLAYABLE: bool = true;

    /// The name of this one, where several have one type.
    fn name(&self) -> &str {
        Self::NAME
    }

    /// Takes what the projector was given: called once, before it is run.
    fn equip(&mut self, clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>) {
        let _ = (clock, ids);
    }

    /// The events that it takes.
    fn filter(&self) -> EventFilter;

    /// Handles one event; called for those only that the filter takes.
    ///
    /// # Errors
    ///
    /// [`ProjectError`] when the event cannot be decoded, or its handler failed.
    fn handle(
        &mut self,
        event: &EventData,
        ctx: &EventContext,
    ) -> impl Future<Output = Result<(), ProjectError>> + Send;

    /// Its read models, whose changes are written together with the checkpoint.
    fn stages(&mut self) -> Vec<&mut dyn Stage> {
        Vec::new()
    }

    /// Finishes what [`handle`](Self::handle) began; called before each checkpoint, for a projection that
    /// sends in batches.
    ///
    /// # Errors
    ///
    /// When it cannot be finished. It is tried again.
    fn flush(&mut self) -> impl Future<Output = Result<(), BoxError>> + Send {
        ready(Ok(()))
    }

    /// Does what is due by time and not by an event; called between pages of events. Returns the timeouts
    /// of a process that are due, which are then [handled](Self::handle) like events; other projections have none.
    ///
    /// # Errors
    ///
    /// When it cannot be done. It is tried again.
    fn tick(&mut self, tick: Tick<'_>) -> impl Future<Output = Result<Due, ProjectError>> + Send {
        let _ = tick;
        ready(Ok(Due::default()))
    }
}

/// How a projection handles one event.
///
/// Write it as `async fn project(&mut self, event: &E, ctx: &EventContext) -> Result<(), BoxError>`. What
/// fails is tried again, so the handler has to bear to be called more than once for one event. Changes of
/// read models that it made before it failed are undone. A store that cannot be reached for the moment is no
/// failure of the event, when its error is returned as it is: the event waits for it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not project the event `{E}`",
    label = "missing `impl Project<{E}> for {Self}`",
    note = "each event in `#[projection(events(…))]` requires one: write `impl Project<{E}> for {Self} {{ async fn project(&mut self, event: &{E}, ctx: &EventContext) -> Result<(), BoxError> {{ … }} }}`"
)]
pub trait Project<E>: Lists<E> {
    /// Handles `event`.
    ///
    /// # Errors
    ///
    /// Whatever went wrong; the event is tried again, then parked or the slice stopped, as the
    /// [`Projector`] has it.
    fn project(&mut self, event: &E, ctx: &EventContext)
    -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// Marks an event that a projection lists in `#[projection(events(…))]`; implemented by the derive.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not list the event `{E}`",
    label = "`{E}` is not in `events(…)`",
    note = "add it to the attribute above the definition of `{Self}`, as in `#[projection(events(Aggregate({E})))]`: other events are never handled"
)]
pub trait Lists<E> {}
