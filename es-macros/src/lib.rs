//! The macros of `es-core`, which re-exports them: [`macro@event`], [`macro@Aggregate`], [`macro@handlers`],
//! [`macro@Id`], [`macro@Projection`], [`macro@Process`], [`macro@Row`], and [`macro@Schema`].
//!
//! Each macro has a module of the same name; projections and processes share `consumer`. A macro works in three steps:
//!
//! 1. It reads the item and its attributes, and collects all mistakes. Invalid values are replaced by placeholders.
//! 2. It generates code from these values, which cannot fail.
//! 3. It returns the code, together with one `compile_error!` for each mistake. Because the code is generated even if
//!    there are mistakes, a mistake is not reported again wherever the item is used.
//!
//! `support` contains the tools for these steps. Generated code refers to `es_core::__private` by absolute paths. It
//! has the spans of the user's code, so that errors point there.

mod aggregate;
mod consumer;
mod event;
mod handlers;
mod id;
mod row;
mod schema;
mod support;

use proc_macro::TokenStream;

/// Turns a struct into an event, or an enum into a family of events.
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
/// | key | meaning |
/// |---|---|
/// | `name = "…"` | the stored name; default: the struct's name, without a suffix `V<n>` that repeats the version |
/// | `version = 2` | the schema version of the payload; default: 1 |
/// | `previous = OrderPlacedV1` | the event of the previous version; required from version 2 on |
/// | `alias = "…"` | a former stored name; may be repeated |
/// | `skip_derive(PartialEq, …)` | derives to omit, because the type implements the traits manually |
/// | `crate = ::path` | the path of `es_core`, if the crate was renamed |
///
/// The macro derives `Clone`, `Debug`, `PartialEq`, `Serialize`, and `Deserialize`, except for traits that the item
/// derives below the attribute. Serde attributes work as usual, and the crate does not need to depend on `serde`.
///
/// A field of type `Personal` has the attribute `#[personal(subject = customer)]`, which names the field with the id of
/// the person: see the module `es_core::personal`.
///
/// The stored name does not depend on modules or crates, which can be moved and renamed freely.
///
/// # A new version of an event
///
/// Keep the old struct under a new name, and implement the conversion:
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
/// All versions of an event can be read, and the newest is written. If the new version has another stored name, list
/// the old name as an `alias`, and keep earlier aliases.
///
/// # On an enum: a family of events
///
/// Each variant is an event. It is stored under the variant's name, and its fields are the payload. `name`, `version`,
/// `previous`, and `alias` belong on the variant.
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
/// # Compile errors
///
/// - A key that is unknown, malformed, or given twice.
/// - A type that is generic or borrows, and fields or variants with `#[cfg(…)]`: all builds must be able to read the
///   events that one of them stores.
/// - A `version` without its `previous`, a gap between versions, a `previous` whose stored name or alias is missing
///   here, and a missing `From`.
/// - In a family: variants that share a stored name, and serde attributes that change the stored form.
#[proc_macro_attribute]
pub fn event(arguments: TokenStream, item: TokenStream) -> TokenStream {
    event::expand(arguments.into(), &item.into()).into()
}

/// Implements `Aggregate` for a struct or an enum: generates the enum of its events, and their dispatch to `Apply`.
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
/// let event: AccountEvent = Deposited { cents: 500 }.into();
/// ```
///
/// | key | meaning |
/// |---|---|
/// | `name = "…"` | the name of the aggregate, the first part of its stream ids: never change it |
/// | `id = Type` | the type of its ids |
/// | `events(A, B, …)` | its events, from which the macro generates an enum |
/// | `event = Family` | instead of `events`: an enum with `#[event]`, with a single `Apply<Family>` |
/// | `event_enum = Name` | the name of the generated enum; default: the aggregate's name followed by `Event` |
/// | `retired("…", …)` | stored names of events that loads skip |
/// | `snapshot` | enables snapshots, which are taken when the events since the last snapshot are larger than the state |
/// | `snapshot(every = 100)` | enables snapshots, which are taken after this many events |
/// | `snapshot(version = 2)` | the version of the state's shape; default: 1. Increase it when the meaning of a field changes |
/// | `crate = ::path` | the path of `es_core`, if the crate was renamed |
///
/// Each event requires an implementation of `Apply`. `Default` is the initial state. A state with snapshots implements
/// `Serialize` and `Deserialize`, and should implement `PartialEq`: a snapshot that would be restored as another state
/// is then not written. Snapshots of a state with other fields are ignored.
///
/// The generated enum has a variant and a `From` for each event, and the variant has the name of the event's type. A
/// listed event may be a family.
///
/// # Compile errors
///
/// - A key that is unknown, malformed, missing, or given twice.
/// - A name that is empty, too long, contains `#` or control characters, or starts with `$`.
/// - An event without `Apply`, an `Apply` of an event that is not listed, an event that is listed twice, events that
///   share a stored name, and a retired name that an event still has.
/// - An aggregate that is generic, lacks `Default`, or has `snapshot` and cannot be serialized.
#[proc_macro_derive(Aggregate, attributes(aggregate, personal))]
pub fn aggregate(item: TokenStream) -> TokenStream {
    aggregate::expand(item.into()).into()
}

