//! The table's own stream: DynamoDB Streams.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodbstreams::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodbstreams::types::{AttributeValue as Streamed, OperationType, ShardIteratorType};
use aws_sdk_dynamodbstreams::{Client, types};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use es_core::StoreError;

use super::source::{Records, Shard, SourceError, StreamSource};
use crate::error::translate;
use crate::feed::Record;
use crate::item::Item;
use crate::store::Table;

/// The stream of a table.
pub(crate) struct TableStream {
    table: Arc<Table>,
    client: Client,
    /// The stream's name, once it is known.
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
            StoreError::setup(format!("the table `{name}` has no stream: enable it with NEW_IMAGE"), None)
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
            let Some(described) = output.stream_description else { return Ok(shards) };
            let found = described.shards.unwrap_or_default().into_iter();
            shards.extend(
                found.filter_map(|shard| Some(Shard { id: shard.shard_id?, parent: shard.parent_shard_id })),
            );
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
        output.shard_iterator.ok_or(SourceError::Trimmed)
    }

    async fn records(&self, iterator: &str) -> Result<Records, SourceError> {
        let request = self.client.get_records().shard_iterator(iterator);
        let output = request.send().await.map_err(|error| self.failed(error))?;
        let mut found = Records { next: output.next_shard_iterator, ..Records::default() };
        for record in output.records.unwrap_or_default() {
            let is_removal = record.event_name == Some(OperationType::Remove);
            let change = record.dynamodb.unwrap_or_else(|| types::StreamRecord::builder().build());
            if let Some(time) = change.approximate_creation_date_time {
                found.written = time.to_millis().ok();
            }
            found.records.push(Record {
                sequence: change.sequence_number.unwrap_or_default(),
                keys: item(change.keys.unwrap_or_default()),
                image: change.new_image.map(item),
                is_removal,
            });
        }
        Ok(found)
    }
}

/// An item, as the rest of the crate has it: the two clients do not share their types.
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
