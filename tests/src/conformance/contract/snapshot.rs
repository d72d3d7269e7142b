//! Snapshots: used if they match the stream, ignored otherwise.

use std::sync::Arc;

use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::store::Read;
use es_core::{EventStore, StreamId, Version};

use super::grow;
use super::read::fill;
use crate::conformance::support::{Pattern, new_stream, read_all, time};

const SHAPE: Fingerprint = Fingerprint::new(0xdead_beef_0000_0001);

/// Returns a snapshot with the time of all commits of these tests.
fn snapshot(version: u64) -> Snapshot {
    let state = format!("{{\"version\":{version},\"text\":\"\\u00fc\"}}");
    Snapshot::new(Version::new(version), time(0), SHAPE, state)
}

async fn write(store: &dyn EventStore, stream: &StreamId, snapshot: &Snapshot) {
    store.write_snapshot(stream, snapshot, None).await.expect("writes");
}

fn from_snapshot(stream: &StreamId) -> Read {
    Read::all(stream.clone()).from_snapshot(SHAPE, 100)
}

/// A read returns the snapshot as written, followed by exactly the later events.
pub async fn a_read_starts_from_a_snapshot_at_every_boundary(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    for count in [1, 3, 2, 1, 5] {
        grow(&*store, &stream, count).await;
    }
    let all = read_all(&*store, Read::all(stream.clone())).await.commits;
    for (index, commit) in all.iter().enumerate() {
        let snapshot = snapshot(commit.last().get());
        write(&*store, &stream, &snapshot).await;
        let page = read_all(&*store, from_snapshot(&stream)).await;
        assert_eq!(page.snapshot.as_ref(), Some(&snapshot));
        assert_eq!(page.unusable_snapshot, None);
        assert_eq!(page.commits, all[index + 1..], "after version {}", snapshot.version());
    }
    // Reads without a snapshot, and bounded reads, return events only.
    assert_eq!(read_all(&*store, Read::all(stream.clone())).await.commits, all);
    let part = read_all(&*store, from_snapshot(&stream).until(Version::new(4))).await;
    assert_eq!((part.snapshot, &part.commits[..]), (None, &all[..2]));
}

/// A late writer cannot replace a newer snapshot.
pub async fn a_snapshot_is_overwritten_only_by_a_higher_version(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    for _ in 0..4 {
        grow(&*store, &stream, 1).await;
    }
    for (written, kept) in [(2, 2), (1, 2), (2, 2), (4, 4), (3, 4)] {
        write(&*store, &stream, &snapshot(written)).await;
        let page = read_all(&*store, from_snapshot(&stream)).await;
        assert_eq!(page.snapshot, Some(snapshot(kept)), "after writing {written}");
    }
}

/// Otherwise, a snapshot with too high a version would never be replaced.
pub async fn an_unusable_snapshot_can_be_replaced(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    grow(&*store, &stream, 2).await;
    write(&*store, &stream, &snapshot(900)).await;
    let unusable = read_all(&*store, from_snapshot(&stream)).await.unusable_snapshot;
    assert_eq!(unusable, Some(Version::new(900)));
    store.write_snapshot(&stream, &snapshot(2), Some(Version::new(899))).await.expect("no error");
    assert_eq!(read_all(&*store, from_snapshot(&stream)).await.snapshot, None, "another one was replaced");
    store.write_snapshot(&stream, &snapshot(2), unusable).await.expect("writes");
    assert_eq!(read_all(&*store, from_snapshot(&stream)).await.snapshot, Some(snapshot(2)));
}

/// Another fingerprint, a damaged state, or a version beyond the end of the stream.
pub async fn a_snapshot_that_does_not_fit_is_ignored(store: Arc<dyn EventStore>) {
    let sound = snapshot(2);
    let (version, time, checksum) = (sound.version(), sound.time(), sound.checksum());
    let state = sound.state().to_owned();
    let cases = [
        ("another shape", Snapshot::new(version, time, Fingerprint::new(1), state.clone())),
        ("a changed state", Snapshot::from_stored(version, time, SHAPE, state.replace('2', "3"), checksum)),
        ("a cut state", Snapshot::from_stored(version, time, SHAPE, state[..5].to_owned(), checksum)),
        ("a later version", Snapshot::from_stored(Version::new(3), time, SHAPE, state.clone(), checksum)),
        ("ahead of the stream", snapshot(4)),
    ];
    for (name, damaged) in cases {
        let stream = new_stream();
        for _ in 0..3 {
            grow(&*store, &stream, 1).await;
        }
        write(&*store, &stream, &damaged).await;
        let page = read_all(&*store, from_snapshot(&stream)).await;
        assert_eq!((page.snapshot, page.commits.len()), (None, 3), "{name}");
        assert_eq!(page.unusable_snapshot, Some(damaged.version()), "{name}");
    }

    let empty = new_stream();
    write(&*store, &empty, &snapshot(1)).await;
    let page = read_all(&*store, from_snapshot(&empty)).await;
    assert_eq!((page.snapshot, page.commits.len()), (None, 0), "a stream without events");
}

