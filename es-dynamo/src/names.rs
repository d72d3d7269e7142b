//! All the names of the table: its keys, and the attributes of its items.
//!
//! Attribute names are short because every item is billed for them.
//!
//! | item | `pk` | `sk` |
//! |---|---|---|
//! | commit | the stream, `order#1001` | `E#` and the version of its **first** event in twelve digits |
//! | snapshot | the same | `S#`, which sorts after every `E#` |
//!
//! | attribute of a commit | type | what it holds |
//! |---|---|---|
//! | `lv` | N | the version of its last event |
//! | `id` | S | the commit's id, a UUID |
//! | `at` | N | when it was decided, in milliseconds since 1970 |
//! | `md` | S | the metadata as JSON; left out when there is none |
//! | `ev` | L of M | the events: `t` (S) the stored name, `v` (N) the schema version, left out when it is 1, `p` (S) the payload as JSON |
//! | `cf`, `cl` | N | only where a commit did not fit into one item: the versions of its first and its last event; its parts are items of their own, written in one transaction, and the first one holds the metadata |
//!
//! | attribute of a snapshot | type | what it holds |
//! |---|---|---|
//! | `v` | N | the version of the last event in the state |
//! | `at` | N | when that event's commit was decided, in milliseconds since 1970 |
//! | `fp` | S | the fingerprint of the state's shape, sixteen hexadecimal digits |
//! | `ck` | N | a CRC-32 over all of the snapshot |
//! | `st` | S | the state as JSON |
//!
//! Partitions whose key starts with `$` are the framework's own; the name of an aggregate cannot. Consumers
//! of the table's stream take the items whose sort key starts with `E#`, and no others.

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

/// The sort key of the commit whose first event has `version`.
#[must_use]
pub fn commit_key(version: es_core::Version) -> String {
    format!("{COMMIT_PREFIX}{:012}", version.get())
}
