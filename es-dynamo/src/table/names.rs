//! All the names of the table: its keys, and the attributes of its items.
//!
//! Attribute names are short because every item is billed for them.
//!
//! | item | `pk` | `sk` |
//! |---|---|---|
//! | commit | the stream, `order#1001` | `E#` and the version of its **first** event in twelve digits |
//! | snapshot | the same | `S#`, which sorts after every `E#` |
//! | claim | `$claim#`, its name, `#`, its value | `C#` |
//! | marker of an idempotency key | `$once#` and the stream | `I#` and the key |
//! | the same, of a transaction | `$once#$transaction#` and the key | `I#` |
//! | document | `$doc#` and its collection | `D#` and its name |
//! | settings of the feed | `$feed` | `C#` |
//! | page of the feed's log | `$feed#` and the number of the slice | `P#` and the position of its first event in twenty digits |
//! | summary of a slice's log | the same | `W` |
//! | chunk of a summary | the same | `W#`, the position up to which the log is summed up in twenty digits, `#`, the chunk's number in six |
//!
//! | attribute of a commit | type | what it holds |
//! |---|---|---|
//! | `lv` | N | the version of its last event |
//! | `id` | S | the commit's id, a UUID |
//! | `at` | N | when it was decided, in milliseconds since 1970 |
//! | `md` | S | the metadata as JSON; left out when there is none |
//! | `ev` | L of M | the events: `t` (S) the stored name, `v` (N) the schema version, left out when it is 1, `p` (S) the payload as JSON |
//! | `cf`, `cl` | N | only where a commit did not fit into one item: the versions of its first and its last event; its parts are separate items, written in one transaction, and the first one holds the metadata |
//!
//! | attribute of a snapshot | type | what it holds |
//! |---|---|---|
//! | `v` | N | the version of the last event in the state |
//! | `at` | N | when that event's commit was decided, in milliseconds since 1970 |
//! | `fp` | S | the fingerprint of the state's shape, sixteen hexadecimal digits |
//! | `ck` | N | a CRC-32 over all of the snapshot |
//! | `st` | S | the state as JSON |
//!
//! | attribute of a claim | type | what it holds |
//! |---|---|---|
//! | `h` | S | the stream that holds it |
//!
//! | attribute of a marker | type | what it holds |
//! |---|---|---|
//! | `id` | S | the id of the write: that of its first commit, or a new UUID if there were no events |
//! | `to` | L of M | where the events are: `s` (S) the stream, `f` and `l` (N) the versions of the first and the last one; `l` is the version before `f` when there were none |
//! | `ttl` | N | when the marker expires, in seconds since 1970 |
//!
//! | attribute of a document | type | what it holds |
//! |---|---|---|
//! | `r` | S | its revision, a UUID |
//! | `b` | S | its content as JSON |
//!
//! | attribute of the feed's settings | type | what it holds |
//! |---|---|---|
//! | `n` | N | how many slices there are; never changed |
//! | `k` | B | the secret of the feed's hashes of streams, 16 bytes; never changed |
//!
//! | attribute of a page | type | what it holds |
//! |---|---|---|
//! | `id` | S | a UUID by which its writer knows it |
//! | `a` | L of S | the names of aggregates that occur in it |
//! | `t` | L of S | the stored names of events that occur in it |
//! | `r` | L of S | the commits in the order of the feed, each `0 12-14 0,2 1001`: the place of the aggregate's name in `a`, from 0; the versions of the first and the last event, or of the only one; the places of its events' names in `t`, each once, or `*` when there were too many; the aggregate's id |
//!
//! A page's first event has the position of its sort key, the next one the position after it, and so on: the page
//! after it has the position after its last event in its sort key.
//!
//! | attribute of a summary | type | what it holds |
//! |---|---|---|
//! | `u` | N | the position up to which the log is summed up |
//! | `n` | N | how many chunks there are, each for an equal part of all hashes |
//!
//! | attribute of a chunk | type | what it holds |
//! |---|---|---|
//! | `b` | B | a byte 1; for each stream in the order of the hashes its hash, which is the first 12 bytes of SHA-256 over `k` and the stream's name, and the version of its last event in the log, seven bits a byte, the lowest first, the highest bit set where more follow; a CRC-32, in four bytes, over four numbers of eight bytes and all before it: the slice, the position, how many chunks there are, and the number of this one |
//!
//! Partitions whose key starts with `$` are the framework's own; the name of an aggregate cannot. Consumers
//! of the table's stream take the items whose sort key starts with `E#`, and no others.

use es_core::feed::{Position, Slice};

/// The partition key.
pub const PARTITION_KEY: &str = "pk";
/// The sort key.
pub const SORT_KEY: &str = "sk";
/// The attribute by which items expire, in seconds since 1970.
pub const TIME_TO_LIVE: &str = "ttl";

/// What the sort keys of commits start with.
pub const COMMIT_PREFIX: &str = "E#";
/// The sort key of a snapshot.
pub const SNAPSHOT_KEY: &str = "S#";

/// What the partition keys of claims start with.
pub const CLAIM_PREFIX: &str = "$claim#";
/// The sort key of a claim.
pub const CLAIM_KEY: &str = "C#";
/// What the partition keys of markers start with.
pub const MARKER_PREFIX: &str = "$once#";
/// What comes next in those of transactions over several streams.
pub const TRANSACTION: &str = "$transaction#";
/// What the sort keys of markers start with.
pub const MARKER_KEY: &str = "I#";
/// What the partition keys of documents start with.
pub const DOCUMENT_PREFIX: &str = "$doc#";
/// What the sort keys of documents start with.
pub const DOCUMENT_KEY: &str = "D#";

