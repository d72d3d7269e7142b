//! The end of a stream.

use std::sync::Arc;

use es_core::event::EventData;
use es_core::store::{
    Append, AppendError, ClosedStream, Conflict, NewCommit, StreamState, WriteError, WriteSet,
};
use es_core::{EventStore, ExpectedVersion, StoreError, StreamId, Version};
use futures_util::future::join_all;

use super::grow;
use crate::conformance::support::{commits, events, new_commit, new_stream, time};

/// Returns a commit that closes a stream.
fn closing() -> NewCommit {
    new_commit(vec![EventData::new("$closed", 1, "{}")])
}

async fn close(store: &dyn EventStore, stream: &StreamId, version: u64) {
    let append = Append::after_loaded(stream.clone(), Version::new(version), closing());
    let appended = store.append(&append).await.expect("closes");
    assert_eq!(appended.last, version + 1);
}

fn closed(result: Result<impl std::fmt::Debug, AppendError>) -> ClosedStream {
    match result.expect_err("is closed") {
        AppendError::Store(StoreError::Closed(closed)) => *closed,
        error => panic!("{error:?}"),
    }
}

fn conflict(result: Result<impl std::fmt::Debug, AppendError>) -> Conflict {
    match result.expect_err("the version is taken") {
        AppendError::Conflict(conflict) => conflict,
        error => panic!("{error:?}"),
    }
}

/// The commit that closes a stream reads back like any other, and no other commit follows it.
pub async fn a_closed_stream_accepts_no_commits(store: Arc<dyn EventStore>) {
    let (store, stream) = (&*store, new_stream());
    grow(store, &stream, 3).await;
    let head = store.head(&stream).await.expect("is known");
    assert_eq!((head.version, head.time, head.state), (Version::new(3), Some(time(0)), StreamState::Open));
    close(store, &stream, 3).await;
    let before = commits(store, &stream).await;
    assert_eq!((before.len(), before[1].events[0].name()), (2, "$closed"));
    let head = store.head(&stream).await.expect("is known");
    assert_eq!((head.version, head.state), (Version::new(4), StreamState::Closed));

    let append = |expected| Append::new(stream.clone(), expected, new_commit(events(2)));
    for expected in
        [ExpectedVersion::Any, ExpectedVersion::StreamExists, ExpectedVersion::Exact(Version::new(4))]
    {
        let error = closed(store.append(&append(expected)).await);
        let expected = ClosedStream::new(stream.clone(), Version::new(4), StreamState::Closed);
        assert_eq!(error, expected);
    }
    for expected in [ExpectedVersion::NoStream, ExpectedVersion::Exact(Version::new(3))] {
        conflict(store.append(&append(expected)).await);
    }
    let stale = Append::after_loaded(stream.clone(), Version::new(3), new_commit(events(2)));
    assert_eq!(conflict(store.append(&stale).await).commits, before[1..]);
    let set = WriteSet::new().append(stale);
    let error = store.write(&set).await.expect_err("the version is taken");
    let WriteError::Conflict(conflict) = &error else { panic!("{error:?}") };
    assert_eq!(conflict.commits, before[1..]);
    assert_eq!(commits(store, &stream).await, before);
}

/// A repeated commit that closes the stream is recognized.
pub async fn closing_is_idempotent(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    grow(&*store, &stream, 1).await;
    let append = Append::after_loaded(stream.clone(), Version::new(1), closing());
    for repeated in [false, true, true] {
        assert_eq!(store.append(&append).await.expect("closes").repeated, repeated);
    }
    assert_eq!(commits(&*store, &stream).await.len(), 2);
}

/// Names that start with `$` belong to the framework, whose events are alone in their commits.
pub async fn names_of_the_framework_are_reserved(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    grow(&*store, &stream, 1).await;
    let own = || EventData::new("$closed", 1, "{}");
    let other = || EventData::new("Counted", 1, "{}");
    let one = |events| Append::new(stream.clone(), ExpectedVersion::Any, new_commit(events));
    let refused = [
        one(vec![EventData::new("$unknown", 1, "{}")]),
        one(vec![other(), own()]),
        one(vec![own(), own()]),
        one(vec![other()]).with_following([closing()]),
    ];
    for append in refused {
        let error = store.append(&append).await.expect_err("is refused");
        assert!(matches!(error, AppendError::Store(StoreError::Invalid { .. })), "{error:?}");
    }
    assert_eq!(commits(&*store, &stream).await.len(), 1);
}

/// Of a commit and the end of the stream at one version, exactly one succeeds.
pub async fn of_a_commit_and_the_end_one_wins(store: Arc<dyn EventStore>) {
    for _ in 0..8 {
        let stream = new_stream();
        grow(&*store, &stream, 1).await;
        let after = |commit| Append::after_loaded(stream.clone(), Version::new(1), commit);
        let appends = [after(new_commit(events(2))), after(closing()), after(new_commit(events(1)))];
        let results = join_all(appends.iter().map(|append| store.append(append))).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        let is_closed = results[1].is_ok();
        let head = store.head(&stream).await.expect("is known");
        assert_eq!(head.state == StreamState::Closed, is_closed);
        assert_eq!(commits(&*store, &stream).await.len(), 2);
    }
}
