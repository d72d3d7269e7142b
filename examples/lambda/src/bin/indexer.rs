//! Adds the commits of the table's stream to the feed.

use es_dynamo::{DynamoStore, lambda};
use lambda_example::{log_as_json, open_store};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    log_as_json();
    let store: &DynamoStore = &open_store().await?;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        Ok::<_, Error>(lambda::handle(store, event.payload).await?)
    }))
    .await
}
