//! The source of the indexer's hints: the table's stream, which consists of shards with records.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodbstreams::Client;
use aws_sdk_dynamodbstreams::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodbstreams::types::{AttributeValue as Streamed, OperationType, ShardIteratorType};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use es_core::StoreError;
use es_core::store::SetupKind;

use crate::feed::log::hint::Record;
use crate::table::{Item, Table, required, translate};

/// A shard of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) id: String,
    /// The shard that it continues, which may have expired.
    pub(crate) parent: Option<String>,
}

/// Consecutive records of a shard.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) records: Vec<Record>,
    /// When the last one was written, in milliseconds since 1970.
    pub(crate) written: Option<i64>,
    /// The iterator of the next records, or `None` at the end of a closed shard.
    pub(crate) next: Option<String>,
}

/// Why a shard could not be read.
#[derive(Debug)]
pub(crate) enum SourceError {
    /// The iterator has expired.
    Expired,
    /// Records after the checkpoint have expired, or the whole shard has.
    Trimmed,
    Store(StoreError),
}

impl From<StoreError> for SourceError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A stream of records: the table's stream, or a simulated one.
#[async_trait]
pub(crate) trait StreamSource: Send + Sync {
    /// Returns all shards.
    async fn shards(&self) -> Result<Vec<Shard>, StoreError>;

    /// Returns an iterator that starts after the record with the sequence number `after`, or at the oldest record.
    async fn iterator(&self, shard: &str, after: Option<&str>) -> Result<String, SourceError>;

    /// Reads the records at an iterator.
    async fn records(&self, iterator: &str) -> Result<Records, SourceError>;
}

/// The stream of a table.
pub(crate) struct TableStream {
    table: Arc<Table>,
    client: Client,
    /// The ARN of the stream, once it is known.
    arn: std::sync::Mutex<Option<String>>,
}

impl TableStream {
    pub(crate) fn new(table: Arc<Table>, client: Client) -> Self {
        Self { table, client, arn: std::sync::Mutex::default() }
    }

    fn arn(&self) -> Option<String> {
        self.arn.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn failed<E>(&self, error: SdkError<E, HttpResponse>) -> SourceError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        match error.code() {
            Some("ExpiredIteratorException") => SourceError::Expired,
            Some("TrimmedDataAccessException" | "ResourceNotFoundException") => SourceError::Trimmed,
            _ => SourceError::Store(translate(&self.table.name, error)),
        }
    }
}

#[async_trait]
impl StreamSource for TableStream {
    async fn shards(&self) -> Result<Vec<Shard>, StoreError> {
        let described = self.table.describe().await?;
        let arn = described.and_then(|table| table.latest_stream_arn).ok_or_else(|| {
            let name = &self.table.name;
            let reason = format!("the table `{name}` has no stream: enable it with NEW_IMAGE");
            StoreError::setup_of(SetupKind::Storage, reason, None)
        })?;
        *self.arn.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(arn.clone());
        let (mut shards, mut from) = (Vec::new(), None);
        loop {
            let output = self
                .client
                .describe_stream()
                .stream_arn(&arn)
                .set_exclusive_start_shard_id(from.take())
                .send()
                .await
                .map_err(|error| translate(&self.table.name, error))?;
            let described = required(output.stream_description, "StreamDescription")?;
            for shard in required(described.shards, "Shards")? {
                let id = required(shard.shard_id, "ShardId")?;
                shards.push(Shard { id, parent: shard.parent_shard_id });
            }
            from = described.last_evaluated_shard_id;
            if from.is_none() {
                return Ok(shards);
            }
        }
    }

    async fn iterator(&self, shard: &str, after: Option<&str>) -> Result<String, SourceError> {
        let kind = match after {
            Some(_) => ShardIteratorType::AfterSequenceNumber,
            None => ShardIteratorType::TrimHorizon,
        };
        let output = self
            .client
            .get_shard_iterator()
            .set_stream_arn(self.arn())
            .shard_id(shard)
            .shard_iterator_type(kind)
            .set_sequence_number(after.map(str::to_owned))
            .send()
            .await
            .map_err(|error| self.failed(error))?;
        Ok(required(output.shard_iterator, "ShardIterator")?)
    }

