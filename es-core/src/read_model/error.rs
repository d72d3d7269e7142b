//! What can go wrong in a read model.

use crate::projection::ProjectorError;
use crate::store::StoreError;

/// Why a read model could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadModelError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key or a field of an index is of a kind that has no order.
    #[error("the rows of `{model}` cannot have {reason} in a key: use a text, a whole number or a `bool`")]
    #[non_exhaustive]
    Key {
        /// The read model.
        model: &'static str,
        /// What it was.
        reason: String,
    },
    /// A value is not of the type that the key or the index has.
    #[error("`{model}` was asked for {found} where it has {expected}: ask for a value of the field's type")]
    #[non_exhaustive]
    Mismatch {
        /// The read model.
        model: &'static str,
        /// The kind of the field.
        expected: &'static str,
        /// The kind of the value.
        found: &'static str,
    },
    /// The index has no fields to order by, so [`RowQuery::only`](crate::RowQuery::only) has none to compare.
    #[error(
        "the index `{index}` of `{model}` orders by no field: leave out `only`, or add a field to the index"
    )]
    #[non_exhaustive]
    NoOrder {
        /// The read model.
        model: &'static str,
        /// The index.
        index: String,
    },
    /// A page token is damaged, or comes from another query.
    #[error(
        "the page token does not belong to this query of `{model}`: pass the `next` of a page of the same query, or `None`"
    )]
    #[non_exhaustive]
    PageToken {
        /// The read model.
        model: &'static str,
    },
    /// A row cannot be encoded, or not be read back.
    #[error("a row of `{model}` cannot be stored: {reason}")]
    #[non_exhaustive]
    Encode {
        /// The read model.
        model: &'static str,
        /// What is wrong, without quoting the row.
        reason: String,
    },
    /// A stored row does not fit the type.
    #[error("a row of `{model}` cannot be read: {reason}; rebuild the projection when the row has changed")]
    #[non_exhaustive]
    Decode {
        /// The read model.
        model: &'static str,
        /// What is wrong, without quoting the row.
        reason: String,
    },
    /// The index is not one of the read model's.
    #[error("`{model}` has no index `{index}` (known: {known})")]
    #[non_exhaustive]
    UnknownIndex {
        /// The read model.
        model: &'static str,
        /// The index that was asked for.
        index: String,
        /// The indexes that there are, separated by commas.
        known: String,
    },
    /// A change outside of a projection that a projector runs.
    #[error(
        "`{model}` is changed by a projection alone: put `#[read_model]` on the field that holds it, and run the projection"
    )]
    #[non_exhaustive]
    NotInProjection {
        /// The read model.
        model: &'static str,
    },
    /// The state of the projection cannot be read.
    #[error(transparent)]
    Projector(Box<ProjectorError>),
}

impl ReadModelError {
    /// Returns whether the condition may pass: see [`StoreError::is_transient`].
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Projector(error) => error.is_transient(),
            _ => false,
        }
    }
}

impl From<ProjectorError> for ReadModelError {
    fn from(error: ProjectorError) -> Self {
        match error {
            ProjectorError::Store(error) => Self::Store(error),
            error => Self::Projector(Box::new(error)),
        }
    }
}
