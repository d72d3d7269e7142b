//! Rules of the store alone, without a repository.

pub mod append;
pub mod archiving;
pub mod claim;
pub mod closing;
pub mod expected;
pub mod group;
pub mod large;

pub mod once;
pub mod personal;
pub mod race;
pub mod read;
pub mod repetition;
pub mod snapshot;
pub mod write;

use es_core::store::{Append, AppendError, Appended};
use es_core::{EventStore, ExpectedVersion, StreamId, Version};

use super::support::{commits, events, new_commit};

/// Appends a commit of `count` events and expects it to succeed.
async fn grow(store: &dyn EventStore, stream: &StreamId, count: usize) -> Appended {
    store
        .append(&Append::new(stream.clone(), ExpectedVersion::Any, new_commit(events(count))))
        .await
        .expect("appends")
}

/// Expects a commit of two events to be refused as a conflict, and nothing to be stored.
async fn refuses(store: &dyn EventStore, stream: &StreamId, expected: ExpectedVersion) -> Option<Version> {
    let before = commits(store, stream).await;
    let result = store.append(&Append::new(stream.clone(), expected, new_commit(events(2)))).await;
    let conflict = match result {
        Err(AppendError::Conflict(conflict)) => conflict,
        other => panic!("expected a conflict for {expected}, got {other:?}"),
    };
    assert_eq!((&conflict.stream, conflict.expected), (stream, expected));
    assert_eq!(commits(store, stream).await, before, "a refused append changes nothing");
    conflict.actual
}