/// What the partition keys of the framework's own items start with, where they belong to no stream.
pub(crate) const OWN_PARTITIONS: &str = "$";
/// What the sort keys of the store's own items start with.
pub(crate) const OWN_SORT_KEYS: [&str; 4] = [COMMIT_PREFIX, SNAPSHOT_KEY, CLAIM_KEY, MARKER_KEY];

/// The partition key of the feed's settings.
pub const FEED: &str = "$feed";
/// The sort key of the feed's settings.
pub const SETTINGS_KEY: &str = "C#";
/// What the partition keys of slices start with.
pub const SLICE_PREFIX: &str = "$feed#";
/// What the sort keys of pages start with.
pub const PAGE_PREFIX: &str = "P#";
/// The sort key of a summary.
pub const SUMMARY_KEY: &str = "W";
/// What the sort keys of a summary's chunks start with.
pub const CHUNK_PREFIX: &str = "W#";

/// Commit: the version of its last event.
pub const LAST_VERSION: &str = "lv";
/// Commit: its id.
pub const COMMIT_ID: &str = "id";
/// Commit and snapshot: when the commit was decided.
pub const TIME: &str = "at";
/// Commit: its metadata.
pub const METADATA: &str = "md";
/// Commit: its events.
pub const EVENTS: &str = "ev";

/// Part of a commit: the version of the commit's first event.
pub const COMMIT_FIRST: &str = "cf";
/// Part of a commit: the version of the commit's last event.
pub const COMMIT_LAST: &str = "cl";

/// Event: its stored name.
pub const EVENT_NAME: &str = "t";
/// Event: the schema version of its payload.
pub const EVENT_VERSION: &str = "v";
/// Event: its payload.
pub const EVENT_PAYLOAD: &str = "p";

/// Snapshot: the version of the last event in the state.
pub const SNAPSHOT_VERSION: &str = "v";
/// Snapshot: the fingerprint of the state's shape.
pub const FINGERPRINT: &str = "fp";
/// Snapshot: its checksum.
pub const CHECKSUM: &str = "ck";
/// Snapshot: the state.
pub const STATE: &str = "st";

/// Claim: the stream that holds it.
pub const HOLDER: &str = "h";

/// Marker: where the events are.
pub const PLACES: &str = "to";
/// Marker: what identifies the command, if its caller has something that does.
pub const COMMAND_FINGERPRINT: &str = "c";
/// Place of events: their stream.
pub const PLACE_STREAM: &str = "s";
/// Place of events: the version of the first.
pub const PLACE_FIRST: &str = "f";
/// Place of events: the version of the last.
pub const PLACE_LAST: &str = "l";

/// Document: its revision.
pub const REVISION: &str = "r";
/// Document: its content.
pub const BODY: &str = "b";

/// Settings and page: how many slices there are. Summary: how many chunks.
pub const COUNT: &str = "n";
/// Settings: the secret of the hashes.
pub const HASH_KEY: &str = "k";

/// Page: its id. Summary: the id of the last page that it sums up.
pub const PAGE_ID: &str = "id";
/// Page: the names of aggregates.
pub const PAGE_AGGREGATES: &str = "a";
/// Page: the stored names of events.
pub const PAGE_KINDS: &str = "t";
/// Page: the commits.
pub const PAGE_REFERENCES: &str = "r";

/// Summary: up to which position.
pub const SUMMARY_THROUGH: &str = "u";
/// Chunk: its content.
pub const CHUNK_CONTENT: &str = "b";

/// The highest position that there can be.
pub(crate) const LAST_POSITION: Position = Position::new(9_999_999_999_999_999_999);

/// The partition key of a slice.
#[must_use]
pub fn feed_partition(slice: Slice) -> String {
    format!("{SLICE_PREFIX}{slice}")
}

/// The sort key of the page whose first event has `position`.
#[must_use]
pub fn page_key(position: Position) -> String {
    format!("{PAGE_PREFIX}{:020}", position.get())
}

/// The sort key of a chunk.
#[must_use]
pub fn chunk_key(through: Position, index: u32) -> String {
    format!("{}{index:06}", chunks_key(through))
}

/// What the sort keys of the chunks of a summary start with.
pub(crate) fn chunks_key(through: Position) -> String {
    format!("{CHUNK_PREFIX}{:020}#", through.get())
}

/// The position that the sort key of a page names.
pub(crate) fn position_of(sort_key: &str) -> Option<Position> {
    let position = Position::new(number_after(PAGE_PREFIX, 20, sort_key)?);
    (position <= LAST_POSITION).then_some(position)
}

/// The sort key of the commit whose first event has `version`.
#[must_use]
pub fn commit_key(version: es_core::Version) -> String {
    format!("{COMMIT_PREFIX}{:012}", version.get())
}

/// The version that the sort key of a commit names.
pub(crate) fn version_of(sort_key: &str) -> Option<es_core::Version> {
    number_after(COMMIT_PREFIX, 12, sort_key).map(es_core::Version::new)
}

/// The number, from 1 on, that follows `prefix` in so many digits.
fn number_after(prefix: &str, digits: usize, sort_key: &str) -> Option<u64> {
    let number = sort_key.strip_prefix(prefix)?;
    let sound = number.len() == digits && number.bytes().all(|digit| digit.is_ascii_digit());
    number.parse().ok().filter(|number| sound && *number > 0)
}
