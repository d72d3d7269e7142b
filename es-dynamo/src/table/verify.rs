//! Verifying that a table has the right shape.

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::types::{
    KeySchemaElement, KeyType, ScalarAttributeType, StreamViewType, TableDescription, TimeToLiveStatus,
};
use es_core::StoreError;
use futures_util::{StreamExt, TryStreamExt, future, stream};

use crate::error::translate;
use crate::names;
use crate::response::required;
use crate::store::Table;

/// How many slices are looked at at once.
const SLICES_AT_ONCE: usize = 16;

impl Table {
    pub(crate) async fn verify(&self) -> Result<(), StoreError> {
        let mut differences = self.shape_differences().await?;
        differences.extend(self.time_to_live_difference().await?);
        #[cfg(feature = "embedded")]
        if let Some(outbox) = &self.outbox
            && !outbox.is_created().await?
        {
            differences.push("it has no outbox: call `DynamoStore::create_table`".to_owned());
        }
        if differences.is_empty() {
            return self.verify_feed().await;
        }
        Err(StoreError::setup(
            format!("the table `{}` is not an event store's: {}", self.name, differences.join("; ")),
            None,
        ))
    }

    /// Verifies the settings of the feed, and that the newest page of each slice was written under them.
    async fn verify_feed(&self) -> Result<(), StoreError> {
        if self.stored_settings().await?.is_none() {
            return Ok(());
        }
        let feed = self.feed().await?;
        let ends = feed.slices().iter().map(|slice| feed.end(self, slice));
        stream::iter(ends).buffer_unordered(SLICES_AT_ONCE).try_for_each(|_| future::ready(Ok(()))).await
    }

    /// In what its keys and its stream differ.
    pub(super) async fn shape_differences(&self) -> Result<Vec<String>, StoreError> {
        let Some(table) = self.describe().await? else {
            return Err(StoreError::setup(
                format!(
                    "the table `{}` does not exist: create it with `DynamoStore::create_table`",
                    self.name
                ),
                None,
            ));
        };
        let mut differences = key_differences(&table);
        differences.extend(stream_difference(&table).filter(|_| self.has_stream()));
        Ok(differences)
    }

    /// Whether the table has a stream. On the embedded engine, an outbox takes its place.
    pub(super) fn has_stream(&self) -> bool {
        #[cfg(feature = "embedded")]
        return self.outbox.is_none();
        #[cfg(not(feature = "embedded"))]
        return true;
    }

    /// The table's description; `None` when there is no table.
    pub(crate) async fn describe(&self) -> Result<Option<TableDescription>, StoreError> {
        match self.client.describe_table().table_name(&self.name).send().await {
            Ok(output) => required(output.table, "Table").map(Some),
            Err(SdkError::ServiceError(error)) if error.err().is_resource_not_found_exception() => Ok(None),
            Err(error) => Err(translate(&self.name, error)),
        }
    }

    /// The attribute by which items expire, if they do.
    pub(super) async fn time_to_live(&self) -> Result<Option<String>, StoreError> {
        let output = self
            .client
            .describe_time_to_live()
            .table_name(&self.name)
            .send()
            .await
            .map_err(|error| translate(&self.name, error))?;
        let described = required(output.time_to_live_description, "TimeToLiveDescription")?;
        let enabled = Some(described).filter(|found| {
            matches!(
                found.time_to_live_status(),
                Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)
            )
        });
        Ok(enabled.and_then(|found| found.attribute_name))
    }

    async fn time_to_live_difference(&self) -> Result<Option<String>, StoreError> {
        Ok(match self.time_to_live().await?.as_deref() {
            Some(names::TIME_TO_LIVE) => None,
            Some(other) => {
                Some(format!("its time to live is on `{other}`: move it to `{}`", names::TIME_TO_LIVE))
            }
            None => Some(format!("it has no time to live: enable it on `{}`", names::TIME_TO_LIVE)),
        })
    }
}

fn key_differences(table: &TableDescription) -> Vec<String> {
    let expected = [
        ("partition key", KeyType::Hash, names::PARTITION_KEY),
        ("sort key", KeyType::Range, names::SORT_KEY),
    ];
    let mut differences = Vec::new();
    for (what, kind, name) in expected {
        let key = table.key_schema().iter().find(|key| *key.key_type() == kind);
        match key.map(KeySchemaElement::attribute_name) {
            Some(found) if found == name => {
                let definition =
                    table.attribute_definitions().iter().find(|attribute| attribute.attribute_name() == name);
                let ty = definition.map(aws_sdk_dynamodb::types::AttributeDefinition::attribute_type);
                if ty != Some(&ScalarAttributeType::S) {
                    differences.push(format!("its {what} `{name}` is not of type S: use another table"));
                }
            }
            Some(found) => {
                differences.push(format!("its {what} is `{found}`, not `{name}`: use another table"));
            }
            None => differences.push(format!("it has no {what} `{name}`: use another table")),
        }
    }
    differences
}

fn stream_difference(table: &TableDescription) -> Option<String> {
    let stream = table.stream_specification().filter(|stream| stream.stream_enabled());
    match stream.and_then(|stream| stream.stream_view_type()) {
        Some(StreamViewType::NewImage | StreamViewType::NewAndOldImages) => None,
        Some(other) => Some(format!("its stream carries {other}: enable it with NEW_IMAGE")),
        None => Some("it has no stream: enable it with NEW_IMAGE".to_owned()),
    }
}
