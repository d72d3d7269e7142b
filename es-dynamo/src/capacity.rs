//! Capacity units, as DynamoDB reports them.
//!
//! Every request asks for them: they also tell that a response is one of DynamoDB, see [`crate::response`].

use aws_sdk_dynamodb::types::ConsumedCapacity;
use es_core::{Cost, StoreError};

use crate::response::{incomplete, required};

/// The field of responses.
const FIELD: &str = "ConsumedCapacity";

/// The cost of one read.
pub(crate) fn of_read(consumed: Option<&ConsumedCapacity>) -> Result<Cost, StoreError> {
    required(consumed, FIELD).map(|consumed| Cost::read(units(consumed)))
}

/// The cost of one write.
pub(crate) fn of_write(consumed: Option<&ConsumedCapacity>) -> Result<Cost, StoreError> {
    required(consumed, FIELD).map(|consumed| Cost::write(units(consumed)))
}

/// The cost of one request that reads from several tables.
pub(crate) fn of_reads(consumed: &[ConsumedCapacity]) -> Cost {
    Cost::read(consumed.iter().map(units).sum())
}

/// The cost of one transaction that writes.
pub(crate) fn of_transaction(consumed: &[ConsumedCapacity]) -> Result<Cost, StoreError> {
    match consumed {
        [] => Err(incomplete(FIELD)),
        _ => Ok(Cost::write(consumed.iter().map(units).sum())),
    }
}

/// The cost of a write of `bytes` whose condition failed on an item of `there` bytes; in a transaction,
/// everything counts two `times`.
///
/// It is billed by the larger of the two
/// ([capacity units](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html)),
/// but the error does not say how much.
pub(crate) fn of_failed_write(bytes: u64, there: u64, times: u32) -> Cost {
    Cost::write(write_units(bytes.max(there)) * f64::from(times))
}

/// The units of writing an item of `bytes`: one for each KB, and at least one.
pub(crate) fn write_units(bytes: u64) -> f64 {
    bytes.div_ceil(1024).max(1) as f64
}

fn units(consumed: &ConsumedCapacity) -> f64 {
    consumed.capacity_units().unwrap_or_default()
}
