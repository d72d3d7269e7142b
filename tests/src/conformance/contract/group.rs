//! Several commits in one append: stored as one, read as several.

use std::sync::Arc;

use es_core::event::EventData;
use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::store::{
    Append, AppendError, Commit, Conflict, MAX_GROUP_BYTES, MAX_GROUP_COMMITS, NewCommit, Read, WriteSet,
};
use es_core::{EventStore, ExpectedVersion, Metadata, StoreError, StreamId, Version};
use futures_util::future::join_all;

use super::{grow, refuses};
use crate::conformance::support::{Pattern, commits, events, new_commit, new_stream, read_all, time};

/// Returns commits of these numbers of events. Each has another time, and every other one has metadata.
fn new_commits(sizes: &[usize]) -> Vec<NewCommit> {
    let commit = |(size, index): (&usize, i64)| {
        let mut commit = new_commit(events(*size));
        commit.time = time(index);
        match index % 2 {
            0 => commit,
            _ => commit.with_metadata(Metadata::new().with_actor(format!("actor {index}"))),
        }
    };
    sizes.iter().zip(0..).map(commit).collect()
}

fn append_of(stream: &StreamId, expected: ExpectedVersion, commits: Vec<NewCommit>) -> Append {
    let mut commits = commits.into_iter();
    let first = commits.next().expect("at least one");
    Append::new(stream.clone(), expected, first).with_following(commits)
}

/// Appends commits of these sizes as one.
pub(in crate::conformance) async fn grow_by(store: &dyn EventStore, stream: &StreamId, sizes: &[usize]) {
    let append = append_of(stream, ExpectedVersion::Any, new_commits(sizes));
    store.append(&append).await.expect("appends");
}

/// Returns a stream with two appends of several commits, one after the other, and single commits around them; and its
/// commits.
async fn mixed(store: &dyn EventStore) -> (StreamId, Vec<Commit>) {
    let stream = new_stream();
    grow(store, &stream, 2).await;
    grow_by(store, &stream, &[1, 3, 2]).await;
    grow_by(store, &stream, &[2, 1]).await;
    grow(store, &stream, 1).await;
    grow_by(store, &stream, &[1, 1, 4]).await;
    let all = commits(store, &stream).await;
    assert_eq!(all.len(), 10);
    (stream, all)
}

/// Each commit has its own id, time, metadata, and events.
pub async fn commits_read_back_as_they_were_written(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let mut written = Vec::new();
    for (expected, sizes) in [
        (ExpectedVersion::NoStream, &[1, 3, 2, 1][..]),
        (ExpectedVersion::Exact(Version::new(7)), &[2, 2]),
        (ExpectedVersion::StreamExists, &[1]),
        (ExpectedVersion::Any, &[1; 100]),
    ] {
        let new = new_commits(sizes);
        let before = store.head(&stream).await.expect("is known").version;
        let appended = store.append(&append_of(&stream, expected, new.clone())).await.expect("appends");
        let count: usize = sizes.iter().sum();
        assert_eq!((appended.first, appended.last), (before.next(), before.plus(count as u64)));
        assert!(!appended.repeated);
        assert_eq!(store.head(&stream).await.expect("is known").version, appended.last);
        written.extend(new);
    }
    let read = commits(&*store, &stream).await;
    assert_eq!(read.len(), written.len());
    let mut next = Version::FIRST;
    for (read, written) in read.iter().zip(&written) {
        assert_eq!((read.id, read.first, read.time), (written.id, next, written.time));
        assert_eq!((&*read.metadata, &read.events), (&written.metadata, &written.events));
        next = read.last().next();
    }
}

/// A read starts after any version, and ends with any version, wherever its commit is stored. Commits are not cut.
pub async fn a_read_starts_and_ends_at_every_commit(store: Arc<dyn EventStore>) {
    let (stream, all) = mixed(&*store).await;
    for after in (0..=all[9].last().get()).map(Version::new) {
        let from = all.partition_point(|commit| commit.last() <= after);
        let read = || Read::all(stream.clone()).after(after);
        assert_eq!(read_all(&*store, read()).await.commits, all[from..], "after {after}");
        for until in 1..=all[9].last().get() {
            let read = read().until(Version::new(until));
            // The whole commit that contains the version, and none after it.
            let to = all.partition_point(|commit| commit.first.get() <= until);
            let to = if until <= after.get() { from } else { to };
            assert_eq!(read_all(&*store, read).await.commits, all[from..to], "{after} to {until}");
        }
    }
    // The ends of appends are versions of the whole stream at some time.
    for after in [2, 8, 11, 12, 18].map(Version::new) {
        let rest = all.partition_point(|commit| commit.first <= after);
        let read = Read::all(stream.clone()).after_loaded(after);
        assert_eq!(read_all(&*store, read).await.commits, all[rest..], "after {after}");
    }
}