/// Turns the methods of an `impl` block into handlers of an aggregate, a projection, or a process.
///
/// ```
/// use es_core::prelude::*;
///
/// #[event]
/// pub struct Opened { pub owner: String }
/// #[event]
/// pub struct Closed;
///
/// #[derive(Aggregate, Default)]
/// #[aggregate(name = "account", id = String, events(Opened, Closed))]
/// pub struct Account { is_open: bool }
///
/// pub struct Open { pub owner: String }
/// pub struct Close;
///
/// #[derive(Debug)]
/// pub struct AlreadyOpen;
///
/// #[handlers]
/// impl Account {
///     #[apply]
///     fn opened(&mut self, _: &Opened) { self.is_open = true; }
///
///     #[apply]
///     fn closed(&mut self, _: &Closed) { self.is_open = false; }
///
///     #[handle]
///     fn open(&self, command: &Open) -> Result<Opened, AlreadyOpen> {
///         if self.is_open {
///             return Err(AlreadyOpen);
///         }
///         Ok(Opened { owner: command.owner.clone() })
///     }
///
///     #[handle]
///     fn close(&self, _: &Close) -> Option<Closed> { self.is_open.then_some(Closed) }
/// }
/// ```
///
/// The type of the first parameter of a marked method is its event or command. The macro implements the trait in the
/// table for this type, and the implementation calls the method. The methods remain ordinary methods, with their
/// attributes and documentation. Other members of the block are not changed. A type may have several blocks, and may
/// also implement some of the traits directly.
///
/// | attribute | trait | signature | returns |
/// |---|---|---|---|
/// | `#[apply]` | `Apply` | `fn(&mut self, &Event)` | nothing |
/// | `#[handle]` | `Handle` | `fn(&self, &Command, &Context<Self>)` | events |
/// | `#[project]` | `Project` | `async fn(&mut self, &Event, &EventContext)` | nothing, or `Result<(), E>` |
/// | `#[react]` | `React` | `async fn(&self, &Event, &mut Reaction<'_, State>)` | events |
///
/// - The context, which is the last parameter, is optional.
/// - *Events* are one event, an `Option`, an array, a `Vec`, a tuple, or `Events`, each with or without `Result`. See
///   the trait `IntoEvents` for all types. A `#[handle]` method without `Result` cannot reject its command, and its
///   error is `Infallible`.
/// - `#[project]` and `#[react]` methods need not be `async`. Their errors are converted to `BoxError`.
/// - A `#[react]` method runs on the instance of the process with the id of the event's aggregate. If the event
///   concerns another instance, write `#[react(instance = |event| event.order_id)]`, with a closure or the path of a
///   function. It takes the event, or the event and its `EventContext`, and returns an id, an `Option`, or a `Result`
///   with one of these.
/// - Write `#[handlers(crate = ::path)]` if `es_core` was renamed.
///
/// # Compile errors
///
/// - A method with a wrong signature: without `self`, with `&mut self` in a decision, with a parameter by value, with
///   too many parameters, or without a return type.
/// - `async`, or `.await`, in `#[apply]` and `#[handle]` methods. `Repository::decide` takes an async closure for
///   decisions that call services.
/// - Two methods for one command or event.
/// - A method for an event that is not listed.
/// - An attribute or a key that is unknown, a block without handlers, and a block that implements a trait.
#[proc_macro_attribute]
pub fn handlers(arguments: TokenStream, item: TokenStream) -> TokenStream {
    handlers::expand(arguments.into(), item.into()).into()
}