    async fn records(&self, iterator: &str) -> Result<Records, SourceError> {
        let request = self.client.get_records().shard_iterator(iterator);
        let output = request.send().await.map_err(|error| self.failed(error))?;
        let mut found = Records { next: output.next_shard_iterator, ..Records::default() };
        for record in required(output.records, "Records")? {
            let is_removal = record.event_name == Some(OperationType::Remove);
            let change = required(record.dynamodb, "dynamodb")?;
            if let Some(time) = change.approximate_creation_date_time {
                found.written = time.to_millis().ok();
            }
            found.records.push(Record {
                sequence: required(change.sequence_number, "SequenceNumber")?,
                keys: item(change.keys.unwrap_or_default()),
                image: change.new_image.map(item),
                is_removal,
            });
        }
        Ok(found)
    }
}

/// Converts an item between the types of the two clients.
fn item(streamed: std::collections::HashMap<String, Streamed>) -> Item {
    streamed.into_iter().filter_map(|(name, value)| Some((name, attribute_value(value)?))).collect()
}

fn attribute_value(value: Streamed) -> Option<AttributeValue> {
    Some(match value {
        Streamed::S(text) => AttributeValue::S(text),
        Streamed::N(number) => AttributeValue::N(number),
        Streamed::B(bytes) => AttributeValue::B(bytes),
        Streamed::Bool(value) => AttributeValue::Bool(value),
        Streamed::Null(value) => AttributeValue::Null(value),
        Streamed::Ss(texts) => AttributeValue::Ss(texts),
        Streamed::Ns(numbers) => AttributeValue::Ns(numbers),
        Streamed::Bs(all) => AttributeValue::Bs(all),
        Streamed::L(list) => AttributeValue::L(list.into_iter().map(attribute_value).collect::<Option<_>>()?),
        Streamed::M(map) => AttributeValue::M(item(map)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
    use aws_smithy_runtime_api::client::http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
    };
    use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
    use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
    use aws_smithy_runtime_api::http::StatusCode;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    /// A server that returns the same response to every request.
    #[derive(Clone, Debug)]
    struct Fixed(&'static str);

    impl HttpConnector for Fixed {
        fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
            let status = StatusCode::try_from(200).expect("a status");
            HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(self.0))))
        }
    }

    impl HttpClient for Fixed {
        fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
            SharedHttpConnector::new(self.clone())
        }
    }

    /// A table whose stream responds with `body`.
    fn stream(body: &'static str) -> TableStream {
        let credentials = || Credentials::new("local", "local", None, None, "unsigned");
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("local"))
            .credentials_provider(credentials())
            .http_client(Fixed(
                r#"{"Table":{"LatestStreamArn":"arn:aws:dynamodb:local:1:table/events/stream/1"}}"#,
            ));
        let client = aws_sdk_dynamodb::Client::from_conf(config.build());
        let table = Table::new(client, "events".to_owned(), crate::streams::decode::interceptor());
        let config = aws_sdk_dynamodbstreams::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("local"))
            .credentials_provider(credentials())
            .http_client(Fixed(body));
        TableStream::new(Arc::new(table), Client::from_conf(config.build()))
    }

    /// Such a response must never make a shard count as finished or expired.
    #[tokio::test]
    async fn responses_that_are_not_from_dynamodb_are_unavailable() {
        for body in [
            "",
            "{}",
            "null",
            r#"{"message":"ok"}"#,
            "<html>",
            r#"{"StreamDescription":{}}"#,
            r#"{"StreamDescription":{"Shards":[{}]}}"#,
            r#"{"NextShardIterator":"next"}"#,
            r#"{"Records":[{"eventName":"INSERT"}]}"#,
            r#"{"Records":[{"dynamodb":{"Keys":{"pk":{"S":"a"}}}}]}"#,
        ] {
            let stream = stream(body);
            let shards = stream.shards().await.expect_err(body);
            assert!(matches!(shards, StoreError::Unavailable(_)), "{body}: {shards:?}");
            let iterator = stream.iterator("shard", None).await.expect_err(body);
            assert!(
                matches!(iterator, SourceError::Store(StoreError::Unavailable(_))),
                "{body}: {iterator:?}"
            );
            let records = stream.records("iterator").await.expect_err(body);
            assert!(matches!(records, SourceError::Store(StoreError::Unavailable(_))), "{body}: {records:?}");
        }
        let stream = stream(r#"{"Records":[]}"#);
        let end = stream.records("iterator").await.expect("the end of a shard");
        assert!(end.next.is_none() && end.records.is_empty());
    }
}