/// A snapshot of every commit is used, with its time, and no other.
pub async fn a_snapshot_is_used_after_every_commit(store: Arc<dyn EventStore>) {
    const SHAPE: Fingerprint = Fingerprint::new(7);
    let (stream, all) = mixed(&*store).await;
    let mut replaced = None;
    for (index, commit) in all.iter().enumerate() {
        let at = |version, time| Snapshot::new(version, time, SHAPE, "{}".to_owned());
        let another_time = commit.time + chrono::TimeDelta::seconds(7);
        let mut unusable = vec![at(commit.last(), another_time)];
        if commit.events.len() > 1 {
            unusable.push(at(commit.first, commit.time));
        }
        for snapshot in unusable.into_iter().chain([at(commit.last(), commit.time)]) {
            store.write_snapshot(&stream, &snapshot, replaced).await.expect("writes");
            let is_usable = (snapshot.version(), snapshot.time()) == (commit.last(), commit.time);
            // The tail is read from the end of the stream, or in part from the snapshot on. Without its commit, it is
            // not known whether a snapshot is that of another history.
            for longest_tail in if is_usable { &[1, 3, 100][..] } else { &[100] } {
                let known = Version::new(u64::from(*longest_tail) - 1);
                let read =
                    Read::all(stream.clone()).from_snapshot(SHAPE, *longest_tail).with_known_snapshot(known);
                let page = read_all(&*store, read).await;
                assert_eq!(page.snapshot.as_ref(), is_usable.then_some(&snapshot), "{snapshot:?}");
                let start = if is_usable { index + 1 } else { 0 };
                assert_eq!(page.commits, all[start..], "{snapshot:?}, {longest_tail}");
            }
            replaced = Some(snapshot.version());
        }
    }
}

/// A conflict contains all commits of the append that won, or none if the version is inside an append.
pub async fn a_conflict_contains_all_commits(store: Arc<dyn EventStore>) {
    let (stream, all) = mixed(&*store).await;
    let conflict = async |append: &Append| -> Conflict {
        match store.append(append).await {
            Err(AppendError::Conflict(conflict)) => conflict,
            other => panic!("{other:?}"),
        }
    };
    for (loaded, winner) in [(0, 0..1), (2, 1..4), (8, 4..6), (11, 6..7), (12, 7..10)] {
        let loaded = Version::new(loaded);
        let last = all[winner.end - 1].last();
        for sizes in [&[1][..], &[1, 1], &[5, 5]] {
            let mut late = new_commits(sizes).into_iter();
            let first = late.next().expect("at least one");
            let late = Append::after_loaded(stream.clone(), loaded, first).with_following(late);
            let found = conflict(&late).await;
            assert_eq!(found.commits, all[winner.clone()], "after {loaded}");
            assert!(found.actual.is_some_and(|actual| actual >= last), "{:?}", found.actual);
        }
        let late = append_of(&stream, ExpectedVersion::Exact(loaded), new_commits(&[1, 1]));
        assert_eq!(conflict(&late).await.commits, all[winner], "after {loaded}");
    }
    assert_eq!(commits(&*store, &stream).await, all);
}

/// No append starts between two commits that are stored as one.
pub async fn a_version_inside_an_append_is_refused(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    grow_by(&*store, &stream, &[1, 3, 2]).await;
    for version in 1..=5 {
        let expected = ExpectedVersion::Exact(Version::new(version));
        assert_eq!(refuses(&*store, &stream, expected).await, Some(Version::new(6)));
        let late = append_of(&stream, expected, new_commits(&[1, 1]));
        assert!(store.append(&late).await.expect_err("refused").is_conflict());
    }
    grow_by(&*store, &stream, &[1, 1]).await;
    assert_eq!(commits(&*store, &stream).await.len(), 5);
}

/// As after a lost response, also when others have appended since.
pub async fn a_repeated_append_is_stored_once(store: Arc<dyn EventStore>) {
    let version = Version::new(2);
    for index in 0..4 {
        let stream = new_stream();
        grow_by(&*store, &stream, &[1, 1]).await;
        let new = new_commits(&[1, 3, 2]);
        let append = match index {
            0 => append_of(&stream, ExpectedVersion::Any, new),
            1 => append_of(&stream, ExpectedVersion::StreamExists, new),
            2 => append_of(&stream, ExpectedVersion::Exact(version), new),
            _ => Append::after_loaded(stream.clone(), version, new[0].clone())
                .with_following(new[1..].iter().cloned()),
        };
        let first = store.append(&append).await.expect("appends");
        for _ in 0..2 {
            let again = store.append(&append).await.unwrap_or_else(|error| panic!("{append:?}: {error}"));
            assert_eq!((again.first, again.last), (first.first, first.last), "{append:?}");
            assert!(!first.repeated && again.repeated, "{append:?}");
            grow_by(&*store, &stream, &[2, 2]).await;
        }
        assert_eq!(commits(&*store, &stream).await.len(), 9, "{append:?}");
    }
}

