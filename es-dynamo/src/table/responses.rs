//! Responses: the fields that prove that they are from DynamoDB, and the capacity units that they report.
//!
//! A broken gateway may return `200` with an empty body or with unrelated JSON. The SDK parses that as a response in
//! which every field is absent: a write would count as acknowledged, a stream as empty, a shard as finished. Therefore,
//! each response must have the fields that its request asked for, including the consumed capacity. Without them, the
//! outcome of the request is unknown.
//!
//! A proxy that confuses connections may return the response to another request. Therefore, all items must have the key
//! that was asked for, and the consumed capacity must be that of the table. A response without items has no key, so it
//! cannot be recognized in this way.

use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::operation::scan::ScanOutput;
use aws_sdk_dynamodb::types::{AttributeValue, ConsumedCapacity};
use es_core::{Cost, StoreError};

use super::{Item, names};

/// The field with the consumed capacity.
const CAPACITY: &str = "ConsumedCapacity";

/// The operation that writes a transaction, which is billed twice.
pub(crate) const TRANSACT_WRITE: &str = "TransactWriteItems";

/// Returns a field that every response to a request has.
pub(crate) fn required<T>(field: Option<T>, name: &str) -> Result<T, StoreError> {
    field.ok_or_else(|| missing_field(name))
}

/// Returns the error for a response without the field `name`.
fn missing_field(name: &str) -> StoreError {
    let reason = format!(
        "the response has no `{name}`, so it is not from AWS: check the endpoint, and the proxies and gateways before it"
    );
    StoreError::unavailable(reason)
}

/// Returns the error for a response with items, or from a table, that were not asked for.
pub(crate) fn of_another_request() -> StoreError {
    StoreError::unavailable(
        "the response is to another request: check the proxies and gateways before the endpoint of AWS",
    )
}

/// Checks that the item of a response, if it has one, has the key that was asked for.
pub(crate) fn check_key<'a>(item: impl Into<Option<&'a Item>>, key: &Item) -> Result<(), StoreError> {
    let has_key = |item: &Item| key.iter().all(|(name, value)| item.get(name) == Some(value));
    match item.into().is_none_or(has_key) {
        true => Ok(()),
        false => Err(of_another_request()),
    }
}

/// Checks that the consumed capacity is that of a request to `table`, as far as it says.
pub(crate) fn check_table(table: &str, found: Option<&str>) -> Result<(), StoreError> {
    // Either may be an ARN, which ends with the name.
    fn name(table: &str) -> &str {
        table.rsplit('/').next().unwrap_or(table)
    }
    match found.is_none_or(|found| found == table || name(found) == name(table)) {
        true => Ok(()),
        false => Err(of_another_request()),
    }
}

/// A page of a Query or of a Scan.
#[derive(Debug)]
pub(crate) struct ItemPage {
    pub(crate) items: Vec<Item>,
    /// The key after which the next page starts, if there is one.
    pub(crate) last_key: Option<Item>,
    pub(crate) cost: Cost,
}

impl ItemPage {
    /// Returns the page of a Query of a partition of `table`. The items must include the partition key.
    pub(crate) fn of_query(output: QueryOutput, table: &str, partition: &str) -> Result<Self, StoreError> {
        let cost = read_cost("Query", table, output.consumed_capacity())?;
        let items = required(output.items, "Items")?;
        let is_of_partition = |item: &Item| match item.get(names::PARTITION_KEY) {
            Some(AttributeValue::S(found)) => found == partition,
            _ => false,
        };
        if !items.iter().all(is_of_partition) {
            return Err(of_another_request());
        }
        Ok(Self { items, last_key: output.last_evaluated_key, cost })
    }

    /// Returns the page of a Scan of `table`.
    pub(crate) fn of_scan(output: ScanOutput, table: &str) -> Result<Self, StoreError> {
        let cost = read_cost("Scan", table, output.consumed_capacity())?;
        Ok(Self { items: required(output.items, "Items")?, last_key: output.last_evaluated_key, cost })
    }
}

/// Returns the cost of a read of `table`, and records its capacity units.
pub(crate) fn read_cost(
    operation: &'static str,
    table: &str,
    consumed: Option<&ConsumedCapacity>,
) -> Result<Cost, StoreError> {
    let consumed = required(consumed, CAPACITY)?;
    check_table(table, consumed.table_name())?;
    Ok(Cost::read(recorded(operation, units(consumed))))
}

/// Returns the cost of a write to `table`, and records its capacity units.
pub(crate) fn write_cost(
    operation: &'static str,
    table: &str,
    consumed: Option<&ConsumedCapacity>,
) -> Result<Cost, StoreError> {
    let consumed = required(consumed, CAPACITY)?;
    check_table(table, consumed.table_name())?;
    Ok(Cost::write(recorded(operation, units(consumed))))
}

/// Returns the cost of a `BatchGetItem` request, and records its capacity units.
pub(crate) fn batch_read_cost(consumed: &[ConsumedCapacity]) -> Cost {
    Cost::read(recorded("BatchGetItem", consumed.iter().map(units).sum()))
}

/// Returns the cost of a transaction that writes to `table`, and perhaps to others, and records its capacity units.
pub(crate) fn transaction_cost(table: &str, consumed: &[ConsumedCapacity]) -> Result<Cost, StoreError> {
    if consumed.is_empty() {
        return Err(missing_field(CAPACITY));
    }
    if !consumed.iter().any(|consumed| check_table(table, consumed.table_name()).is_ok()) {
        return Err(of_another_request());
    }
    Ok(Cost::write(recorded(TRANSACT_WRITE, consumed.iter().map(units).sum())))
}

/// Returns the cost of a write of `bytes` whose condition failed on an item of `existing` bytes, and records its
/// capacity units.
///
/// DynamoDB bills it by the larger of the two
/// ([capacity units](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html)),
/// but the error does not contain the units.
pub(crate) fn failed_write_cost(operation: &'static str, bytes: u64, existing: u64) -> Cost {
    let factor = if operation == TRANSACT_WRITE { 2.0 } else { 1.0 };
    Cost::write(recorded(operation, write_units(bytes.max(existing)) * factor))
}

/// Returns the cost of a cancelled transaction of `units`, and records them.
pub(crate) fn cancelled_cost(units: f64) -> Cost {
    Cost::write(recorded(TRANSACT_WRITE, units))
}

/// Records the capacity units of a request, and returns them.
pub(crate) fn recorded(operation: &'static str, units: f64) -> f64 {
    #[cfg(feature = "metrics")]
    es_core::metrics::CAPACITY.record_constant([operation], units);
    #[cfg(not(feature = "metrics"))]
    let _ = operation;
    units
}

/// Returns the units of writing an item of `bytes`: one for each KB, and at least one.
pub(crate) fn write_units(bytes: u64) -> f64 {
    bytes.div_ceil(1024).max(1) as f64
}

fn units(consumed: &ConsumedCapacity) -> f64 {
    consumed.capacity_units().unwrap_or_default()
}
