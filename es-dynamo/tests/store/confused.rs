//! Responses to other requests, as a proxy returns them that confuses connections: they are errors that are retried.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use es_core::documents::{
    ChangeError, ChangeSet, DocumentKey, DocumentQuery, Documents, ExpectedDocument, Revision,
};
use es_core::feed::{Feed, FeedRead, Position, Slice};
use es_core::personal::{Keyring, Subject};
use es_core::snapshot::Fingerprint;
use es_core::store::{
    Append, AppendError, Claim, ClaimChange, IdempotencyKey, NewIdempotencyRecord, Read, StreamState,
    WriteError, WriteSet,
};
use es_core::{EventStore, ExpectedVersion, StoreError, StreamId, Version, error_text};
use es_dynamo::keyring::{DynamoKeyring, LocalMasterKey};
use es_dynamo::{DynamoStore, Reconciler};
use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use uuid::Uuid;

use super::support::*;

/// The stream and the documents for which no request asks.
fn other_stream() -> StreamId {
    StreamId::new("order", "bob").expect("a valid stream")
}

/// Changes a request for data of ann to one for data of bob.
fn of_bob(body: &str) -> String {
    body.replace("ann", "bob").replace("rows", "other")
}

fn claim(value: &str) -> Claim {
    Claim::new("email", value).expect("valid")
}

fn key(stream: &StreamId) -> IdempotencyKey {
    IdempotencyKey::new(Some(stream.clone()), "key").expect("valid")
}

/// A commit with a claim and an idempotency key.
fn first_write(stream: &StreamId, value: &str) -> WriteSet {
    let commit = commit(2);
    let record = NewIdempotencyRecord::new(
        key(stream),
        commit.id.as_uuid(),
        time(),
        time() + chrono::TimeDelta::days(3_650),
        Vec::new(),
    );
    let append = Append::new(stream.clone(), ExpectedVersion::NoStream, commit);
    WriteSet::new()
        .append(append)
        .claims([ClaimChange::Take { stream: stream.clone(), claim: claim(value) }])
        .idempotent(record)
}

async fn fill_for_both(store: &DynamoStore) {
    store.write(&first_write(&stream(), "ann")).await.expect("writes");
    // The feed refers to the commit of ann only.
    Reconciler::builder(store).build().run().await.expect("indexes");
    store.write(&first_write(&other_stream(), "bob")).await.expect("writes");
    for collection in ["rows", "other"] {
        let set = ChangeSet::new(Uuid::from_u128(1));
        let set = set.put(DocumentKey::new(collection, "a"), ExpectedDocument::Absent, "1");
        store.change(&set).await.expect("writes");
    }
}

fn assert_confused(error: &StoreError, request: &str) {
    let text = error_text(error);
    assert!(matches!(error, StoreError::Unavailable(_)), "{request}: {error:?}");
    assert!(text.contains("the response is to another request"), "{request}: {text}");
}

type Request = for<'a> fn(&'a DynamoStore) -> BoxFuture<'a, Result<(), StoreError>>;

fn reads() -> Vec<(&'static str, Request)> {
    vec![
        ("Query", |store| async { store.head(&stream()).await.map(drop) }.boxed()),
        ("Query", |store| async { pages(store, Read::all(stream())).await.map(drop) }.boxed()),
        ("Query", |store| {
            let read = Read::all(stream()).from_snapshot(Fingerprint::new(1), 10);
            async { pages(store, read).await.map(drop) }.boxed()
        }),
        ("GetItem", |store| async { store.claim_holder(&claim("ann")).await.map(drop) }.boxed()),
        ("GetItem", |store| async { store.idempotency_record(&key(&stream())).await.map(drop) }.boxed()),
        ("GetItem", |store| async { store.document(&DocumentKey::new("rows", "a")).await.map(drop) }.boxed()),
        ("Query", |store| async { store.documents(&DocumentQuery::new("rows")).await.map(drop) }.boxed()),
        ("BatchGetItem", |store| {
            let read = FeedRead::new(Slice::new(0), Position::NONE);
            async move { store.read_feed(&read).await.map(drop) }.boxed()
        }),
    ]
}

#[tokio::test]
async fn reads_are_retried() {
    let Watched { store, wire, other, .. } = watched().await;
    fill_for_both(&other).await;
    for (operation, read) in reads() {
        wire.once(operation, Act::AnswerTo(of_bob));
        let error = read(&store).await.expect_err(operation);
        assert_confused(&error, operation);
        read(&store).await.expect("passes");
    }
}

