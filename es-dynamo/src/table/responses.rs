//! Responses: the fields that prove that they are from DynamoDB, and the capacity units that they report.
//!
//! A broken gateway may return `200` with an empty body or with unrelated JSON. The SDK parses that as a response in
//! which every field is absent: a write would count as acknowledged, a stream as empty, a shard as finished. Therefore,
//! each response must have the fields that its request asked for, including the consumed capacity. Without them, the
//! outcome of the request is unknown.

use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::operation::scan::ScanOutput;
use aws_sdk_dynamodb::types::ConsumedCapacity;
use es_core::{Cost, StoreError};

use super::Item;

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

/// A page of a Query or of a Scan.
#[derive(Debug)]
pub(crate) struct ItemPage {
    pub(crate) items: Vec<Item>,
    /// The key after which the next page starts, if there is one.
    pub(crate) last_key: Option<Item>,
    pub(crate) cost: Cost,
}

impl TryFrom<QueryOutput> for ItemPage {
    type Error = StoreError;

    fn try_from(output: QueryOutput) -> Result<Self, StoreError> {
        let cost = read_cost("Query", output.consumed_capacity())?;
        Ok(Self { items: required(output.items, "Items")?, last_key: output.last_evaluated_key, cost })
    }
}

impl TryFrom<ScanOutput> for ItemPage {
    type Error = StoreError;

    fn try_from(output: ScanOutput) -> Result<Self, StoreError> {
        let cost = read_cost("Scan", output.consumed_capacity())?;
        Ok(Self { items: required(output.items, "Items")?, last_key: output.last_evaluated_key, cost })
    }
}

/// Returns the cost of a read, and records its capacity units.
pub(crate) fn read_cost(
    operation: &'static str,
    consumed: Option<&ConsumedCapacity>,
) -> Result<Cost, StoreError> {
    required(consumed, CAPACITY).map(|consumed| Cost::read(recorded(operation, units(consumed))))
}

/// Returns the cost of a write, and records its capacity units.
pub(crate) fn write_cost(
    operation: &'static str,
    consumed: Option<&ConsumedCapacity>,
) -> Result<Cost, StoreError> {
    required(consumed, CAPACITY).map(|consumed| Cost::write(recorded(operation, units(consumed))))
}

/// Returns the cost of a `BatchGetItem` request, and records its capacity units.
pub(crate) fn batch_read_cost(consumed: &[ConsumedCapacity]) -> Cost {
    Cost::read(recorded("BatchGetItem", consumed.iter().map(units).sum()))
}

/// Returns the cost of a transaction that writes, and records its capacity units.
pub(crate) fn transaction_cost(consumed: &[ConsumedCapacity]) -> Result<Cost, StoreError> {
    match consumed {
        [] => Err(missing_field(CAPACITY)),
        _ => Ok(Cost::write(recorded(TRANSACT_WRITE, consumed.iter().map(units).sum()))),
    }
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
