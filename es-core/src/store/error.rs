//! The errors of a store.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::cost::Cost;
use crate::event::{DecodeError, EncodeError};
use crate::feed::FeedError;
use crate::store::{Claimed, ClosedStream, Commit, IdempotencyRecord, MAX_ITEM_BYTES, is_erased};
use crate::stream_id::{InvalidStreamId, StreamId};
use crate::version::{ExpectedVersion, Version};

type Cause = Box<dyn Error + Send + Sync>;

/// An error of a store. Its text never contains payloads or metadata.
///
/// ```
/// use es_core::StoreError;
///
/// /// Returns the HTTP status of a failed write.
/// fn status(error: &StoreError) -> u16 {
///     match error {
///         StoreError::Invalid { .. } => 400,
///         StoreError::TooLarge { .. } => 413,
///         StoreError::Throttled(_) => 503,
///         // Repeat the identical write to find out.
///         error if error.is_outcome_unknown() => 504,
///         error if error.is_transient() => 503,
///         _ => 500,
///     }
/// }
/// # assert_eq!(status(&StoreError::invalid("no")), 400);
/// # assert_eq!(status(&StoreError::unavailable("no response")), 504);
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The request is invalid.
    #[error("{reason}")]
    #[non_exhaustive]
    Invalid {
        /// The problem, and what to do.
        reason: String,
    },
    /// An event, a commit, or a transaction is too large.
    #[error("{what} has {bytes} bytes, the limit is {limit}{}", advised(*.advice))]
    #[non_exhaustive]
    TooLarge {
        /// The name of the data.
        what: String,
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
        /// What to do, if a setting of the store raises the limit.
        advice: Option<&'static str>,
    },
    /// An event cannot be stored.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A stored event cannot be decoded.
    #[error("the stream `{stream}` cannot be read at version {version}: {error}")]
    #[non_exhaustive]
    Decode {
        /// The stream.
        stream: StreamId,
        /// The event's version.
        version: Version,
        /// The reason.
        error: DecodeError,
    },
    /// Stored data cannot be read, or contradicts other stored data.
    #[error("{what} is corrupt: {reason}")]
    #[non_exhaustive]
    Corrupt {
        /// The name of the data, such as "the stream `order#1001`".
        what: String,
        /// The problem.
        reason: String,
    },
    /// The stream is closed.
    #[error(transparent)]
    Closed(Box<ClosedStream>),
    /// The feed cannot be read from a position.
    #[error(transparent)]
    Feed(Box<FeedError>),
    /// The request was throttled, and nothing was written. A store returns [`Unavailable`](Self::Unavailable) instead
    /// if an earlier attempt, such as one of its client, may have been executed.
    #[error("the store is throttling requests")]
    Throttled(#[source] Cause),
    /// The store did not respond, or its response could not be read. The outcome of a write is unknown: an attempt may
    /// have been executed, even if the last one was refused.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The table, the permissions, the credentials, or the clock are not set up correctly.
    #[error("{reason}")]
    #[non_exhaustive]
    Setup {
        /// The part of the setup with the problem.
        kind: SetupKind,
        /// The problem, and what to do.
        reason: String,
        /// The error of the store.
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
    /// Returns an error about the request.
    #[must_use]
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid { reason: reason.into() }
    }

    /// Returns the error of a request without a readable response.
    #[must_use]
    pub fn unavailable(cause: impl Into<Cause>) -> Self {
        Unavailable { outcome_unknown: true, cause: cause.into() }.into()
    }

    /// Returns the error of a request that did not reach the store, so that a write was not carried out.
    #[must_use]
    pub fn unreachable(cause: impl Into<Cause>) -> Self {
        Unavailable { outcome_unknown: false, cause: cause.into() }.into()
    }

    /// Returns the error of data that exceeds a size limit.
    #[must_use]
    pub fn too_large(what: impl Into<String>, bytes: u64, limit: u64) -> Self {
        Self::TooLarge { what: what.into(), bytes, limit, advice: None }
    }

    /// Returns the error of an event or a snapshot that does not fit into an item, in a store without a payload store.
    #[must_use]
    pub fn needs_payload_store(what: impl Into<String>, bytes: u64) -> Self {
        let advice = "to store larger events and snapshots, give the store a payload store with `payloads`";
        Self::TooLarge { what: what.into(), bytes, limit: MAX_ITEM_BYTES, advice: Some(advice) }
    }

    /// Returns the error of a transaction with too many items.
    #[must_use]
    pub fn too_many_items(items: usize, limit: usize) -> Self {
        Self::invalid(format!(
            "a transaction of {items} items is too large, the limit is {limit}: use fewer aggregates, claims, or additional writes"
        ))
    }

    /// Returns an error about the stored data of a stream.
    #[must_use]
    pub fn corrupt(stream: &StreamId, reason: impl Into<String>) -> Self {
        Self::corrupt_item(format!("the stream `{stream}`"), reason)
    }

    /// Returns an error about stored data other than streams, such as a document.
    #[must_use]
    pub fn corrupt_item(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into(), reason: reason.into() }
    }

    /// Returns an error about a stored event that cannot be decoded.
    #[must_use]
    pub fn decode(stream: &StreamId, version: Version, error: DecodeError) -> Self {
        Self::Decode { stream: stream.clone(), version, error }
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

    /// Returns the error of personal data that a store without a keyring cannot write.
    #[must_use]
    pub(crate) fn without_keyring() -> Self {
        Self::setup(
            "personal data cannot be stored without a keyring: create the store with `SealedStore::new(store, keyring)`, and use \
             it for repositories, transactions, projectors, and read models",
            None,
        )
    }

    /// Returns whether the identical request may succeed if it is repeated soon, because it was throttled or had no
    /// readable response. Always `true` if the outcome of a write is unknown, because the repetition resolves it.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Throttled(_) | Self::Unavailable(_) | Self::DeadlineExceeded(_))
    }

    /// Returns whether the condition may pass without a change to the data or the code: throttling, an outage, expired
    /// credentials, or a missing permission or table. Consumers wait until such a condition has passed, and never store
    /// it as a failure. Returns `false` for errors about stored or rejected data.
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
            | Self::Closed(_)
            | Self::Feed(_) => false,
        }
    }

    /// Returns whether a write that failed with this error may have been executed, or may still be. Repeat the
    /// identical write to find out: a commit is recognized by its id, a change of documents by its revision.
    ///
    /// If this returns `false`, the write was not executed, and never will be. Always `false` for loads of a
    /// [`Repository`](crate::Repository), which write nothing.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Unavailable(unavailable) => unavailable.outcome_unknown,
            Self::DeadlineExceeded(exceeded) => exceeded.outcome_unknown,
            _ => false,
        }
    }

    /// Converts this error to the error of a read, whose outcome cannot be unknown.
    pub(crate) fn of_read(mut self) -> Self {
        if let Self::Unavailable(unavailable) = &mut self {
            unavailable.outcome_unknown = false;
        }
        self
    }

    /// Returns a copy of this error, which shares its cause: for several commands that fail together.
    pub(crate) fn duplicate(&mut self) -> Self {
        match self {
            Self::Invalid { reason } => Self::Invalid { reason: reason.clone() },
            Self::TooLarge { what, bytes, limit, advice } => {
                Self::TooLarge { what: what.clone(), bytes: *bytes, limit: *limit, advice: *advice }
            }
            Self::Encode(error) => Self::Encode(error.clone()),
            Self::Decode { stream, version, error } => Self::decode(stream, *version, error.clone()),
            Self::Corrupt { what, reason } => Self::corrupt_item(what.clone(), reason.clone()),
            Self::Closed(closed) => Self::Closed(closed.clone()),
            Self::Feed(error) => Self::Feed(error.clone()),
            Self::Throttled(cause) => Self::Throttled(SharedCause::of(cause)),
            Self::Unavailable(Unavailable { outcome_unknown, cause }) => {
                Unavailable { outcome_unknown: *outcome_unknown, cause: SharedCause::of(cause) }.into()
            }
            Self::Setup { kind, reason, source } => {
                Self::setup_of(*kind, reason.clone(), source.as_mut().map(SharedCause::of))
            }
            Self::Backend(cause) => Self::Backend(SharedCause::of(cause)),
            Self::DeadlineExceeded(DeadlineExceeded { limit, outcome_unknown, last }) => {
                let last = last.as_mut().map(SharedCause::of);
                DeadlineExceeded { limit: *limit, outcome_unknown: *outcome_unknown, last }.into()
            }
        }
    }

    /// Converts this error of a read to the error of a command that was executed, but whose outcome could not be read.
    pub(crate) fn after_a_write(self) -> Self {
        match self {
            Self::DeadlineExceeded(exceeded) => DeadlineExceeded { outcome_unknown: true, ..exceeded }.into(),
            Self::Unavailable(unavailable) => Unavailable { outcome_unknown: true, ..unavailable }.into(),
            error if error.is_transient() => Self::unavailable(error),
            error => error,
        }
    }
}

