//! Creating a table, verifying its shape, and protecting it against loss.

use std::time::Duration;

use aws_sdk_dynamodb::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::create_table::builders::CreateTableFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, PointInTimeRecoverySpecification,
    PointInTimeRecoveryStatus, ProvisionedThroughput, ScalarAttributeType, StreamSpecification,
    StreamViewType, TableDescription, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
};
use es_core::store::SetupKind;
use es_core::{StoreError, error_text};

use tokio::time::Instant;

use super::retry::Backoff;
use super::{Table, names, required, translate};

/// The maximum time to wait for a new table and for its backups. AWS usually takes a few seconds.
const MAX_WAIT: Duration = Duration::from_secs(120);

/// Options for the creation of a table.
///
/// By default, the table is on demand, and AWS protects it: point-in-time recovery and deletion protection are on.
///
/// ```
/// use es_dynamo::TableOptions;
///
/// // For a test on AWS that deletes its table.
/// let options = TableOptions::on_demand().point_in_time_recovery(false).deletion_protection(false);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct TableOptions {
    provisioned: Option<(u32, u32)>,
    point_in_time_recovery: bool,
    deletion_protection: bool,
}

impl TableOptions {
    /// Returns options for on-demand capacity, which is billed per request.
    pub const fn on_demand() -> Self {
        Self { provisioned: None, point_in_time_recovery: true, deletion_protection: true }
    }

    /// Returns options for provisioned capacity, in read and write capacity units per second.
    pub const fn provisioned(read_units: u32, write_units: u32) -> Self {
        Self { provisioned: Some((read_units, write_units)), ..Self::on_demand() }
    }

    /// Sets whether the table can be restored to any second of the last 35 days (default: `true`). AWS bills it by the
    /// size of the table.
    ///
    /// Ignored by servers without continuous backups, such as DynamoDB Local and the embedded engine.
    pub const fn point_in_time_recovery(mut self, enabled: bool) -> Self {
        self.point_in_time_recovery = enabled;
        self
    }

    /// Sets whether AWS refuses to delete the table until deletion protection is turned off (default: `true`).
    pub const fn deletion_protection(mut self, enabled: bool) -> Self {
        self.deletion_protection = enabled;
        self
    }

    fn throughput(self) -> Result<Option<ProvisionedThroughput>, StoreError> {
        let Some((reads, writes)) = self.provisioned else { return Ok(None) };
        ProvisionedThroughput::builder()
            .read_capacity_units(reads.into())
            .write_capacity_units(writes.into())
            .build()
            .map(Some)
            .map_err(|error| StoreError::Backend(error.into()))
    }
}

impl Default for TableOptions {
    fn default() -> Self {
        Self::on_demand()
    }
}

