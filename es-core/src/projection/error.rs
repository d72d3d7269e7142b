//! What can go wrong in a projection.

use std::error::Error;
use std::time::Duration;

use super::BoxError;
use crate::documents::ChangeError;
use crate::event::DecodeError;
use crate::feed::Slice;
use crate::publish::{PublishError, Unpublished};
use crate::read_model::ReadModelError;
use crate::repository::TransactionError;
use crate::store::{AppendError, Conflict, StoreError, WriteError};
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
    Handler(#[source] BoxError),
    /// The handler panicked, or took too long.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The event cannot be handled yet, because of what other workers are doing. It is retried until it can be,
    /// and never counts as failed.
    #[error("{0}")]
    Later(#[source] BoxError),
    /// Another worker has the slice.
    #[error("another worker has the slice")]
    Lost,
}

impl ProjectError {
    /// Returns whether the event is not at fault, and is handled again until the condition has passed: see
    /// [`Transient`].
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Handler(error) => is_transient(&**error),
            Self::Decode(_) | Self::Interrupted(_) | Self::Later(_) | Self::Lost => false,
        }
    }
}

/// User code that panicked, or did not return in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Interrupted {
    /// It panicked with this message.
    #[error("user code panicked: {0}")]
    Panicked(String),
    /// It did not return within its [timeout](crate::projection::ProjectorBuilder::handler_timeout).
    #[error("user code did not return within {0:?}")]
    TimedOut(Duration),
}

/// Marks an error as not the event's fault: a service that the handler calls is unavailable, say.
///
/// A handler that returns it is called again, with growing delays, until the condition has passed. The event is never
/// parked for it, and the slice does not stop; [`Progress`](super::Progress) shows the delay. Errors of a store are
/// recognized without it, also as the source of another error:
/// [`StoreError`](crate::StoreError::is_transient) says which.
///
/// ```
/// use es_core::BoxError;
/// use es_core::projection::Transient;
///
/// # fn ask_the_service() -> Result<u32, std::io::Error> { Err(std::io::ErrorKind::ConnectionRefused.into()) }
/// fn handle() -> Result<(), BoxError> {
///     let answer = ask_the_service().map_err(Transient::new)?;
///     println!("{answer}");
///     Ok(())
/// }
/// # assert!(handle().unwrap_err().is::<Transient>());
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Transient(#[source] BoxError);

impl Transient {
    /// Marks `cause` as transient.
    #[must_use]
    pub fn new(cause: impl Into<BoxError>) -> Self {
        Self(cause.into())
    }
}

/// Returns whether an error is transient: the outermost error in its chain of sources whose type says so decides.
pub(crate) fn is_transient(error: &(dyn Error + 'static)) -> bool {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(is_transient) = known(error) {
            return is_transient;
        }
        current = error.source();
    }
    false
}

/// Whether an error is transient, if its type is one that says so. `ExecuteError` is generic, and found by its source:
/// a store's error, or a conflict, which passes.
fn known(error: &(dyn Error + 'static)) -> Option<bool> {
    fn of<E: Error + 'static>(error: &(dyn Error + 'static), is_transient: fn(&E) -> bool) -> Option<bool> {
        error.downcast_ref().map(is_transient)
    }
    of(error, |_: &Transient| true)
        .or_else(|| of(error, StoreError::is_transient))
        .or_else(|| of(error, |_: &Conflict| true))
        .or_else(|| of(error, ReadModelError::is_transient))
        .or_else(|| of(error, TransactionError::is_transient))
        .or_else(|| of(error, ChangeError::is_transient))
        .or_else(|| of(error, WriteError::is_transient))
        .or_else(|| of(error, AppendError::is_transient))
        .or_else(|| of(error, PublishError::is_transient))
        .or_else(|| of(error, |error: &Unpublished| error.cause.is_transient()))
        .or_else(|| of(error, ProjectError::is_transient))
        .or_else(|| of(error, ProjectorError::is_transient))
        .or_else(|| of(error, WaitError::is_transient))
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

impl ProjectorError {
    /// Returns whether the condition may pass: see [`StoreError::is_transient`].
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }

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

impl WaitError {
    /// Returns whether the condition may pass: see [`StoreError::is_transient`].
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Projector(error) if error.is_transient())
    }
}

impl From<StoreError> for WaitError {
    fn from(error: StoreError) -> Self {
        Self::Projector(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Cost;
    use crate::documents::DocumentKey;
    use crate::repository::ExecuteError;
    use crate::store::DeadlineExceeded;
    use crate::version::ExpectedVersion;

    fn store_error() -> StoreError {
        StoreError::unavailable("no response")
    }

    #[derive(Debug, thiserror::Error)]
    #[error("the orders could not be read")]
    struct Wrapped(#[source] BoxError);

    #[test]
    fn every_error_of_a_store_is_recognized() {
        let stream = StreamId::new("account", "ann").expect("a valid stream");
        let conflict = Conflict::new(stream, ExpectedVersion::NoStream, None, Cost::write(1.0));
        let deadline = DeadlineExceeded::new(Duration::from_secs(1), false, None);
        let transient: [BoxError; 13] = [
            store_error().into(),
            ReadModelError::Store(store_error()).into(),
            ReadModelError::Projector(Box::new(ProjectorError::Store(store_error()))).into(),
            ChangeError::Store(store_error()).into(),
            WriteError::Store(store_error()).into(),
            AppendError::Store(store_error()).into(),
            ExecuteError::<std::fmt::Error>::Store(store_error()).into(),
            ExecuteError::<std::fmt::Error>::Store(StoreError::DeadlineExceeded(deadline)).into(),
            ExecuteError::<std::fmt::Error>::Conflict(conflict).into(),
            ProjectError::Handler(store_error().into()).into(),
            WaitError::Projector(store_error().into()).into(),
            PublishError::transient("the broker is down").into(),
            Transient::new("the service is down").into(),
        ];
        for error in transient {
            assert!(is_transient(&*error), "{error:?}");
            assert!(is_transient(&Wrapped(error)), "as the source of another error");
        }
    }

    #[test]
    fn errors_about_the_data_are_not_transient() {
        let stream = StreamId::new("account", "ann").expect("a valid stream");
        let conflict = Conflict::new(stream, ExpectedVersion::NoStream, None, Cost::write(1.0));
        let permanent: [BoxError; 8] = [
            "a bug in the handler".into(),
            StoreError::invalid("a name without characters").into(),
            ChangeError::outdated(&DocumentKey::new("collection", "name")).into(),
            ExecuteError::Rejected(std::fmt::Error).into(),
            // The expected version is the caller's, and a retry expects it again.
            ExecuteError::<std::fmt::Error>::Outdated(conflict.clone()).into(),
            AppendError::Conflict(conflict).into(),
            ProjectError::Later("another reaction has begun".into()).into(),
            // The outermost type that says so decides.
            PublishError::permanent(store_error()).into(),
        ];
        for error in permanent {
            assert!(!is_transient(&*error), "{error:?}");
            assert!(!is_transient(&Wrapped(error)));
        }
    }
}