/// The part of the setup that a [`StoreError::Setup`] or a [`PayloadError::Setup`] is about.
///
/// [`PayloadError::Setup`]: crate::payloads::PayloadError::Setup
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetupKind {
    /// The table or the schema: it does not exist, or it differs from the expected one.
    Storage,
    /// The credentials or the permissions.
    Access,
    /// Another part, such as the clock, the configuration of the client, a file, or a bucket.
    Other,
}

fn advised(advice: Option<&str>) -> String {
    advice.map(|advice| format!(": {advice}")).unwrap_or_default()
}

/// A cause that several errors have. It has the text and the causes of the original.
#[derive(Clone)]
struct SharedCause(Arc<dyn Error + Send + Sync>);

impl SharedCause {
    /// Returns a copy of `cause`, after making it one that can be shared.
    fn of(cause: &mut Cause) -> Cause {
        if let Some(shared) = cause.downcast_ref::<Self>() {
            return Box::new(shared.clone());
        }
        let shared = Self(Arc::from(std::mem::replace(cause, Cause::from(""))));
        *cause = Box::new(shared.clone());
        Box::new(shared)
    }
}

impl fmt::Debug for SharedCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for SharedCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for SharedCause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl From<ClosedStream> for StoreError {
    fn from(closed: ClosedStream) -> Self {
        Self::Closed(Box::new(closed))
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
    /// Whether a write may have been executed.
    pub outcome_unknown: bool,
    #[source]
    cause: Cause,
}

/// The deadline of a command or a load passed, see
/// [`RepositoryBuilder::deadline`](crate::repository::RepositoryBuilder::deadline).
///
/// Its [`source`](Error::source) is the last failure before the deadline, if there was one.
#[derive(Debug)]
#[non_exhaustive]
pub struct DeadlineExceeded {
    /// The deadline of the command or the load.
    pub limit: Duration,
    /// Whether a write may have been executed: it was sent, but its outcome is unknown.
    pub outcome_unknown: bool,
    last: Option<Cause>,
}

impl DeadlineExceeded {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, outcome_unknown: false, last: None }
    }

    pub(crate) fn with_outcome_unknown(self, outcome_unknown: bool) -> Self {
        Self { outcome_unknown, ..self }
    }

    /// Sets the error of the last attempt.
    pub(crate) fn with_last(self, last: impl Into<Cause>) -> Self {
        Self { last: Some(last.into()), ..self }
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

/// A conflict: the stream is not at the version that an append expects.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the stream `{stream}` {}{}", missed(*.expected), found(*.actual))]
#[non_exhaustive]
pub struct Conflict {
    /// The stream.
    pub stream: StreamId,
    /// The expected version.
    pub expected: ExpectedVersion,
    /// A version that the stream has reached, if known. The stream may have changed since.
    pub actual: Option<Version>,
    /// The winner of the race: all commits of the append right after the expected version, if the store knows them
    /// without another request. Empty if they must be read, for example because they are stored in parts.
    pub commits: Vec<Commit>,
    /// The cost of the attempt.
    pub cost: Cost,
}

fn missed(expected: ExpectedVersion) -> String {
    match expected {
        ExpectedVersion::NoStream => "is not new".to_owned(),
        expected => format!("is not at {expected}"),
    }
}

fn found(actual: Option<Version>) -> String {
    match actual {
        Some(Version::NONE) => ": it has no events".to_owned(),
        Some(version) => format!(": it has reached version {version}"),
        None => String::new(),
    }
}

impl Conflict {
    /// Returns the conflict of an append with a stream that has reached the version `actual`.
    #[must_use]
    pub fn new(stream: StreamId, expected: ExpectedVersion, actual: Option<Version>, cost: Cost) -> Self {
        Self { stream, expected, actual, commits: Vec::new(), cost }
    }

    /// Returns whether the commits were erased, because the stream is deleted or archived.
    pub(crate) fn is_erased(&self) -> bool {
        self.commits.iter().flat_map(|commit| &commit.events).any(is_erased)
    }

    /// Adds all commits of the append right after the expected version.
    #[must_use]
    pub fn with_commits(mut self, commits: Vec<Commit>) -> Self {
        self.commits = commits;
        self
    }
}

/// The error of an append.
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
    /// Returns whether another writer was faster.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    /// Returns whether the condition may pass: see [`StoreError::is_transient`].
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }

    /// Returns whether the same append may succeed later. A conflict needs a new decision instead.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retryable())
    }
}

