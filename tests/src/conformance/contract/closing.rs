//! The end of a stream.

use std::sync::Arc;

use es_core::event::EventData;
use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::store::{
    Append, AppendError, Claim, ClaimChange, ClosedStream, Conflict, EventRange, IdempotencyKey, NewCommit,
    NewIdempotencyRecord, Read, StreamState, WriteError, WriteSet, erased_event,
};
use es_core::{EventStore, ExpectedVersion, Metadata, StoreError, StreamId, Version};
use futures_util::future::join_all;
use uuid::Uuid;

use super::grow;
use crate::conformance::support::{commits, events, new_commit, new_stream, read_all, time};

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

/// Only a deleted stream can be erased.
pub async fn erasing_needs_a_deleted_stream(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let is_refused = async || {
        let error = store.erase(&stream).await.expect_err("is not deleted");
        assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
    };
    is_refused().await;
    grow(&*store, &stream, 2).await;
    is_refused().await;
    close(&*store, &stream, 2).await;
    is_refused().await;
    assert_eq!(commits(&*store, &stream).await[0].events, events(2));
}

/// Nothing of an erased stream can be read, but none of its versions is free, and its appends are still recognized.
pub async fn an_erased_stream_keeps_its_versions(store: Arc<dyn EventStore>) {
    let (store, stream, other) = (&*store, new_stream(), new_stream());
    let claims = [0, 1].map(|_| Claim::new("handle", Uuid::new_v4().to_string()).expect("valid"));
    let take =
        |stream: &StreamId, claim: &Claim| ClaimChange::Take { stream: stream.clone(), claim: claim.clone() };
    let key = IdempotencyKey::new(Some(stream.clone()), "key").expect("valid");
    let range = EventRange::new(stream.clone(), Version::new(1), Version::new(2));
    let record =
        NewIdempotencyRecord::new(key.clone(), Uuid::new_v4(), time(0), time(1_000_000_000), vec![range]);
    let metadata = Metadata::new().with_actor("ann");
    let first =
        Append::new(stream.clone(), ExpectedVersion::NoStream, new_commit(events(2)).with_metadata(metadata));
    let set = WriteSet::new().append(first.clone()).idempotent(record);
    let set = set.claims(claims.iter().map(|claim| take(&stream, claim)));
    store.write(&set).await.expect("writes");
    let group = Append::after_loaded(stream.clone(), Version::new(2), new_commit(events(1)))
        .with_following([new_commit(events(2)), new_commit(events(1))]);
    store.append(&group).await.expect("appends");
    grow(store, &stream, 3).await;
    let snapshot =
        |version| Snapshot::new(Version::new(version), time(0), Fingerprint::new(7), "1".to_owned());
    store.write_snapshot(&stream, &snapshot(9), None).await.expect("writes");
    // One claim has moved to another stream since.
    let moving = Append::new(other.clone(), ExpectedVersion::NoStream, new_commit(events(1)));
    let release = ClaimChange::Release { stream: stream.clone(), claim: claims[1].clone() };
    let set = WriteSet::new().append(moving).claims([release, take(&other, &claims[1])]);
    store.write(&set).await.expect("moves");

    let head = store.head(&stream).await.expect("is known");
    let id = new_commit(Vec::new()).id;
    let delete = Append::state_change(stream.clone(), &head, &StreamState::Deleted, id, time(0));
    store.append(&delete.expect("is open")).await.expect("deletes");
    for _ in 0..2 {
        store.erase(&stream).await.expect("erases");
    }

    let all = commits(store, &stream).await;
    let stored: Vec<_> = all.iter().flat_map(|commit| &commit.events).cloned().collect();
    assert_eq!(stored[..9], vec![erased_event(); 9]);
    assert_eq!((stored.len(), stored[9].name()), (10, "$deleted"));
    assert!(all.iter().all(|commit| commit.metadata.is_empty()));
    assert_eq!(all[0].id, first.id());
    let head = store.head(&stream).await.expect("is known");
    assert_eq!((head.version, head.state), (Version::new(10), StreamState::Deleted));
    assert_eq!(store.claim_holder(&claims[0]).await.expect("is known").stream, None);
    assert_eq!(store.claim_holder(&claims[1]).await.expect("is known").stream, Some(other));
    assert_eq!(store.idempotency_record(&key).await.expect("is known").record, None);

    store.write_snapshot(&stream, &snapshot(9), Some(Version::new(9))).await.expect("is ignored");
    let read = Read::all(stream.clone()).from_snapshot(Fingerprint::new(7), 20);
    assert_eq!(read_all(store, read).await.snapshot, None);
    for version in [0, 2, 6, 9] {
        let stale = Append::after_loaded(stream.clone(), Version::new(version), new_commit(events(1)));
        conflict(store.append(&stale).await);
        let set = WriteSet::new().append(stale).claims([take(&stream, &claims[0])]);
        let error = store.write(&set).await.expect_err("the version is taken");
        assert!(matches!(error, WriteError::Conflict(_)), "{error:?}");
    }
    closed(store.append(&Append::new(stream.clone(), ExpectedVersion::Any, new_commit(events(1)))).await);
    for append in [&first, &group] {
        assert!(store.append(append).await.expect("was appended").repeated);
    }
    assert_eq!(commits(store, &stream).await, all);
}
