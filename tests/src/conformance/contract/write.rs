//! Write sets: several streams in one transaction.

use std::sync::Arc;

use es_core::store::{Append, WriteError, WriteSet};
use es_core::{EventStore, ExpectedVersion, StoreError, StreamId, Version};
use futures_util::future::join_all;

use super::grow;
use crate::conformance::Pattern;
use crate::conformance::support::{commits, events, new_commit, new_stream};

/// Returns an append of `count` events after `version`.
pub(super) fn append(stream: &StreamId, version: u64, count: usize) -> Append {
    Append::after_loaded(stream.clone(), Version::new(version), new_commit(events(count)))
}

/// Returns the first and last version of each commit.
pub(super) async fn ends(store: &dyn EventStore, stream: &StreamId) -> Vec<(u64, u64)> {
    let commits = commits(store, stream).await;
    commits.iter().map(|commit| (commit.first.get(), commit.last().get())).collect()
}

/// New and existing streams, at different versions.
pub async fn several_streams_are_written_as_one(store: Arc<dyn EventStore>) {
    let [ann, bob, cleo] = [new_stream(), new_stream(), new_stream()];
    grow(&*store, &bob, 3).await;
    let set = WriteSet::new()
        .append(append(&ann, 0, 2))
        .append(append(&bob, 3, 1))
        .unchanged(cleo.clone(), Version::NONE);
    let written = store.write(&set).await.expect("writes");
    let places: Vec<_> = written.appended.iter().map(|at| (at.first.get(), at.last.get())).collect();
    assert_eq!((places, written.repeated, written.cost.requests), (vec![(1, 2), (4, 4)], false, 1));
    assert_eq!(ends(&*store, &ann).await, [(1, 2)]);
    assert_eq!(ends(&*store, &bob).await, [(1, 3), (4, 4)]);
    assert!(ends(&*store, &cleo).await.is_empty());
    let stored = commits(&*store, &ann).await.remove(0);
    assert_eq!((stored.id, &stored.events), (set.appends()[0].id(), &set.appends()[0].commits()[0].events));
}

/// Wherever the conflict is, nothing is written, and the error names the stream.
pub async fn a_set_with_a_conflict_writes_nothing(store: Arc<dyn EventStore>) {
    for late in 0..3 {
        let streams = [new_stream(), new_stream(), new_stream()];
        grow(&*store, &streams[late], 2).await;
        let set = streams.iter().fold(WriteSet::new(), |set, stream| set.append(append(stream, 0, 1)));
        let error = store.write(&set).await.expect_err("is too late");
        let WriteError::Conflict(conflict) = error else { panic!("{error:?}") };
        assert_eq!((&conflict.stream, conflict.actual), (&streams[late], Some(Version::new(2))));
        for (index, stream) in streams.iter().enumerate() {
            assert_eq!(ends(&*store, stream).await.len(), usize::from(index == late));
        }
    }
}

/// A stream that is only checked can cause a conflict like one that is written.
pub async fn a_stream_that_has_gone_on_stops_a_set(store: Arc<dyn EventStore>) {
    let [seen, written] = [new_stream(), new_stream()];
    grow(&*store, &seen, 2).await;
    grow(&*store, &seen, 1).await;
    let set = WriteSet::new().append(append(&written, 0, 1)).unchanged(seen.clone(), Version::new(2));
    let error = store.write(&set).await.expect_err("has gone on");
    assert!(matches!(&error, WriteError::Conflict(conflict) if conflict.stream == seen), "{error:?}");
    assert!(ends(&*store, &written).await.is_empty());
    let set = WriteSet::new().append(append(&written, 0, 1)).unchanged(seen, Version::new(3));
    store.write(&set).await.expect("is as it was seen");
}

