//! The table: made, and verified.

mod create;
mod verify;

use aws_sdk_dynamodb::types::ProvisionedThroughput;
use es_core::StoreError;

/// How a table is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableOptions {
    provisioned: Option<(u32, u32)>,
}

impl TableOptions {
    /// Paid by request: no capacity to plan.
    #[must_use]
    pub const fn on_demand() -> Self {
        Self { provisioned: None }
    }

    /// With so many capacity units a second for reads and for writes.
    #[must_use]
    pub const fn provisioned(read_units: u32, write_units: u32) -> Self {
        Self { provisioned: Some((read_units, write_units)) }
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
