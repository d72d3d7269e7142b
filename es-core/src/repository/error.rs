//! Why a command was not carried out.

use std::error::Error;
use std::fmt;

use crate::store::{Conflict, StoreError};

/// Why a command was not carried out.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExecuteError<E> {
    /// The domain said no; nothing was recorded.
    Rejected(E),
    /// Other writers came first at every attempt; nothing was recorded.
    Conflict(Conflict),
    /// The store failed. After [`StoreError::Unavailable`] it is unknown whether the events were recorded:
    /// load the aggregate to see.
    Store(StoreError),
}

impl<E> ExecuteError<E> {
    /// The domain's error, when it was the domain that said no.
    pub fn rejection(&self) -> Option<&E> {
        match self {
            Self::Rejected(error) => Some(error),
            Self::Conflict(_) | Self::Store(_) => None,
        }
    }

    /// Whether other writers came first at every attempt.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    /// Whether the same command may succeed later, by itself. A rejection is the domain's final word on
    /// the state that it saw.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Rejected(_) => false,
            Self::Conflict(_) => true,
            Self::Store(error) => error.is_retryable(),
        }
    }
}

impl<E: fmt::Display> fmt::Display for ExecuteError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(_) => f.write_str("the command was rejected"),
            Self::Conflict(_) => f.write_str("other writers came first at every attempt"),
            Self::Store(_) => f.write_str("the command could not be carried out"),
        }
    }
}

impl<E: Error + 'static> Error for ExecuteError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(match self {
            Self::Rejected(error) => error,
            Self::Conflict(conflict) => conflict,
            Self::Store(error) => error,
        })
    }
}

impl<E> From<StoreError> for ExecuteError<E> {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
