//! Processes (sagas): react to events with commands.

mod holder;
pub(crate) mod instance;
mod reaction;
mod reactor;
mod timers;
mod turn;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

pub(crate) use holder::abandon;
pub(crate) use reaction::unlisted;
pub use reaction::{Reaction, StoredRejection};
#[doc(hidden)]
pub use reactor::Reactor;
use reactor::failed;
pub(crate) use turn::reached_key;

use crate::aggregate::Aggregate;
use crate::clock::{Clock, SystemClock};
use crate::event::{DecodeError, EventData, EventKind};
use crate::events::Events;
use crate::feed::{EventFilter, Feed};
use crate::ids::{IdSource, RandomIds};
use crate::projection::{
    BoxError, Due, EventContext, ProjectError, Projection, Projector, ProjectorBuilder, ProjectorError, Tick,
};
use crate::store::StoreError;
use crate::stream_id::StreamId;

/// A process (or saga) reacts to events of several aggregates with commands to other aggregates.
///
/// Derive it, and implement [`React`] for each event. The *state* of a process is an aggregate, with one stream for
/// each *instance* of the process.
///
/// ```
/// use std::convert::Infallible;
/// use es_core::prelude::*;
/// use es_core::{MemoryStore, serde::{Deserialize, Serialize}};
///
/// #[event]
/// pub struct OrderPlaced { pub item: String }
/// #[derive(Aggregate, Default)]
/// #[aggregate(name = "order", id = String, events(OrderPlaced))]
/// pub struct Order;
/// # #[handlers]
/// # impl Order {
/// #     #[apply]
/// #     fn order_placed(&mut self, _: &OrderPlaced) {}
/// # }
/// # pub struct Place;
/// # #[handlers]
/// # impl Order {
/// #     #[handle]
/// #     fn place(&self, _: &Place) -> OrderPlaced {
/// #         OrderPlaced { item: "tea".into() }
/// #     }
/// # }
/// # #[event]
/// # pub struct Reserved;
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "stock", id = String, events(Reserved))]
/// # pub struct Stock { reserved: u32 }
/// # #[handlers]
/// # impl Stock {
/// #     #[apply]
/// #     fn reserved(&mut self, _: &Reserved) { self.reserved += 1; }
/// # }
/// # pub struct Reserve;
/// # #[derive(Debug, Serialize, Deserialize)]
/// # #[serde(crate = "es_core::serde")]
/// # pub struct SoldOut;
/// # #[handlers]
/// # impl Stock {
/// #     #[handle]
/// #     fn reserve(&self, _: &Reserve) -> Result<Reserved, SoldOut> {
/// #         Ok(Reserved)
/// #     }
/// # }
///
/// // The state of the process.
/// #[event]
/// pub struct ItemReserved;
/// #[event]
/// pub struct GivenUp;
/// #[derive(Aggregate, Default)]
/// #[aggregate(name = "fulfillment", id = String, events(ItemReserved, GivenUp))]
/// pub struct Fulfillment { reserved: bool }
/// #[handlers]
/// impl Fulfillment {
///     #[apply]
///     fn item_reserved(&mut self, _: &ItemReserved) {
///         self.reserved = true;
///     }
///
///     #[apply]
///     fn given_up(&mut self, _: &GivenUp) {}
/// }
///
/// #[derive(Clone, Process)]
/// #[process(name = "fulfillment", state = Fulfillment, events(Order(OrderPlaced)))]
/// struct FulfillOrders { stock: Repository<Stock> }
///
/// #[handlers]
/// impl FulfillOrders {
///     #[react]
///     async fn order_placed(
///         &self,
///         event: &OrderPlaced,
///         reaction: &mut Reaction<'_, Fulfillment>,
///     ) -> Result<Events<Fulfillment>, BoxError> {
///         match reaction.ask(&self.stock, &event.item, Reserve).await? {
///             Ok(_) => Ok(ItemReserved.into()),
///             Err(SoldOut) => Ok(GivenUp.into()),
///         }
///     }
/// }
///
/// # futures_executor::block_on(async {
/// let store = MemoryStore::new();
/// Repository::<Order>::new(store.clone()).execute(&"1001".to_owned(), Place).await?;
///
/// let process = FulfillOrders { stock: Repository::new(store.clone()) };
/// Projector::of_process(store.clone(), process).run_until_caught_up().await?;
///
/// let fulfillment = Repository::<Fulfillment>::new(store).load(&"1001".to_owned()).await?;
/// assert!(fulfillment.state.reserved);
/// # Ok::<_, BoxError>(())
/// # }).unwrap();
/// ```
///
/// # Exactly once
///
/// A reaction may run more than once for the same event, for example after a crash. Each of its commands still
/// takes effect once, because it has an idempotency key that consists of the event and of the command's index in
/// the reaction. A repeated reaction finds the same state and gets the same results, including rejections, so it
/// must decide only by the event, the state, and these results. The events that it returns are recorded once, at
/// the end.
///
/// The reactions of one instance are serialized, even if the events come from different slices: from its first
/// command until its events are recorded, a reaction blocks the others. A reaction without commands runs again if
/// its instance has changed.
///
/// Idempotency records are kept for 90 days.
///
/// # Compensation
///
/// If a later step fails permanently, undo the earlier ones with compensating commands. The state shows which steps
/// were completed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a process",
    label = "not a process",
    note = "write `#[derive(Clone, Process)]` and `#[process(name = \"…\", state = …, events(Aggregate(Event, …)))]` above the definition of `{Self}`"
)]
pub trait Process: Clone + Send + Sync + 'static {
    /// The name of the process. Its checkpoints and the idempotency keys of its commands are stored under this
    /// name: never change it.
    const NAME: &'static str;

    /// The aggregate that is the state of an instance.
    type State: Aggregate;

    /// The kinds of its timeouts.
    #[doc(hidden)]
    const TIMEOUTS: &'static [&'static [EventKind]] = &[];

    /// Returns the `Debug` form of a stored timeout.
    #[doc(hidden)]
    fn timeout_text(stored: &EventData) -> Result<String, DecodeError> {
        Err(DecodeError::unknown_name(stored.name(), &Self::TIMEOUTS.concat()))
    }

    /// Returns the events that the process reacts to.
    fn filter(&self) -> EventFilter;

    /// Reacts to an event of the feed.
    ///
    /// # Errors
    ///
    /// [`ProjectError`] if the event cannot be decoded, or if the reaction failed.
    fn handle(
        &self,
        event: &EventData,
        ctx: &EventContext,
        reactor: &mut Reactor<Self::State>,
    ) -> impl Future<Output = Result<(), ProjectError>> + Send;

    /// Reacts to a timeout.
    ///
    /// # Errors
    ///
    /// As for [`handle`](Self::handle).
    fn time_out(
        &self,
        event: &EventData,
        ctx: &EventContext,
        reactor: &mut Reactor<Self::State>,
    ) -> impl Future<Output = Result<(), ProjectError>> + Send;
}

