//! Three AWS Lambda functions that share a table: the commands of an HTTP API, the indexer of the feed, and a publisher
//! to Kinesis. `template.yaml` deploys them with the
//! [Serverless Application Model](https://docs.aws.amazon.com/serverless-application-model/).
//!
//! The functions are in `src/bin`. Everything else that an application has to write is here: its domain, and the
//! translation of HTTP requests to commands.

pub mod account;
pub mod http;

use es_dynamo::DynamoStore;
use lambda_runtime::Error;

/// The environment variable with a file for the embedded engine, to run a function without AWS.
const FILE_VARIABLE: &str = "ES_EXAMPLE_FILE";

/// Opens the store: the table that `ES_DYNAMO_TABLE` names, or the embedded engine on the file in `ES_EXAMPLE_FILE`.
///
/// # Errors
///
/// Any error of the store.
pub async fn open_store() -> Result<DynamoStore, Error> {
    match std::env::var_os(FILE_VARIABLE) {
        Some(path) => Ok(DynamoStore::embedded_at(path).await?),
        None => Ok(DynamoStore::from_env().await?),
    }
}

/// Writes logs as JSON lines, which `CloudWatch Logs` can search.
pub fn log_as_json() {
    tracing_subscriber::fmt().json().with_max_level(tracing::Level::INFO).without_time().init();
}
