//! Responses, and the fields that tell that one is from DynamoDB.
//!
//! A broken gateway may answer `200` with an empty body or with JSON of its own. The SDK reads that as a response in
//! which everything is absent: a write would be taken for acknowledged, a stream for empty, a shard for finished. So each
//! response must have the fields that its request asked for, among them the consumed capacity. Without them, what became
//! of the request is unknown.

use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::operation::scan::ScanOutput;
use es_core::{Cost, StoreError};

use crate::capacity;
use crate::item::Item;

/// Returns a field that every response to a request has.
pub(crate) fn required<T>(field: Option<T>, name: &str) -> Result<T, StoreError> {
    field.ok_or_else(|| incomplete(name))
}

/// The error for a response without the field `name`.
pub(crate) fn incomplete(name: &str) -> StoreError {
    let reason = format!(
        "the response has no `{name}`, so it is not from AWS: check the endpoint, and the proxies and gateways before it"
    );
    StoreError::unavailable(reason)
}

/// A page of a Query or of a Scan.
#[derive(Debug)]
pub(crate) struct ItemPage {
    pub(crate) items: Vec<Item>,
    /// Where the next page starts, if there is one.
    pub(crate) last_key: Option<Item>,
    pub(crate) cost: Cost,
}

impl TryFrom<QueryOutput> for ItemPage {
    type Error = StoreError;

    fn try_from(output: QueryOutput) -> Result<Self, StoreError> {
        let cost = capacity::of_read(output.consumed_capacity())?;
        Ok(Self { items: required(output.items, "Items")?, last_key: output.last_evaluated_key, cost })
    }
}

impl TryFrom<ScanOutput> for ItemPage {
    type Error = StoreError;

    fn try_from(output: ScanOutput) -> Result<Self, StoreError> {
        let cost = capacity::of_read(output.consumed_capacity())?;
        Ok(Self { items: required(output.items, "Items")?, last_key: output.last_evaluated_key, cost })
    }
}
