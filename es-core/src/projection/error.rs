//! Errors of projections and projectors.

use std::error::Error;
use std::time::Duration;

use super::BoxError;
use super::guard::caught;
use crate::documents::ChangeError;
use crate::error_text::chain;
use crate::event::DecodeError;
use crate::feed::Slice;
use crate::publish::{PublishError, Unpublished};
use crate::read_model::ReadModelError;
use crate::repository::TransactionError;
use crate::store::{AppendError, Conflict, StoreError, WriteError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// The error of a projection that could not handle an event.
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
    /// The event has to wait for other workers. It is retried, and never counted as failed.
    #[error("{0}")]
    Later(#[source] BoxError),
    /// Another worker holds the lease of the slice.
    #[error("another worker holds the lease of the slice")]
    Lost,
}

impl ProjectError {
    /// Returns whether the error is transient, so that the event is retried until it succeeds: see [`Transient`].
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

/// Marks an error as transient: for example, if a service that the handler calls is unavailable.
///
/// The handler is called again with exponential backoff until it succeeds. The event is not parked, and the slice
/// does not stop; [`Progress`](super::Progress) shows the delay. Errors of a store are recognized without this
/// marker, even as the source of another error: see [`StoreError`](crate::StoreError::is_transient).
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

/// Returns whether an error is transient. The outermost error in its chain of sources whose type is known decides.
pub(crate) fn is_transient(error: &(dyn Error + 'static)) -> bool {
    // The `source` of an error may be user code.
    caught(|| chain(error).find_map(known)).ok().flatten().unwrap_or(false)
}

/// Returns whether an error is transient, or `None` if its type is unknown. `ExecuteError` is generic, and is
/// recognized by its source: a store error, or a conflict, which is transient.
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

/// The error of a projector that ended, or of an operation on it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectorError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored document of the projector cannot be decoded.
    #[error("the document `{key}` of a projection cannot be read: {reason}")]
    #[non_exhaustive]
    Unreadable {
        /// The document.
        key: String,
        /// The reason.
        reason: String,
    },
    /// The operation is not valid in the current state.
    #[error("{reason}")]
    #[non_exhaustive]
    Invalid {
        /// The reason, and what to do.
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

/// The error from waiting for a projection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The timeout elapsed.
    #[error(
        "`{projection}` did not reach version {version} of `{stream}` before the timeout: {}",
        late(*.is_in_feed)
    )]
    #[non_exhaustive]
    TimedOut {
        /// The name of the projection, process, or publisher.
        projection: String,
        /// The stream.
        stream: StreamId,
        /// The awaited version.
        version: Version,
        /// Whether the event was found in the feed. If not, the indexer is behind or not running.
        is_in_feed: bool,
    },
    /// The slice has stopped at an event that failed.
    #[error("`{projection}` has stopped in slice {slice}: {reason}")]
    #[non_exhaustive]
    Stopped {
        /// The name of the projection, process, or publisher.
        projection: String,
        /// The slice.
        slice: Slice,
        /// The reason.
        reason: String,
    },
    /// The state of the projection cannot be read.
    #[error(transparent)]
    Projector(#[from] ProjectorError),
}

/// Returns what to check if an event is late.
fn late(is_in_feed: bool) -> &'static str {
    match is_in_feed {
        true => "it has not handled the event yet, so check that its projector is running",
        false => "the event was not found in the feed, so check that an indexer is running",
    }
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
        let deadline = DeadlineExceeded::new(Duration::from_secs(1));
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
