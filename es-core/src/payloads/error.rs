//! The error of a payload store.

use std::error::Error;

use super::name::PayloadName;
use crate::store::{SetupKind, StoreError};

type Cause = Box<dyn Error + Send + Sync>;

/// An error of a [`PayloadStore`](super::PayloadStore). Its text never contains content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The object does not exist.
    #[error("the object `{name}` is missing from the payload store")]
    #[non_exhaustive]
    Missing {
        /// The name of the object.
        name: PayloadName,
    },
    /// The object does not have the expected content.
    #[error("the object `{name}` is corrupt: {reason}")]
    #[non_exhaustive]
    Corrupt {
        /// The name of the object.
        name: PayloadName,
        /// The problem.
        reason: String,
    },
    /// The request was throttled.
    #[error("the payload store is throttling requests")]
    Throttled(#[source] Cause),
    /// The payload store did not respond, or its response could not be read. The outcome of a write is unknown, and
    /// repeating it is safe.
    #[error("the payload store is unavailable")]
    Unavailable(#[source] Cause),
    /// The bucket, the directory, the permissions, or the credentials are not set up correctly.
    #[error("{reason}")]
    #[non_exhaustive]
    Setup {
        /// The part of the setup with the problem.
        kind: SetupKind,
        /// The problem, and what to do.
        reason: String,
        /// The error of the payload store.
        #[source]
        source: Option<Cause>,
    },
}

impl PayloadError {
    /// Returns the error of an object that does not exist.
    #[must_use]
    pub fn missing(name: &PayloadName) -> Self {
        Self::Missing { name: name.clone() }
    }

    /// Returns the error of an object with unexpected content.
    #[must_use]
    pub fn corrupt(name: &PayloadName, reason: impl Into<String>) -> Self {
        Self::Corrupt { name: name.clone(), reason: reason.into() }
    }

    /// Returns the error of a request without a readable response.
    #[must_use]
    pub fn unavailable(cause: impl Into<Cause>) -> Self {
        Self::Unavailable(cause.into())
    }

    /// Returns an error about the setup, of the kind [`Other`](SetupKind::Other).
    #[must_use]
    pub fn setup(reason: impl Into<String>, source: Option<Cause>) -> Self {
        Self::setup_of(SetupKind::Other, reason, source)
    }

    /// Returns an error about a part of the setup.
    #[must_use]
    pub fn setup_of(kind: SetupKind, reason: impl Into<String>, source: Option<Cause>) -> Self {
        Self::Setup { kind, reason: reason.into(), source }
    }

    /// Returns whether the identical request may succeed if it is repeated soon.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Throttled(_) | Self::Unavailable(_))
    }
}

/// The error of a request to the event store that needed the object. An object is written before the item that refers
/// to it, so the outcome of a write to the event store is never unknown after this error.
impl From<PayloadError> for StoreError {
    fn from(error: PayloadError) -> Self {
        match error {
            PayloadError::Missing { name } => Self::corrupt_item(
                format!("the object `{name}`"),
                "it is missing from the payload store: check that this is the payload store to which it was written",
            ),
            PayloadError::Corrupt { name, reason } => {
                Self::corrupt_item(format!("the object `{name}`"), reason)
            }
            PayloadError::Setup { kind, reason, source } => Self::setup_of(kind, reason, source),
            error @ PayloadError::Throttled(_) => Self::Throttled(error.into()),
            error @ PayloadError::Unavailable(_) => Self::unreachable(error),
        }
    }
}
