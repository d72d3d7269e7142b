//! The embedded engine, which behaves like DynamoDB without a network.

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::describe_table::DescribeTableError;
use es_core::{EventStore, StoreError};
use es_dynamo::DynamoStore;
use es_dynamo::embedded::Engine;
use futures_util::FutureExt;

use super::support::*;

/// A directory that is deleted after the test.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Self {
        use es_core::ids::{IdSource, RandomIds};
        let path = std::env::temp_dir().join(format!("es-dynamo-{}", RandomIds.new_id()));
        std::fs::create_dir(&path).expect("can be created");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn a_file_keeps_its_content() {
    let folder = Folder::new();
    let path = folder.0.join("events.db");
    let store = DynamoStore::embedded_at(&path).await.expect("is created");
    grow(&store, &[1, 2]).await;
    drop(store);
    let store = DynamoStore::embedded_at(&path).await.expect("is opened");
    grow(&store, &[1]).await;
    assert_eq!(ends(&store).await, [(1, 1), (2, 3), (4, 4)]);
    assert_eq!(store.head(&stream()).await.expect("is known").version, 4);
}

#[tokio::test]
async fn a_file_of_another_program_is_refused() {
    let folder = Folder::new();
    let path = folder.0.join("notes.txt");
    std::fs::write(&path, "not a database, but long enough to be looked at as one".repeat(100))
        .expect("writes");
    let error = DynamoStore::embedded_at(&path).await.expect_err("refused");
    assert!(matches!(error, StoreError::Setup { .. }), "{error:?}");
    assert!(error.to_string().contains("notes.txt"), "{error}");
    assert!(!es_core::error_text(&error).contains("feature"), "{error:?}");
    for other in ["no/such/folder.db", "."] {
        let error = DynamoStore::embedded_at(folder.0.join(other)).await.expect_err("refused");
        assert!(matches!(error, StoreError::Setup { .. }), "{error:?}");
        assert!(error.to_string().contains(other), "{error}");
    }
}

/// Damage is permanent, so it is not retried.
#[tokio::test]
async fn a_damaged_file_is_reported_immediately() {
    let folder = Folder::new();
    let path = folder.0.join("events.db");
    let store = DynamoStore::embedded_at(&path).await.expect("is created");
    grow(&store, &[1; 40]).await;
    drop(store);
    let mut bytes = std::fs::read(&path).expect("reads");
    // All pages except the first, which identifies the type of the file.
    bytes[4096..].fill(0xff);
    std::fs::write(&path, bytes).expect("writes");
    let error = match DynamoStore::embedded_at(&path).await {
        Ok(store) => store.head(&stream()).await.expect_err("is damaged"),
        Err(error) => error,
    };
    assert!(matches!(error, StoreError::Backend(_)), "{error:?}");
    let text = es_core::error_text(&error);
    assert!(text.contains("damaged: restore it") && text.contains("malformed"), "{text}");
}

#[tokio::test]
async fn paths_that_look_like_uris_are_paths() {
    let folder = Folder::new();
    let path = folder.0.join("file:events.db?mode=memory");
    grow(&DynamoStore::embedded_at(&path).await.expect("is created"), &[1]).await;
    assert_eq!(ends(&DynamoStore::embedded_at(&path).await.expect("is opened")).await, [(1, 1)]);
    assert!(path.exists());
}

/// Tables of one engine do not share an outbox, and a table that is created again starts with an empty one.
#[tokio::test]
async fn a_table_can_be_deleted_and_created_again() {
    let engine = Engine::in_memory().expect("starts");
    let store = engine.store().await.expect("creates");
    let other = DynamoStore::builder().engine(&engine).table("others").build().expect("valid");
    other.create_table().await.expect("creates");
    grow(&store, &[1]).await;
    grow(&other, &[1]).await;
    engine.client().delete_table().table_name("events").send().await.expect("deletes");
    other.verify_table().await.expect("is whole");
    let store = engine.store().await.expect("creates again");
    grow(&store, &[1]).await;
    store.verify_table().await.expect("is whole");
}

/// Without the outbox, commits would never be indexed.
#[tokio::test]
async fn a_table_without_an_outbox_is_completed() {
    let engine = Engine::in_memory().expect("starts");
    let as_on_dynamodb = DynamoStore::builder().client(engine.client()).build().expect("valid");
    as_on_dynamodb.create_table().await.expect("creates");
    let store = DynamoStore::builder().engine(&engine).build().expect("valid");
    let error = store.verify_table().await.expect_err("has none");
    assert!(error.to_string().contains("it has no outbox: call `DynamoStore::create_table`"), "{error}");
    store.create_table().await.expect("completes it");
    store.verify_table().await.expect("is whole");
    let described = store.client().describe_table().table_name("events").send().await.expect("answers");
    let stream = described.table.and_then(|table| table.stream_specification);
    assert!(stream.is_none_or(|stream| !stream.stream_enabled), "every write would read all of it");
}

#[tokio::test]
async fn clients_of_one_engine_share_its_tables() {
    let (one, two) = (Engine::in_memory().expect("starts"), Engine::in_memory().expect("starts"));
    let (store, same) = (one.store().await.expect("creates"), one.clone().store().await.expect("finds"));
    let another = two.store().await.expect("creates");
    grow(&store, &[2]).await;
    assert_eq!(same.head(&stream()).await.expect("is known").version, 2);
    assert!(another.head(&stream()).await.expect("is known").version.is_none());
}

/// As with a network, a request is executed once it has been sent, even if the caller stops waiting for the response.
#[tokio::test]
async fn a_request_that_was_sent_is_executed() {
    let engine = Engine::in_memory().expect("starts");
    let store = engine.store().await.expect("creates");
    let append = append(es_core::ExpectedVersion::NoStream, 1);
    let mut sent = Box::pin(store.append(&append));
    // Polled once, so the request has reached the engine, which runs on a separate thread.
    let _ = (&mut sent).now_or_never();
    drop(sent);
    let start = std::time::Instant::now();
    while store.head(&stream()).await.expect("is known").version.is_none() {
        assert!(start.elapsed().as_secs() < 120, "it is never carried out");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert!(store.append(&append).await.expect("is found").repeated);
}

#[tokio::test]
async fn an_unknown_operation_is_reported() {
    let client = Engine::in_memory().expect("starts").client();
    let error = client.list_backups().send().await.expect_err("has none");
    assert_eq!(error.code(), Some("UnknownOperationException"), "{error:?}");
    assert!(error.message().is_some_and(|message| message.contains("ListBackups")), "{error:?}");
}

#[tokio::test]
async fn errors_are_those_of_the_service() {
    let engine = Engine::in_memory().expect("starts");
    let client = engine.client();
    let error = client.describe_table().table_name("nowhere").send().await.expect_err("is not there");
    assert!(error.as_service_error().is_some_and(DescribeTableError::is_resource_not_found_exception));
    let store = engine.store().await.expect("creates");
    let error =
        client.get_item().table_name("events").key("pk", number("1")).send().await.expect_err("is no key");
    assert_eq!(error.code(), Some("ValidationException"), "{error:?}");
    let tags =
        client.list_tags_of_resource().resource_arn("arn:aws:dynamodb:local:000000000000:table/events");
    assert!(tags.send().await.is_ok() || store.table_name() == "events");
}
