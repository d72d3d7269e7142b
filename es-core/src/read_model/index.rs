//! Typed indexes, and the values that queries compare with their fields.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;

use super::Row;
use super::kind::KeyKind;

/// An index of the rows `T`, for [`ReadModel::find`](super::ReadModel::find).
///
/// `#[derive(Row)]` generates a constant for each index: `index(by_customer(customer, placed))` of `OrderRow` becomes
/// `OrderRow::BY_CUSTOMER`. Its type has the types of the fields, so that a query with a value of another type does not
/// compile. `G` is the type of the group, and `O` has those of the order fields: `(A, (B, ()))` for two of them.
pub struct RowIndex<T, G, O> {
    /// The place of the index in [`Row::INDEXES`].
    number: usize,
    types: PhantomData<Types<T, G, O>>,
}

/// The types of the rows, the group, and the order fields. An index contains no values of these types.
type Types<T, G, O> = fn() -> (T, G, O);

impl<T, G, O> RowIndex<T, G, O> {
    /// Creates the index with this place in [`Row::INDEXES`].
    #[doc(hidden)]
    #[must_use]
    pub const fn new(number: usize) -> Self {
        Self { number, types: PhantomData }
    }
}

impl<T: Row, G, O> RowIndex<T, G, O> {
    /// Returns the name of the index.
    #[must_use]
    pub fn name(self) -> &'static str {
        T::INDEXES.get(self.number).copied().unwrap_or_default()
    }

    /// Returns the kinds of the group and of the order fields.
    pub(super) fn kinds(self) -> &'static [KeyKind] {
        T::kinds().of_index(self.number)
    }
}

impl<T, G, O> Clone for RowIndex<T, G, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, G, O> Copy for RowIndex<T, G, O> {}

impl<T: Row, G, O> fmt::Debug for RowIndex<T, G, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RowIndex").field(&self.name()).finish()
    }
}

/// A value that a query can compare with a field of type `F`: one of the same type, or of a type as which it can be
/// [borrowed](Borrow), such as `str` for a `String`.
///
/// The borrowed type must have the same serialized form as the field.
#[diagnostic::on_unimplemented(
    message = "a field of type `{F}` cannot be compared with a value of type `{Self}`",
    label = "not a `{F}`",
    note = "pass a reference to a value of the field's type; for a `String`, a `&str` is enough"
)]
pub trait FieldValue<F>: Serialize + Sync {}

#[diagnostic::do_not_recommend]
impl<F: Borrow<V>, V: Serialize + Sync + ?Sized> FieldValue<F> for V {}

/// The order fields of an index that a query can still restrict: the first has the type `F`, and the others have the
/// types `R`.
#[diagnostic::on_unimplemented(
    message = "the index has no further order field to compare",
    label = "every order field has a value",
    note = "add a field to the index, as in `index(by_customer(customer, placed))`: its first field is the group, and the others are the order fields"
)]
pub trait OrderFields<F, R> {}

impl<F, R> OrderFields<F, R> for (F, R) {}
