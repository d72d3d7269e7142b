//! How much a store accepts at once.
//!
//! The limits are those of DynamoDB
//! ([quotas](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html)). Every store
//! enforces them, so that a test on the store in memory fails where production would.

/// The maximum size of one event with its commit's metadata, of a snapshot, and of a document, in bytes: 400 KB.
/// Names of attributes and some bytes of framing count, too.
pub const MAX_ITEM_BYTES: u64 = 400 * 1024;

/// The maximum size of a commit, of a [`WriteSet`](super::WriteSet), and of a
/// [`ChangeSet`](crate::documents::ChangeSet) in bytes: 4 MB.
pub const MAX_WRITE_BYTES: u64 = 4 * 1024 * 1024;

/// The maximum number of items that are written at once. A commit is one item for each
/// [`MAX_ITEM_BYTES`] of its events; each claim, document, unchanged stream, idempotency key, and joined write is
/// one.
pub const MAX_WRITE_ITEMS: usize = 100;
