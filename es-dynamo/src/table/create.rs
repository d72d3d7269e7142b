//! Creating the table.

use std::time::Duration;

use aws_sdk_dynamodb::error::{BuildError, SdkError};
use aws_sdk_dynamodb::operation::create_table::builders::CreateTableFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, StreamSpecification,
    StreamViewType, TableStatus, TimeToLiveSpecification,
};
use es_core::StoreError;

use super::TableOptions;
use crate::error::translate;
use crate::names;
use crate::store::Table;

/// How long a new table is waited for: AWS takes seconds.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

impl Table {
    pub(crate) async fn create(&self, options: TableOptions) -> Result<(), StoreError> {
        let request = self.definition().map_err(|error| StoreError::Backend(error.into()))?;
        let throughput = options.throughput()?;
        let billing = match throughput {
            Some(_) => BillingMode::Provisioned,
            None => BillingMode::PayPerRequest,
        };
        let result = request
            .billing_mode(billing)
            .set_provisioned_throughput(throughput)
            .set_deletion_protection_enabled(options.deletion_protection.then_some(true))
            .send()
            .await;
        match result {
            Ok(_) => {}
            // Another one creates it at the same time, or has left it half made.
            Err(SdkError::ServiceError(error)) if error.err().is_resource_in_use_exception() => {}
            Err(error) => return Err(translate(&self.name, error)),
        }
        self.wait_until_active().await?;
        // A table that is another one's stays as it is.
        let is_ours = self.shape_differences().await?.is_empty();
        if is_ours && self.time_to_live().await?.is_none() {
            if options.point_in_time_recovery {
                self.enable_point_in_time_recovery().await?;
            }
            // This is the last step: a table without it is new, or was left half made.
            self.enable_time_to_live().await?;
        }
        #[cfg(feature = "embedded")]
        if is_ours && let Some(outbox) = &self.outbox {
            outbox.create().await?;
            self.disable_stream().await?;
        }
        self.verify().await?;
        self.feed().await.map(drop)
    }

    fn definition(&self) -> Result<CreateTableFluentBuilder, BuildError> {
        let attribute = |name: &str| {
            AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build()
        };
        let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
        let stream = StreamSpecification::builder()
            .stream_enabled(true)
            .stream_view_type(StreamViewType::NewImage)
            .build()?;
        Ok(self
            .client
            .create_table()
            .table_name(&self.name)
            .attribute_definitions(attribute(names::PARTITION_KEY)?)
            .attribute_definitions(attribute(names::SORT_KEY)?)
            .key_schema(key(names::PARTITION_KEY, KeyType::Hash)?)
            .key_schema(key(names::SORT_KEY, KeyType::Range)?)
            .set_stream_specification(self.has_stream().then_some(stream)))
    }

    /// Disables the stream of a table on the embedded engine: every write would read all records of it.
    #[cfg(feature = "embedded")]
    async fn disable_stream(&self) -> Result<(), StoreError> {
        let described = self.describe().await?;
        if described.and_then(|table| table.stream_specification).is_none_or(|stream| !stream.stream_enabled)
        {
            return Ok(());
        }
        let none = StreamSpecification::builder().stream_enabled(false).build();
        let none = none.map_err(|error| StoreError::Backend(error.into()))?;
        let request = self.client.update_table().table_name(&self.name).stream_specification(none);
        request.send().await.map_err(|error| translate(&self.name, error))?;
        Ok(())
    }

    async fn wait_until_active(&self) -> Result<(), StoreError> {
        let mut pause = Duration::from_millis(20);
        let mut waited = Duration::ZERO;
        loop {
            let described = self.describe().await?;
            if described.is_some_and(|table| table.table_status() == Some(&TableStatus::Active)) {
                return Ok(());
            }
            if waited >= LONGEST_WAIT {
                return Err(StoreError::setup(
                    format!("the table `{}` did not become active within {LONGEST_WAIT:?}", self.name),
                    None,
                ));
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    async fn enable_time_to_live(&self) -> Result<(), StoreError> {
        let specification = TimeToLiveSpecification::builder()
            .enabled(true)
            .attribute_name(names::TIME_TO_LIVE)
            .build()
            .map_err(|error| StoreError::Backend(error.into()))?;
        let result = self
            .client
            .update_time_to_live()
            .table_name(&self.name)
            .time_to_live_specification(specification)
            .send()
            .await;
        match result {
            Ok(_) => Ok(()),
            // It is refused when another one was faster: then it is there.
            Err(_) if self.time_to_live().await?.is_some() => Ok(()),
            Err(error) => Err(translate(&self.name, error)),
        }
    }
}
