//! What can go wrong in a store.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::cost::Cost;
use crate::event::{DecodeError, EncodeError};
use crate::feed::FeedError;
use crate::stream_id::{InvalidStreamId, StreamId};
use crate::version::{ExpectedVersion, Version};

type Cause = Box<dyn Error + Send + Sync>;

/// A store that could not do what it was asked to.
///
/// Payloads and metadata are never quoted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The request cannot be carried out as it stands.
    #[error("{reason}")]
    #[non_exhaustive]
    Invalid {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Something is larger than the store can hold.
    #[error("{what} has {bytes} bytes, the limit is {limit}")]
    #[non_exhaustive]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// An event cannot be stored.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A stored event cannot be read.
    #[error("the stream `{stream}` cannot be read at version {version}: {error}")]
    #[non_exhaustive]
    Decode {
        /// The stream.
        stream: StreamId,
        /// The event's version.
        version: Version,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// What is stored contradicts itself.
    #[error("the stream `{stream}` is damaged: {reason}")]
    #[non_exhaustive]
    Corrupt {
        /// The stream.
        stream: StreamId,
        /// What contradicts.
        reason: String,
    },
    /// What is stored beside the streams cannot be read.
    #[error("{what} is damaged: {reason}")]
    #[non_exhaustive]
    Damaged {
        /// What it is, by its name.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The feed cannot be read on from a position.
    #[error(transparent)]
    Feed(Box<FeedError>),
    /// The request was throttled, and nothing was written. A store returns [`Unavailable`](Self::Unavailable)
    /// instead if an earlier attempt, such as one that its client retried, may have been carried out.
    #[error("the store is throttling requests")]
    Throttled(#[source] Cause),
    /// The store did not respond, or its response could not be read. Whether a write was carried out is unknown:
    /// an attempt may have been, even if the last one was refused.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The store is not set up as it has to be.
    #[error("{reason}")]
    #[non_exhaustive]
    Setup {
        /// What is missing or different, and what to do.
        reason: String,
        /// What the store said.
        #[source]
        source: Option<Cause>,
    },
    /// The store failed for another reason.
    #[error("the store failed")]
    Backend(#[source] Cause),
    /// The deadline of a command or a load passed.
    #[error(transparent)]
    DeadlineExceeded(#[from] DeadlineExceeded),
}

impl StoreError {
    /// A request that cannot be carried out as it stands.
    #[must_use]
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid { reason: reason.into() }
    }

    /// A request without a readable response.
    #[must_use]
    pub fn unavailable(cause: impl Into<Cause>) -> Self {
        Unavailable { outcome_unknown: true, cause: cause.into() }.into()
    }

    /// Something larger than the store can hold.
    #[must_use]
    pub fn too_large(what: impl Into<String>, bytes: u64, limit: u64) -> Self {
        Self::TooLarge { what: what.into(), bytes, limit }
    }

    /// A transaction of more items than the store takes.
    #[must_use]
    pub fn too_many_items(items: usize, limit: usize) -> Self {
        Self::invalid(format!(
            "a transaction of {items} items is too large, the limit is {limit}: take fewer aggregates, claims or joined writes"
        ))
    }

    /// A stream that contradicts itself.
    #[must_use]
    pub fn corrupt(stream: &StreamId, reason: impl Into<String>) -> Self {
        Self::Corrupt { stream: stream.clone(), reason: reason.into() }
    }

    /// Something beside the streams that cannot be read.
    #[must_use]
    pub fn damaged(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Damaged { what: what.into(), reason: reason.into() }
    }

    /// A stored event that cannot be read.
    #[must_use]
    pub fn decode(stream: &StreamId, version: Version, error: DecodeError) -> Self {
        Self::Decode { stream: stream.clone(), version, error }
    }

    /// A store that is not set up as it has to be.
    #[must_use]
    pub fn setup(reason: impl Into<String>, source: Option<Cause>) -> Self {
        Self::Setup { reason: reason.into(), source }
    }

    /// Returns whether repeating the very same request soon may succeed: it was throttled, or it had no readable
    /// response. Always `true` if the outcome of a write is unknown, because the repetition resolves it.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Throttled(_) | Self::Unavailable(_) | Self::DeadlineExceeded(_))
    }

    /// Returns whether the condition may pass without a change to the data or to the code: throttling, an outage,
    /// expired credentials, a missing permission or table. Consumers wait such conditions out, and never store them
    /// as failures; `false` for errors about what is stored or was to be stored.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Throttled(_) | Self::Unavailable(_) | Self::Setup { .. } | Self::Backend(_) => true,
            Self::DeadlineExceeded(_) => true,
            Self::Invalid { .. }
            | Self::TooLarge { .. }
            | Self::Encode(_)
            | Self::Decode { .. }
            | Self::Corrupt { .. }
            | Self::Damaged { .. }
            | Self::Feed(_) => false,
        }
    }

    /// Returns whether a write that failed with this error may have been carried out, or may still be. Repeat the
    /// very same write to find out: a commit is recognized by its id, a change of documents by its revision.
    ///
    /// If this returns `false`, the write was not carried out, and never will be. It is always `false` for the loads
    /// of a [`Repository`](crate::Repository), which write nothing.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Unavailable(unavailable) => unavailable.outcome_unknown,
            Self::DeadlineExceeded(exceeded) => exceeded.outcome_unknown,
            _ => false,
        }
    }

    /// Returns this error as that of a read, which has no outcome that could be unknown.
    pub(crate) fn of_read(mut self) -> Self {
        if let Self::Unavailable(unavailable) = &mut self {
            unavailable.outcome_unknown = false;
        }
        self
    }

    /// Returns this error of a read as that of a command that was carried out, whose outcome could not be read.
    pub(crate) fn after_a_write(self) -> Self {
        match self {
            Self::DeadlineExceeded(exceeded) => DeadlineExceeded { outcome_unknown: true, ..exceeded }.into(),
            Self::Unavailable(unavailable) => Unavailable { outcome_unknown: true, ..unavailable }.into(),
            error if error.is_transient() => Self::unavailable(error),
            error => error,
        }
    }
}

