//! Appends: commits are read as they were written.

use std::sync::Arc;

use es_core::event::{CommitId, EventData};
use es_core::store::{Append, AppendError, Commit, NewCommit, WriteError, WriteSet};
use es_core::{EventStore, ExpectedVersion, Metadata, StoreError, StreamId, Version};
use serde_json::Value;
use uuid::Uuid;

use crate::conformance::support::{Pattern, commits, events, new_commit, new_stream, time};

/// Names, schema versions, payloads, metadata, time, and id are preserved.
pub async fn a_commit_reads_back_as_it_was_written(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let metadata = Metadata::new()
        .with_actor("alice")
        .with_correlation("request-1")
        .with_causation("event-0")
        .with_entry("tenant", "acme")
        .with_entry("ratio", 0.1 + 0.2);
    let events = vec![EventData::new("Placed", 1, "{\"a\":1}"), EventData::new("Paid", 7, "null")];
    let commit =
        NewCommit::new(CommitId::new(Uuid::new_v4()), time(5), events).with_metadata(metadata.clone());
    let appended = store
        .append(&Append::new(stream.clone(), ExpectedVersion::NoStream, commit.clone()))
        .await
        .expect("appends");
    assert_eq!((appended.first, appended.last, appended.repeated), (Version::FIRST, Version::new(2), false));

    let expected = Commit::new(commit.id, Version::FIRST, commit.time, commit.events).with_metadata(metadata);
    assert_eq!(commits(&*store, &stream).await, [expected]);
}

/// Every JSON text is preserved, byte by byte.
pub async fn payloads_of_every_json_shape_survive(store: Arc<dyn EventStore>) {
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let payloads = [
        "null",
        "true",
        "\"\"",
        "{}",
        "[]",
        "{\"\":\"\"}",
        " { \"spaced\" : [ 1 , 2 ] } ",
        "0",
        "-0.0",
        "18446744073709551615",
        "-9223372036854775808",
        "1.7976931348623157e308",
        "5e-324",
        "0.30000000000000004",
        "123456789012345678901234567890.123456789",
        "\"\\u0000\\ud83d\\ude00\\n\\\"\\\\\"",
        "\"žluťoučký kůň 馬 🐎 \u{202e}\u{feff}\"",
        "{\"b\":1,\"a\":2,\"b\":3}",
        &deep,
    ];
    let stream = new_stream();
    let events: Vec<_> = payloads.iter().map(|payload| EventData::new("Shaped", 1, *payload)).collect();
    store
        .append(&Append::new(stream.clone(), ExpectedVersion::NoStream, new_commit(events.clone())))
        .await
        .expect("appends");
    assert_eq!(commits(&*store, &stream).await[0].events, events);
}

/// Large payloads are read in full.
pub async fn payloads_of_300_kilobytes_survive(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let event = Pattern { seed: 1, bytes: 300 * 1024 }.event();
    for _ in 0..2 {
        let commit = new_commit(vec![event.clone()]);
        store.append(&Append::new(stream.clone(), ExpectedVersion::Any, commit)).await.expect("appends");
    }
    let stored = commits(&*store, &stream).await;
    assert_eq!(stored.len(), 2);
    assert!(stored.iter().all(|commit| commit.events == [event.clone()]), "a payload was changed");
}

/// A commit of many events is read as one commit, in order.
pub async fn commits_of_many_events_are_stored_whole(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let mut last = Version::NONE;
    for count in [2, 26, 101, 1_000] {
        let commit = new_commit(events(count));
        let append = Append::after_loaded(stream.clone(), last, commit.clone());
        let appended = store.append(&append).await.expect("appends");
        assert_eq!(appended.first, last.next());
        assert_eq!(appended.last, last.plus(count as u64));
        let stored = commits(&*store, &stream).await;
        let newest = stored.last().expect("a commit");
        assert_eq!((newest.id, &newest.events), (commit.id, &commit.events));
        last = appended.last;
    }
    assert_eq!(commits(&*store, &stream).await.len(), 4);
}

