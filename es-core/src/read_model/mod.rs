//! Read models: rows that a projection keeps, and that anyone may query.

mod error;
mod key;
mod kind;
mod layout;
mod query;
mod staging;

use std::fmt;
use std::sync::Arc;

use futures_core::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::ReadModelError;
pub use query::{RowPage, RowQuery};

pub(crate) mod for_macros {
    //! What `#[derive(Row)]` expands to.

    pub use super::key::{index_place, key_text};
    pub use super::kind::{
        KeyKind, KeyProbe, KnownKind, NoOrder, RowKinds, SomeOrder, UnknownKind, require_key,
    };
}

use self::key::key_text;
use self::kind::RowKinds;
use self::layout::{Builds, Layout, decode};
use self::staging::Staging;
use crate::documents::{DocumentChange, Documents};
use crate::projection::{BoxError, Projection, Stage};

/// The rows of type `T` that a projection keeps in the store.
///
/// In a projection, as a field with `#[read_model]`: its changes are written in one transaction with the
/// checkpoint, so that each event has its effect exactly once. Anywhere else it is read. A projection that looks
/// something up in the rows of another one has it as a field with `#[read_model(read_only)]`.
///
/// ```
/// use es_core::prelude::*;
/// use es_core::{MemoryStore, serde::{Deserialize, Serialize}};
/// # #[event]
/// # pub struct OrderPlaced { pub customer: String, pub total_cents: u64 }
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "order", id = String, events(OrderPlaced))]
/// # pub struct Order;
/// # impl Apply<OrderPlaced> for Order { fn apply(&mut self, _: &OrderPlaced) {} }
/// # struct Place;
/// # impl Handle<Place> for Order {
/// #     type Error = std::convert::Infallible;
/// #     fn handle(&self, _: &Place, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
/// #         Ok(OrderPlaced { customer: "ada".into(), total_cents: 500 }.into())
/// #     }
/// # }
///
/// #[derive(Clone, Row, Serialize, Deserialize)]
/// #[serde(crate = "es_core::serde")]
/// #[row(name = "orders", key = order, index(by_customer(customer)))]
/// struct OrderRow { order: String, customer: String, total_cents: u64 }
///
/// #[derive(Clone, Projection)]
/// #[projection(name = "order_list", events(Order(OrderPlaced)))]
/// struct OrderList { #[read_model] orders: ReadModel<OrderRow> }
///
/// impl Project<OrderPlaced> for OrderList {
///     async fn project(&mut self, event: &OrderPlaced, ctx: &EventContext) -> Result<(), BoxError> {
///         let row = OrderRow {
///             order: ctx.id().to_owned(),
///             customer: event.customer.clone(),
///             total_cents: event.total_cents,
///         };
///         Ok(self.orders.put(row)?)
///     }
/// }
///
/// # futures_executor::block_on(async {
/// let store = MemoryStore::new();
/// Repository::<Order>::new(store.clone()).execute(&"1001".to_owned(), Place).await?;
///
/// let orders = ReadModel::of::<OrderList>(&store);
/// let projector = Projector::new(store, OrderList { orders: orders.clone() });
/// projector.run_until_caught_up().await?;
///
/// assert_eq!(orders.get("1001").await?.unwrap().total_cents, 500);
/// assert_eq!(orders.find("by_customer", "ada").all().await?.len(), 1);
/// # Ok::<_, BoxError>(())
/// # }).unwrap();
/// ```
///
/// # Rows that many streams change
///
/// Slices of the feed are handled side by side. A row that was read with [`get`](Self::get) and is then written
/// is written only if nobody else has changed it meanwhile; otherwise the events since the last checkpoint are
/// handled again. So a sum over many streams is right, but a row that every event changes is a bottleneck:
/// have one for each slice ([`EventContext::slice`](crate::EventContext::slice) in its key), and add them up
/// when they are read. A row that is put without having been read replaces what is there.
///
/// # Cost
///
/// A row is a document, and each index holds a copy of it. A row whose place in an index has changed is
/// removed from the old one.
pub struct ReadModel<T> {
    store: Arc<dyn Documents>,
    builds: Builds,
    staging: Option<Staging<T>>,
}

