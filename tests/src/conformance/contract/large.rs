//! Commits larger than an item of the store.

use std::sync::Arc;

use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::store::{Append, AppendError, MAX_WRITE_ITEMS, Read, WriteError, WriteSet};
use es_core::{EventStore, ExpectedVersion, Metadata, StoreError, StreamId, Version};

use super::grow;
use crate::conformance::support::{Pattern, commits, new_commit, new_stream, race, read_all, time};

const BYTES: usize = 150 * 1024;

/// Appends a commit of ten large events after `loaded`.
async fn grow_large(store: &dyn EventStore, stream: &StreamId, loaded: Version) -> Append {
    let events = (0..10).map(|n| Pattern { seed: loaded.get() + n, bytes: BYTES }.event()).collect();
    let append = Append::after_loaded(stream.clone(), loaded, new_commit(events));
    let appended = store.append(&append).await.expect("appends");
    assert_eq!((appended.first, appended.last), (loaded.next(), loaded.plus(10)));
    append
}

/// Each is one commit, between any other commits.
pub async fn are_read_back_as_one_commit(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let mut large = Vec::new();
    for round in 0..3 {
        large.push(grow_large(&*store, &stream, Version::new(round * 12)).await);
        grow(&*store, &stream, 2).await;
    }
    let stored = commits(&*store, &stream).await;
    assert_eq!(stored.iter().map(|commit| commit.events.len()).collect::<Vec<_>>(), [10, 2, 10, 2, 10, 2]);
    for (commit, append) in stored.iter().step_by(2).zip(&large) {
        assert!(commit.id == append.id() && commit.events == append.commits()[0].events, "changed");
        assert_eq!(commit.time, append.commits()[0].time);
    }
    assert_eq!(store.head(&stream).await.expect("is known").version, 36);

    // Bounds within a commit do not cut it.
    let firsts = async |read: Read| {
        let page = read_all(&*store, read).await;
        page.commits.iter().map(|commit| (commit.first.get(), commit.last().get())).collect::<Vec<_>>()
    };
    for until in [13, 17, 22] {
        let read = Read::all(stream.clone()).after(Version::new(10)).until(Version::new(until));
        assert_eq!(firsts(read).await, [(11, 12), (13, 22)]);
    }
    for after in 12..22 {
        let read = || Read::all(stream.clone()).after(Version::new(after));
        assert_eq!(firsts(read()).await, [(13, 22), (23, 24), (25, 34), (35, 36)], "after {after}");
        assert_eq!(firsts(read().until(Version::new(after + 1))).await, [(13, 22)], "after {after}");
    }
}

/// The commit is stored in full or not at all, and once.
pub async fn are_atomic_and_repeatable(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let first = grow_large(&*store, &stream, Version::NONE).await;
    let again = store.append(&first).await.expect("is found");
    assert_eq!((again.first, again.last, again.repeated), (Version::FIRST, Version::new(10), true));
    for version in [3, 10] {
        let late = (0..10).map(|seed| Pattern { seed, bytes: BYTES }.event()).collect();
        let late =
            Append::new(stream.clone(), ExpectedVersion::Exact(Version::new(version - 1)), new_commit(late));
        assert!(store.append(&late).await.expect_err("too late").is_conflict());
    }
    grow(&*store, &stream, 1).await;
    assert!(store.append(&first).await.expect("is found").repeated);
    assert_eq!(commits(&*store, &stream).await.len(), 2);
}

/// Large commits conflict with large and small ones.
pub async fn collide_with_others_from_the_same_version(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let appends = (0..6_u64).map(|writer| {
        let count = if writer % 2 == 0 { 4 } else { 1 };
        let events = (0..count).map(|n| Pattern { seed: writer * 10 + n, bytes: BYTES }.event()).collect();
        Append::new(stream.clone(), ExpectedVersion::NoStream, new_commit(events))
    });
    let results = race(&*store, &appends.collect::<Vec<_>>()).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    assert!(results.iter().filter_map(|result| result.as_ref().err()).all(AppendError::is_conflict));
    assert_eq!(commits(&*store, &stream).await.len(), 1);
}

