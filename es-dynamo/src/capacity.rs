//! Capacity units, as DynamoDB reports them.

use aws_sdk_dynamodb::types::ConsumedCapacity;
use es_core::Cost;

/// The cost of one read.
pub(crate) fn of_read(consumed: Option<&ConsumedCapacity>) -> Cost {
    Cost::read(units(consumed))
}

/// The cost of one write.
pub(crate) fn of_write(consumed: Option<&ConsumedCapacity>) -> Cost {
    Cost::write(units(consumed))
}

/// The cost of one transaction that writes.
pub(crate) fn of_transaction(consumed: &[ConsumedCapacity]) -> Cost {
    Cost::write(consumed.iter().map(|consumed| units(Some(consumed))).sum())
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

fn units(consumed: Option<&ConsumedCapacity>) -> f64 {
    consumed.and_then(ConsumedCapacity::capacity_units).unwrap_or_default()
}
