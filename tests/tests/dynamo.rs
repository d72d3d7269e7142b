//! The conformance suite on DynamoDB: the embedded engine, or the server that `ES_DYNAMO_ENDPOINT` names.

mod engine;
mod joining;

es_tests::conformance!(engine::store().await);
