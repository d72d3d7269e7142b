//! Idempotency keys: one write per key.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use es_core::store::{
    Claim, ClaimChange, EventRange, IdempotencyKey, NewIdempotencyRecord, WriteError, WriteSet,
};
use es_core::{EventStore, StreamId, Version};
use futures_util::future::join_all;
use uuid::Uuid;

use super::grow;
use super::write::{append, ends};
use crate::conformance::support::{new_stream, time};

fn key(stream: Option<&StreamId>, key: &str) -> IdempotencyKey {
    IdempotencyKey::new(stream.cloned(), key).expect("valid")
}

fn place(stream: &StreamId, first: u64, last: u64) -> EventRange {
    EventRange::new(stream.clone(), Version::new(first), Version::new(last))
}

fn once(key: &IdempotencyKey, now: DateTime<Utc>, places: Vec<EventRange>) -> NewIdempotencyRecord {
    let expires = now + Duration::from_secs(60);
    NewIdempotencyRecord::new(key.clone(), Uuid::new_v4(), now, expires, places)
        .with_fingerprint(Some("Count".to_owned()))
}

/// Returns an idempotent write of an event to `stream` after `version`.
fn set(stream: &StreamId, version: u64, key: &IdempotencyKey, now: DateTime<Utc>) -> WriteSet {
    let places = vec![place(stream, version + 1, version + 1)];
    WriteSet::new().append(append(stream, version, 1)).idempotent(once(key, now, places))
}

/// The error locates the events of the first write, which itself may be repeated.
pub async fn a_second_set_under_a_key_writes_nothing(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    for key in [key(Some(&stream), "k"), key(None, &Uuid::new_v4().to_string())] {
        let version = store.head(&stream).await.expect("is known").version.get();
        assert_eq!(store.idempotency_record(&key).await.expect("is known").record, None);
        let first = set(&stream, version, &key, time(0));
        store.write(&first).await.expect("writes");
        let error = store.write(&set(&stream, version + 1, &key, time(0))).await.expect_err("was done");
        let WriteError::AlreadyDone(marker) = error else { panic!("{error:?}") };
        assert_eq!(marker.ranges, [place(&stream, version + 1, version + 1)]);
        assert_eq!(marker.fingerprint.as_deref(), Some("Count"));
        assert_eq!(Some(marker), store.idempotency_record(&key).await.expect("is known").record);
        assert!(store.write(&first).await.expect("is found").repeated);
        grow(&*store, &stream, 1).await;
        assert!(store.write(&first).await.expect("is found").repeated);
        assert_eq!(ends(&*store, &stream).await.len() as u64, version + 2);
    }
}

/// Ids may contain `#`, and keys any text: no two are confused.
pub async fn keys_of_any_text_are_kept_apart(store: Arc<dyn EventStore>) {
    let run = Uuid::new_v4();
    let stream = |id: &str| StreamId::new("conformance", format!("{run}{id}")).expect("valid");
    let keys = [
        key(Some(&stream("a")), "b#c"),
        key(Some(&stream("a#b")), "c"),
        key(Some(&stream("a")), "b"),
        key(Some(&stream("a")), "I#b"),
        key(Some(&stream("a#b#c")), "日本"),
        key(None, &format!("conformance#{run}a#b")),
        key(None, &format!("{run}#")),
    ];
    for key in &keys {
        let written = store.write(&WriteSet::new().idempotent(once(key, time(0), Vec::new()))).await;
        assert!(!written.unwrap_or_else(|error| panic!("{}: {error}", key.key())).repeated);
    }
}

/// An expired key has no effect, even if the store has not deleted it yet.
pub async fn a_marker_expires(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let key = key(Some(&stream), "k");
    store.write(&set(&stream, 0, &key, time(0))).await.expect("writes");
    for seconds in [1, 59, 60] {
        let error = store.write(&set(&stream, 1, &key, time(seconds))).await.expect_err("is remembered");
        assert!(matches!(error, WriteError::AlreadyDone(_)), "after {seconds}: {error:?}");
    }
    store.write(&set(&stream, 1, &key, time(61))).await.expect("is forgotten");
    let error = store.write(&set(&stream, 2, &key, time(100))).await.expect_err("is remembered again");
    assert!(matches!(&error, WriteError::AlreadyDone(marker) if marker.ranges[0].last == 2), "{error:?}");
}

/// When a message is redelivered, its streams may have grown, and others may hold its claims.
pub async fn what_was_done_comes_before_conflicts_and_claims(store: Arc<dyn EventStore>) {
    let (stream, other) = (new_stream(), new_stream());
    let claim = Claim::new("email", Uuid::new_v4().to_string()).expect("valid");
    let take = |stream: &StreamId| ClaimChange::Take { stream: stream.clone(), claim: claim.clone() };
    let key = key(Some(&stream), "k");
    store.write(&set(&stream, 0, &key, time(0))).await.expect("writes");
    store.write(&WriteSet::new().append(append(&other, 0, 1)).claims([take(&other)])).await.expect("is free");
    for version in [0, 1] {
        let error = store.write(&set(&stream, version, &key, time(1)).claims([take(&stream)])).await;
        assert!(matches!(error, Err(WriteError::AlreadyDone(_))), "{error:?}");
    }
    let conflict = WriteSet::new().append(append(&stream, 0, 1)).claims([take(&stream)]);
    assert!(matches!(store.write(&conflict).await, Err(WriteError::Conflict(_))));
    let claimed = WriteSet::new().append(append(&stream, 1, 1)).claims([take(&stream)]);
    assert!(matches!(store.write(&claimed).await, Err(WriteError::Claimed(_))));
}

/// Concurrent deliveries of one message.
pub async fn of_many_sets_under_one_key_one_wins(store: Arc<dyn EventStore>) {
    let key = key(None, &Uuid::new_v4().to_string());
    let streams: Vec<_> = (0..8).map(|_| new_stream()).collect();
    let results = join_all(streams.iter().map(|stream| async {
        let set = set(stream, 0, &key, time(0));
        loop {
            match store.write(&set).await {
                Err(WriteError::Store(error)) if error.is_retryable() => {}
                result => return result,
            }
        }
    }))
    .await;
    let winners: Vec<_> = streams.iter().zip(&results).filter(|(_, result)| result.is_ok()).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        assert!(
            matches!(error, WriteError::AlreadyDone(marker) if marker.ranges[0].stream == *winners[0].0),
            "{error:?}"
        );
    }
}
