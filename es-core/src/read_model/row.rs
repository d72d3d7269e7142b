//! Rows: what a read model consists of.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ReadModelError;
use super::kind::RowKinds;

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

    /// The row's key.
    ///
    /// # Errors
    ///
    /// [`ReadModelError::Key`] when a field cannot be a key.
    fn key(&self) -> Result<String, ReadModelError>;

    /// The row's place in each index, in the order of [`INDEXES`](Self::INDEXES).
    ///
    /// # Errors
    ///
    /// As [`key`](Self::key).
    fn places(&self) -> Result<Vec<IndexPlace>, ReadModelError>;

    /// The kinds of the key, and of the fields of each index.
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
    /// The place under `group`, ordered by `order`.
    #[must_use]
    pub fn new(group: String, order: String) -> Self {
        Self { group, order }
    }
}
