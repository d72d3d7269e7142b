//! The names of the table: keys, key prefixes, and attributes of items.
//!
//! The book's chapter on the table format (`docs/src/format.md`) specifies the items. Attribute names are short because
//! they count toward the billed size of every item.

use es_core::feed::{Position, Slice};

/// The partition key.
pub const PARTITION_KEY: &str = "pk";
/// The sort key.
pub const SORT_KEY: &str = "sk";
/// The time at which an item expires, in seconds since 1970.
pub(crate) const TIME_TO_LIVE: &str = "ttl";

/// The format of an item, a number; 1 if it is absent.
pub(crate) const FORMAT: &str = "f";

/// The prefix of the sort keys of commits.
pub const COMMIT_PREFIX: &str = "E#";
/// The sort key of a snapshot.
pub(crate) const SNAPSHOT_KEY: &str = "S#";

/// The prefix of the partition keys of claims.
pub(crate) const CLAIM_PREFIX: &str = "$claim#";
/// The sort key of a claim.
pub(crate) const CLAIM_KEY: &str = "C#";
/// The prefix of the partition keys of idempotency records.
pub(crate) const RECORD_PREFIX: &str = "$once#";
/// The second prefix of the partition keys of idempotency records of transactions.
pub(crate) const TRANSACTION: &str = "$transaction#";
/// The prefix of the sort keys of idempotency records.
pub(crate) const RECORD_KEY: &str = "I#";
/// The prefix of the partition keys of documents.
pub(crate) const DOCUMENT_PREFIX: &str = "$doc#";
/// The prefix of the sort keys of documents.
pub(crate) const DOCUMENT_KEY: &str = "D#";

/// The prefix of the partition keys of closed names of objects.
pub(crate) const OBJECT_PREFIX: &str = "$object#";
/// The sort key of a closed name of an object.
pub(crate) const OBJECT_KEY: &str = "O#";

/// The prefix of all partition keys that belong to the framework.
pub(crate) const OWN_PARTITIONS: &str = "$";
/// The prefixes of all sort keys that belong to the store.
pub(crate) const OWN_SORT_KEYS: [&str; 4] = [COMMIT_PREFIX, SNAPSHOT_KEY, CLAIM_KEY, RECORD_KEY];

/// The partition key of the feed's settings.
pub(crate) const FEED: &str = "$feed";
/// The sort key of the feed's settings.
pub(crate) const SETTINGS_KEY: &str = "C#";
/// The prefix of the sort keys of the feed's splits.
const SPLIT_PREFIX: &str = "S#";
/// The prefix of the partition keys of slices.
const SLICE_PREFIX: &str = "$feed#";
/// The prefix of the sort keys of pages.
const PAGE_PREFIX: &str = "P#";
/// The sort key of the root of a summary.
pub(crate) const SUMMARY_KEY: &str = "W";
/// The prefix of the sort keys of the nodes of a summary.
pub(crate) const NODE_PREFIX: &str = "N#";
/// The prefix of the sort keys of the chunks of runs.
pub(crate) const CHUNK_PREFIX: &str = "W#";
/// The prefix of the sort keys of the filters of runs.
pub(crate) const FILTER_PREFIX: &str = "B#";

/// Commit: the version of its last event.
pub(crate) const LAST_VERSION: &str = "lv";
/// Commit: its id.
pub(crate) const COMMIT_ID: &str = "id";
/// Commit and snapshot: the time at which the commit was decided.
pub(crate) const TIME: &str = "at";
/// Commit: its metadata.
pub(crate) const METADATA: &str = "md";
/// Commit: its events.
pub(crate) const EVENTS: &str = "ev";
/// Commit: its compressed events, instead of the events.
pub(crate) const COMPRESSED_EVENTS: &str = "ez";
/// Commit: the length of the compressed events before compression, in bytes.
pub(crate) const EVENTS_LENGTH: &str = "el";

/// Commit: the claims that it takes.
pub(crate) const TAKEN_CLAIMS: &str = "tk";

/// Erased commit and snapshot: the version of the commit that recorded the archive with the content.
pub(crate) const ERASED_AT: &str = "ea";
/// Restored commit: the version of the commit that recorded the archive with the content.
pub(crate) const RESTORED_AT: &str = "ra";

/// Part of a commit: the version of the commit's first event.
pub(crate) const COMMIT_FIRST: &str = "cf";
/// Part of a commit: the version of the commit's last event.
pub(crate) const COMMIT_LAST: &str = "cl";

/// Several commits: the boundaries of each.
pub(crate) const MEMBERS: &str = "gc";
/// One of several commits: the number of its events.
pub(crate) const MEMBER_EVENTS: &str = "n";
/// One of several commits: its id.
pub(crate) const MEMBER_ID: &str = "i";
/// One of several commits: the time at which it was decided.
pub(crate) const MEMBER_TIME: &str = "a";
/// One of several commits: its metadata.
pub(crate) const MEMBER_METADATA: &str = "m";

/// Event: its stored name.
pub(crate) const EVENT_NAME: &str = "t";
/// Event: the schema version of its payload.
pub(crate) const EVENT_VERSION: &str = "v";
/// Event: its payload.
pub(crate) const EVENT_PAYLOAD: &str = "p";

