//! Atomic writes of several streams, claims, an idempotency record, and additional writes.
//!
//! The limits are those of DynamoDB
//! ([quotas](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html)). Every store enforces
//! them, so that a test on the store in memory fails where production would.

use std::any::{Any, type_name};
use std::fmt;
use std::sync::Arc;

use crate::cost::Cost;
use crate::store::{Append, Appended, Claim, ClaimChange, NewIdempotencyRecord, StoreError};
use crate::stream_id::StreamId;
use crate::version::{ExpectedVersion, Version};

/// The maximum size of an event with the metadata of its commit, of a snapshot, and of a document, in bytes: 400 KB.
/// Names of attributes and some bytes of framing are included. This is DynamoDB's
/// [limit of an item](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html), which all stores
/// apply.
pub const MAX_ITEM_BYTES: u64 = 400 * 1024;

/// The maximum size of a commit, of a [`WriteSet`], and of a [`ChangeSet`](crate::documents::ChangeSet) in bytes: 4 MB.
pub const MAX_WRITE_BYTES: u64 = 4 * 1024 * 1024;

/// The maximum number of items that are written at once, as in a
/// [transaction of DynamoDB](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html).
///
/// A commit is one item for each [`MAX_ITEM_BYTES`] of its events. Each claim, document, unchanged stream, idempotency
/// key, and additional write is one item.
pub const MAX_WRITE_ITEMS: usize = 100;

/// Writes that a store executes atomically: all of them, or none.
///
/// ```
/// use es_core::store::{Append, NewCommit, WriteSet};
/// # use es_core::event::{CommitId, EventData};
/// # use es_core::{StreamId, Version};
/// # let commit = |id| NewCommit::new(CommitId::new(uuid::Uuid::from_u128(id)), chrono::DateTime::UNIX_EPOCH,
/// #     vec![EventData::new("Moved", 1, "{}")]);
/// let from = Append::after_loaded(StreamId::new("account", "ann")?, Version::new(4), commit(1));
/// let to = Append::after_loaded(StreamId::new("account", "bob")?, Version::NONE, commit(2));
/// let set = WriteSet::new().append(from).append(to);
/// # assert_eq!(set.appends().len(), 2);
/// # Ok::<_, es_core::stream_id::InvalidStreamId>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct WriteSet {
    appends: Vec<Append>,
    unchanged: Vec<(StreamId, Version)>,
    claims: Vec<ClaimChange>,
    idempotency: Option<NewIdempotencyRecord>,
    additional: Vec<AdditionalWrite>,
}

impl WriteSet {
    /// Returns an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one commit to a stream: at [`NoStream`](ExpectedVersion::NoStream), or at a version that was loaded.
    #[must_use]
    pub fn append(mut self, append: Append) -> Self {
        self.appends.push(append);
        self
    }

    /// Requires that `stream` still ends at `version`, which was loaded.
    #[must_use]
    pub fn unchanged(mut self, stream: StreamId, version: Version) -> Self {
        self.unchanged.push((stream, version));
        self
    }

    /// Takes and releases claims, in this order.
    #[must_use]
    pub fn claims(mut self, changes: impl IntoIterator<Item = ClaimChange>) -> Self {
        self.claims.extend(changes);
        self
    }

    /// Makes the set idempotent: it is written only if its key has no record, and it writes this record.
    #[must_use]
    pub fn idempotent(mut self, record: NewIdempotencyRecord) -> Self {
        self.idempotency = Some(record);
        self
    }

    /// Adds writes of a kind that the store supports.
    #[must_use]
    pub fn with_additional(mut self, writes: impl IntoIterator<Item = AdditionalWrite>) -> Self {
        self.additional.extend(writes);
        self
    }

    /// Returns the appends, in the order in which they were added.
    #[must_use]
    pub fn appends(&self) -> &[Append] {
        &self.appends
    }

    /// Returns the streams that must not have changed.
    #[must_use]
    pub fn unchanged_streams(&self) -> &[(StreamId, Version)] {
        &self.unchanged
    }

    /// Returns the changes of claims, in order.
    #[must_use]
    pub fn claim_changes(&self) -> &[ClaimChange] {
        &self.claims
    }

    /// Returns the claims that `stream` takes: for stores that list the claims of a stream.
    #[must_use]
    pub fn claims_taken_by(&self, stream: &StreamId) -> Vec<&Claim> {
        let taken = self.claims.iter().filter_map(|change| match change {
            ClaimChange::Take { stream: taker, claim } if taker == stream => Some(claim),
            _ => None,
        });
        taken.collect()
    }

    /// Returns the record that makes the set idempotent.
    #[must_use]
    pub fn idempotency(&self) -> Option<&NewIdempotencyRecord> {
        self.idempotency.as_ref()
    }

    /// Returns the additional writes.
    #[must_use]
    pub fn additional_writes(&self) -> &[AdditionalWrite] {
        &self.additional
    }

