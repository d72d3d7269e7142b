//! Errors of read models.

use crate::projection::ProjectorError;
use crate::store::StoreError;

/// An error from reading or changing a read model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadModelError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The type of a key or an index field has no order.
    #[error("`{model}` cannot have {reason} in a key: use a string, an integer, or a `bool`")]
    #[non_exhaustive]
    Key {
        /// The read model.
        model: &'static str,
        /// The rejected kind of value.
        reason: String,
    },
    /// A value has another serialized form than the key or the index field: its type can be borrowed from the field's
    /// type, but is serialized differently.
    #[error(
        "`{model}` was queried with {found}, but the field is serialized as {expected}: pass a value of the field's type"
    )]
    #[non_exhaustive]
    Mismatch {
        /// The read model.
        model: &'static str,
        /// The kind of the field.
        expected: &'static str,
        /// The kind of the value.
        found: &'static str,
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
    /// A row cannot be encoded, or cannot be decoded again.
    #[error("a row of `{model}` cannot be stored: {reason}")]
    #[non_exhaustive]
    Encode {
        /// The read model.
        model: &'static str,
        /// The reason, without the values of the row.
        reason: String,
    },
    /// A stored row does not match the row type.
    #[error(
        "a row of `{model}` cannot be decoded: {reason}; if the row type has changed, rebuild the projection"
    )]
    #[non_exhaustive]
    Decode {
        /// The read model.
        model: &'static str,
        /// The reason, without the values of the row.
        reason: String,
    },
    /// A change was made outside a projection that is run by a projector.
    #[error(
        "`{model}` can only be changed by a running projection: put `#[read_model]` on the field that holds it, and run the projection"
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
    /// Returns the error of a change outside a projection that is run by a projector.
    #[must_use]
    pub fn not_in_projection(model: &'static str) -> Self {
        Self::NotInProjection { model }
    }

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
