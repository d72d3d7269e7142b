//! Why a command was not carried out.

use std::error::Error;
use std::fmt;

use crate::store::{Claimed, Conflict, DeadlineExceeded, StoreError, WriteRefused};

/// Why a command was not carried out.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExecuteError<E> {
    /// The domain said no; nothing was recorded.
    Rejected(E),
    /// Other writers came first at every attempt; nothing was recorded.
    Conflict(Conflict),
    /// The aggregate is not at the version that the caller expects, see
    /// [`Request::expecting`](crate::Request::expecting); nothing was recorded.
    Outdated(Conflict),
    /// Another aggregate holds a claim that the command takes; nothing was recorded.
    Claimed(Claimed),
    /// The condition of a write that joined the command failed; nothing was recorded.
    Refused(WriteRefused),
    /// The idempotency key was used before for another command; nothing was recorded.
    KeyReused(KeyReused),
    /// The store failed. Whether the events were recorded may be unknown, see
    /// [`is_outcome_unknown`](Self::is_outcome_unknown).
    Store(StoreError),
}

impl<E> ExecuteError<E> {
    /// The domain's error, when it was the domain that said no.
    pub fn rejection(&self) -> Option<&E> {
        match self {
            Self::Rejected(error) => Some(error),
            _ => None,
        }
    }

    /// The claim that another aggregate holds, when that was the reason.
    pub fn claimed(&self) -> Option<&Claimed> {
        match self {
            Self::Claimed(claimed) => Some(claimed),
            _ => None,
        }
    }

    /// Whether other writers came first at every attempt.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    /// Whether the same command may succeed later, by itself. A rejection is the domain's final word on
    /// the state that it saw, and a claim is held until its holder gives it back.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Rejected(_)
            | Self::Outdated(_)
            | Self::Claimed(_)
            | Self::Refused(_)
            | Self::KeyReused(_) => false,
            Self::Conflict(_) => true,
            Self::Store(error) => error.is_retryable(),
        }
    }

    /// Returns whether the cause may pass without a change to the data or to the code: contention, or a
    /// [transient](StoreError::is_transient) failure of the store. Consumers wait such errors out, and never store
    /// them as failures.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Rejected(_)
            | Self::Outdated(_)
            | Self::Claimed(_)
            | Self::Refused(_)
            | Self::KeyReused(_) => false,
            Self::Conflict(_) => true,
            Self::Store(error) => error.is_transient(),
        }
    }

    /// Returns the deadline that passed, if that is the reason.
    pub fn deadline_exceeded(&self) -> Option<&DeadlineExceeded> {
        match self {
            Self::Store(StoreError::DeadlineExceeded(exceeded)) => Some(exceeded),
            _ => None,
        }
    }

    /// Returns whether the events may have been recorded: a write was sent, and no response says what became of it.
    /// `false` if the store failed before, such as when the aggregate could not be loaded.
    ///
    /// Repeating a command under an [idempotency key](crate::Request::once) is always safe. Without one, load the
    /// aggregate to find out. Also `true` if the command was carried out before under its key, but its outcome could
    /// not be read.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_outcome_unknown())
    }

    /// The same with another type of rejection: `error.map_rejection(MyError::from)`.
    pub fn map_rejection<F>(self, map: impl FnOnce(E) -> F) -> ExecuteError<F> {
        match self {
            Self::Rejected(error) => ExecuteError::Rejected(map(error)),
            Self::Conflict(conflict) => ExecuteError::Conflict(conflict),
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
            Self::Conflict(_) => f.write_str("other writers came first at every attempt"),
            Self::Outdated(conflict) => {
                write!(f, "the aggregate is not at the version that is expected: {conflict}")
            }
            Self::Claimed(_) => f.write_str("another aggregate holds a claim that the command takes"),
            Self::Refused(_) => f.write_str("a write that joined the command was refused"),
            Self::KeyReused(reused) => reused.fmt(f),
            Self::Store(_) => f.write_str("the command could not be carried out"),
        }
    }
}

impl<E: Error + 'static> Error for ExecuteError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(match self {
            Self::Rejected(error) => error,
            Self::Conflict(conflict) => conflict,
            // Part of the text. As a source, it would be taken for contention, which passes.
            Self::Outdated(_) => return None,
            Self::Claimed(claimed) => claimed,
            Self::Refused(refused) => refused,
            Self::KeyReused(reused) => return reused.source(),
            Self::Store(error) => error,
        })
    }
}

/// An idempotency key that was used before for another command, see
/// [`Request::fingerprint`](crate::Request::fingerprint).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the idempotency key was used before for another command ({}): use a new key for each command", first_use(.first.as_deref()))]
#[non_exhaustive]
pub struct KeyReused {
    /// The fingerprint of the first command under the key; `None` if that had none, but wrote other streams.
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
        Self::Store(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Cost;
    use crate::error_text;
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
    fn contention_and_outages_are_transient_and_rejections_are_not() {
        let stream = StreamId::new("account", "ann").expect("a valid stream");
        let conflict =
            Conflict::new(stream, ExpectedVersion::NoStream, Some(Version::new(1)), Cost::write(1.0));
        let unavailable = StoreError::unavailable("connection refused");
        for (error, transient) in [
            (ExecuteError::Rejected(TooLow), false),
            (ExecuteError::Outdated(conflict.clone()), false),
            (ExecuteError::Conflict(conflict), true),
            (ExecuteError::Store(unavailable), true),
            (ExecuteError::Store(StoreError::invalid("the id is empty")), false),
        ] {
            assert_eq!(error.is_transient(), transient, "{error:?}");
        }
    }
}
