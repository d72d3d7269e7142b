//! Attempts with an unknown outcome: no later response may hide them, and repeating the write resolves them.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::types::Put;
use chrono::TimeDelta;
use es_core::documents::{ChangeError, ChangeSet, DocumentKey, Documents, ExpectedDocument};
use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::store::{
    AdditionalWrite, Append, AppendError, Claim, ClaimChange, IdempotencyKey, NewIdempotencyRecord,
    WriteError, WriteSet,
};
use es_core::{EventStore, StoreError, StreamId, Version, error_text};
use es_dynamo::DynamoStore;
use es_dynamo::embedded::Engine;
use uuid::Uuid;

use super::support::*;

/// A write, which can be repeated.
#[derive(Clone)]
enum Write {
    Append(Append),
    Set(WriteSet),
    Snapshot(Snapshot),
    Change(ChangeSet),
}

/// Sends a write. Returns whether it was applied before.
async fn send(store: &DynamoStore, write: &Write) -> Result<Option<bool>, StoreError> {
    match write {
        Write::Append(append) => match store.append(append).await {
            Ok(appended) => Ok(Some(appended.repeated)),
            Err(AppendError::Store(error)) => Err(error),
            Err(error) => panic!("{error:?}"),
        },
        Write::Set(set) => match store.write(set).await {
            Ok(written) => Ok(Some(written.repeated)),
            Err(WriteError::Store(error)) => Err(error),
            Err(error) => panic!("{error:?}"),
        },
        Write::Snapshot(snapshot) => store.write_snapshot(&stream(), snapshot, None).await.map(|_| None),
        Write::Change(set) => match store.change(set).await {
            Ok(()) => Ok(None),
            Err(ChangeError::Store(error)) => Err(error),
            Err(error) => panic!("{error:?}"),
        },
    }
}

fn key(name: &str) -> DocumentKey {
    DocumentKey::new("rows", name)
}

fn once(id: u128) -> NewIdempotencyRecord {
    let key = IdempotencyKey::new(Some(stream()), "key").expect("valid");
    NewIdempotencyRecord::new(key, Uuid::from_u128(id), time(), time() + TimeDelta::days(1), Vec::new())
}

/// Returns one write of each kind, with its operation, for a stream of one event and a document `old`.
fn writes() -> Vec<(&'static str, Write)> {
    let change = |id| ChangeSet::new(Uuid::from_u128(id));
    let old = ExpectedDocument::At(change(1).revision());
    let take = ClaimChange::Take { stream: stream(), claim: Claim::new("email", "ann").expect("valid") };
    let row = Put::builder().table_name("events").item("pk", text("row")).item("sk", text("row"));
    let row = AdditionalWrite::new(row.build().expect("is whole"));
    let loaded = |events| Append::after_loaded(stream(), Version::FIRST, events);
    vec![
        ("PutItem", Write::Append(loaded(commit(2)))),
        ("PutItem", Write::Append(append(es_core::ExpectedVersion::Any, 2))),
        ("TransactWriteItems", Write::Append(loaded(commit_of(events_of(2, 300_000))))),
        (
            "TransactWriteItems",
            Write::Set(WriteSet::new().append(loaded(commit(1))).claims([take]).with_additional([row])),
        ),
        ("TransactWriteItems", Write::Set(WriteSet::new().idempotent(once(7)))),
        (
            "PutItem",
            Write::Snapshot(Snapshot::new(Version::FIRST, time(), Fingerprint::new(1), "{}".to_owned())),
        ),
        ("PutItem", Write::Change(change(2).put(key("new"), ExpectedDocument::Absent, "2"))),
        ("PutItem", Write::Change(change(3).put(key("old"), old, "3"))),
        ("DeleteItem", Write::Change(change(4).delete(key("gone"), ExpectedDocument::Any))),
        (
            "TransactWriteItems",
            Write::Change(change(5).put(key("old"), old, "5").put(key("new"), ExpectedDocument::Absent, "5")),
        ),
        (
            "TransactWriteItems",
            Write::Change(change(6).delete(key("old"), old).delete(key("gone"), ExpectedDocument::Any)),
        ),
    ]
}

/// Returns a store that sends requests up to twice, on an engine with a stream of one event and a document, its wire,
/// and a store that bypasses the wire.
async fn prepared() -> (DynamoStore, Wire, DynamoStore) {
    let engine = Engine::in_memory().expect("starts");
    let other = engine.store().await.expect("creates the table");
    grow(&other, &[1]).await;
    let set = ChangeSet::new(Uuid::from_u128(1)).put(key("old"), ExpectedDocument::Absent, "1");
    other.change(&set).await.expect("writes");
    let (store, wire) = watch(&engine, RetryConfig::standard().with_max_attempts(2));
    (store, wire, other)
}