/// The id of the first commit identifies an append, so it must not be used with others.
pub async fn other_commits_under_one_id_are_an_error(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let new = new_commits(&[1, 3, 2]);
    let append = |commits: &[NewCommit]| append_of(&stream, ExpectedVersion::NoStream, commits.to_vec());
    store.append(&append(&new)).await.expect("appends");
    let mut other_id = new.clone();
    other_id[1].id = new_commit(events(1)).id;
    let mut other_sizes = new.clone();
    let moved = other_sizes[1].events.pop().expect("has three");
    other_sizes[2].events.push(moved);
    let others = [new[..1].to_vec(), new[..2].to_vec(), other_id, other_sizes];
    for other in others.iter().map(|other| append(other)) {
        let error = store.append(&other).await.expect_err("is another append");
        assert!(matches!(error, AppendError::Store(StoreError::Corrupt { .. })), "{error:?}");
    }
    // The id of another commit identifies nothing.
    let error = store.append(&append(&new[1..])).await.expect_err("is too late");
    assert!(error.is_conflict(), "{error:?}");
    assert_eq!(commits(&*store, &stream).await.len(), 3);
}

/// Of all appends that expect one version, one is stored, and as a whole.
pub async fn of_many_appends_from_one_version_one_wins(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    for round in 0..4 {
        let loaded = store.head(&stream).await.expect("is known").version;
        let appends: Vec<_> = (0..8)
            .map(|writer| {
                let new = new_commits(&[1, 2, 1, 3][..1 + writer % 4]);
                let append = Append::after_loaded(stream.clone(), loaded, new[0].clone());
                append.with_following(new[1..].iter().cloned())
            })
            .collect();
        let results = join_all(appends.iter().map(|append| store.append(append))).await;
        let won: Vec<_> = appends.iter().zip(&results).filter(|(_, result)| result.is_ok()).collect();
        let [(winner, _)] = won[..] else { panic!("round {round}: {results:?}") };
        let stored = read_all(&*store, Read::all(stream.clone()).after_loaded(loaded)).await.commits;
        assert!(stored.iter().map(|commit| commit.id).eq(winner.commits().iter().map(|commit| commit.id)));
    }
}

/// A stream of many large appends is read in several pages, and from any of its commits.
pub async fn a_stream_over_1_megabyte_is_read_whole(store: Arc<dyn EventStore>) {
    let (stream, bytes) = (new_stream(), 25 * 1024);
    let mut seed = 0;
    for _ in 0..5 {
        let new: Vec<_> = (0..10)
            .map(|_| {
                seed += 1;
                new_commit(vec![Pattern { seed, bytes }.event()])
            })
            .collect();
        store.append(&append_of(&stream, ExpectedVersion::Any, new)).await.expect("appends");
    }
    for after in [0, 1, 9, 10, 11, 25, 39, 49, 50] {
        let read = Read::all(stream.clone()).after(Version::new(after));
        let read = read_all(&*store, read).await.commits;
        assert_eq!(read.len() as u64, 50 - after);
        for (commit, seed) in read.iter().zip(after + 1..) {
            assert!(commit.events == [Pattern { seed, bytes }.event()], "commit {seed} was changed");
        }
    }
}

/// All stores have the same limits, and nothing of an append beyond them is stored.
pub async fn appends_have_limits(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let refused = async |append: Append| match store.append(&append).await {
        Err(AppendError::Store(error)) => error,
        other => panic!("{other:?}"),
    };
    let append = |commits| append_of(&stream, ExpectedVersion::NoStream, commits);
    let invalid = |error: StoreError, text: &str| {
        assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    };
    invalid(refused(append(new_commits(&[1; MAX_GROUP_COMMITS + 1]))).await, "101 commits");
    invalid(refused(append(new_commits(&[1, 0, 1]))).await, "without events");
    let mut decreasing = new_commits(&[1, 1, 1]);
    decreasing[2].time = time(0);
    invalid(refused(append(decreasing)).await, "decrease");
    let twice = vec![new_commits(&[1]).remove(0); 2];
    invalid(refused(append(twice)).await, "the same id");
    let set = WriteSet::new().append(append(new_commits(&[1, 1])));
    assert!(store.write(&set).await.expect_err("has two commits").to_string().contains("several commits"));

    // To the byte: a payload, its name, 16 bytes for the event, and 64 for the commit.
    let filled = |bytes: u64| {
        let payload = "7".repeat(usize::try_from(bytes).expect("is small") - 16 - 64 - 1);
        new_commit(vec![EventData::new("N", 1, payload)])
    };
    let small = filled(1_000);
    let larger = append(vec![small.clone(), filled(MAX_GROUP_BYTES - 1_000 + 1)]);
    let error = refused(larger).await;
    let StoreError::TooLarge { bytes, limit, .. } = error else { panic!("{error:?}") };
    assert_eq!((bytes, limit), (MAX_GROUP_BYTES + 1, MAX_GROUP_BYTES));
    assert_eq!(commits(&*store, &stream).await, []);
    let largest = append(vec![small, filled(MAX_GROUP_BYTES - 1_000)]);
    store.append(&largest).await.expect("fits");
    assert_eq!(commits(&*store, &stream).await.len(), 2);
}
