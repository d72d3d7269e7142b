//! The macros of `es-core`, which re-exports them: [`macro@event`], [`macro@Aggregate`], [`macro@Projection`],
//! [`macro@Process`], [`macro@Row`] and [`macro@Schema`].

mod aggregate;
mod errors;
mod event;
mod keys;
mod process;
mod projection;
mod row;
mod schema;
mod shape;
mod sources;
mod spans;

use proc_macro::TokenStream;

/// Makes a type an event, or a family of events, that can be stored.
///
/// # On a struct: one event
///
/// ```
/// use es_core::event;
///
/// #[event]
/// pub struct OrderPlaced { pub customer: String, pub total_cents: u64 }
/// ```
///
/// | key | what it says |
/// |---|---|
/// | `name = "…"` | the stored name; otherwise the struct's, less a `V<n>` at its end that repeats the version |
/// | `version = 2` | the schema version of the payload, 1 if it is not given |
/// | `previous = OrderPlacedV1` | the event of the version before, needed from version 2 on |
/// | `alias = "…"` | a name under which the event was stored before; one `alias` for each |
/// | `skip_derive(PartialEq, …)` | derives to leave out, because the type implements them by hand |
/// | `crate = ::path` | where `es_core` is, if it was renamed |
///
/// The macro derives `Clone`, `Debug`, `PartialEq`, `Serialize` and `Deserialize`, as far as the item does
/// not derive them itself below the attribute. Attributes for serde work as usual, and `serde` need not be
/// among the crate's own dependencies.
///
/// The stored name is never taken from modules or crates, which can be moved and renamed freely.
///
/// # A new version of an event
///
/// Keep the old struct under a new name, and say how it becomes the new one:
///
/// ```
/// use es_core::event;
///
/// #[event] // stored as "OrderCancelled", version 1
/// pub struct OrderCancelledV1 { pub reason: String }
///
/// #[event(version = 2, previous = OrderCancelledV1)]
/// pub struct OrderCancelled { pub reason: String, pub by_customer: bool }
///
/// impl From<OrderCancelledV1> for OrderCancelled {
///     fn from(old: OrderCancelledV1) -> Self {
///         Self { reason: old.reason, by_customer: true }
///     }
/// }
/// ```
///
/// Events of all versions are read, wherever events are read; the newest is written. An event that gets
/// another stored name in its new version lists the old one as an `alias`, and keeps the aliases it had.
///
/// # On an enum: a family of events
///
/// Every variant is an event of its own, stored under the variant's name; only its content is the payload.
/// `name`, `version`, `previous` and `alias` go to the variant.
///
/// ```
/// use es_core::event;
///
/// #[event]
/// pub enum DoorEvent {
///     Opened,
///     #[event(name = "DoorLocked")]
///     Locked { code: u32 },
/// }
/// ```
///
/// # What the compiler refuses
///
/// - An unknown key, one given twice, and one with the wrong kind of value.
/// - A type that is generic or borrows, and parts of it under `#[cfg(…)]`: what one build stores, every build
///   reads.
/// - A `version` without its `previous`, a gap between two versions, a `previous` whose stored name or whose
///   alias would no longer be found, and a missing `From`.
/// - In a family: two variants of one stored name, and attributes of serde that change how it is stored.
#[proc_macro_attribute]
pub fn event(arguments: TokenStream, item: TokenStream) -> TokenStream {
    event::expand(arguments.into(), &item.into()).into()
}