/// Implements the traits of an id for a newtype over `String`, `Uuid`, or an integer of up to 64 bits.
///
/// ```
/// use es_core::prelude::*;
/// use es_core::uuid::Uuid;
///
/// #[derive(Id)]
/// pub struct OrderId(Uuid);
/// #[derive(Id)]
/// pub struct CustomerId(String);
///
/// let order = OrderId::new();
/// assert_eq!(order.to_string().parse(), Ok(order));
/// assert_eq!(CustomerId::from("ann").as_str(), "ann");
/// ```
///
/// All ids have:
///
/// - `Clone`, `Debug`, `PartialEq`, `Eq`, `PartialOrd`, `Ord`, and `Hash`. Ids over `Uuid` and integers are also
///   `Copy`.
/// - `Display` and `FromStr`, with the text of the inner type.
/// - `Serialize` and `Deserialize`, in the form of the inner type, as with `#[serde(transparent)]`.
/// - Conversions from and to the inner type with `From`.
///
/// Ids over `Uuid` have a function `new` for a random UUID of version 7. In a handler, which must be pure, write
/// `ctx.new_id().into()` instead.
///
/// Ids over `String` have `as_str`, `From<&str>`, `AsRef<str>`, and `Borrow<str>`. Methods of `Repository` accept a
/// `&str` in place of such an id.
///
/// | key | meaning |
/// |---|---|
/// | `skip_derive(Debug, …)` | traits to omit, because the type implements or derives them itself |
/// | `crate = ::path` | the path of `es_core`, if the crate was renamed |
///
/// # Compile errors
///
/// - A type that is not a struct with one unnamed field, is generic, or has an inner type that is not supported. The
///   inner type is recognized by its name, so type aliases do not work.
/// - A trait that is derived a second time.
#[proc_macro_derive(Id, attributes(id))]
pub fn id(item: TokenStream) -> TokenStream {
    id::expand(item.into()).into()
}

/// Implements the trait `Schema`: includes the shape of a struct or an enum in the shapes of the events that contain
/// it.
///
/// Write `#[schema(crate = ::path)]` if `es_core` was renamed.
#[proc_macro_derive(Schema, attributes(schema))]
pub fn schema(item: TokenStream) -> TokenStream {
    schema::expand(item.into()).into()
}

/// Implements `Projection`: generates the dispatch of the events of several aggregates to `Project`.
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
///         println!("order {} was placed", ctx.id());
///         Ok(())
///     }
/// }
/// ```
///
/// | key | meaning |
/// |---|---|
/// | `name = "…"` | the name of the projection, under which its checkpoints are stored: never change it |
/// | `events(A(X, Y), B(Z))` | the events that it handles, in the parentheses of their aggregates |
/// | `crate = ::path` | the path of `es_core`, if the crate was renamed |
///
/// A field with `#[read_model]` is a `ReadModel` whose changes are written together with the checkpoint. A field with
/// `#[read_model(read_only)]` is a `ReadModel` of another projection.
///
/// # Compile errors
///
/// - A key that is unknown, malformed, missing, or given twice.
/// - An event of another aggregate, an event that is listed twice, an event without `Project`, and a `Project` of an
///   event that is not listed.
/// - A `ReadModel` without `#[read_model]`.
/// - A projection that is generic or lacks `Clone`.
#[proc_macro_derive(Projection, attributes(projection, read_model))]
pub fn projection(item: TokenStream) -> TokenStream {
    consumer::projection(item.into()).into()
}

/// Implements `Process`: generates the dispatch of the events of several aggregates to `React`. See the trait `Process`
/// for an example.
///
/// | key | meaning |
/// |---|---|
/// | `name = "…"` | the name of the process, under which its checkpoints are stored: never change it |
/// | `state = Type` | the aggregate that holds its state, with one stream for each instance |
/// | `events(A(X, Y), B(Z))` | the events that it reacts to, in the parentheses of their aggregates |
/// | `timeouts(X)` | the events that it schedules for itself |
/// | `crate = ::path` | the path of `es_core`, if the crate was renamed |
///
/// # Compile errors
///
/// - A key that is unknown, malformed, missing, or given twice.
/// - An event of another aggregate, an event or a timeout that is listed twice, an event without `React`, and a `React`
///   to an event that is not listed.
/// - A process that is generic or lacks `Clone`.
#[proc_macro_derive(Process, attributes(process))]
pub fn process(item: TokenStream) -> TokenStream {
    consumer::process(item.into()).into()
}

/// Implements `Row` for a struct: a row of a read model. See the trait `Row` for an example.
///
/// | key | meaning |
/// |---|---|
/// | `name = "…"` | the name of the read model, under which its rows are stored |
/// | `key = field` | the field that identifies a row |
/// | `index(by_a(a, b))` | an index, which groups rows by the first field and orders them by the others (at most seven); may be repeated |
/// | `crate = ::path` | the path of `es_core`, if the crate was renamed |
///
/// A field with [personal data](https://docs.rs/es-core/latest/es_core/personal/index.html) has the attribute
/// `#[personal(subject = field)]`, as in an event.
///
/// Each index becomes an associated constant of the struct, with its visibility: `by_a` becomes `BY_A`, which is passed
/// to queries of the read model.
///
/// # Compile errors
///
/// - A key that is unknown, malformed, missing, or given twice.
/// - A field in the key or an index that does not exist, or whose values have no order, such as a float.
/// - A row that is generic, or lacks `Clone`, `Serialize`, or `Deserialize`.
/// - A `Personal` field without a subject, or in the key or an index.
#[proc_macro_derive(Row, attributes(row, personal))]
pub fn row(item: TokenStream) -> TokenStream {
    row::expand(item.into()).into()
}
