//! Documents: requests, the meaning of responses, and stored items.

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::types::{AttributeValue, Put};
use es_core::StoreError;
use es_core::documents::{
    ChangeError, ChangeSet, DocumentKey, DocumentQuery, Documents, ExpectedDocument, Revision,
};
use es_core::store::AdditionalWrite;
use es_dynamo::DynamoStore;
use serde_json::json;
use uuid::Uuid;

use super::support::*;
use ExpectedDocument::{Absent, Any, At};

fn key(name: &str) -> DocumentKey {
    DocumentKey::new("rows", name)
}

fn set(id: u128) -> ChangeSet {
    ChangeSet::new(Uuid::from_u128(id))
}

fn revision(id: u128) -> Revision {
    set(id).revision()
}

async fn revision_of(store: &DynamoStore, name: &str) -> Option<Revision> {
    store.document(&key(name)).await.expect("reads").map(|document| document.revision)
}

/// Returns a store that sends every request up to three times, and its wire.
async fn persistent() -> (DynamoStore, Wire, Watched) {
    let watched = watched().await;
    let (store, wire) = watch(&watched.engine, RetryConfig::standard().with_max_attempts(3));
    (store, wire, watched)
}

/// An item consists of the key, the revision, and the body.
#[tokio::test]
async fn a_document_is_stored_as_documented() {
    let Watched { store, .. } = watched().await;
    store.change(&set(1).put(key("a#b"), Absent, "{\"n\":1}")).await.expect("writes");
    let request = store.client().get_item().table_name("events");
    let request = request.key("pk", text("$doc#rows")).key("sk", text("D#a#b"));
    let item = request.send().await.expect("answers").item.expect("is there");
    let expected = [
        ("pk", "$doc#rows"),
        ("sk", "D#a#b"),
        ("r", "00000000-0000-0000-0000-000000000001"),
        ("b", "{\"n\":1}"),
    ];
    assert_eq!(item, expected.map(|(name, value)| (name.to_owned(), text(value))).into());
}

/// Each operation is one request, and a transaction only if it needs one.
#[tokio::test]
async fn every_operation_is_one_request() {
    let Watched { store, wire, .. } = watched().await;
    store.change(&set(1).put(key("a"), Absent, "1")).await.expect("writes");
    store.change(&set(2).put(key("a"), At(revision(1)), "2")).await.expect("writes");
    store.change(&set(3).delete(key("a"), At(revision(2)))).await.expect("deletes");
    assert_eq!(wire.seen(), ["PutItem", "PutItem", "DeleteItem"]);
    store.change(&set(4).put(key("a"), Absent, "1").put(key("b"), Any, "1")).await.expect("writes");
    assert_eq!(wire.seen(), ["TransactWriteItems"]);
    assert_eq!(wire.bodies().pop().expect("was sent")["ClientRequestToken"], json!(revision(4).to_string()));
    store.document(&key("a")).await.expect("reads");
    store.documents(&DocumentQuery::new("rows")).await.expect("lists");
    store.documents(&DocumentQuery::new("rows").eventually()).await.expect("lists");
    assert_eq!(wire.seen(), ["GetItem", "Query", "Query"]);
    let consistent: Vec<_> = wire.bodies().iter().map(|body| body["ConsistentRead"].clone()).collect();
    assert_eq!(consistent, [true, true, false]);
    // The failed condition returns the existing document.
    for set in [set(5).put(key("a"), Absent, "5"), set(6).delete(key("a"), At(revision(1)))] {
        assert!(store.change(&set).await.expect_err("is too late").is_outdated());
    }
    assert_eq!(wire.seen(), ["PutItem", "DeleteItem"]);
    // All documents with the prefix come before, so no request is needed.
    let query = DocumentQuery::new("rows").prefix("a").after(Some("b".to_owned()));
    assert_eq!(store.documents(&query).await.expect("lists"), Default::default());
    assert!(wire.seen().is_empty());
}

/// The SDK retries the request, and the revision is recognized.
#[tokio::test]
async fn a_lost_response_is_not_a_conflict() {
    let (store, wire, _watched) = persistent().await;
    let sets = [
        ("PutItem", set(1).put(key("a"), Absent, "1")),
        ("PutItem", set(2).put(key("a"), At(revision(1)), "2")),
        ("TransactWriteItems", set(3).put(key("a"), At(revision(2)), "3").put(key("b"), Absent, "3")),
        ("TransactWriteItems", set(4).delete(key("a"), At(revision(3))).delete(key("b"), At(revision(3)))),
    ];
    for (operation, set) in sets {
        wire.once(operation, Act::LoseAnswer);
        store.change(&set).await.expect("is found");
        assert_eq!(wire.seen(), [operation, operation]);
    }
    assert_eq!(revision_of(&store, "a").await, None);
}

