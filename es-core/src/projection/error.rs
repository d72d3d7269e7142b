//! What can go wrong in a projection.

use std::error::Error;

use super::BoxError;
use crate::event::DecodeError;
use crate::feed::Slice;
use crate::read_model::ReadModelError;
use crate::store::StoreError;
use crate::stream_id::StreamId;
use crate::version::Version;

/// Why a projection could not handle an event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectError {
    /// The event cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The handler failed.
    #[error("{0}")]
    Handler(BoxError),
    /// The event cannot be handled yet, because of what other workers are doing. It is retried until it can be,
    /// and never counts as failed.
    #[error("{0}")]
    Later(BoxError),
    /// Another worker has the slice.
    #[error("another worker has the slice")]
    Lost,
}

/// Why a projector ended, or could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectorError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the projector keeps in the store cannot be read.
    #[error("the document `{key}` of a projection cannot be read: {reason}")]
    #[non_exhaustive]
    Unreadable {
        /// The document.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The request does not fit how things stand.
    #[error("{reason}")]
    #[non_exhaustive]
    Invalid {
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl ProjectError {
    /// Whether it was the store's fault, and the same event may be handled later.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Decode(_) | Self::Later(_) | Self::Lost => false,
            Self::Handler(error) => is_retryable(&**error),
        }
    }
}

/// Whether an error, or what caused it, is a store that may do later what it was asked to.
pub(crate) fn is_retryable(error: &(dyn Error + 'static)) -> bool {
    let mut current = Some(error);
    while let Some(error) = current {
        let store = match error.downcast_ref() {
            Some(ReadModelError::Store(error)) => Some(error),
            _ => error.downcast_ref(),
        };
        if store.is_some_and(StoreError::is_retryable) {
            return true;
        }
        current = error.source();
    }
    false
}

impl ProjectorError {
    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid { reason: reason.into() }
    }
}

/// Why waiting for a projection ended without what was waited for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The time is over.
    #[error("the projection has not reached version {version} of `{stream}` in time")]
    #[non_exhaustive]
    TimedOut {
        /// The stream.
        stream: StreamId,
        /// The version that was waited for.
        version: Version,
    },
    /// The slice has stopped at an event that failed.
    #[error("the projection has stopped in slice {slice}: {reason}")]
    #[non_exhaustive]
    Stopped {
        /// The slice.
        slice: Slice,
        /// Why it stopped.
        reason: String,
    },
    /// The state of the projection cannot be read.
    #[error(transparent)]
    Projector(#[from] ProjectorError),
}

impl From<StoreError> for WaitError {
    fn from(error: StoreError) -> Self {
        Self::Projector(error.into())
    }
}