/// Event and snapshot: the name of the object with the payload or the compressed state.
pub(crate) const OBJECT: &str = "o";
/// Event and snapshot: the length of the object in bytes.
pub(crate) const OBJECT_LENGTH: &str = "l";

/// Snapshot: the version of the last event in the state.
pub(crate) const SNAPSHOT_VERSION: &str = "v";
/// Snapshot: the fingerprint of the state's shape.
pub(crate) const FINGERPRINT: &str = "fp";
/// Snapshot and settings: the checksum.
pub(crate) const CHECKSUM: &str = "ck";
/// Snapshot: the state.
pub(crate) const STATE: &str = "st";
/// Snapshot: the compressed state, instead of the state.
pub(crate) const COMPRESSED_STATE: &str = "sz";
/// Snapshot: the length of the compressed state before compression, in bytes.
pub(crate) const STATE_LENGTH: &str = "sl";

/// Claim: the stream that holds it.
pub(crate) const HOLDER: &str = "h";

/// Idempotency record: the ranges of the events that were written.
pub(crate) const RANGES: &str = "to";
/// Idempotency record: the fingerprint of the command, if it has one.
pub(crate) const COMMAND_FINGERPRINT: &str = "c";
/// Range of events: their stream.
pub(crate) const RANGE_STREAM: &str = "s";
/// Range of events: the version of the first.
pub(crate) const RANGE_FIRST: &str = "f";
/// Range of events: the version of the last.
pub(crate) const RANGE_LAST: &str = "l";

/// Document: its revision.
pub(crate) const REVISION: &str = "r";
/// Document: its body.
pub(crate) const BODY: &str = "b";

/// Settings and page: the number of initial slices.
pub(crate) const COUNT: &str = "n";
/// Settings: the secret of the hashes of streams.
pub(crate) const HASH_KEY: &str = "k";

/// Page: its id. Summary: the id of the last page that it includes.
pub(crate) const PAGE_ID: &str = "id";
/// Page: the names of aggregates.
pub(crate) const PAGE_AGGREGATES: &str = "a";
/// Page: the stored names of events.
pub(crate) const PAGE_KINDS: &str = "t";
/// Page: the references to commits.
pub(crate) const PAGE_REFERENCES: &str = "r";
/// Page: copies of commits.
pub(crate) const PAGE_COPIES: &str = "c";

/// Summary: the position of the last event that it includes.
pub(crate) const SUMMARY_THROUGH: &str = "u";
/// Summary: the id of this version.
pub(crate) const ROOT_ID: &str = "r";
/// Summary: present while its last job is not completed.
pub(crate) const OPEN_JOB: &str = "o";
/// Summary and its parts: the number of the job that wrote it.
pub(crate) const JOB: &str = "j";
/// Summary and its parts: the content.
pub(crate) const PART_CONTENT: &str = "b";

/// The highest position that a sort key can contain.
pub(crate) const LAST_POSITION: Position = Position::new(9_999_999_999_999_999_999);

/// Returns the partition key of a slice.
pub(crate) fn feed_partition(slice: Slice) -> String {
    format!("{SLICE_PREFIX}{slice}")
}

/// Returns the sort key of the split of a slice.
pub(crate) fn split_key(slice: Slice) -> String {
    format!("{SPLIT_PREFIX}{:06}", slice.get())
}

/// Returns the slice in the sort key of a split.
pub(crate) fn split_of(sort_key: &str) -> Option<Slice> {
    let number = sort_key.strip_prefix(SPLIT_PREFIX)?;
    let sound = number.len() == 6 && number.bytes().all(|digit| digit.is_ascii_digit());
    number.parse().ok().filter(|_| sound).map(Slice::new)
}

/// Returns the sort key of the page whose first event has `position`.
pub(crate) fn page_key(position: Position) -> String {
    format!("{PAGE_PREFIX}{:020}", position.get())
}

/// Returns the partition key of the parts of a node of a summary.
pub(crate) fn node_partition(slice: Slice, depth: u8, index: u64) -> String {
    format!("{SLICE_PREFIX}{slice}#{depth}.{index}")
}

/// Returns the sort key of a part of a summary.
pub(crate) fn part_key(prefix: &str, slot: u32, index: u32) -> String {
    format!("{prefix}{slot:03}#{index:06}")
}

/// Returns the position in the sort key of a page.
pub(crate) fn position_of(sort_key: &str) -> Option<Position> {
    let position = Position::new(number_after(PAGE_PREFIX, 20, sort_key)?);
    (position <= LAST_POSITION).then_some(position)
}

/// Returns the sort key of the commit whose first event has `version`.
pub(crate) fn commit_key(version: es_core::Version) -> String {
    format!("{COMMIT_PREFIX}{:012}", version.get())
}

/// Returns the version in the sort key of a commit.
pub(crate) fn version_of(sort_key: &str) -> Option<es_core::Version> {
    number_after(COMMIT_PREFIX, 12, sort_key).map(es_core::Version::new)
}

/// Returns the positive number that follows `prefix`, if it has exactly `digits` digits.
fn number_after(prefix: &str, digits: usize, sort_key: &str) -> Option<u64> {
    let number = sort_key.strip_prefix(prefix)?;
    let sound = number.len() == digits && number.bytes().all(|digit| digit.is_ascii_digit());
    number.parse().ok().filter(|number| sound && *number > 0)
}