/// After a deletion, or if another writer has changed the document, the outcome of the attempt cannot be determined.
#[tokio::test]
async fn an_unknown_outcome_is_not_reported_as_outdated() {
    let (store, wire, watched) = persistent().await;
    store.change(&set(1).put(key("a"), Absent, "1")).await.expect("writes");
    let (mut calls, other) = (0, watched.other);
    wire.plan(move |_| {
        calls += 1;
        let (other, overwrite) = (other.clone(), set(3).put(key("a"), At(revision(2)), "3"));
        match calls {
            1 => Act::LoseAnswer,
            2 => Act::After(Box::pin(async move { other.change(&overwrite).await.expect("writes") })),
            _ => Act::Pass,
        }
    });
    let error = store.change(&set(2).put(key("a"), At(revision(1)), "2")).await.expect_err("unknown");
    assert!(matches!(error, ChangeError::Store(StoreError::Unavailable(_))), "{error:?}");
    assert_eq!(revision_of(&store, "a").await, Some(revision(3)));

    wire.once("DeleteItem", Act::LoseAnswer);
    let error = store.change(&set(4).delete(key("a"), At(revision(3)))).await.expect_err("unknown");
    assert!(matches!(error, ChangeError::Store(StoreError::Unavailable(_))), "{error:?}");
    assert_eq!(revision_of(&store, "a").await, None);

    // A refusal is a response: an attempt that was throttled was not executed.
    store.change(&set(5).put(key("a"), Absent, "5")).await.expect("writes");
    wire.once("DeleteItem", Act::Answer(400, refusal("ThrottlingException", "slow down")));
    let error = store.change(&set(6).delete(key("a"), At(revision(1)))).await.expect_err("is too late");
    assert!(error.is_outdated(), "{error:?}");
}

/// When DynamoDB no longer remembers a transaction, the documents show that it was applied.
#[tokio::test]
async fn a_set_is_recognized_by_each_of_its_documents() {
    for known in ["a", "b", "c"] {
        let Watched { store, .. } = watched().await;
        store.change(&set(1).put(key("b"), Absent, "1")).await.expect("writes");
        // One document of the set remains, as if the others had been changed since.
        store.change(&set(3).put(key(known), Any, "3")).await.expect("writes");
        let set =
            set(3).put(key("a"), Absent, "3").put(key("b"), At(revision(1)), "3").put(key("c"), Any, "3");
        let again = set.delete(key("d"), At(revision(1)));
        store.change(&again).await.unwrap_or_else(|error| panic!("by {known}: {error:?}"));
        let there = [revision_of(&store, "a").await, revision_of(&store, "c").await];
        assert_eq!(there, ["a", "c"].map(|name| (name == known).then_some(revision(3))));
    }
}

fn cancelled(codes: &[&str]) -> Act {
    let reasons: Vec<_> = codes.iter().map(|code| json!({ "Code": code })).collect();
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "message": "cancelled",
        "CancellationReasons": reasons,
    });
    Act::Answer(400, body.to_string())
}

/// A set is outdated only if a condition failed, and no other reason hides the revision of a document.
#[tokio::test]
async fn other_cancellations_are_not_conflicts() {
    let Watched { store, wire, .. } = watched().await;
    let set = || set(1).put(key("a"), Absent, "1").put(key("b"), Absent, "1");
    for (codes, passes) in [
        (["None", "TransactionConflict"], true),
        (["ConditionalCheckFailed", "TransactionConflict"], true),
        (["ThrottlingError", "None"], true),
        (["None", "ValidationError"], false),
        (["None", "None"], false),
    ] {
        wire.once("TransactWriteItems", cancelled(&codes));
        let error = store.change(&set()).await.expect_err("cancelled");
        let ChangeError::Store(error) = error else { panic!("{codes:?}: {error:?}") };
        assert_eq!(matches!(error, StoreError::Throttled(_)), passes, "{codes:?}: {error:?}");
        assert_eq!(matches!(error, StoreError::Backend(_)), !passes, "{codes:?}: {error:?}");
    }
    for (code, is_unknown) in [("TransactionInProgressException", true), ("ValidationException", false)] {
        let answer = refusal(code, "on purpose");
        wire.once("TransactWriteItems", Act::Answer(400, answer));
        let error = store.change(&set()).await.expect_err("refused");
        let ChangeError::Store(error) = error else { panic!("{code}: {error:?}") };
        assert_eq!(error.is_outcome_unknown(), is_unknown, "{code}: {error:?}");
    }
    // If the existing item is not returned, it is read.
    wire.once("TransactWriteItems", cancelled(&["None", "ConditionalCheckFailed"]));
    let error = store.change(&set()).await.expect_err("refused");
    assert!(matches!(error, ChangeError::Outdated { key, .. } if key.name() == "b"));
}

