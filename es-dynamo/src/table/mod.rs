//! The table: made, and verified.

mod create;
mod protection;
mod verify;

use aws_sdk_dynamodb::types::ProvisionedThroughput;
use es_core::StoreError;

/// How a table is created.
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
    /// Paid by request: no capacity to plan.
    pub const fn on_demand() -> Self {
        Self { provisioned: None, point_in_time_recovery: true, deletion_protection: true }
    }

    /// With so many capacity units a second for reads and for writes.
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
