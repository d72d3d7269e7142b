//! Publishes the events of the table's stream to Kinesis Data Streams, as CloudEvents.

use es_core::publish::{CloudEvents, Publishing};
use es_dynamo::lambda;
use es_dynamo::publishers::KinesisPublisher;
use lambda_example::log_as_json;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

/// The environment variable with the name of the data stream.
const STREAM_VARIABLE: &str = "DATA_STREAM";

/// The source of the events, which consumers see in each of them.
const SOURCE: &str = "https://bank.example/accounts";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    log_as_json();
    let stream =
        std::env::var(STREAM_VARIABLE).map_err(|_| format!("set {STREAM_VARIABLE} to the data stream"))?;
    let publisher = KinesisPublisher::from_env(stream).await;
    let publishing = &Publishing::new("to_kinesis", publisher, CloudEvents::source(SOURCE)?);
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        Ok::<_, Error>(lambda::publish(publishing, event.payload).await?)
    }))
    .await
}
