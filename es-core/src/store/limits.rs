//! The limits of all stores: those of DynamoDB, so that a test on another store fails where production would, and an
//! application can move from one store to another.

use std::collections::BTreeSet;

use crate::event::EventData;
use crate::snapshot::Snapshot;
use crate::store::{
    Append, ClaimChange, MAX_ITEM_BYTES, MAX_WRITE_BYTES, MAX_WRITE_ITEMS, NewCommit, StoreError, WriteError,
    WriteSet,
};
use crate::stream_id::StreamId;
use crate::version::Version;

/// The size of a commit's item without its stream, metadata, and events: attribute names, versions, id, and time.
const FRAME_BYTES: u64 = 160;

/// The size of an event without its name and payload: attribute names, its version, and two levels of nesting.
const EVENT_BYTES: u64 = 16;

/// The size of a claim in the item of the commit that takes it, without its name and value.
const CLAIM_BYTES: u64 = 4;

/// The size of an event whose payload is stored outside of the item.
const REFERENCE_BYTES: u64 = 700;

/// The share of a transaction that a write takes.
#[derive(Clone, Copy, Default)]
struct Size {
    items: usize,
    bytes: u64,
}

/// Checks that the commits of an append can be stored after `version`. Several commits that are within the limits of an
/// append fit into one item.
///
/// `max_bytes` is the maximum size of a payload or a state outside of items, for a store with a
/// [payload store](crate::payloads) or another place for them.
///
/// # Errors
///
/// [`StoreError::TooLarge`] if an event or the metadata does not fit into an item, or a commit is larger than a
/// transaction; with `max_bytes`, those of [`large_events`]. As [`Append::check_sealed`].
pub fn check_append(append: &Append, version: Version, max_bytes: Option<u64>) -> Result<(), StoreError> {
    append.check_sealed()?;
    let ([commit], stream) = (append.commits(), append.stream()) else { return Ok(()) };
    let size = commit_size(stream, version, commit, 0, max_bytes)?;
    if size.items > MAX_WRITE_ITEMS || size.bytes > MAX_WRITE_BYTES {
        return Err(commit_too_large(stream, commit, size.bytes));
    }
    Ok(())
}

/// Checks that a set can be written in one transaction. For `max_bytes`, see [`check_append`].
///
/// # Errors
///
/// [`StoreError::Invalid`] if it has too many items, [`StoreError::TooLarge`] if it or one of its events is too large,
/// and [`WriteError::Claimed`] as for [`ClaimChange::net`].
pub fn check_set(set: &WriteSet, max_bytes: Option<u64>) -> Result<(), WriteError> {
    let mut size = Size { items: set.unchanged_streams().len() + set.additional_writes().len(), bytes: 0 };
    for append in set.appends() {
        let taken = set.claims_taken_by(append.stream());
        let taken =
            taken.iter().map(|claim| CLAIM_BYTES + (claim.name().len() + claim.value().len()) as u64).sum();
        for commit in append.commits() {
            let commit = commit_size(append.stream(), append.start()?, commit, taken, max_bytes)?;
            size = Size { items: size.items + commit.items, bytes: size.bytes + commit.bytes };
        }
    }
    size.items += ClaimChange::net(set.claim_changes())?.len() + usize::from(set.idempotency().is_some());
    if size.items > MAX_WRITE_ITEMS {
        return Err(StoreError::too_many_items(size.items, MAX_WRITE_ITEMS).into());
    }
    if size.bytes > MAX_WRITE_BYTES {
        let what = format!("a transaction of {} items", size.items);
        return Err(StoreError::too_large(what, size.bytes, MAX_WRITE_BYTES).into());
    }
    Ok(())
}

/// Checks that a snapshot can be stored. For `max_bytes`, see [`check_append`].
///
/// # Errors
///
/// [`StoreError::TooLarge`] if it does not fit into an item, or its state exceeds `max_bytes`. As
/// [`Snapshot::check_sealed`].
pub fn check_snapshot(
    stream: &StreamId,
    snapshot: &Snapshot,
    max_bytes: Option<u64>,
) -> Result<(), StoreError> {
    snapshot.check_sealed()?;
    let (state, bytes) = (snapshot.state().len() as u64, snapshot_size(stream, snapshot));
    let what = || format!("a snapshot of the stream `{stream}`");
    match max_bytes {
        _ if bytes <= MAX_ITEM_BYTES => Ok(()),
        None => Err(StoreError::needs_payload_store(what(), bytes)),
        Some(limit) if state > limit => Err(StoreError::too_large(what(), state, limit)),
        Some(_) => Ok(()),
    }
}

/// Checks that the items of a commit that does not fit into one item have room for events: `frame` is their size
/// without events.
///
/// # Errors
///
/// [`StoreError::TooLarge`] if the metadata of the commit is too large.
pub fn check_frame(stream: &StreamId, frame: u64) -> Result<(), StoreError> {
    const LIMIT: u64 = MAX_ITEM_BYTES - REFERENCE_BYTES;
    match frame <= LIMIT {
        true => Ok(()),
        false => {
            let what = format!("the metadata of a commit for the stream `{stream}`");
            Err(StoreError::too_large(what, frame, LIMIT))
        }
    }
}

/// The sizes of the parts of a commit's items, in bytes.
#[derive(Clone, Debug)]
pub struct ItemSizes {
    /// The size of an item without events.
    pub frame: u64,
    /// The size of each event of the commit in an item.
    pub events: Vec<u64>,
    /// The size of a reference, which replaces a payload that is stored outside of the items.
    pub reference: u64,
}