impl<T: Row> ReadModel<T> {
    /// Creates the rows that the projection `P` keeps in `store`.
    #[must_use]
    pub fn of<P: Projection>(store: &(impl Documents + Clone)) -> Self {
        Self::named(store, P::NAME)
    }

    /// Creates the rows that the projection with the name `projection` keeps in `store`.
    #[must_use]
    pub fn named(store: &(impl Documents + Clone), projection: &str) -> Self {
        let store: Arc<dyn Documents> = Arc::new(store.clone());
        Self { builds: Builds::new(Arc::clone(&store), projection), store, staging: None }
    }

    /// Returns the row with the key `key`, `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`ReadModelError::Mismatch`] when `key` is not a value of the key's type; others when the row cannot be read.
    pub async fn get(&self, key: &(impl Serialize + Sync + ?Sized)) -> Result<Option<T>, ReadModelError> {
        let key = key_text(T::NAME, T::kinds().key(), &key)?;
        let document = match &self.staging {
            Some(staging) => match staging.get(&key) {
                Some(staged) => return Ok(staged.cloned()),
                None => staging.read(&*self.store, &key).await?,
            },
            None => self.store.document(&self.layout().await?.row(&key)).await?,
        };
        document.map(|document| decode(&document.body)).transpose()
    }

    /// Returns the rows that the index `index` lists under `group`: ask for them with
    /// [`all`](RowQuery::all) or [`page`](RowQuery::page).
    ///
    /// Rows that the projection is about to write are not among them.
    pub fn find(&self, index: &str, group: &(impl Serialize + ?Sized)) -> RowQuery<'_, T> {
        RowQuery::new(self, index, group)
    }

    /// Returns all rows, in no order that means anything.
    ///
    /// # Errors
    ///
    /// [`ReadModelError`] when they cannot be read.
    pub async fn all(&self) -> Result<Vec<T>, ReadModelError> {
        query::all_rows(self).await
    }

    /// Puts a row in the place of the one with the same key.
    ///
    /// # Errors
    ///
    /// [`ReadModelError::NotInProjection`] outside of a projection that runs, [`ReadModelError::Key`] when the
    /// row's key or its place in an index cannot be one, and others when the row cannot be stored.
    pub fn put(&mut self, row: T) -> Result<(), ReadModelError> {
        let key = row.key()?;
        self.staging()?.set(key, Some(row))
    }

    /// Deletes the row with the key `key`, if it is there.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn delete(&mut self, key: &(impl Serialize + ?Sized)) -> Result<(), ReadModelError> {
        let key = key_text(T::NAME, T::kinds().key(), &key)?;
        self.staging()?.set(key, None)
    }

    fn staging(&mut self) -> Result<&mut Staging<T>, ReadModelError> {
        self.staging.as_mut().ok_or(ReadModelError::NotInProjection { model: T::NAME })
    }

    /// Where the rows are: of the build that a projector is working on, or of the one that is to be read.
    async fn layout(&self) -> Result<Layout, ReadModelError> {
        match &self.staging {
            Some(staging) => Ok(staging.layout.clone()),
            None => Ok(Layout::new(self.builds.projection(), self.builds.active().await?, T::NAME)),
        }
    }
}

impl<T: Row> Stage for ReadModel<T> {
    fn name(&self) -> &str {
        T::NAME
    }

    fn bind(&mut self, projection: &str, build: u32) {
        self.staging = Some(Staging::new(Layout::new(projection, build, T::NAME)));
    }

    fn keep(&mut self) {
        self.staging.iter_mut().for_each(Staging::keep);
    }

    fn undo(&mut self) {
        self.staging.iter_mut().for_each(Staging::undo);
    }

