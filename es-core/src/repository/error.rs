//! The errors of commands.

use std::error::Error;
use std::fmt;

use crate::store::{Claimed, ClosedStream, Conflict, DeadlineExceeded, StoreError, WriteRefused};

/// Why a command was not executed.
///
/// ```
/// use es_core::ExecuteError;
///
/// /// Returns the HTTP status for the error of a command.
/// fn status<E>(error: &ExecuteError<E>) -> u16 {
///     match error {
///         ExecuteError::Rejected(_) | ExecuteError::KeyReused(_) => 422,
///         ExecuteError::AlreadyExists(_) | ExecuteError::Claimed(_) => 409,
///         ExecuteError::Closed(_) => 410,
///         ExecuteError::Outdated(_) => 412,
///         error if error.is_retryable() => 503,
///         _ => 500,
///     }
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ExecuteError<E> {
    /// The aggregate rejected the command; nothing was recorded.
    Rejected(E),
    /// Every attempt ended with a conflict with another writer; nothing was recorded.
    Conflict(Conflict),
    /// The aggregate that the command was to [create](crate::Repository::create) exists already; nothing was recorded.
    AlreadyExists(Conflict),
    /// The stream of the aggregate is [closed](crate::Repository::close) for good; nothing was recorded.
    Closed(ClosedStream),
    /// The aggregate is not at the [expected version](crate::repository::Request::expected_version); nothing was
    /// recorded.
    Outdated(Conflict),
    /// Another aggregate holds a claim of the command; nothing was recorded.
    Claimed(Claimed),
    /// The condition of an [additional write](crate::repository::Request::with_writes) failed; nothing was recorded.
    Refused(WriteRefused),
    /// The idempotency key was already used for a different command; nothing was recorded.
    KeyReused(KeyReused),
    /// The store failed. Whether the events were recorded may be unknown, see
    /// [`is_outcome_unknown`](Self::is_outcome_unknown).
    Store(StoreError),
}

impl<E> ExecuteError<E> {
    /// Returns the domain's error if the aggregate rejected the command.
    pub fn rejection(&self) -> Option<&E> {
        match self {
            Self::Rejected(error) => Some(error),
            _ => None,
        }
    }

    /// Returns the claim that another aggregate holds, if the command failed because of it.
    pub fn claimed(&self) -> Option<&Claimed> {
        match self {
            Self::Claimed(claimed) => Some(claimed),
            _ => None,
        }
    }

    /// Returns whether the aggregate that the command was to [create](crate::Repository::create) exists already.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::AlreadyExists(_))
    }

    /// Returns the closed stream, if the command failed because its aggregate does not accept commands any more.
    pub fn closed(&self) -> Option<&ClosedStream> {
        match self {
            Self::Closed(closed) => Some(closed),
            _ => None,
        }
    }

    /// Returns whether every attempt ended with a conflict.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    /// Returns whether the same command may succeed if it is sent again soon: after a conflict, or a store that was
    /// throttling or unavailable.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Rejected(_)
            | Self::AlreadyExists(_)
            | Self::Closed(_)
            | Self::Outdated(_)
            | Self::Claimed(_)
            | Self::Refused(_)
            | Self::KeyReused(_) => false,
            Self::Conflict(_) => true,
            Self::Store(error) => error.is_retryable(),
        }
    }

    /// Returns whether the cause may disappear without a change to the data or the code: contention, or a
    /// [transient](StoreError::is_transient) failure of the store. Consumers wait until such an error has passed, and
    /// never store it as a failure.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Rejected(_)
            | Self::AlreadyExists(_)
            | Self::Closed(_)
            | Self::Outdated(_)
            | Self::Claimed(_)
            | Self::Refused(_)
            | Self::KeyReused(_) => false,
            Self::Conflict(_) => true,
            Self::Store(error) => error.is_transient(),
        }
    }

    /// Returns the deadline, if the command failed because it had passed.
    pub fn deadline_exceeded(&self) -> Option<&DeadlineExceeded> {
        match self {
            Self::Store(StoreError::DeadlineExceeded(exceeded)) => Some(exceeded),
            _ => None,
        }
    }

    /// Returns whether the events may have been recorded: a write was sent, but its outcome is unknown. `false` if the
    /// store failed before the write, for example while loading the aggregate.
    ///
    /// Repeating a command with an [idempotency key](crate::repository::Request::once) is always safe. Without a key,
    /// load the aggregate to find out. Also `true` if the command was executed earlier under its key, but its outcome
    /// could not be read.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_outcome_unknown())
    }

    /// Converts the rejection: `error.map_rejection(MyError::from)`.
    pub fn map_rejection<F>(self, map: impl FnOnce(E) -> F) -> ExecuteError<F> {
        match self {
            Self::Rejected(error) => ExecuteError::Rejected(map(error)),
            Self::Conflict(conflict) => ExecuteError::Conflict(conflict),
            Self::AlreadyExists(conflict) => ExecuteError::AlreadyExists(conflict),
            Self::Closed(closed) => ExecuteError::Closed(closed),
            Self::Outdated(conflict) => ExecuteError::Outdated(conflict),
            Self::Claimed(claimed) => ExecuteError::Claimed(claimed),
            Self::Refused(refused) => ExecuteError::Refused(refused),
            Self::KeyReused(reused) => ExecuteError::KeyReused(reused),
            Self::Store(error) => ExecuteError::Store(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for ExecuteError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(error) => write!(f, "the command was rejected: {error}"),
            Self::Conflict(_) => f.write_str("every attempt ended with a conflict with another writer"),
            Self::AlreadyExists(conflict) => write!(
                f,
                "the aggregate `{}` exists already{}: execute the command instead of creating it, or use another id",
                conflict.stream,
                conflict
                    .actual
                    .map_or_else(String::new, |version| format!(", at version {version} or later")),
            ),
            Self::Closed(closed) => closed.fmt(f),
            Self::Outdated(conflict) => write!(f, "the aggregate is not at the expected version: {conflict}"),
            Self::Claimed(claimed) => claimed.fmt(f),
            Self::Refused(refused) => refused.fmt(f),
            Self::KeyReused(reused) => reused.fmt(f),
            Self::Store(_) => f.write_str("the command could not be executed"),
        }
    }
}