/// With a snapshot after, before, and long before the commit.
pub async fn follow_a_snapshot(store: Arc<dyn EventStore>) {
    let shape = Fingerprint::new(77);
    for longest_tail in [1, 4, 50] {
        let stream = new_stream();
        grow(&*store, &stream, 2).await;
        let large = grow_large(&*store, &stream, Version::new(2)).await;
        grow(&*store, &stream, 1).await;
        for version in [2, 12, 13] {
            let snapshot = Snapshot::new(Version::new(version), time(0), shape, "{}".to_owned());
            store.write_snapshot(&stream, &snapshot, None).await.expect("writes");
            let page = read_all(&*store, Read::all(stream.clone()).from_snapshot(shape, longest_tail)).await;
            assert_eq!(page.snapshot.map(|snapshot| snapshot.version()), Some(Version::new(version)));
            let ends: Vec<_> = page.commits.iter().map(|commit| commit.last().get()).collect();
            let expected: Vec<_> = [12, 13].into_iter().filter(|end| *end > version).collect();
            assert_eq!(ends, expected, "after {version}, with {longest_tail}");
            assert!(version > 2 || page.commits[0].events == large.commits()[0].events, "changed");
        }
    }
}

/// Metadata that leaves no room for events in an item is refused, and the error says so.
pub(in crate::conformance) async fn refuse_large_metadata(store: &dyn EventStore, stream: &StreamId) {
    let events = vec![Pattern { seed: 1, bytes: 10 }.event(); 2];
    let metadata = Metadata::new().with_entry("note", "x".repeat(400 * 1024));
    let append =
        Append::after_loaded(stream.clone(), Version::NONE, new_commit(events).with_metadata(metadata));
    let AppendError::Store(error) = store.append(&append).await.expect_err("too large") else { panic!() };
    let text = error.to_string();
    assert!(
        matches!(error, StoreError::TooLarge { advice: None, .. }) && text.contains("metadata"),
        "{text}"
    );
    let error = store.write(&WriteSet::new().append(append)).await.expect_err("too large");
    let WriteError::Store(error) = error else { panic!("{error:?}") };
    let text = error.to_string();
    assert!(
        matches!(error, StoreError::TooLarge { advice: None, .. }) && text.contains("metadata"),
        "{text}"
    );
}

/// Events and snapshots larger than an item, and commits larger than a transaction, are refused.
pub async fn have_limits(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let event = |kilobytes: usize| Pattern { seed: 1, bytes: kilobytes * 1024 }.event();
    let too_large = [vec![event(1), event(400)], vec![event(390); 11]];
    for events in too_large {
        let append = Append::after_loaded(stream.clone(), Version::NONE, new_commit(events));
        let error = store.append(&append).await.expect_err("too large");
        assert!(matches!(error, AppendError::Store(StoreError::TooLarge { .. })), "{error:?}");
        let error = store.write(&WriteSet::new().append(append)).await.expect_err("too large");
        assert!(matches!(error, WriteError::Store(StoreError::TooLarge { .. })), "{error:?}");
    }
    refuse_large_metadata(&*store, &stream).await;
    let unchanged = |set: WriteSet, n: usize| set.unchanged(new_stream(), Version::new(n as u64));
    let append = Append::after_loaded(stream.clone(), Version::NONE, new_commit(vec![event(1)]));
    let many = (0..MAX_WRITE_ITEMS).fold(WriteSet::new().append(append), unchanged);
    let error = store.write(&many).await.expect_err("too many");
    assert!(matches!(error, WriteError::Store(StoreError::Invalid { .. })), "{error:?}");
    assert_eq!(store.head(&stream).await.expect("is known").version, Version::NONE);

    grow(&*store, &stream, 1).await;
    let state = |kilobytes: usize| {
        let state = format!("\"{}\"", "x".repeat(kilobytes * 1024));
        Snapshot::new(Version::FIRST, time(0), Fingerprint::new(77), state)
    };
    let error = store.write_snapshot(&stream, &state(400), None).await.expect_err("too large");
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error:?}");
    store.write_snapshot(&stream, &state(399), None).await.expect("fits");
    store
        .append(&Append::new(stream.clone(), ExpectedVersion::Any, new_commit(vec![event(399)])))
        .await
        .expect("fits");
}