impl Table {
    /// Creates the table unless it exists, and waits until it is active. Returns whether it has the right keys and, if
    /// `with_stream`, the right stream. A table of another shape is not changed.
    pub(crate) async fn create(&self, options: TableOptions, with_stream: bool) -> Result<bool, StoreError> {
        let request = self.definition(with_stream).map_err(|error| StoreError::Backend(error.into()))?;
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
            // Another process is creating it, or has failed to complete it.
            Err(SdkError::ServiceError(error)) if error.err().is_resource_in_use_exception() => {}
            Err(error) => return Err(translate(&self.name, error)),
        }
        let table = self.wait_until_active().await?;
        if !shape_differences(&table, with_stream).is_empty() {
            return Ok(false);
        }
        if self.time_to_live().await?.is_none() {
            if options.point_in_time_recovery {
                self.enable_point_in_time_recovery().await?;
            }
            // This is the last step: a table without it is new or incomplete.
            self.enable_time_to_live().await?;
        }
        Ok(true)
    }

    fn definition(&self, with_stream: bool) -> Result<CreateTableFluentBuilder, BuildError> {
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
            .set_stream_specification(with_stream.then_some(stream)))
    }

    /// Deletes the table, and waits until it is gone.
    pub(crate) async fn delete_table(&self) -> Result<(), StoreError> {
        let request = self.client.delete_table().table_name(&self.name);
        request.send().await.map_err(|error| translate(&self.name, error))?;
        let mut wait = Wait::new(Duration::from_millis(20));
        while self.describe().await?.is_some() {
            if wait.is_over() {
                return Err(StoreError::setup(
                    format!("the table `{}` is still being deleted after {MAX_WAIT:?}", self.name),
                    None,
                ));
            }
            wait.pause().await;
        }
        Ok(())
    }

    /// Disables the stream of the table, if it has one.
    #[cfg(feature = "embedded")]
    pub(crate) async fn disable_stream(&self) -> Result<(), StoreError> {
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

    async fn wait_until_active(&self) -> Result<TableDescription, StoreError> {
        let mut wait = Wait::new(Duration::from_millis(20));
        loop {
            if let Some(table) = self.describe().await?
                && table.table_status() == Some(&TableStatus::Active)
            {
                return Ok(table);
            }
            if wait.is_over() {
                return Err(StoreError::setup(
                    format!("the table `{}` did not become active within {MAX_WAIT:?}", self.name),
                    None,
                ));
            }
            wait.pause().await;
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
            // Another process has enabled it in the meantime.
            Err(_) if self.time_to_live().await?.is_some() => Ok(()),
            Err(error) => Err(translate(&self.name, error)),
        }
    }

    /// Returns all differences between the table and the shape that the store needs.
    pub(crate) async fn differences(
        &self,
        table: &TableDescription,
        with_stream: bool,
    ) -> Result<Vec<String>, StoreError> {
        let mut differences = shape_differences(table, with_stream);
        differences.extend(self.time_to_live_difference().await?);
        Ok(differences)
    }

    /// Returns the description of the table.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if the table does not exist.
    pub(crate) async fn described(&self) -> Result<TableDescription, StoreError> {
        self.describe().await?.ok_or_else(|| {
            StoreError::setup_of(
                SetupKind::Storage,
                format!(
                    "the table `{}` does not exist: create it with `DynamoStore::create_table`",
                    self.name
                ),
                None,
            )
        })
    }

    /// Returns the description of the table, or `None` if it does not exist.
    pub(crate) async fn describe(&self) -> Result<Option<TableDescription>, StoreError> {
        match self.client.describe_table().table_name(&self.name).send().await {
            Ok(output) => required(output.table, "Table").map(Some),
            Err(SdkError::ServiceError(error)) if error.err().is_resource_not_found_exception() => Ok(None),
            Err(error) => Err(translate(&self.name, error)),
        }
    }

    /// Returns the attribute by which items expire, if time to live is enabled.
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

    /// Enables point-in-time recovery if the server supports it.
    async fn enable_point_in_time_recovery(&self) -> Result<(), StoreError> {
        let specification = PointInTimeRecoverySpecification::builder()
            .point_in_time_recovery_enabled(true)
            .build()
            .map_err(|error| StoreError::Backend(error.into()))?;
        let request = self
            .client
            .update_continuous_backups()
            .table_name(&self.name)
            .point_in_time_recovery_specification(specification);
        let mut wait = Wait::new(Duration::from_millis(100));
        loop {
            match request.clone().send().await {
                Ok(_) => return Ok(()),
                Err(error) if is_unknown_operation(&error) => return Ok(()),
                // The backups of a new table are set up in the background.
                Err(SdkError::ServiceError(error))
                    if error.err().is_continuous_backups_unavailable_exception() && !wait.is_over() => {}
                Err(error) => return Err(translate(&self.name, error)),
            }
            wait.pause().await;
        }
    }

    /// Logs a warning for each protection that is off. A server without backups is not a production server, so it needs
    /// no warning.
    pub(crate) async fn warn_if_unprotected(&self, described: &TableDescription) {
        let table = &self.name;
        match self.client.describe_continuous_backups().table_name(table).send().await {
            Ok(output) => {
                let status = output
                    .continuous_backups_description
                    .and_then(|backups| backups.point_in_time_recovery_description)
                    .and_then(|recovery| recovery.point_in_time_recovery_status);
                if status != Some(PointInTimeRecoveryStatus::Enabled) {
                    tracing::warn!(%table, "point-in-time recovery is off: turn it on to be able to restore the table");
                }
            }
            Err(error) if is_unknown_operation(&error) => return,
            Err(error) => {
                let error = error_text(&translate(table, error));
                tracing::warn!(%table, error, "could not check whether point-in-time recovery is on");
            }
        }
        if described.deletion_protection_enabled != Some(true) {
            tracing::warn!(%table, "deletion protection is off: turn it on so that the table cannot be deleted");
        }
    }
}

/// A bounded wait for a change that AWS makes in the background, with up to 2 s between requests.
struct Wait {
    backoff: Backoff,
    end: Instant,
}

impl Wait {
    fn new(first_pause: Duration) -> Self {
        let backoff = Backoff::new(first_pause, Duration::from_secs(2));
        Self { backoff, end: Instant::now() + MAX_WAIT }
    }

    /// Returns whether [`MAX_WAIT`] has passed.
    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    async fn pause(&mut self) {
        tokio::time::sleep(self.backoff.next()).await;
    }
}

/// Returns whether the server does not support the operation, like DynamoDB Local and the embedded engine.
fn is_unknown_operation(error: &impl ProvideErrorMetadata) -> bool {
    error.code() == Some("UnknownOperationException")
}

/// Returns the differences of the keys and, if `with_stream`, of the stream.
fn shape_differences(table: &TableDescription, with_stream: bool) -> Vec<String> {
    let mut differences = key_differences(table);
    differences.extend(stream_difference(table).filter(|_| with_stream));
    differences
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
                let ty = definition.map(AttributeDefinition::attribute_type);
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