/// As after a lost response, and also after later appends to all its streams.
pub async fn a_repeated_set_is_written_once(store: Arc<dyn EventStore>) {
    let [ann, bob, seen] = [new_stream(), new_stream(), new_stream()];
    let set = WriteSet::new()
        .append(append(&ann, 0, 2))
        .append(append(&bob, 0, 1))
        .unchanged(seen.clone(), Version::NONE);
    let first = store.write(&set).await.expect("writes");
    for round in 0..3 {
        let again = store.write(&set).await.unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert!(again.repeated && again.appended.iter().all(|appended| appended.repeated));
        for (again, first) in again.appended.iter().zip(&first.appended) {
            assert_eq!((again.first, again.last), (first.first, first.last));
        }
        for stream in [&ann, &bob, &seen] {
            grow(&*store, stream, 2).await;
        }
    }
    assert_eq!(ends(&*store, &ann).await.len(), 4);
    assert_eq!(ends(&*store, &bob).await.len(), 4);
}

/// Commits larger than an item, and small ones.
pub async fn a_set_may_hold_large_commits(store: Arc<dyn EventStore>) {
    let [small, large] = [new_stream(), new_stream()];
    let events: Vec<_> = (0..9).map(|seed| Pattern { seed, bytes: 100_000 }.event()).collect();
    let commit = new_commit(events.clone());
    let set = WriteSet::new().append(append(&small, 0, 1)).append(Append::after_loaded(
        large.clone(),
        Version::NONE,
        commit,
    ));
    store.write(&set).await.expect("writes");
    assert!(store.write(&set).await.expect("is found").repeated);
    assert_eq!(ends(&*store, &large).await, [(1, 9)]);
    assert_eq!(commits(&*store, &large).await[0].events, events);
    assert_eq!(ends(&*store, &small).await, [(1, 1)]);
}

/// The error says what to do, and nothing is written.
pub async fn unsound_sets_are_refused(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    grow(&*store, &stream, 1).await;
    let anywhere = |expected| Append::new(stream.clone(), expected, new_commit(events(1)));
    for (set, reason) in [
        (WriteSet::new(), "needs at least one commit"),
        (WriteSet::new().unchanged(stream.clone(), Version::FIRST), "needs at least one commit"),
        (WriteSet::new().append(append(&stream, 1, 1)).append(append(&stream, 1, 1)), "appears twice"),
        (
            WriteSet::new().append(append(&stream, 1, 1)).unchanged(stream.clone(), Version::FIRST),
            "appears twice",
        ),
        (WriteSet::new().append(anywhere(ExpectedVersion::Any)), "load the stream"),
        (WriteSet::new().append(anywhere(ExpectedVersion::Exact(Version::FIRST))), "load the stream"),
        (WriteSet::new().append(append(&stream, 1, 0)), "without events"),
    ] {
        let error = store.write(&set).await.expect_err(reason);
        assert!(matches!(error, WriteError::Store(StoreError::Invalid { .. })), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert_eq!(ends(&*store, &stream).await, [(1, 1)]);
}

/// Of concurrent sets that share a stream, one is written, and the others write nothing.
pub async fn of_many_sets_from_one_version_one_wins(store: Arc<dyn EventStore>) {
    let shared = new_stream();
    let sets: Vec<_> = (1..=8)
        .map(|count| {
            let own = new_stream();
            (own.clone(), WriteSet::new().append(append(&own, 0, 1)).append(append(&shared, 0, count)))
        })
        .collect();
    let results = join_all(sets.iter().map(|(_, set)| async {
        loop {
            match store.write(set).await {
                Err(WriteError::Store(error)) if error.is_retryable() => {}
                result => return result,
            }
        }
    }))
    .await;
    let winners = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(winners, 1, "{results:?}");
    for ((own, _), result) in sets.iter().zip(&results) {
        assert_eq!(ends(&*store, own).await.len(), usize::from(result.is_ok()), "{result:?}");
    }
    assert_eq!(ends(&*store, &shared).await.len(), 1);
}
