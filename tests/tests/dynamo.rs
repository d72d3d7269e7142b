//! The conformance suite on DynamoDB: the embedded engine, or the server that `ES_DYNAMO_ENDPOINT` names.

mod engine;
mod joining;

es_tests::conformance!(engine::store().await);
es_tests::documents_conformance!(std::sync::Arc::new(engine::dynamo_store().await));