/// A commit has at least one event.
pub async fn an_empty_commit_is_refused(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    for expected in [ExpectedVersion::Any, ExpectedVersion::NoStream] {
        let error = store
            .append(&Append::new(stream.clone(), expected, new_commit(Vec::new())))
            .await
            .expect_err("refused");
        assert!(matches!(error, AppendError::Store(StoreError::Invalid { .. })), "{error:?}");
    }
    assert_eq!(commits(&*store, &stream).await, []);
}

/// An event has a name, and a schema version of at least 1.
pub async fn events_without_a_name_or_a_version_are_refused(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    for (name, version) in [("", 1), ("Shaped", 0)] {
        let commit = || new_commit(vec![EventData::new(name, version, "{}")]);
        let alone = Append::new(stream.clone(), ExpectedVersion::NoStream, commit());
        let grouped = Append::new(stream.clone(), ExpectedVersion::NoStream, new_commit(events(1)));
        for append in [&alone, &grouped.with_following([commit()])] {
            let error = store.append(append).await.expect_err("refused");
            assert!(matches!(error, AppendError::Store(StoreError::Invalid { .. })), "{error:?}");
        }
        let error = store.write(&WriteSet::new().append(alone)).await.expect_err("refused");
        assert!(matches!(error, WriteError::Store(StoreError::Invalid { .. })), "{error:?}");
    }
    assert_eq!(commits(&*store, &stream).await, []);
}

/// Metadata is preserved up to the maximum depth. Deeper metadata is refused, because it could not be read back.
pub async fn metadata_is_stored_only_if_it_can_be_read_back(store: Arc<dyn EventStore>) {
    let nested = |depth: usize| {
        let value = (0..depth).fold(Value::from(1), |value, level| match level % 2 {
            0 => Value::from(vec![value]),
            _ => Value::from_iter([("a", value)]),
        });
        Metadata::new().with_entry("flat", 1).with_entry("deep", value)
    };
    let commit = |depth| new_commit(events(1)).with_metadata(nested(depth));
    let stream = new_stream();
    let appended = Append::new(stream.clone(), ExpectedVersion::NoStream, commit(Metadata::MAX_DEPTH));
    store.append(&appended).await.expect("appends");

    let refused = |error: &StoreError| matches!(error, StoreError::Invalid { .. });
    for depth in [Metadata::MAX_DEPTH + 1, 128, 1_000] {
        let alone = Append::after_loaded(stream.clone(), Version::FIRST, commit(depth));
        let grouped = Append::after_loaded(stream.clone(), Version::FIRST, new_commit(events(1)));
        let grouped = grouped.with_following([commit(depth)]);
        for append in [&alone, &grouped] {
            let result = store.append(append).await;
            assert!(
                matches!(&result, Err(AppendError::Store(error)) if refused(error)),
                "{depth}: {result:?}"
            );
        }
        let result = store.write(&WriteSet::new().append(alone)).await;
        assert!(matches!(&result, Err(WriteError::Store(error)) if refused(error)), "{depth}: {result:?}");
    }
    let stored = commits(&*store, &stream).await;
    assert_eq!(stored.len(), 1);
    assert_eq!(*stored[0].metadata, nested(Metadata::MAX_DEPTH));
}

/// Ids may be any text up to the maximum length. Different ids are different streams.
pub async fn ids_of_any_text_are_kept_apart(store: Arc<dyn EventStore>) {
    let unique = Uuid::new_v4();
    let longest = "x".repeat(StreamId::MAX_ID_BYTES - 36);
    for id in ["#", "##", "E#000000000001", "S#", " ", "\u{1f40e}", "$", "%", &longest] {
        let stream = StreamId::new("conformance", format!("{unique}{id}")).expect("a valid stream");
        let append = Append::new(stream.clone(), ExpectedVersion::NoStream, new_commit(events(1)));
        store.append(&append).await.unwrap_or_else(|error| panic!("append to {stream}: {error:?}"));
        assert_eq!(commits(&*store, &stream).await.len(), 1);
    }
}
