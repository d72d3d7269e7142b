//! The embedded engine: DynamoDB's own behaviour, without a network.

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::describe_table::DescribeTableError;
use es_core::{EventStore, StoreError};
use es_dynamo::DynamoStore;
use es_dynamo::embedded::Engine;
use futures_util::FutureExt;

use super::support::*;

/// A folder that goes with the test.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Self {
        use es_core::{IdSource, RandomIds};
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
async fn a_file_is_continued() {
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
async fn a_file_that_is_none_of_ours_is_refused() {
    let folder = Folder::new();
    let path = folder.0.join("notes.txt");
    std::fs::write(&path, "not a database, but long enough to be looked at as one".repeat(100))
        .expect("writes");
    let error = DynamoStore::embedded_at(&path).await.expect_err("refused");
    assert!(matches!(error, StoreError::Setup { .. }), "{error:?}");
    assert!(error.to_string().contains("notes.txt"), "{error}");
    let error = DynamoStore::embedded_at(folder.0.join("no/such/folder.db")).await.expect_err("refused");
    assert!(error.to_string().contains("folder.db"), "{error}");
}

#[tokio::test]
async fn two_engines_share_nothing_and_two_clients_of_one_share_all() {
    let (one, two) = (Engine::in_memory().expect("starts"), Engine::in_memory().expect("starts"));
    let (store, same) = (one.store().await.expect("creates"), one.clone().store().await.expect("finds"));
    let another = two.store().await.expect("creates");
    grow(&store, &[2]).await;
    assert_eq!(same.head(&stream()).await.expect("is known").version, 2);
    assert!(another.head(&stream()).await.expect("is known").version.is_none());
}

/// As over a network: what was sent is carried out, whether anyone waits for the answer or not.
#[tokio::test]
async fn a_request_that_was_sent_is_carried_out() {
    let engine = Engine::in_memory().expect("starts");
    let store = engine.store().await.expect("creates");
    let append = append(es_core::ExpectedVersion::NoStream, 1);
    let mut sent = Box::pin(store.append(&append));
    // Polled once: then the request is with the engine, which is on a thread of its own.
    let _ = (&mut sent).now_or_never();
    drop(sent);
    for _ in 0..500 {
        if !store.head(&stream()).await.expect("is known").version.is_none() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert!(store.append(&append).await.expect("is found").repeated);
}

#[tokio::test]
async fn what_the_engine_has_not_is_said() {
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