impl<E: Error + 'static> Error for ExecuteError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(match self {
            Self::Rejected(error) => error,
            Self::Conflict(conflict) => conflict,
            // Part of the text. As a source, it would be taken for contention, which passes.
            Self::AlreadyExists(_) | Self::Outdated(_) => return None,
            Self::Closed(closed) => return closed.source(),
            Self::Claimed(claimed) => return claimed.source(),
            Self::Refused(refused) => return refused.source(),
            Self::KeyReused(reused) => return reused.source(),
            Self::Store(error) => error,
        })
    }
}

/// An idempotency key that was already used for a different command, see
/// [`Request::fingerprint`](crate::repository::Request::fingerprint).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the idempotency key was used before for another command ({}): use a new key for each command", first_use(.first.as_deref()))]
#[non_exhaustive]
pub struct KeyReused {
    /// The fingerprint of the first command under the key; `None` if that command had no fingerprint, but wrote to
    /// other streams.
    pub first: Option<String>,
}

impl KeyReused {
    pub(crate) fn new(first: Option<String>) -> Self {
        Self { first }
    }
}

fn first_use(first: Option<&str>) -> String {
    first.map_or_else(|| "for other streams".to_owned(), |first| format!("`{first}`"))
}

impl<E> From<StoreError> for ExecuteError<E> {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed(closed) => Self::Closed(*closed),
            error => Self::Store(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Cost;
    use crate::error_text;
    use crate::store::{Claim, StreamState};
    use crate::stream_id::StreamId;
    use crate::version::{ExpectedVersion, Version};

    #[derive(Debug, thiserror::Error)]
    #[error("the balance is too low")]
    struct TooLow;

    #[test]
    fn a_rejection_shows_its_reason_once() {
        let error = ExecuteError::Rejected(TooLow);
        assert_eq!(error.to_string(), "the command was rejected: the balance is too low");
        assert_eq!(error_text(&error), error.to_string());
        assert!(error.source().is_some_and(<dyn Error>::is::<TooLow>));
    }

    #[test]
    fn a_claim_and_its_holder_are_named_once() {
        let (ann, bob) =
            (StreamId::new("user", "ann").expect("valid"), StreamId::new("user", "bob").expect("valid"));
        let claim = Claim::new("email", "shared@example.com").expect("valid");
        let error = ExecuteError::<TooLow>::Claimed(Claimed::new(claim, Some(ann), bob));
        assert_eq!(error.to_string(), "the claim `email` of `user#bob` is held by `user#ann`");
        assert_eq!(error_text(&error), error.to_string());
    }

    #[test]
    fn contention_and_outages_are_transient_and_rejections_are_not() {
        let stream = StreamId::new("account", "ann").expect("a valid stream");
        let conflict =
            Conflict::new(stream, ExpectedVersion::NoStream, Some(Version::new(1)), Cost::write(1.0));
        let closed = ClosedStream::new(conflict.stream.clone(), Version::new(2), StreamState::Closed);
        let unavailable = StoreError::unavailable("connection refused");
        for (error, transient) in [
            (ExecuteError::Rejected(TooLow), false),
            (ExecuteError::AlreadyExists(conflict.clone()), false),
            (ExecuteError::Outdated(conflict.clone()), false),
            (ExecuteError::Closed(closed), false),
            (ExecuteError::Conflict(conflict), true),
            (ExecuteError::Store(unavailable), true),
            (ExecuteError::Store(StoreError::invalid("the id is empty")), false),
        ] {
            assert_eq!(error.is_transient(), transient, "{error:?}");
        }
    }
}
