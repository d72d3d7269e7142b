//! The engine of the tests.

use std::sync::Arc;

use es_core::EventStore;
use es_core::payloads::{MemoryPayloads, Payloads};
use es_dynamo::embedded::Engine;
use es_dynamo::{DynamoStore, DynamoStoreBuilder};
use es_tests::conformance::large_events::MAX_BYTES;
use uuid::Uuid;

/// The environment variable with the URL of a DynamoDB-compatible server to test instead of the embedded engine.
const ENDPOINT: &str = "ES_DYNAMO_ENDPOINT";

/// Creates a store with a new table.
pub(crate) async fn dynamo_store() -> DynamoStore {
    dynamo_store_with(|builder| builder).await
}

/// Creates a store with a new table and more settings.
pub(crate) async fn dynamo_store_with(
    settings: impl FnOnce(DynamoStoreBuilder) -> DynamoStoreBuilder,
) -> DynamoStore {
    let Ok(url) = std::env::var(ENDPOINT) else {
        let engine = Engine::in_memory().expect("the embedded engine starts");
        let builder = DynamoStore::builder().engine(&engine);
        let store = settings(builder).build().expect("has a client");
        store.create_table().await.expect("creates the table");
        return store;
    };
    let name = format!("es-tests-{}", Uuid::new_v4());
    let builder = settings(DynamoStore::builder().endpoint(&url).table(name));
    let store = builder.build().expect("a valid table name");
    if let Err(error) = store.create_table().await {
        panic!(
            "{ENDPOINT} is set to {url}, and no table can be created there: {error:?}\n\
             Start the server first (`scripts/dynamodb-local COMMAND` does both), or unset {ENDPOINT} to test \
             on the embedded engine."
        );
    }
    store
}

/// Creates a store with a new table as an `Arc<dyn EventStore>`.
pub(crate) async fn store() -> Arc<dyn EventStore> {
    Arc::new(dynamo_store().await)
}

/// Creates a store with a new table, and with a payload store in memory.
pub(crate) async fn store_with_payloads() -> DynamoStore {
    let payloads = Payloads::new(MemoryPayloads::new()).with_max_bytes(MAX_BYTES);
    dynamo_store_with(|builder| builder.payloads(payloads)).await
}