/// The error names the item, its size, and the limit.
#[tokio::test]
async fn a_set_that_is_too_large_is_not_sent() {
    let Watched { store, wire, .. } = watched().await;
    let one = set(1).put(key("a"), Any, "x".repeat(410_000));
    let two = one.clone().put(key("b"), Any, "1");
    for set in [one, two] {
        let told = store.change(&set).await.expect_err("too large").to_string();
        assert_eq!(told, "the document `rows/a` has 410069 bytes, the limit is 409600");
    }
    let body = "x".repeat(400_000);
    let all = (0..11).fold(set(2), |set, n| set.put(key(&n.to_string()), Any, &*body));
    let told = store.change(&all).await.expect_err("too large").to_string();
    assert!(told.starts_with("a set of 11 changes has 4400"), "{told}");
    assert!(told.ends_with("the limit is 4194304"), "{told}");
    assert!(wire.seen().is_empty());
}

/// Additional writes cannot change the items of the store.
#[tokio::test]
async fn additional_writes_cannot_change_documents() {
    let Watched { store, wire, .. } = watched().await;
    let put = |partition: &str| {
        let put = Put::builder().table_name("events").item("pk", text(partition)).item("sk", text("D#a"));
        AdditionalWrite::new(put.build().expect("is whole"))
    };
    let of = |partition: &str| set(1).put(key("a"), Absent, "1").with_additional([put(partition)]);
    let error = store.change(&of("$doc#rows")).await.expect_err("refused");
    assert!(error.to_string().contains("use another table, or another key"), "{error}");
    assert!(wire.seen().is_empty());
    store.change(&of("rows")).await.expect("is the application's own");
    let unknown = set(2).put(key("b"), Absent, "1").with_additional([AdditionalWrite::new(5_u8)]);
    let told = store.change(&unknown).await.expect_err("unknown").to_string();
    assert!(told.contains("does not support additional writes of type `u8`"), "{told}");
}

/// The error names the document and the attribute, and quotes nothing.
#[tokio::test]
async fn a_damaged_document_is_an_error_that_names_it() {
    let Watched { store, .. } = watched().await;
    let secret = "5ecret";
    let cases: [(&str, Option<AttributeValue>, &str); 6] = [
        ("r", None, "`r` is missing"),
        ("r", Some(number("5")), "`r` is not a string"),
        ("r", Some(text(secret)), "`r` is not a UUID in canonical form"),
        // No condition would match this spelling.
        ("r", Some(text("00000000000000000000000000000005")), "`r` is not a UUID in canonical form"),
        ("b", None, "`b` is missing"),
        ("b", Some(AttributeValue::L(vec![text(secret)])), "`b` is not a string"),
    ];
    for (attribute, value, reason) in cases {
        let mut item = Item::from([
            ("pk".to_owned(), text("$doc#rows")),
            ("sk".to_owned(), text("D#a")),
            ("r".to_owned(), text(&revision(1).to_string())),
            ("b".to_owned(), text(secret)),
        ]);
        item.remove(attribute);
        item.extend(value.map(|value| (attribute.to_owned(), value)));
        put(&store, item).await;
        let read = store.document(&key("a")).await.expect_err(reason);
        let listed = store.documents(&DocumentQuery::new("rows")).await.expect_err(reason);
        for error in [read, listed] {
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
            assert_eq!(
                error.to_string(),
                format!("the document `rows/a` is corrupt: its attribute {reason}")
            );
        }
        if attribute == "r" {
            for set in
                [set(2).put(key("a"), Absent, "2"), set(2).put(key("a"), Absent, "2").put(key("b"), Any, "2")]
            {
                let error = store.change(&set).await.expect_err(reason);
                assert!(matches!(error, ChangeError::Store(StoreError::Corrupt { .. })), "{error:?}");
            }
        }
    }
    store.change(&set(3).put(key("a"), Any, "3")).await.expect("whatever there was");
    assert_eq!(revision_of(&store, "a").await, Some(revision(3)));
}