/// The error of writing a [`WriteSet`](crate::store::WriteSet). Nothing was written, unless the outcome is
/// [unknown](StoreError::is_outcome_unknown).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A stream is not at the expected version.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The idempotency key already has a record.
    #[error("the set was written before, under the same idempotency key")]
    AlreadyDone(IdempotencyRecord),
    /// Another stream holds a claim.
    #[error(transparent)]
    Claimed(#[from] Claimed),
    /// The condition of an additional write failed.
    #[error(transparent)]
    Refused(#[from] WriteRefused),
    /// The store could not write.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<AppendError> for WriteError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Conflict(conflict) => conflict.into(),
            AppendError::Store(error) => error.into(),
        }
    }
}

impl WriteError {
    /// Returns whether the condition may pass: see [`StoreError::is_transient`].
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }
}

/// The condition of an additional write failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the condition of the additional write {index} failed, counted from 0")]
#[non_exhaustive]
pub struct WriteRefused {
    /// The number of the write, counted from 0.
    pub index: usize,
}

impl WriteRefused {
    /// Returns the error of the write `index`, counted from 0.
    #[must_use]
    pub fn new(index: usize) -> Self {
        Self { index }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error_text;
    use crate::event::EncodeError;
    use crate::feed::{Position, Slice};
    use crate::store::StreamState;

    #[derive(Debug, thiserror::Error)]
    #[error("the connection was reset")]
    struct Reset {
        source: std::io::Error,
    }

    fn reset() -> Cause {
        Box::new(Reset { source: std::io::Error::other("broken pipe") })
    }

    #[test]
    fn duplicates_have_the_kind_the_outcome_and_the_causes_of_the_original() {
        let stream = StreamId::new("account", "ann").expect("a valid stream");
        let beyond_end =
            FeedError::BeyondEnd { slice: Slice::new(0), position: Position::new(2), end: Position::new(1) };
        let errors = [
            StoreError::invalid("the id is empty"),
            StoreError::too_large("a commit", 2, 1),
            StoreError::needs_payload_store("an event", 500_000),
            EncodeError::new("Rated", "it is not a number").into(),
            StoreError::decode(&stream, Version::new(3), DecodeError::unknown_name("Lost", &[])),
            StoreError::corrupt(&stream, "a version is missing"),
            ClosedStream::new(stream.clone(), Version::new(4), StreamState::Closed).into(),
            beyond_end.into(),
            StoreError::Throttled(reset()),
            StoreError::unavailable(reset()),
            StoreError::unavailable(reset()).of_read(),
            StoreError::setup("the table is missing", Some(reset())),
            StoreError::setup("the table is missing", None),
            StoreError::Backend(reset()),
            DeadlineExceeded::new(Duration::from_secs(1))
                .with_outcome_unknown(true)
                .with_last(reset())
                .into(),
            DeadlineExceeded::new(Duration::from_secs(1)).into(),
        ];
        for mut error in errors {
            let (text, debug) = (error_text(&error), format!("{error:?}"));
            let kind = std::mem::discriminant(&error);
            let (is_unknown, is_transient) = (error.is_outcome_unknown(), error.is_transient());
            let copies = [error.duplicate(), error.duplicate().duplicate(), error];
            for copy in copies {
                assert_eq!((error_text(&copy), format!("{copy:?}")), (text.clone(), debug.clone()));
                assert_eq!(std::mem::discriminant(&copy), kind);
                assert_eq!((copy.is_outcome_unknown(), copy.is_transient()), (is_unknown, is_transient));
            }
        }
    }
}
