//! Read models: queryable rows that a projection maintains.

mod error;
mod ids;
mod index;
mod key;
mod kind;
mod layout;
mod query;
mod staging;
mod traces;
mod untyped;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_core::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::ReadModelError;
pub use ids::{AggregateIds, IdRow};
pub use index::{FieldValue, OrderFields, RowIndex};
pub use query::{RowListing, RowPage, RowQuery};
pub use traces::{TracedCommit, Traces};
pub use untyped::UntypedRows;

pub(crate) mod for_macros {
    //! Items that the expansion of `#[derive(Row)]` uses.

    pub use super::key::{index_place, key_text};
    pub use super::kind::{
        KeyKind, KeyProbe, KnownKind, NoOrder, RowKinds, SomeOrder, UnknownKind, require_key,
    };
}

use self::key::key_text;
use self::kind::RowKinds;
#[doc(hidden)]
pub use self::layout::Builds;
use self::layout::{Layout, decode};
use self::staging::Staging;
use crate::documents::{DocumentChange, Documents};
use crate::projection::{BoxError, Projection, Stage};

/// The rows of type `T` that a projection maintains.
///
/// In a projection, a read model is a field with `#[read_model]`. Its changes are written in one transaction with
/// the checkpoint, so that each event takes effect exactly once. Outside a projection it is read-only. A
/// projection that looks up rows of another projection declares the field with `#[read_model(read_only)]`.
///
/// ```
/// use es_core::prelude::*;
/// use es_core::{MemoryStore, serde::{Deserialize, Serialize}};
/// # #[event]
/// # pub struct OrderPlaced { pub customer: String, pub total_cents: u64 }
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "order", id = String, events(OrderPlaced))]
/// # pub struct Order;
/// # #[handlers]
/// # impl Order {
/// #     #[apply]
/// #     fn order_placed(&mut self, _: &OrderPlaced) {}
/// # }
/// # struct Place;
/// # #[handlers]
/// # impl Order {
/// #     #[handle]
/// #     fn place(&self, _: &Place) -> OrderPlaced {
/// #         OrderPlaced { customer: "ada".into(), total_cents: 500 }
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
/// #[handlers]
/// impl OrderList {
///     #[project]
///     async fn order_placed(&mut self, event: &OrderPlaced, ctx: &EventContext) -> Result<(), BoxError> {
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
/// assert_eq!(orders.find(OrderRow::BY_CUSTOMER, "ada").all().await?.len(), 1);
/// # Ok::<_, BoxError>(())
/// # }).unwrap();
/// ```
///
/// # Rows changed by several streams
///
/// Slices of the feed are handled concurrently. A row that was read with [`get`](Self::get) is written with
/// optimistic concurrency: if it has changed since, the events after the last checkpoint are handled again. A sum
/// over many streams is therefore correct, but a row that every event changes is a bottleneck. Keep one row for
/// each slice instead (with [`EventContext::slice`](crate::EventContext::slice) in its key), and add them up when
/// reading. A row that is put without having been read is an upsert: it replaces the stored row.
///
/// # Cost
///
/// Each row is one document, and each index stores a copy of it. When a row's place in an index changes, its
/// previous copy is deleted.
pub struct ReadModel<T> {
    store: Arc<dyn Documents>,
    builds: Builds,
    staging: Option<Staging<T>>,
}

impl<T: Row> ReadModel<T> {
    /// Returns a handle to the rows of the projection `P` in `store`.
    #[must_use]
    pub fn of<P: Projection>(store: &(impl Documents + Clone)) -> Self {
        Self::named(store, P::NAME)
    }

    /// Returns a handle to the rows of the projection `projection` in `store`.
    #[must_use]
    pub fn named(store: &(impl Documents + Clone), projection: &str) -> Self {
        let store: Arc<dyn Documents> = Arc::new(store.clone());
        Self { builds: Builds::new(Arc::clone(&store), projection), store, staging: None }
    }

    /// Returns the row with the key `key`, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`ReadModelError::Mismatch`] if `key` has another serialized form than the row's key. Other errors if the row
    /// cannot be read.
    pub fn get<V>(&self, key: &V) -> BoxFuture<'_, Result<Option<T>, ReadModelError>>
    where
        V: FieldValue<T::Key> + ?Sized,
    {
        // The future's type does not depend on `V`, so that a value of another type is reported once.
        let key = key_text(T::NAME, T::kinds().key(), key);
        Box::pin(async move { self.get_by_text(key?).await })
    }

    async fn get_by_text(&self, key: String) -> Result<Option<T>, ReadModelError> {
        let document = match &self.staging {
            Some(staging) => match staging.get(&key) {
                Some(staged) => return Ok(staged.cloned()),
                None => staging.read(&*self.store, &key).await?,
            },
            None => {
                let row = |layout: Layout| {
                    let key = layout.row(&key);
                    async move { Ok(self.store.document(&key).await?) }
                };
                self.read(row).await?
            }
        };
        document.map(|document| decode(&document.body)).transpose()
    }

    /// Returns a query for the rows in the group `group` of the index `index`. Run it with [`all`](RowQuery::all)
    /// or [`page`](RowQuery::page).
    ///
    /// Pending changes of a running projection are not included.
    pub fn find<G, O, V>(&self, index: RowIndex<T, G, O>, group: &V) -> RowQuery<'_, T, O>
    where
        V: FieldValue<G> + ?Sized,
    {
        RowQuery::new(self, index, group)
    }

