//! Protection against loss: point-in-time recovery, and deletion protection.

use std::time::Duration;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{PointInTimeRecoverySpecification, PointInTimeRecoveryStatus};
use es_core::{StoreError, error_text};

use crate::error::translate;
use crate::store::Table;

/// How long to wait for AWS to set up the backups of a new table.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

impl Table {
    /// Turns on point-in-time recovery, where the server has it.
    pub(super) async fn enable_point_in_time_recovery(&self) -> Result<(), StoreError> {
        let specification = PointInTimeRecoverySpecification::builder()
            .point_in_time_recovery_enabled(true)
            .build()
            .map_err(|error| StoreError::Backend(error.into()))?;
        let request = self
            .client
            .update_continuous_backups()
            .table_name(&self.name)
            .point_in_time_recovery_specification(specification);
        let mut pause = Duration::from_millis(100);
        let mut waited = Duration::ZERO;
        loop {
            match request.clone().send().await {
                Ok(_) => return Ok(()),
                Err(error) if is_unknown_operation(&error) => return Ok(()),
                // The backups of a new table are set up in the background.
                Err(SdkError::ServiceError(error))
                    if error.err().is_continuous_backups_unavailable_exception() && waited < LONGEST_WAIT => {
                }
                Err(error) => return Err(translate(&self.name, error)),
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// Logs a warning for each protection that is off. A server without backups is not one for production: it has
    /// nothing to protect.
    pub(crate) async fn warn_if_unprotected(&self) -> Result<(), StoreError> {
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
            Err(error) if is_unknown_operation(&error) => return Ok(()),
            Err(error) => {
                let error = error_text(&translate(table, error));
                tracing::warn!(%table, error, "could not check whether point-in-time recovery is on");
            }
        }
        let described = self.describe().await?;
        if described.is_some_and(|table| table.deletion_protection_enabled != Some(true)) {
            tracing::warn!(%table, "deletion protection is off: turn it on so that the table cannot be deleted");
        }
        Ok(())
    }
}

/// Whether the server does not have the operation, as DynamoDB Local and the embedded engine do not.
fn is_unknown_operation(error: &impl ProvideErrorMetadata) -> bool {
    error.code() == Some("UnknownOperationException")
}
