//! Repeated appends, as after a lost response.

use std::sync::Arc;

use es_core::store::Append;
use es_core::{EventStore, ExpectedVersion, StreamId, Version};

use super::grow;
use crate::conformance::support::{commits, events, new_commit, new_stream};

/// Returns all expected versions that a stream at version 2 accepts.
fn appends(stream: &StreamId) -> Vec<Append> {
    let version = Version::new(2);
    let mut appends: Vec<_> =
        [ExpectedVersion::Any, ExpectedVersion::StreamExists, ExpectedVersion::Exact(version)]
            .into_iter()
            .map(|expected| Append::new(stream.clone(), expected, new_commit(events(3))))
            .collect();
    appends.push(Append::after_loaded(stream.clone(), version, new_commit(events(3))));
    appends
}

/// A repetition succeeds with the versions of the first append, and stores nothing.
pub async fn a_repeated_commit_is_stored_once(store: Arc<dyn EventStore>) {
    for index in 0..appends(&new_stream()).len() {
        let stream = new_stream();
        grow(&*store, &stream, 2).await;
        let append = appends(&stream).remove(index);
        let first = store.append(&append).await.expect("appends");
        let second = store.append(&append).await.unwrap_or_else(|error| panic!("{append:?}: {error}"));
        assert_eq!((second.first, second.last), (first.first, first.last), "{append:?}");
        assert!(!first.repeated && second.repeated, "{append:?}");
        assert_eq!(commits(&*store, &stream).await.len(), 2, "{append:?}");
    }

    let stream = new_stream();
    let append = Append::new(stream.clone(), ExpectedVersion::NoStream, new_commit(events(2)));
    store.append(&append).await.expect("appends");
    assert!(store.append(&append).await.expect("is found").repeated);
    assert_eq!(commits(&*store, &stream).await.len(), 1);
}

/// Even after other writers have appended.
pub async fn a_repeated_commit_is_found_behind_later_ones(store: Arc<dyn EventStore>) {
    for index in 0..appends(&new_stream()).len() {
        let stream = new_stream();
        grow(&*store, &stream, 2).await;
        let append = appends(&stream).remove(index);
        let first = store.append(&append).await.expect("appends");
        for _ in 0..3 {
            grow(&*store, &stream, 4).await;
        }
        let second = store.append(&append).await.unwrap_or_else(|error| panic!("{append:?}: {error}"));
        assert_eq!(
            (second.first, second.last, second.repeated),
            (first.first, first.last, true),
            "{append:?}"
        );
        assert_eq!(commits(&*store, &stream).await.len(), 5, "{append:?}");
    }
}

/// A commit id is unique within its stream only.
pub async fn one_commit_id_in_two_streams_is_two_commits(store: Arc<dyn EventStore>) {
    let commit = new_commit(events(1));
    for _ in 0..2 {
        let append = Append::new(new_stream(), ExpectedVersion::NoStream, commit.clone());
        assert!(!store.append(&append).await.expect("appends").repeated);
    }
}