/// The expected length of the tail is only a hint.
pub async fn a_tail_longer_than_expected_is_read_whole(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    for _ in 0..30 {
        grow(&*store, &stream, 2).await;
    }
    let all = read_all(&*store, Read::all(stream.clone())).await.commits;
    for longest_tail in [1, 2, 7, 29, 60] {
        let read = || Read::all(stream.clone()).from_snapshot(SHAPE, longest_tail);
        assert_eq!(read_all(&*store, read()).await.commits, all, "without a snapshot, {longest_tail}");
    }
    write(&*store, &stream, &snapshot(10)).await;
    for longest_tail in [1, 2, 7, 24, 25, 26, 60] {
        let page = read_all(&*store, Read::all(stream.clone()).from_snapshot(SHAPE, longest_tail)).await;
        assert_eq!(page.snapshot, Some(snapshot(10)));
        assert_eq!(page.commits, all[5..], "with a snapshot, {longest_tail}");
    }
}

/// The known version of the snapshot is only a hint, which may be outdated, ahead, or that of another stream.
pub async fn a_known_version_of_a_snapshot_changes_nothing(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    for events in [1, 12, 1, 3, 2, 20, 1] {
        grow(&*store, &stream, events).await;
    }
    let all = read_all(&*store, Read::all(stream.clone())).await.commits;
    let versions = [0, 1, 12, 13, 14, 20, 38, 39, 40, 41, 999_999_999_999];
    let read = |known| from_snapshot(&stream).with_known_snapshot(Version::new(known));
    for known in versions {
        assert_eq!(read_all(&*store, read(known)).await.commits, all, "without a snapshot, {known}");
    }
    for (index, commit) in all.iter().enumerate() {
        let last = commit.last();
        let snapshot = Snapshot::new(last, commit.time, SHAPE, "{}".to_owned());
        write(&*store, &stream, &snapshot).await;
        for known in versions {
            let page = read_all(&*store, read(known)).await;
            assert_eq!(page.snapshot, Some(snapshot.clone()), "of version {last}, {known}");
            assert_eq!(page.commits, all[index + 1..], "after version {last}, {known}");
        }
    }
}

/// Neither the tail nor the events before the snapshot need to fit into one page of a Query.
pub async fn a_snapshot_in_a_stream_over_1_megabyte(store: Arc<dyn EventStore>) {
    let (stream, bytes) = (new_stream(), 200 * 1024);
    fill(&*store, &stream, 16, bytes).await;
    for version in [1, 8, 15, 16] {
        write(&*store, &stream, &snapshot(version)).await;
        let page = read_all(&*store, from_snapshot(&stream)).await;
        assert_eq!(page.snapshot, Some(snapshot(version)));
        assert_eq!(page.commits.len() as u64, 16 - version);
        for (commit, seed) in page.commits.iter().zip(version..) {
            assert!(commit.events == [Pattern { seed, bytes }.event()], "commit {seed} was changed");
        }
    }
}

/// A stream was truncated, for example by a restore, and has grown again beyond the version of a snapshot.
pub async fn a_snapshot_of_another_history_is_ignored(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    for _ in 0..4 {
        grow(&*store, &stream, 1).await;
    }
    let state = "{}".to_owned();
    for version in [4, 2] {
        let foreign = Snapshot::new(Version::new(version), time(1), SHAPE, state.clone());
        store.write_snapshot(&stream, &foreign, Some(Version::new(4))).await.expect("writes");
        let page = read_all(&*store, from_snapshot(&stream)).await;
        assert_eq!((page.snapshot, page.unusable_snapshot), (None, Some(Version::new(version))));
        assert_eq!(page.commits.len(), 4);
    }
    store.write_snapshot(&stream, &snapshot(2), Some(Version::new(2))).await.expect("writes");
    assert_eq!(read_all(&*store, from_snapshot(&stream)).await.snapshot, Some(snapshot(2)));
}