    fn most_changes(&self) -> usize {
        self.staging.as_ref().map_or(0, Staging::most_changes)
    }

    fn most_bytes(&self) -> u64 {
        self.staging.as_ref().map_or(0, Staging::most_bytes)
    }

    fn changes(&mut self) -> BoxFuture<'_, Result<Vec<DocumentChange>, BoxError>> {
        Box::pin(async {
            match &mut self.staging {
                Some(staging) => Ok(staging.changes(&*self.store).await?),
                None => Ok(Vec::new()),
            }
        })
    }

    fn delete<'a>(&'a self, projection: &'a str, build: u32) -> BoxFuture<'a, Result<(), BoxError>> {
        let layout = Layout::new(projection, build, T::NAME);
        Box::pin(async move { Ok(query::delete_rows::<T>(&*self.store, &layout).await?) })
    }

    fn forget(&mut self) {
        self.staging.iter_mut().for_each(Staging::forget);
    }
}

impl<T: Row> Clone for ReadModel<T> {
    /// Returns the same rows; changes that wait for a checkpoint stay with the original.
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), builds: self.builds.clone(), staging: None }
    }
}

impl<T: Row> fmt::Debug for ReadModel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadModel")
            .field("projection", &self.builds.projection())
            .field("rows", &T::NAME)
            .finish_non_exhaustive()
    }
}

/// A row of a [`ReadModel`](crate::ReadModel): derive it.
///
/// ```
/// use es_core::prelude::*;
/// use es_core::serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Row, Serialize, Deserialize)]
/// #[serde(crate = "es_core::serde")]
/// #[row(name = "orders", key = order, index(by_customer(customer, placed)))]
/// struct OrderRow { order: String, customer: String, placed: String, total_cents: u64 }
///
/// let row = OrderRow { order: "1001".into(), customer: "ada".into(), placed: "2030-01-01".into(), total_cents: 500 };
/// assert_eq!(row.key()?, "1001");
/// # Ok::<_, es_core::ReadModelError>(())
/// ```
///
/// The key is a field; rows of the same key replace each other. An index lists rows by the value of its
/// first field, in the order of the others. These fields are texts, whole numbers, `bool`s, or types that are
/// serialized as one of them: ids, dates, times, enums without content. Times are compared by instant, whatever their
/// time zone.
///
/// # Long texts
///
/// A key and the value that an index groups by may have any length: from 513 bytes on, they are stored as their
/// beginning and a digest of all of it, so different values stay different. The fields of an order are compared by
/// at least their first 200 bytes. Rows that agree in these are listed in an order without a meaning, rows of one
/// value together.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a row of a read model",
    label = "not a row",
    note = "write `#[derive(Clone, Row, Serialize, Deserialize)]` and `#[row(name = \"…\", key = …)]` above the definition of `{Self}`"
)]
pub trait Row: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The name of the read model. Rows are stored under it.
    const NAME: &'static str;
    /// The names of its indexes.
    const INDEXES: &'static [&'static str];

    /// Returns the row's key.
    ///
    /// # Errors
    ///
    /// [`ReadModelError::Key`] when a field cannot be a key.
    fn key(&self) -> Result<String, ReadModelError>;

    /// Returns the row's place in each index, in the order of [`INDEXES`](Self::INDEXES).
    ///
    /// # Errors
    ///
    /// As [`key`](Self::key).
    fn places(&self) -> Result<Vec<IndexPlace>, ReadModelError>;

    /// Returns the kinds of the key, and of the fields of each index.
    #[doc(hidden)]
    fn kinds() -> &'static RowKinds;
}

/// The place of a row in an index.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexPlace {
    /// What the row is listed under.
    pub group: String,
    /// What the rows of the group are ordered by.
    pub order: String,
}

impl IndexPlace {
    /// Creates the place under `group`, ordered by `order`.
    #[must_use]
    pub fn new(group: String, order: String) -> Self {
        Self { group, order }
    }
}
