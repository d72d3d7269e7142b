//! The conformance suite on DynamoDB: the embedded engine, or the server at `ES_DYNAMO_ENDPOINT`.

mod joining;
mod loads;

use crate::engine;

es_tests::conformance!(engine::store().await);
es_tests::large_events_conformance!(std::sync::Arc::new(engine::store_with_payloads().await));
es_tests::documents_conformance!(std::sync::Arc::new(engine::dynamo_store().await));

/// Creates a store with an indexer that runs until the end of the test.
async fn indexed() -> std::sync::Arc<dyn es_core::feed::Feed> {
    let store = engine::dynamo_store().await;
    let soon = std::time::Duration::from_millis(20);
    let indexer = es_dynamo::Indexer::builder(&store).poll(soon).linger(soon).refresh(soon * 10);
    let indexer = indexer.build().expect("has a client for the stream");
    tokio::spawn(async move { indexer.run().await.expect("runs") });
    std::sync::Arc::new(store)
}

es_tests::feed_conformance!(indexed().await);
es_tests::splits_conformance!(indexed().await);