/// A response to the last attempt: its status, its body, and a part of the error's message.
type Response = (u16, String, &'static str);

/// Responses with an error code of the service.
fn refusals() -> Vec<Response> {
    let codes = [
        "ExpiredTokenException",
        "AccessDeniedException",
        "ValidationException",
        "ResourceNotFoundException",
        "UnrecognizedClientException",
        "ThrottlingException",
        "ProvisionedThroughputExceededException",
        "SomethingNew",
    ];
    codes.map(|code| (400, refusal(code, "because"), code)).into()
}

/// Responses that are not from the service, or are truncated.
fn unreadable() -> Vec<Response> {
    let truncated = refusal("ExpiredTokenException", "because")[..40].to_owned();
    let mut all: Vec<Response> = vec![
        (400, "{}".to_owned(), "HTTP status 400"),
        (400, "<html>Bad Request</html>".to_owned(), "HTTP status 400"),
        (403, "<html>Forbidden</html>".to_owned(), "HTTP status 403"),
        (403, r#"{"message":"Forbidden"}"#.to_owned(), "HTTP status 403"),
        (400, truncated, "HTTP status 400"),
        (302, String::new(), "HTTP status 302"),
        (200, "<html>Welcome</html>".to_owned(), "HTTP status 200"),
        (200, r#"{"ConsumedCapacity":{"Capacity"#.to_owned(), "HTTP status 200"),
    ];
    for body in ["", "{}", "null", r#"{"message":"ok"}"#] {
        all.push((200, body.to_owned(), "the response"));
    }
    all
}

/// The outcomes after which the SDK retries a request that was executed.
fn carried_out_without_a_response(which: usize) -> Act {
    match which % 3 {
        0 => Act::LoseAnswer,
        1 => Act::Replace(502, "<html>Bad Gateway</html>".to_owned()),
        _ => Act::Replace(500, refusal("InternalServerError", "later")),
    }
}

#[tokio::test]
async fn no_later_response_hides_an_attempt_without_one() {
    for (index, (operation, write)) in writes().into_iter().enumerate() {
        // Each response applies to a third of the writes.
        let responses = refusals().into_iter().chain(unreadable());
        for (status, body, says) in responses.skip(index % 3).step_by(3) {
            let (store, wire, other) = prepared().await;
            let (mut attempts, answer) = (0, body.clone());
            wire.plan(move |seen| {
                attempts += u32::from(seen == operation);
                match attempts {
                    _ if seen != operation => Act::Pass,
                    1 => carried_out_without_a_response(says.len()),
                    _ => Act::Answer(status, answer.clone()),
                }
            });
            let error = send(&store, &write).await.expect_err("fails");
            let told = error_text(&error);
            assert!(
                error.is_outcome_unknown() && error.is_retryable(),
                "{operation} {status} {body}: {error:?}"
            );
            assert!(told.contains(says), "{operation}, {status} {body}: {told}");
            assert_eq!(
                wire.seen().iter().filter(|seen| **seen == operation).count(),
                2,
                "{operation} {status}"
            );

            // Repeating the write reveals that it was applied, and changes nothing.
            let before = everything_in(&other).await;
            let found = send(&other, &write).await.unwrap_or_else(|error| panic!("{operation}: {error:?}"));
            assert_ne!(found, Some(false), "{operation} {status} {body}");
            assert_eq!(everything_in(&other).await, before, "{operation} {status} {body}");
        }
    }
}

/// Returns all items by key.
async fn everything_in(store: &DynamoStore) -> BTreeMap<String, Item> {
    let scan = store.client().scan().table_name(store.table_name()).send().await.expect("answers");
    let items = scan.items.expect("a list").into_iter();
    items.map(|item| (format!("{:?} {:?}", item["pk"], item["sk"]), item)).collect()
}

/// An error code of the service proves that the only attempt was not executed.
#[tokio::test]
async fn a_refusal_of_every_attempt_is_certain() {
    for (operation, write) in writes() {
        let (store, wire, other) = prepared().await;
        let before = everything_in(&other).await;
        for (status, body, says) in refusals() {
            let answer = body.clone();
            wire.plan(move |seen| match seen == operation {
                true => Act::Answer(status, answer.clone()),
                false => Act::Pass,
            });
            let error = send(&store, &write).await.expect_err("is refused");
            assert!(!error.is_outcome_unknown(), "{operation} {body}: {error:?}");
            assert!(error_text(&error).contains(says), "{operation} {body}: {error:?}");
        }
        assert_eq!(everything_in(&other).await, before);
    }
}

/// An intermediary may have forwarded the request before it responded.
#[tokio::test]
async fn the_outcome_is_unknown_after_a_response_of_an_intermediary() {
    for (index, (operation, write)) in writes().into_iter().enumerate() {
        for (status, body, says) in unreadable().into_iter().skip(index % 3).step_by(3) {
            let (store, wire, other) = prepared().await;
            let answer = body.clone();
            wire.plan(move |seen| match seen == operation {
                true => Act::Replace(status, answer.clone()),
                false => Act::Pass,
            });
            let error = send(&store, &write).await.expect_err("is no response");
            assert!(
                error.is_outcome_unknown() && error.is_retryable(),
                "{operation} {status} {body}: {error:?}"
            );
            assert!(error_text(&error).contains(says), "{operation} {body}: {error:?}");
            let found = send(&other, &write).await.unwrap_or_else(|error| panic!("{operation}: {error:?}"));
            assert_ne!(found, Some(false), "{operation} {status} {body}");
        }
    }
}

/// The first request is lost or late. While it can still arrive, a condition that can change does not prove that
/// nothing will be written.
#[tokio::test]
async fn a_condition_that_can_change_proves_nothing_while_an_attempt_may_be_late() {
    let (store, wire, other) = prepared().await;
    let claim = || Claim::new("email", "ann").expect("valid");
    let holder = StreamId::new("order", "bob").expect("valid");
    let taken = WriteSet::new()
        .append(Append::after_loaded(holder.clone(), Version::NONE, commit(1)))
        .claims([ClaimChange::Take { stream: holder, claim: claim() }]);
    other.write(&taken).await.expect("is free");
    let after = || Append::after_loaded(stream(), Version::FIRST, commit(1));
    let row = Put::builder().table_name("events").item("pk", text("row")).item("sk", text("row"));
    let row = row.condition_expression("attribute_exists(pk)").build().expect("is whole");
    let old = ExpectedDocument::At(ChangeSet::new(Uuid::from_u128(9)).revision());
    let change = || ChangeSet::new(Uuid::from_u128(2));
    for write in [
        Write::Set(
            WriteSet::new().append(after()).claims([ClaimChange::Take { stream: stream(), claim: claim() }]),
        ),
        Write::Set(WriteSet::new().append(after()).with_additional([AdditionalWrite::new(row)])),
        Write::Change(change().delete(key("old"), old)),
        Write::Change(change().delete(key("old"), old).put(key("new"), ExpectedDocument::Absent, "2")),
    ] {
        let mut first = true;
        wire.plan(move |operation| match operation {
            "TransactWriteItems" | "DeleteItem" if std::mem::take(&mut first) => Act::LoseRequest,
            _ => Act::Pass,
        });
        let error = send(&store, &write).await.expect_err("stands in the way");
        assert!(error.is_outcome_unknown(), "{error:?}");
        assert_eq!(wire.seen().len(), 2);
    }
    // Another commit and an idempotency record are never moved.
    grow(&other, &[1]).await;
    wire.once("PutItem", Act::LoseRequest);
    let error = store.append(&after()).await.expect_err("is too late");
    assert!(error.is_conflict(), "{error:?}");
    wire.once("TransactWriteItems", Act::LoseRequest);
    let error = store.write(&WriteSet::new().append(after())).await.expect_err("is too late");
    assert!(matches!(error, WriteError::Conflict(_)), "{error:?}");
    other.write(&WriteSet::new().idempotent(once(1))).await.expect("is free");
    wire.once("TransactWriteItems", Act::LoseRequest);
    let error = store.write(&WriteSet::new().idempotent(once(2))).await.expect_err("is taken");
    assert!(matches!(error, WriteError::AlreadyDone(_)), "{error:?}");
}

/// The cause of a failed condition is sometimes read from the table. A failure of that read is not the outcome of the
/// write.
#[tokio::test]
async fn the_outcome_is_unknown_if_the_read_after_a_failed_condition_fails() {
    for (operation, write) in writes() {
        let (store, wire, _) = prepared().await;
        let mut attempts = 0;
        wire.plan(move |seen| {
            attempts += u32::from(seen == operation);
            match seen {
                "GetItem" => Act::Answer(400, refusal("AccessDeniedException", "because")),
                _ if seen != operation => Act::Pass,
                _ if attempts == 1 => Act::LoseAnswer,
                _ => Act::Change(forget_items),
            }
        });
        match send(&store, &write).await {
            Ok(_) => {}
            Err(error) => assert!(error.is_outcome_unknown(), "{operation}: {error:?}"),
        }
    }
}

/// Removes old items from responses, as some servers do.
fn forget_items(body: &mut serde_json::Value) {
    if let Some(body) = body.as_object_mut() {
        body.remove("Item");
    }
    for reason in body["CancellationReasons"].as_array_mut().into_iter().flatten() {
        reason.as_object_mut().expect("an object").remove("Item");
    }
}