/// Makes a struct or an enum an aggregate: generates the enum of its events, and how they are dispatched.
///
/// ```
/// use es_core::prelude::*;
/// use es_core::serde::{Deserialize, Serialize};
///
/// #[event]
/// pub struct Opened { pub owner: String }
/// #[event]
/// pub struct Deposited { pub cents: u64 }
///
/// #[derive(Aggregate, Default, Serialize, Deserialize)]
/// #[serde(crate = "es_core::serde")]
/// #[aggregate(name = "account", id = String, events(Opened, Deposited), snapshot(every = 100))]
/// pub struct Account { balance: u64 }
///
/// impl Apply<Opened> for Account {
///     fn apply(&mut self, _: &Opened) {}
/// }
///
/// impl Apply<Deposited> for Account {
///     fn apply(&mut self, event: &Deposited) { self.balance += event.cents; }
/// }
///
/// let event: AccountEvent = Deposited { cents: 500 }.into();
/// ```
///
/// | key | what it says |
/// |---|---|
/// | `name = "…"` | the aggregate's name, the first part of the names of its streams: never change it |
/// | `id = Type` | what identifies one aggregate |
/// | `events(A, B, …)` | its events; the macro generates an enum of them |
/// | `event = Family` | instead: an enum with `#[event]`, and one `Apply<Family>` |
/// | `event_enum = Name` | the name of the generated enum, otherwise the aggregate's with `Event` after it |
/// | `retired("…", …)` | stored names that no longer matter, and are skipped |
/// | `snapshot` | keeps the state in snapshots, taken as the events since the last one outgrow it |
/// | `snapshot(every = 100)` | the same, taken after so many events |
/// | `snapshot(version = 2)` | an explicit version of the state's shape: raise it when the meaning of a field changes |
/// | `crate = ::path` | where `es_core` is, if it was renamed |
///
/// `Apply` is asked for once for every event, and `Default` is the initial state. A state with snapshots
/// implements `Serialize` and `Deserialize`; snapshots of a state with other fields than now are ignored.
///
/// The generated enum has one variant for each event, of its type's name, and a `From` for each. An event may
/// be a family itself.
///
/// # What the compiler refuses
///
/// - An unknown key, one given twice, one that is missing, and one with the wrong kind of value.
/// - A name that is empty, contains `#` or starts with `$`.
/// - An event without its `Apply`, one that is listed twice, two of one stored name, and a stored name or an
///   alias that is retired while an event still has it.
/// - A generic aggregate, one without `Default`, and one with `snapshot` that is not serializable.
#[proc_macro_derive(Aggregate, attributes(aggregate))]
pub fn aggregate(item: TokenStream) -> TokenStream {
    aggregate::expand(item.into()).into()
}

/// Makes the shape of a type a part of the shapes of the events that contain it: see
/// the trait `Schema`.
///
/// For structs and enums that events contain. Write `#[schema(crate = path)]` where `es_core` was renamed.
#[proc_macro_derive(Schema, attributes(schema))]
pub fn schema(item: TokenStream) -> TokenStream {
    schema::expand(item.into()).into()
}

/// Makes a struct a projection: generates how events of several aggregates are dispatched to its handlers.
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
///         println!("order {} was placed", ctx.id());
///         Ok(())
///     }
/// }
/// ```
///
/// | key | what it says |
/// |---|---|
/// | `name = "…"` | the projection's name, under which its checkpoints are stored: never change it |
/// | `events(A(X, Y), B(Z))` | the events that it takes, each in the parentheses of its aggregate |
/// | `crate = ::path` | where `es_core` is, if it was renamed |
///
/// Fields with `#[read_model]` hold a `ReadModel`; its changes are written together with the checkpoint. Fields with
/// `#[read_model(read_only)]` hold one of another projection.
///
/// # What the compiler refuses
///
/// - An unknown key, one given twice, one that is missing, and one with the wrong kind of value.
/// - An event that is not one of its aggregate's, one that is listed twice, and one without its `Project`.
/// - A generic projection, and one without `Clone`.
#[proc_macro_derive(Projection, attributes(projection, read_model))]
pub fn projection(item: TokenStream) -> TokenStream {
    projection::expand(item.into()).into()
}

/// Makes a struct a process: generates how events of several aggregates are dispatched to its reactions. See
/// the trait `Process` for an example.
///
/// | key | what it says |
/// |---|---|
/// | `name = "…"` | the process's name, under which its checkpoints are stored: never change it |
/// | `state = Type` | the aggregate that remembers for it, with one stream for each instance |
/// | `events(A(X, Y), B(Z))` | the events that it reacts to, each in the parentheses of its aggregate |
/// | `timeouts(X)` | the events that it schedules for itself |
/// | `crate = ::path` | where `es_core` is, if it was renamed |
///
/// # What the compiler refuses
///
/// - An unknown key, one given twice, one that is missing, and one with the wrong kind of value.
/// - An event that is not one of its aggregate's, one that is listed twice, and one without its `React`.
/// - A generic process, and one without `Clone`.
#[proc_macro_derive(Process, attributes(process))]
pub fn process(item: TokenStream) -> TokenStream {
    process::expand(item.into()).into()
}

/// Makes a struct a row of a read model: see the trait `Row`.
///
/// | key | what it says |
/// |---|---|
/// | `name = "…"` | the name of the read model, under which its rows are stored |
/// | `key = field` | the field that identifies a row |
/// | `index(by_a(a, b))` | an index: rows by the value of its first field, in the order of the others |
/// | `crate = ::path` | where `es_core` is, if it was renamed |
#[proc_macro_derive(Row, attributes(row))]
pub fn row(item: TokenStream) -> TokenStream {
    row::expand(item.into()).into()
}