/// A process that lists the event `E` in `#[process(events(…), timeouts(…))]`. Implemented by the derive.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not list the event `{E}`",
    label = "`{E}` is neither in `events(…)` nor in `timeouts(…)`",
    note = "add it to the attribute above the definition of `{Self}`, as in `#[process(events(Aggregate({E})))]`, or `#[process(timeouts({E}))]` if the process schedules it"
)]
pub trait Lists<E> {}

/// The reaction of a process to one event type.
///
/// A method with `#[react]` in a block with [`#[handlers]`](crate::handlers) implements this trait.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not react to the event `{E}`",
    label = "missing `impl React<{E}> for {Self}`",
    note = "each event in `#[process(events(…), timeouts(…))]` requires one: write `#[react] async fn …(&self, event: &{E}, reaction: &mut Reaction<'_, State>) -> Result<…, BoxError> {{ … }}` in an `impl {Self}` with `#[handlers]`, or implement the trait"
)]
pub trait React<E>: Process + Lists<E> {
    /// Returns the instance that the event concerns, or `None` if it concerns none.
    ///
    /// The instance often has the id of the event's aggregate:
    ///
    /// # Errors
    ///
    /// An error if the instance cannot be determined, for example because an id is malformed. The event then fails as
    /// if [`react`](Self::react) had returned the error.
    fn instance(
        &self,
        event: &E,
        ctx: &EventContext,
    ) -> Result<Option<<Self::State as Aggregate>::Id>, BoxError>;