/// Returns the indexes of the events of `commit` that are stored outside of its items: those that do not fit into an
/// item, and the largest ones of a commit that does not fit into a transaction.
///
/// `first` is the version of the first event.
///
/// # Errors
///
/// [`StoreError::TooLarge`] if the payload of such an event has more than `max_bytes`, or the commit does not fit into
/// a transaction even so. As [`check_frame`].
pub fn large_events(
    stream: &StreamId,
    first: Version,
    commit: &NewCommit,
    sizes: ItemSizes,
    max_bytes: u64,
) -> Result<BTreeSet<usize>, StoreError> {
    let ItemSizes { frame, events: mut sizes, reference } = sizes;
    let mut large = BTreeSet::new();
    let mut others: Vec<usize> = (0..sizes.len()).collect();
    others.sort_by_key(|index| sizes[*index]);
    loop {
        let largest = others.last().copied();
        let fits = largest.is_none_or(|index| frame + sizes[index] <= MAX_ITEM_BYTES);
        let size = packed(frame, &sizes);
        // Each reference is checked by one more item of the transaction.
        if fits && size.items + large.len() <= MAX_WRITE_ITEMS && size.bytes <= MAX_WRITE_BYTES {
            return Ok(large);
        }
        check_frame(stream, frame)?;
        let Some(index) = largest.filter(|_| large.len() < MAX_WRITE_ITEMS) else {
            return Err(commit_too_large(stream, commit, size.bytes));
        };
        let event = &commit.events[index];
        let bytes = event.payload().len() as u64;
        if bytes > max_bytes {
            return Err(StoreError::too_large(named(stream, first, index, event), bytes, max_bytes));
        }
        others.pop();
        sizes[index] = sizes[index] - bytes + reference;
        large.insert(index);
    }
}

/// Returns the items that events of these sizes fill, with an item's size without events.
fn packed(frame: u64, events: &[u64]) -> Size {
    let (mut size, mut filled) = (Size { items: 1, bytes: frame }, frame);
    for bytes in events {
        if filled + bytes > MAX_ITEM_BYTES {
            size = Size { items: size.items + 1, bytes: size.bytes + frame };
            filled = frame;
        }
        filled += bytes;
        size.bytes += bytes;
    }
    size
}

/// Returns the items that a commit after `version` takes, which lists `claims` bytes of claims: one, or as many as its
/// events fill.
fn commit_size(
    stream: &StreamId,
    version: Version,
    commit: &NewCommit,
    claims: u64,
    max_bytes: Option<u64>,
) -> Result<Size, StoreError> {
    let frame = frame_size(stream, commit) + claims;
    let mut sizes: Vec<_> = commit.events.iter().map(event_size).collect();
    let size = packed(frame, &sizes);
    let is_large = |bytes: &u64| frame + bytes > MAX_ITEM_BYTES;
    match (sizes.iter().position(is_large), max_bytes) {
        (None, _) if size.items <= MAX_WRITE_ITEMS && size.bytes <= MAX_WRITE_BYTES => Ok(size),
        (None, None) => Ok(size),
        (Some(index), None) => {
            check_frame(stream, frame)?;
            let what = named(stream, version.next(), index, &commit.events[index]);
            Err(StoreError::needs_payload_store(what, frame + sizes[index]))
        }
        (_, Some(max_bytes)) => {
            let first = version.next();
            let assumed = ItemSizes { frame, events: sizes.clone(), reference: REFERENCE_BYTES };
            let large = large_events(stream, first, commit, assumed, max_bytes)?;
            for index in &large {
                sizes[*index] = REFERENCE_BYTES;
            }
            let size = packed(frame, &sizes);
            Ok(Size { items: size.items + large.len(), ..size })
        }
    }
}

/// Returns the indexes of the events of a commit after `version` that are stored outside of its items: see
/// [`large_events`], with the sizes of items that a store other than DynamoDB assumes.
///
/// # Errors
///
/// Those of [`large_events`].
pub fn large_payloads(
    stream: &StreamId,
    version: Version,
    commit: &NewCommit,
    max_bytes: u64,
) -> Result<BTreeSet<usize>, StoreError> {
    let sizes = ItemSizes {
        frame: frame_size(stream, commit),
        events: commit.events.iter().map(event_size).collect(),
        reference: REFERENCE_BYTES,
    };
    large_events(stream, version.next(), commit, sizes, max_bytes)
}

/// Returns the size of the item of a snapshot.
fn snapshot_size(stream: &StreamId, snapshot: &Snapshot) -> u64 {
    FRAME_BYTES + (stream.as_str().len() + snapshot.state().len()) as u64
}

/// Returns whether a snapshot does not fit into an item.
#[must_use]
pub fn is_large_snapshot(stream: &StreamId, snapshot: &Snapshot) -> bool {
    snapshot_size(stream, snapshot) > MAX_ITEM_BYTES
}

/// Returns the size of an item of a commit without events.
fn frame_size(stream: &StreamId, commit: &NewCommit) -> u64 {
    let metadata = match commit.metadata.is_empty() {
        true => 0,
        false => serde_json::to_string(&commit.metadata).map_or(0, |metadata| metadata.len() as u64),
    };
    FRAME_BYTES + stream.as_str().len() as u64 + metadata
}

fn commit_too_large(stream: &StreamId, commit: &NewCommit, bytes: u64) -> StoreError {
    let what = format!("a commit of {} events for the stream `{stream}`", commit.events.len());
    StoreError::too_large(what, bytes, MAX_WRITE_BYTES)
}

/// Returns the name of an event of a commit whose first event has the version `first`.
fn named(stream: &StreamId, first: Version, index: usize, event: &EventData) -> String {
    format!("the event `{}` at version {} of the stream `{stream}`", event.name(), first.plus(index as u64))
}

fn event_size(event: &EventData) -> u64 {
    EVENT_BYTES + (event.name().len() + event.payload().len()) as u64
}