impl From<FeedError> for StoreError {
    fn from(error: FeedError) -> Self {
        Self::Feed(Box::new(error))
    }
}

impl From<InvalidStreamId> for StoreError {
    fn from(error: InvalidStreamId) -> Self {
        Self::invalid(error.to_string())
    }
}

/// The store did not respond, or its response could not be read: see [`StoreError::unavailable`].
///
/// Its [`source`](Error::source) is the cause.
#[derive(Debug, thiserror::Error)]
#[error("the store is unavailable")]
#[non_exhaustive]
pub struct Unavailable {
    /// Whether a write may have been carried out.
    pub outcome_unknown: bool,
    #[source]
    cause: Cause,
}

/// The deadline of a command or a load passed, see
/// [`RepositoryBuilder::deadline`](crate::RepositoryBuilder::deadline).
///
/// Its [`source`](Error::source) is the last failure before the deadline, if there was one.
#[derive(Debug)]
#[non_exhaustive]
pub struct DeadlineExceeded {
    /// How long the command or the load could take.
    pub limit: Duration,
    /// Whether a write may have been carried out: it was sent, and no response says what became of it.
    pub outcome_unknown: bool,
    last: Option<Cause>,
}

impl DeadlineExceeded {
    pub(crate) fn new(limit: Duration, outcome_unknown: bool, last: Option<Cause>) -> Self {
        Self { limit, outcome_unknown, last }
    }
}

impl fmt::Display for DeadlineExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the deadline of {:?} passed", self.limit)?;
        if self.outcome_unknown {
            f.write_str(", and the events may have been recorded: load the aggregate to find out")?;
        }
        Ok(())
    }
}

impl Error for DeadlineExceeded {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.last.as_deref().map(|last| last as _)
    }
}

/// A stream that was not at the version that an append expected.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the stream `{stream}` is not at {expected}{}", found(*.actual))]
#[non_exhaustive]
pub struct Conflict {
    /// The stream.
    pub stream: StreamId,
    /// What the append expected.
    pub expected: ExpectedVersion,
    /// A version that the stream has reached, when the store knows one; it may have gone on since.
    pub actual: Option<Version>,
    /// What the attempt cost.
    pub cost: Cost,
}

fn found(actual: Option<Version>) -> String {
    match actual {
        Some(Version::NONE) => ": it has no events".to_owned(),
        Some(version) => format!(": it has reached version {version}"),
        None => String::new(),
    }
}

impl Conflict {
    /// The conflict of an append with a stream that has reached `actual`.
    #[must_use]
    pub fn new(stream: StreamId, expected: ExpectedVersion, actual: Option<Version>, cost: Cost) -> Self {
        Self { stream, expected, actual, cost }
    }
}

/// Why a commit was not appended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The stream is not at the expected version; nothing was stored.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The store could not append.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AppendError {
    /// Whether another writer came first.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    /// Returns whether the condition may pass: see [`StoreError::is_transient`].
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }

    /// Whether the same append may succeed later; a conflict needs a new decision instead.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retryable())
    }
}
