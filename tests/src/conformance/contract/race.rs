//! Concurrent writers.

use std::sync::Arc;

use es_core::store::{Append, AppendError, WriteError, WriteSet};
use es_core::{EventStore, ExpectedVersion, Metadata, Version};
use futures_util::future::join_all;

use super::grow;
use crate::conformance::support::{commits, events, new_commit, new_stream};

/// Two writers with the same expected version conflict, regardless of the number of their events.
pub async fn writers_from_one_version_with_commits_of_different_lengths(store: Arc<dyn EventStore>) {
    for (winner, loser) in [(1, 5), (5, 1), (3, 3)] {
        let stream = new_stream();
        let loaded = grow(&*store, &stream, 2).await.last;
        let first = Append::after_loaded(stream.clone(), loaded, new_commit(events(winner)));
        let second = Append::after_loaded(stream.clone(), loaded, new_commit(events(loser)));
        assert_eq!(store.append(&first).await.expect("appends").last, loaded.plus(winner as u64));
        assert!(store.append(&second).await.expect_err("too late").is_conflict());
        assert_eq!(commits(&*store, &stream).await.len(), 2);
    }
}

/// A conflict contains the commit directly after the expected version, even if more commits follow.
pub async fn a_conflict_contains_the_winner(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let metadata = Metadata::new().with_actor("ann").with_entry("tenant", "acme");
    for count in [1, 3, 2] {
        let commit = new_commit(events(count)).with_metadata(metadata.clone());
        store.append(&Append::new(stream.clone(), ExpectedVersion::Any, commit)).await.expect("appends");
    }
    let stored = commits(&*store, &stream).await;
    for (loaded, winner) in [(0, &stored[0]), (1, &stored[1]), (4, &stored[2])] {
        let after = |events| Append::after_loaded(stream.clone(), Version::new(loaded), new_commit(events));
        let conflict = match store.append(&after(events(1))).await {
            Err(AppendError::Conflict(conflict)) => conflict,
            other => panic!("{other:?}"),
        };
        assert_eq!(conflict.commits, std::slice::from_ref(winner));

        let other = Append::new(new_stream(), ExpectedVersion::NoStream, new_commit(events(1)));
        let sets = [
            WriteSet::new().append(after(events(2))).append(other.clone()),
            WriteSet::new().append(other).unchanged(stream.clone(), Version::new(loaded)),
        ];
        for set in sets {
            let conflict = match store.write(&set).await {
                Err(WriteError::Conflict(conflict)) => conflict,
                other => panic!("{other:?}"),
            };
            assert_eq!((&conflict.stream, conflict.commits), (&stream, vec![winner.clone()]));
        }
    }
    let new = Append::new(stream.clone(), ExpectedVersion::NoStream, new_commit(events(1)));
    let Err(AppendError::Conflict(conflict)) = store.append(&new).await else { panic!("is not new") };
    assert_eq!(conflict.commits, stored[..1]);
    assert_eq!(commits(&*store, &stream).await, stored);
}

/// Of many concurrent writers with one expected version, exactly one succeeds.
pub async fn of_many_writers_from_one_version_one_wins(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    for round in 0..5_u64 {
        let loaded =
            commits(&*store, &stream).await.last().map_or(Version::NONE, es_core::store::Commit::last);
        let writers = (0..12_usize).map(|writer| {
            let store = Arc::clone(&store);
            let commit = new_commit(events(1 + writer % 4));
            let append = Append::after_loaded(stream.clone(), loaded, commit);
            async move { store.append(&append).await }
        });
        let results = join_all(writers).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "round {round}: {results:?}");
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert!(error.is_conflict(), "{error:?}");
        }
        assert_eq!(commits(&*store, &stream).await.len() as u64, round + 1);
    }
}

/// Writers that accept any version all succeed, and none overwrites another.
pub async fn appends_at_any_version_all_succeed(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let writers = (0..6).map(|_| {
        let store = Arc::clone(&store);
        let append = Append::new(stream.clone(), ExpectedVersion::Any, new_commit(events(2)));
        async move { store.append(&append).await }
    });
    let mut ends: Vec<_> =
        join_all(writers).await.into_iter().map(|result| result.expect("appends").last).collect();
    ends.sort_unstable();
    assert_eq!(ends, [2, 4, 6, 8, 10, 12].map(Version::new));
    assert_eq!(commits(&*store, &stream).await.len(), 6);
}
