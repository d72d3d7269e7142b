//! The limits of all stores: those of DynamoDB, so that a test on another store fails where production would, and an
//! application can move from one store to another.

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

/// The share of a transaction that a write takes.
#[derive(Clone, Copy, Default)]
struct Size {
    items: usize,
    bytes: u64,
}

/// Checks that the commits of an append can be stored after `version`. Several commits that are within the limits of an
/// append fit into one item.
///
/// # Errors
///
/// [`StoreError::TooLarge`] if an event does not fit into an item, or a commit is larger than a transaction. As
/// [`Append::check_sealed`].
pub fn check_append(append: &Append, version: Version) -> Result<(), StoreError> {
    append.check_sealed()?;
    let ([commit], stream) = (append.commits(), append.stream()) else { return Ok(()) };
    let size = commit_size(stream, version, commit, 0)?;
    if size.items > MAX_WRITE_ITEMS || size.bytes > MAX_WRITE_BYTES {
        let what = format!("a commit of {} events for the stream `{stream}`", commit.events.len());
        return Err(StoreError::too_large(what, size.bytes, MAX_WRITE_BYTES));
    }
    Ok(())
}

/// Checks that a set can be written in one transaction.
///
/// # Errors
///
/// [`StoreError::Invalid`] if it has too many items, [`StoreError::TooLarge`] if it or one of its events is too large, and
/// [`WriteError::Claimed`] as for [`ClaimChange::net`].
pub fn check_set(set: &WriteSet) -> Result<(), WriteError> {
    let mut size = Size { items: set.unchanged_streams().len() + set.additional_writes().len(), bytes: 0 };
    for append in set.appends() {
        let taken = set.claims_taken_by(append.stream());
        let taken =
            taken.iter().map(|claim| CLAIM_BYTES + (claim.name().len() + claim.value().len()) as u64).sum();
        for commit in append.commits() {
            let commit = commit_size(append.stream(), append.start()?, commit, taken)?;
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

/// Checks that a snapshot can be stored.
///
/// # Errors
///
/// [`StoreError::TooLarge`] if it does not fit into an item. As [`Snapshot::check_sealed`].
pub fn check_snapshot(stream: &StreamId, snapshot: &Snapshot) -> Result<(), StoreError> {
    snapshot.check_sealed()?;
    let bytes = FRAME_BYTES + (stream.as_str().len() + snapshot.state().len()) as u64;
    if bytes > MAX_ITEM_BYTES {
        let what = format!("a snapshot of the stream `{stream}`");
        return Err(StoreError::too_large(what, bytes, MAX_ITEM_BYTES));
    }
    Ok(())
}

/// Returns the items that a commit after `version` takes, which lists `claims` bytes of claims: one, or as many as its
/// events fill.
fn commit_size(
    stream: &StreamId,
    version: Version,
    commit: &NewCommit,
    claims: u64,
) -> Result<Size, StoreError> {
    let metadata = match commit.metadata.is_empty() {
        true => 0,
        false => serde_json::to_string(&commit.metadata).map_or(0, |metadata| metadata.len() as u64),
    };
    let frame = FRAME_BYTES + stream.as_str().len() as u64 + metadata + claims;
    let mut size = Size { items: 1, bytes: frame };
    let mut filled = frame;
    for (event, version) in commit.events.iter().zip(version.next().get()..) {
        let bytes = event_size(event);
        if frame + bytes > MAX_ITEM_BYTES {
            let what = format!("the event `{}` at version {version} of the stream `{stream}`", event.name());
            return Err(StoreError::too_large(what, frame + bytes, MAX_ITEM_BYTES));
        }
        if filled + bytes > MAX_ITEM_BYTES {
            size = Size { items: size.items + 1, bytes: size.bytes + frame };
            filled = frame;
        }
        filled += bytes;
        size.bytes += bytes;
    }
    Ok(size)
}

fn event_size(event: &EventData) -> u64 {
    EVENT_BYTES + (event.name().len() + event.payload().len()) as u64
}
