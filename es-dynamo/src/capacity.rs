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

/// The cost of a write whose condition failed, for an item of `bytes`.
///
/// It is billed like one that succeeds
/// ([condition expressions](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.ConditionExpressions.html)),
/// but the error does not say how much: one unit for each KB.
pub(crate) fn of_failed_write(bytes: u64) -> Cost {
    Cost::write(bytes.div_ceil(1024).max(1) as f64)
}

fn units(consumed: Option<&ConsumedCapacity>) -> f64 {
    consumed.and_then(ConsumedCapacity::capacity_units).unwrap_or_default()
}
