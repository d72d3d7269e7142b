//! Processes: events in, commands out.

mod attempt;
mod reached;
mod reacting;
mod reaction;
mod reactor;
mod timers;
mod turn;

use std::future::Future;

pub(crate) use reached::reached_key;
pub use reacting::Reacting;
pub use reaction::Reaction;
pub(crate) use reaction::unlisted;
pub use reactor::Reactor;

use crate::aggregate::Aggregate;
use crate::event::{DecodeError, EventData, EventKind};
use crate::events::Events;
use crate::feed::EventFilter;
use crate::projection::{BoxError, EventContext, ProjectError};

/// A process (or saga): reacts to the events of several aggregates with commands to others, over time.
///
/// Derive it, and write one [`React`] for each event. What it has to remember is an aggregate of its own: its
/// *state*, one stream for each *instance* of the process.
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
/// # impl Apply<OrderPlaced> for Order { fn apply(&mut self, _: &OrderPlaced) {} }
/// # pub struct Place;
/// # impl Handle<Place> for Order {
/// #     type Error = Infallible;
/// #     fn handle(&self, _: &Place, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
/// #         Ok(OrderPlaced { item: "tea".into() }.into())
/// #     }
/// # }
/// # #[event]
/// # pub struct Reserved;
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "stock", id = String, events(Reserved))]
/// # pub struct Stock { reserved: u32 }
/// # impl Apply<Reserved> for Stock { fn apply(&mut self, _: &Reserved) { self.reserved += 1; } }
/// # pub struct Reserve;
/// # #[derive(Debug, Serialize, Deserialize)]
/// # #[serde(crate = "es_core::serde")]
/// # pub struct SoldOut;
/// # impl Handle<Reserve> for Stock {
/// #     type Error = SoldOut;
/// #     fn handle(&self, _: &Reserve, _: &Context<Self>) -> Result<Events<Self>, SoldOut> { Ok(Reserved.into()) }
/// # }
///
/// // What the process remembers.
/// #[event]
/// pub struct ItemReserved;
/// #[event]
/// pub struct GivenUp;
/// #[derive(Aggregate, Default)]
/// #[aggregate(name = "fulfillment", id = String, events(ItemReserved, GivenUp))]
/// pub struct Fulfillment { reserved: bool }
/// impl Apply<ItemReserved> for Fulfillment {
///     fn apply(&mut self, _: &ItemReserved) { self.reserved = true; }
/// }
/// impl Apply<GivenUp> for Fulfillment {
///     fn apply(&mut self, _: &GivenUp) {}
/// }
///
/// #[derive(Clone, Process)]
/// #[process(name = "fulfillment", state = Fulfillment, events(Order(OrderPlaced)))]
/// struct FulfillOrders { stock: Repository<Stock> }
///
/// impl React<OrderPlaced> for FulfillOrders {
///     fn instance(&self, _: &OrderPlaced, ctx: &EventContext) -> Result<Option<String>, BoxError> {
///         Ok(Some(ctx.id().to_owned()))
///     }
///
///     async fn react(
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
/// A reaction may run more than once for one event: when the process died in the middle, say. Each of its
/// commands is carried out once all the same, under a key made of the event and of the command's place among
/// those of the reaction. When it runs again, it finds the state that it had the first time, and gets the same
/// answers, rejections too. So a reaction decides by nothing but the event, the state and these answers. The
/// events that it returns are recorded once, after all of it.
///
/// The reactions of one instance come one after the other, also to events from different slices: from its
/// first command until its events are recorded, a reaction keeps the others waiting. A reaction without
/// commands whose instance has changed meanwhile runs again.
///
/// What is remembered of an event to that end is kept for 90 days.
///
/// # Compensation
///
/// When a later step fails for good, undo the earlier ones with commands of their own. The state says which
/// there were.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a process",
    label = "not a process",
    note = "write `#[derive(Clone, Process)]` and `#[process(name = \"…\", state = …, events(Aggregate(Event, …)))]` above the definition of `{Self}`"
)]
pub trait Process: Clone + Send + Sync + 'static {
    /// The process's name. Its checkpoints and the keys of its commands are stored under it: never change it.
    const NAME: &'static str;

    /// What an instance of the process remembers.
    type State: Aggregate;

    /// The kinds of its timeouts.
    #[doc(hidden)]
    const TIMEOUTS: &'static [&'static [EventKind]] = &[];

    /// Returns the `Debug` form of a stored timeout.
    #[doc(hidden)]
    fn timeout_text(stored: &EventData) -> Result<String, DecodeError> {
        Err(DecodeError::unknown_name(stored.name(), &Self::TIMEOUTS.concat()))
    }

    /// The events that it reacts to.
    fn filter(&self) -> EventFilter;

    /// Reacts to an event of the feed.
    ///
    /// # Errors
    ///
    /// [`ProjectError`] when the event cannot be decoded, or the reaction failed.
    fn handle(
        &self,
        event: &EventData,
        ctx: &EventContext,
        reactor: &mut Reactor<Self::State>,
    ) -> impl Future<Output = Result<(), ProjectError>> + Send;

    /// Reacts to an event that it has scheduled.
    ///
    /// # Errors
    ///
    /// As [`handle`](Self::handle).
    fn time_out(
        &self,
        event: &EventData,
        ctx: &EventContext,
        reactor: &mut Reactor<Self::State>,
    ) -> impl Future<Output = Result<(), ProjectError>> + Send;
}

/// Marks an event that a process lists in `#[process(events(…), timeouts(…))]`; implemented by the derive.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not list the event `{E}`",
    label = "`{E}` is neither in `events(…)` nor in `timeouts(…)`",
    note = "add it to the attribute above the definition of `{Self}`, as in `#[process(events(Aggregate({E})))]`, or `#[process(timeouts({E}))]` if the process schedules it"
)]
pub trait Lists<E> {}

/// How a process reacts to one event.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not react to the event `{E}`",
    label = "missing `impl React<{E}> for {Self}`",
    note = "each event in `#[process(events(…), timeouts(…))]` requires one: write `impl React<{E}> for {Self} {{ fn instance(…) … async fn react(…) … }}`"
)]
pub trait React<E>: Process + Lists<E> {
    /// Returns the instance of the process that the event concerns; `None` when it concerns none.
    ///
    /// An instance is often named after the aggregate that the event belongs to:
    /// `Ok(Some(`[`ctx.id_as()?`](EventContext::id_as)`))`.
    ///
    /// # Errors
    ///
    /// When the event does not name an instance and should, such as when its id is malformed. The event fails, as if
    /// [`react`](Self::react) had returned the error, and is not passed over silently.
    fn instance(
        &self,
        event: &E,
        ctx: &EventContext,
    ) -> Result<Option<<Self::State as Aggregate>::Id>, BoxError>;

    /// Reacts: issues commands, and returns what the instance has to remember.
    ///
    /// Write it as `async fn react(&self, event: &E, reaction: &mut Reaction<'_, State>) ->
    /// Result<Events<State>, BoxError>`.
    ///
    /// # Errors
    ///
    /// What makes it impossible to go on: the reaction is tried again, then the slice stops, or the event is
    /// parked, as the [`Projector`](crate::Projector) has it.
    fn react(
        &self,
        event: &E,
        reaction: &mut Reaction<'_, Self::State>,
    ) -> impl Future<Output = Result<Events<Self::State>, BoxError>> + Send;
}