    /// Issues commands, and returns the events to record for the instance.
    ///
    /// Write it as `async fn react(&self, event: &E, reaction: &mut Reaction<'_, State>) ->
    /// Result<Events<State>, BoxError>`.
    ///
    /// # Errors
    ///
    /// An error that prevents the reaction from completing. It is retried; then the slice stops or the event is
    /// parked, depending on the settings of the [`Projector`].
    fn react(
        &self,
        event: &E,
        reaction: &mut Reaction<'_, Self::State>,
    ) -> impl Future<Output = Result<Events<Self::State>, BoxError>> + Send;
}

/// The projection that runs a process. Created by [`Projector::of_process`].
pub struct Reacting<P: Process> {
    process: P,
    reactor: Reactor<P::State>,
}

impl<P: Process> Projector<Reacting<P>> {
    /// Creates a projector that runs `process` on `store` with default settings.
    #[must_use]
    pub fn of_process(store: impl Feed, process: P) -> Self {
        Self::process_builder(store, process).build()
    }

    /// Creates a builder for a projector that runs `process` on `store`.
    pub fn process_builder(store: impl Feed, process: P) -> ProjectorBuilder<Reacting<P>> {
        let store: Arc<dyn Feed> = Arc::new(store);
        let reactor = Reactor::new(P::NAME, Arc::clone(&store), Arc::new(SystemClock), Arc::new(RandomIds));
        ProjectorBuilder::new(store, Reacting { process, reactor })
    }

    /// Unblocks the instance `id` if one of its reactions has begun but will never finish, because its event or
    /// timeout was [skipped](Projector::skip), or is [parked](Projector::park) and will not be replayed. The
    /// effects of that reaction are not undone.
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] if the reaction may still finish. [`ProjectorError::Store`] if the store fails.
    pub async fn abandon(&self, id: &<P::State as Aggregate>::Id) -> Result<(), ProjectorError> {
        let instance = StreamId::new(P::State::NAME, id).map_err(StoreError::from)?;
        self.abandon_instance(&instance).await.map(drop)
    }
}

#[diagnostic::do_not_recommend]
impl<P: Process> Projection for Reacting<P> {
    const NAME: &'static str = P::NAME;
    const IS_REPLAYABLE: bool = false;

    fn equip(&mut self, clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>) {
        self.reactor = self.reactor.equipped(clock, ids);
    }

    fn filter(&self) -> EventFilter {
        self.process.filter()
    }

    async fn handle(&mut self, event: &EventData, ctx: &EventContext) -> Result<(), ProjectError> {
        if ctx.timeout_key().is_none() {
            return self.process.handle(event, ctx, &mut self.reactor).await;
        }
        if self.reactor.is_waiting(ctx) {
            return Err(ProjectError::Later("waiting for an earlier timeout of the instance".into()));
        }
        let result = self.process.time_out(event, ctx, &mut self.reactor).await;
        self.reactor.timed_out(ctx, &result);
        result
    }

    async fn tick(&mut self, tick: Tick<'_>) -> Result<Due, ProjectError> {
        self.reactor.due(tick).await.map_err(failed)
    }
}

impl<P: Process> Clone for Reacting<P> {
    fn clone(&self) -> Self {
        Self { process: self.process.clone(), reactor: self.reactor.clone() }
    }
}

impl<P: Process> fmt::Debug for Reacting<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reacting").field("process", &P::NAME).finish_non_exhaustive()
    }
}
