//! Why a set was not written.

use crate::store::{Claimed, Conflict, Marker, StoreError};

/// Why a [`WriteSet`](crate::store::WriteSet) was not written; none of it was, except perhaps after
/// [`StoreError::Unavailable`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A stream is not at the expected version.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// It was done before, under the same key.
    #[error("this was done before, under the same key")]
    Done(Marker),
    /// Another stream holds a claim.
    #[error(transparent)]
    Claimed(#[from] Claimed),
    /// The condition of one of the caller's own writes failed.
    #[error(transparent)]
    Refused(#[from] WriteRefused),
    /// The store could not write.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl WriteError {
    /// Returns whether the condition may pass: see [`StoreError::is_transient`].
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }
}

/// The condition of one of the caller's own writes failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the condition of the joined write {index} failed, counted from 0")]
#[non_exhaustive]
pub struct WriteRefused {
    /// Which of the writes it was, counted from 0.
    pub index: usize,
}

impl WriteRefused {
    /// The write `index`, counted from 0.
    #[must_use]
    pub fn new(index: usize) -> Self {
        Self { index }
    }
}