    /// Returns a listing of all rows, page by page, in an unspecified order. A row that is put in the meantime may be
    /// missing.
    pub fn rows(&self) -> RowListing<'_, T> {
        RowListing::new(self)
    }

    /// Returns all rows, in an unspecified order. Use it for small read models, and [`rows`](Self::rows) for others.
    ///
    /// # Errors
    ///
    /// [`ReadModelError`] if the rows cannot be read.
    pub async fn all(&self) -> Result<Vec<T>, ReadModelError> {
        query::all_rows(self).await
    }

    /// Inserts a row, or replaces the row with the same key.
    ///
    /// # Errors
    ///
    /// [`ReadModelError::NotInProjection`] outside a running projection. [`ReadModelError::Key`] if a field of the
    /// key or of an index has no order. Other errors if the row cannot be stored.
    pub fn put(&mut self, row: T) -> Result<(), ReadModelError> {
        let key = row.key()?;
        self.staging()?.set(key, Some(row))
    }

    /// Deletes the row with the key `key`, if it exists.
    ///
    /// # Errors
    ///
    /// As for [`put`](Self::put).
    pub fn delete<V>(&mut self, key: &V) -> Result<(), ReadModelError>
    where
        V: FieldValue<T::Key> + ?Sized,
    {
        let key = key_text(T::NAME, T::kinds().key(), &key)?;
        self.staging()?.set(key, None)
    }

    fn staging(&mut self) -> Result<&mut Staging<T>, ReadModelError> {
        self.staging.as_mut().ok_or(ReadModelError::NotInProjection { model: T::NAME })
    }

    /// Reads from the build that the projector maintains, or from the active build. If another build has become active
    /// during a long read, the rows of the previous one may have been deleted in the meantime, and the read is
    /// repeated.
    async fn read<R, F>(&self, read: impl Fn(Layout) -> F) -> Result<R, ReadModelError>
    where
        F: Future<Output = Result<R, ReadModelError>>,
    {
        if let Some(staging) = &self.staging {
            return read(staging.layout.clone()).await;
        }
        let mut build = self.builds.active().await?;
        loop {
            let found = read(Layout::new(self.builds.projection(), build, T::NAME)).await;
            match self.builds.active().await? {
                active if active == build => return found,
                active => build = active,
            }
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
        Box::pin(async move {
            untyped::delete_rows(&*self.store, projection, build, T::NAME, &AtomicU64::new(0)).await
        })
    }

    fn forget(&mut self) {
        self.staging.iter_mut().for_each(Staging::forget);
    }
}

impl<T: Row> Clone for ReadModel<T> {
    /// Returns a handle to the same rows. Pending changes stay with the original.
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

/// A row of a [`ReadModel`]. Derive it with `#[derive(Row)]`.
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
/// # Ok::<_, es_core::read_model::ReadModelError>(())
/// ```
///
/// The key is one field; rows with the same key replace each other. An index lists rows by the value of its first field
/// (the group), ordered by its other fields, of which it has at most seven. The derive generates a [`RowIndex`] for
/// each index, here `OrderRow::BY_CUSTOMER`, which queries take. Keys and index fields are strings, integers, `bool`s,
/// or types that are serialized as one of these: ids, dates, times, enums without fields. Times are compared by
/// instant, regardless of their time zone.
///
/// # Long strings
///
/// Keys and group values may have any length. From 513 bytes on, they are stored as a prefix and a digest of the whole,
/// so that different values stay different. The first order field is compared by at least its first 200 bytes. All
/// other order fields share 240 bytes: the end of a field that exceeds the remaining bytes is replaced by a digest.
/// Rows that are equal in the compared bytes are listed in an unspecified order, but rows with the same value are
/// adjacent, and the bounds of a query treat them as equal.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a row of a read model",
    label = "not a row",
    note = "write `#[derive(Clone, Row, Serialize, Deserialize)]` and `#[row(name = \"…\", key = …)]` above the definition of `{Self}`"
)]
pub trait Row: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The name of the read model, under which its rows are stored.
    const NAME: &'static str;
    /// The type of the key.
    type Key;
    /// The names of the indexes.
    const INDEXES: &'static [&'static str];

    /// Returns the row's key.
    ///
    /// # Errors
    ///
    /// [`ReadModelError::Key`] if a field cannot be part of a key.
    fn key(&self) -> Result<String, ReadModelError>;

    /// Returns the row's place in each index, in the order of [`INDEXES`](Self::INDEXES).
    ///
    /// # Errors
    ///
    /// As for [`key`](Self::key).
    fn places(&self) -> Result<Vec<IndexPlace>, ReadModelError>;

    /// Returns the kinds of the key, and of the fields of each index.
    #[doc(hidden)]
    fn kinds() -> &'static RowKinds;

    /// Sets the subjects of [personal](crate::personal) fields before the row is encoded.
    #[doc(hidden)]
    fn bind_personal(&self) -> Result<(), ReadModelError> {
        Ok(())
    }
}

/// The place of a row in an index.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexPlace {
    /// The group that lists the row.
    pub group: String,
    /// The sort key of the row within the group.
    pub order: String,
}

impl IndexPlace {
    /// Creates the place in `group`, ordered by `order`.
    #[must_use]
    pub fn new(group: String, order: String) -> Self {
        Self { group, order }
    }
}
