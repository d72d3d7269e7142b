//! Large snapshots.

use std::sync::Arc;

use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::store::{Append, Read};
use es_core::{EventStore, ExpectedVersion, Version};

use super::event;
use crate::conformance::{events, new_commit, new_stream, read_all, time};

const SHAPE: Fingerprint = Fingerprint::new(77);

/// Returns a snapshot with a state of `kilobytes` KB.
fn snapshot(version: u64, kilobytes: usize) -> Snapshot {
    let state = event(version, kilobytes).payload().to_owned();
    Snapshot::new(Version::new(version), time(0), SHAPE, state)
}

/// A read starts from a large snapshot, which replaces smaller ones and is replaced by them.
pub async fn are_replaced_by_higher_versions(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    for _ in 0..6 {
        let append = Append::new(stream.clone(), ExpectedVersion::Any, new_commit(events(1)));
        store.append(&append).await.expect("appends");
    }
    let written = [snapshot(2, 1), snapshot(3, 401), snapshot(4, 4_000), snapshot(5, 600), snapshot(6, 1)];
    for (index, snapshot) in written.iter().enumerate() {
        store.write_snapshot(&stream, snapshot, None).await.expect("writes");
        // An older one does not replace it.
        store.write_snapshot(&stream, &written[index.saturating_sub(1)], None).await.expect("is ignored");
        let page = read_all(&*store, Read::all(stream.clone()).from_snapshot(SHAPE, 10)).await;
        assert!(page.snapshot.as_ref() == Some(snapshot), "another snapshot than {snapshot:?}");
        assert_eq!(page.commits.len() as u64, 6 - snapshot.version().get());
    }
}

/// A large snapshot with another fingerprint is not used, and can be replaced.
pub async fn of_another_shape_are_not_used(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let append = Append::new(stream.clone(), ExpectedVersion::Any, new_commit(events(1)));
    store.append(&append).await.expect("appends");
    store.write_snapshot(&stream, &snapshot(1, 500), None).await.expect("writes");
    let read = Read::all(stream.clone()).from_snapshot(Fingerprint::new(78), 10);
    let page = read_all(&*store, read).await;
    assert_eq!((page.snapshot, page.unusable_snapshot), (None, Some(Version::FIRST)));
    assert_eq!(page.commits.len(), 1);

    let other = snapshot(1, 501);
    store.write_snapshot(&stream, &other, Some(Version::FIRST)).await.expect("writes");
    let page = read_all(&*store, Read::all(stream).from_snapshot(SHAPE, 10)).await;
    assert!(page.snapshot == Some(other), "it was not replaced");
}