/// A key of a subject must never be that of another one.
#[tokio::test]
async fn keys_are_retried() {
    let Watched { store, wire, .. } = watched().await;
    let keyring = || DynamoKeyring::builder(store.client(), LocalMasterKey::new([7; 32])).build();
    keyring().create_table().await.expect("creates the table");
    let [ann, bob] = ["ann", "bob"].map(|id| [Subject::new(id).expect("valid")]);
    let known = keyring().keys_or_create(&ann).await.expect("creates");
    keyring().keys_or_create(&bob).await.expect("creates");
    wire.once("BatchGetItem", Act::AnswerTo(of_bob));
    assert_confused(&keyring().keys(&ann).await.expect_err("of bob"), "BatchGetItem");
    assert_eq!(keyring().keys(&ann).await.expect("reads"), known);
}

/// The write was executed, and the response says that the condition of another one has failed.
#[tokio::test]
async fn writes_have_an_unknown_outcome() {
    let Watched { store, wire, other, .. } = watched().await;
    fill_for_both(&other).await;
    let commits = Append::after_loaded(other_stream(), Version::new(2), commit(1));
    other.append(&commits).await.expect("appends");

    let append = append(exact(2), 1);
    wire.once("PutItem", Act::AnswerTo(of_bob));
    let Err(AppendError::Store(error)) = store.append(&append).await else {
        panic!("the response is to another request")
    };
    assert_confused(&error, "PutItem");
    assert_eq!(place(&store.append(&append).await.expect("is there")), (3, 3, true));

    for body in [Some("2"), None] {
        let set = ChangeSet::new(Uuid::from_u128(2));
        let (key, expected) = (DocumentKey::new("rows", "a"), ExpectedDocument::At(first_revision()));
        let (set, operation) = match body {
            Some(body) => (set.put(key, expected, body), "PutItem"),
            None => (set.delete(key, expected), "DeleteItem"),
        };
        wire.once(operation, Act::AnswerTo(of_bob_at_another_revision));
        let Err(ChangeError::Store(error)) = store.change(&set).await else {
            panic!("the response is to another request")
        };
        assert_confused(&error, operation);
        let there = store.document(&DocumentKey::new("rows", "a")).await.expect("reads");
        assert_eq!(there.map(|document| document.body).as_deref(), body, "it was executed");
        let again = ChangeSet::new(Uuid::from_u128(1));
        let again = again.put(DocumentKey::new("rows", "a"), ExpectedDocument::Any, "1");
        store.change(&again).await.expect("writes");
    }

    let set = first_write(&StreamId::new("order", "ann-2").expect("valid"), "ann-2");
    wire.once("TransactWriteItems", Act::AnswerTo(|body| with_another_token(&body.replace("ann-2", "bob"))));
    let Err(WriteError::Store(error)) = store.write(&set).await else {
        panic!("the response is to another request")
    };
    assert_confused(&error, "TransactWriteItems");
    assert!(store.write(&set).await.expect("is there").appended[0].repeated);
}

fn first_revision() -> Revision {
    ChangeSet::new(Uuid::from_u128(1)).revision()
}

fn of_bob_at_another_revision(body: &str) -> String {
    of_bob(body).replace(&first_revision().to_string(), &Uuid::from_u128(9).to_string())
}

/// Replaces the client request token, so that the engine does not compare the request with the original.
fn with_another_token(body: &str) -> String {
    let mut body: serde_json::Value = serde_json::from_str(body).expect("is JSON");
    body["ClientRequestToken"] = Uuid::from_u128(7).to_string().into();
    body.to_string()
}

/// What a deletion deletes is listed by queries.
#[tokio::test]
async fn a_deletion_deletes_nothing_of_another_stream() {
    let Watched { store, wire, other, .. } = watched().await;
    fill_for_both(&other).await;
    let head = other.head(&stream()).await.expect("reads");
    let end = Append::state_change(stream(), &head, &StreamState::Deleted, commit(1).id, time());
    other.append(&end.expect("valid")).await.expect("deletes");
    for confused in 0.. {
        let queries = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&queries);
        wire.plan(move |operation| match operation {
            "Query" if counted.fetch_add(1, Ordering::SeqCst) == confused => Act::AnswerTo(of_bob),
            _ => Act::Pass,
        });
        let erased = store.erase(&stream()).await;
        if queries.load(Ordering::SeqCst) <= confused {
            erased.expect("erases");
            assert!(confused >= 3, "the end of the stream, its commits, and its records");
            break;
        }
        assert_confused(&erased.expect_err("of another stream"), "Query");
    }
    wire.plan(|_| Act::Pass);
    assert!(store.idempotency_record(&key(&stream())).await.expect("reads").record.is_none());
    assert!(store.idempotency_record(&key(&other_stream())).await.expect("reads").record.is_some());
    assert_eq!(store.claim_holder(&claim("bob")).await.expect("reads").stream, Some(other_stream()));
    let bob: Vec<_> = pages(&store, Read::all(other_stream())).await.expect("reads");
    assert_eq!(ends_of(&bob), [(1, 2)]);
}
