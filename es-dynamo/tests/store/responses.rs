//! Responses to reads: those that are not from DynamoDB, such as those of a broken gateway with the status 200, and those
//! that leave keys unprocessed.

use std::time::Duration;

use es_core::documents::{DocumentKey, DocumentQuery, Documents};
use es_core::feed::{Feed, FeedRead, Position, Slice};
use es_core::personal::{Keyring, Subject};
use es_core::snapshot::Fingerprint;
use es_core::store::{Claim, IdempotencyKey, Read};
use es_core::{EventStore, StoreError, error_text};
use es_dynamo::keyring::{DynamoKeyring, LocalMasterKey};
use es_dynamo::{DynamoStore, Reconciler};
use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use serde_json::json;
use tokio::time::timeout;

use super::support::*;

type Request = for<'a> fn(&'a DynamoStore) -> BoxFuture<'a, Result<(), StoreError>>;

/// Returns the slice of the stream.
async fn slice_of_the_stream(store: &DynamoStore) -> Result<Slice, StoreError> {
    for slice in store.slices().await?.iter() {
        if store.feed_end(slice).await?.position > Position::NONE {
            return Ok(slice);
        }
    }
    panic!("the stream is not indexed")
}

/// Returns every kind of read, with its operations.
fn reads() -> Vec<(&'static [&'static str], Request)> {
    vec![
        (&["Query"], |store| async { store.head(&stream()).await.map(drop) }.boxed()),
        (&["Query"], |store| async { pages(store, Read::all(stream())).await.map(drop) }.boxed()),
        (&["Query"], |store| {
            let read = Read::all(stream()).from_snapshot(Fingerprint::new(1), 10);
            async { pages(store, read).await.map(drop) }.boxed()
        }),
        (&["GetItem"], |store| {
            let claim = Claim::new("email", "ann").expect("valid");
            async move { store.claim_holder(&claim).await.map(drop) }.boxed()
        }),
        (&["GetItem"], |store| {
            let key = IdempotencyKey::new(None, "key").expect("valid");
            async move { store.idempotency_record(&key).await.map(drop) }.boxed()
        }),
        (&["GetItem"], |store| {
            async { store.document(&DocumentKey::new("rows", "a")).await.map(drop) }.boxed()
        }),
        (&["Query"], |store| async { store.documents(&DocumentQuery::new("rows")).await.map(drop) }.boxed()),
        (&["GetItem", "Query", "BatchGetItem"], |store| {
            async {
                let slice = slice_of_the_stream(store).await?;
                store.read_feed(&FeedRead::new(slice, Position::NONE)).await.map(drop)
            }
            .boxed()
        }),
        (&["Query"], |store| async { store.indexed(&stream()).await.map(drop) }.boxed()),
        (&["DescribeTable", "DescribeTimeToLive"], |store| async { store.verify_table().await }.boxed()),
    ]
}

#[tokio::test]
async fn are_errors_and_never_empty_results() {
    let engine = es_dynamo::embedded::Engine::in_memory().expect("starts");
    let other = engine.store().await.expect("creates the table");
    grow(&other, &[1]).await;
    Reconciler::builder(&other).build().run().await.expect("indexes");
    for (operations, read) in reads() {
        for operation in operations {
            for body in ["", "{}", "null", r#"{"message":"ok"}"#, "<html>", r#"{"Count":0,"Items":["#] {
                // A new store, without cached settings.
                let (store, wire) = watch(&engine, aws_sdk_dynamodb::config::retry::RetryConfig::disabled());
                wire.plan(move |seen| match seen == *operation {
                    true => Act::Replace(200, body.to_owned()),
                    false => Act::Pass,
                });
                let error = read(&store).await.expect_err(operation);
                let text = error_text(&error);
                assert!(matches!(error, StoreError::Unavailable(_)), "{operation} {body}: {error:?}");
                assert!(error.is_retryable() && text.contains("the response"), "{operation} {body}: {text}");

                wire.plan(|_| Act::Pass);
                read(&store).await.expect("passes");
            }
        }
    }
}

/// Makes every `BatchGetItem` leave all of its keys unprocessed.
fn leave_unprocessed(wire: &Wire, table: &'static str, key: serde_json::Value) {
    let body = json!({
        "Responses": { table: [] },
        "UnprocessedKeys": { table: { "Keys": [key] } },
        "ConsumedCapacity": [],
    });
    wire.plan(move |seen| match seen == "BatchGetItem" {
        true => Act::Replace(200, body.to_string()),
        false => Act::Pass,
    });
}

#[tokio::test(start_paused = true)]
async fn keys_that_remain_unprocessed_are_throttling() {
    let Watched { store, wire, other, .. } = watched().await;
    let limit = Duration::from_secs(3600);
    grow(&other, &[1]).await;
    Reconciler::builder(&other).build().run().await.expect("indexes");
    let read = FeedRead::new(slice_of_the_stream(&store).await.expect("a slice"), Position::NONE);
    let keyring = DynamoKeyring::builder(store.client(), LocalMasterKey::new([7; 32])).build();
    keyring.create_table().await.expect("creates the table");
    let subjects = [Subject::new("17").expect("valid")];
    wire.seen();

    leave_unprocessed(
        &wire,
        "events",
        json!({ "pk": { "S": stream().as_str() }, "sk": { "S": commit_key(1) } }),
    );
    let error = timeout(limit, store.read_feed(&read)).await.expect("ends").expect_err("nothing is read");
    assert!(matches!(error, StoreError::Throttled(_)), "{error:?}");
    assert_eq!(wire.seen().iter().filter(|operation| *operation == "BatchGetItem").count(), 9);

    leave_unprocessed(&wire, "events-keys", json!({ "pk": { "S": "17" } }));
    let error = timeout(limit, keyring.keys(&subjects)).await.expect("ends").expect_err("nothing is read");
    assert!(matches!(error, StoreError::Throttled(_)), "{error:?}");
    assert_eq!(wire.seen().len(), 9);

    wire.plan(|_| Act::Pass);
    assert_eq!(store.read_feed(&read).await.expect("reads").entries.len(), 1);
    assert_eq!(keyring.keys(&subjects).await.expect("reads").len(), 1);
}