    /// Returns a copy with other appends and claims.
    pub(crate) fn with_content(&self, appends: Vec<Append>, claims: Vec<ClaimChange>) -> Self {
        let Self { unchanged, idempotency, additional, .. } = self.clone();
        Self { appends, unchanged, claims, idempotency, additional }
    }

    /// Checks the set, and returns the versions that its commits will have, with a cost of zero.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if an append is not at a loaded version, two are of one stream, one has no events or
    /// several commits, or there is nothing to recognize a repetition by: neither an append nor an idempotency key.
    /// [`StoreError::Setup`] as for [`Append::check_sealed`] and [`Claim::checked`](crate::store::Claim::checked).
    pub fn checked(&self) -> Result<Written, StoreError> {
        let streams = self.appends.iter().map(Append::stream);
        let streams: Vec<_> = streams.chain(self.unchanged.iter().map(|(stream, _)| stream)).collect();
        for (index, stream) in streams.iter().enumerate() {
            if streams[..index].contains(stream) {
                return Err(StoreError::invalid(format!(
                    "the stream `{stream}` appears twice in one write: put all its events into one commit"
                )));
            }
        }
        if self.appends.is_empty() && self.idempotency.is_none() {
            return Err(StoreError::invalid("a write needs at least one commit, or an idempotency key"));
        }
        for change in &self.claims {
            change.claim().checked()?;
        }
        let appended = self.appends.iter().map(|append| {
            if append.commits().len() > 1 {
                return Err(StoreError::invalid(format!(
                    "the write has several commits of the stream `{}`: put all its events into one commit",
                    append.stream()
                )));
            }
            append.check_sealed()?;
            let start = append.start()?;
            let last = append.last_version_after(start)?;
            Ok(Appended::new(start.next(), last, Cost::ZERO))
        });
        Ok(Written {
            appended: appended.collect::<Result<_, StoreError>>()?,
            repeated: false,
            cost: Cost::ZERO,
        })
    }
}

impl Append {
    /// Returns the version after which the commit is appended, if the request determines it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if it depends on the end of the stream.
    pub fn start(&self) -> Result<Version, StoreError> {
        match self.expected() {
            ExpectedVersion::NoStream => Ok(Version::NONE),
            ExpectedVersion::Exact(version) if self.is_loaded() || version.is_none() => Ok(version),
            _ => Err(StoreError::invalid(format!(
                "a write of several streams needs the version of each: load the stream `{}` first",
                self.stream()
            ))),
        }
    }
}

/// The result of writing a set.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Written {
    /// The versions of the commits, in the order of the appends.
    pub appended: Vec<Appended>,
    /// Whether an earlier attempt, whose response was lost, has written the set.
    pub repeated: bool,
    /// The cost of the write.
    pub cost: Cost,
}

impl Written {
    /// Sets the cost of the write.
    #[must_use]
    pub fn at_cost(mut self, cost: Cost) -> Self {
        self.cost = cost;
        self
    }

    /// Marks the set as written by an earlier attempt.
    #[must_use]
    pub fn repeated(mut self) -> Self {
        self.repeated = true;
        self.appended = self.appended.into_iter().map(Appended::repeated).collect();
        self
    }
}

/// A write of the application in the transaction that writes events or changes documents.
///
/// Every store that keeps documents supports a [`DocumentCondition`](crate::documents::DocumentCondition).
/// A DynamoDB store supports these types of `aws_sdk_dynamodb::types`: `Put`, `Update`, `Delete`, `ConditionCheck`, and
/// `TransactWriteItem`.
///
/// ```
/// use es_core::documents::{DocumentCondition, DocumentKey, ExpectedDocument};
/// use es_core::store::AdditionalWrite;
///
/// // The transaction succeeds only if the document does not exist.
/// let condition = DocumentCondition::new(DocumentKey::new("locks", "import"), ExpectedDocument::Absent);
/// let write = AdditionalWrite::new(condition);
/// assert!(write.downcast_ref::<DocumentCondition>().is_some());
/// ```
#[derive(Clone)]
pub struct AdditionalWrite {
    write: Arc<dyn Any + Send + Sync>,
    kind: &'static str,
}

impl AdditionalWrite {
    /// Wraps a write of any type. A store rejects types that it does not support.
    #[must_use]
    pub fn new<W: Send + Sync + 'static>(write: W) -> Self {
        Self { write: Arc::new(write), kind: type_name::<W>() }
    }

    /// Returns the write if it is of the type `W`.
    #[must_use]
    pub fn downcast_ref<W: 'static>(&self) -> Option<&W> {
        self.write.downcast_ref()
    }

    /// Returns the name of the type.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }
}

/// Shows the type of the write, not its content.
impl fmt::Debug for AdditionalWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdditionalWrite({})", self.kind)
    }
}
