//! Tables and items, independent of their content.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
    Projection, ProjectionType, PutRequest, ScalarAttributeType, WriteRequest,
};
use serde_json::{Value, json};

use crate::Failure;

pub type Item = HashMap<String, AttributeValue>;

/// The maximum number of items in a BatchWriteItem.
const BATCH: usize = 25;

/// A key attribute and its type.
pub type Key = (&'static str, ScalarAttributeType);

/// A global secondary index.
pub struct Index<'a> {
    pub name: &'a str,
    pub keys: [Key; 2],
    pub projection: ProjectionType,
}

/// Creates a table. The second key is the sort key, also in the index.
pub async fn create(
    client: &Client,
    name: &str,
    keys: &[Key],
    index: Option<Index<'_>>,
) -> Result<(), Failure> {
    let mut request = client
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_key_schema(Some(schema(keys)?));
    let mut attributes = keys.to_vec();
    if let Some(index) = index {
        attributes.extend(index.keys.iter().filter(|key| !keys.contains(key)).cloned());
        request = request.global_secondary_indexes(
            GlobalSecondaryIndex::builder()
                .index_name(index.name)
                .set_key_schema(Some(schema(&index.keys)?))
                .projection(Projection::builder().projection_type(index.projection).build())
                .build()?,
        );
    }
    for (attribute, kind) in attributes {
        request = request.attribute_definitions(
            AttributeDefinition::builder().attribute_name(attribute).attribute_type(kind).build()?,
        );
    }
    match request.send().await {
        Ok(_) => Ok(()),
        // Contenders with the same layout may share its tables.
        Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_in_use_exception()) => {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn schema(keys: &[Key]) -> Result<Vec<KeySchemaElement>, Failure> {
    let kinds = [KeyType::Hash, KeyType::Range];
    keys.iter()
        .zip(kinds)
        .map(|((name, _), kind)| {
            Ok(KeySchemaElement::builder().attribute_name(*name).key_type(kind).build()?)
        })
        .collect()
}

/// Writes items in batches, without conditions.
pub async fn fill(client: &Client, table: &str, items: impl Iterator<Item = Item>) -> Result<(), Failure> {
    let mut items = items.peekable();
    while items.peek().is_some() {
        let batch = items
            .by_ref()
            .take(BATCH)
            .map(|item| {
                let put = PutRequest::builder().set_item(Some(item)).build()?;
                Ok(WriteRequest::builder().put_request(put).build())
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let output = client.batch_write_item().request_items(table, batch).send().await?;
        if output.unprocessed_items.is_some_and(|items| !items.is_empty()) {
            return Err("the engine left items of a batch unwritten".into());
        }
    }
    Ok(())
}

/// Returns the size of a table's items in bytes, as DynamoDB computes it.
pub async fn bytes(client: &Client, table: &str) -> Result<u64, Failure> {
    let mut pages = client.scan().table_name(table).consistent_read(true).into_paginator().send();
    let mut bytes = 0;
    while let Some(page) = pages.try_next().await? {
        bytes += page.items().iter().map(item_size).sum::<u64>();
    }
    Ok(bytes)
}

/// The size of an item
/// ([rules](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html)).
fn item_size(item: &Item) -> u64 {
    item.iter().map(|(name, value)| name.len() as u64 + value_size(value)).sum()
}

fn value_size(value: &AttributeValue) -> u64 {
    match value {
        AttributeValue::S(text) => text.len() as u64,
        // About one byte for two digits, and one additional byte.
        AttributeValue::N(number) => (number.len() as u64).div_ceil(2) + 1,
        AttributeValue::B(bytes) => bytes.as_ref().len() as u64,
        AttributeValue::L(list) => 3 + list.iter().map(|value| 1 + value_size(value)).sum::<u64>(),
        AttributeValue::M(map) => 3 + map.len() as u64 + item_size(map),
        // No contender stores other types.
        _ => 1,
    }
}

/// Returns an item in DynamoDB's JSON form.
pub fn to_json(item: &Item) -> Value {
    item.iter().map(|(name, value)| (name.clone(), value_to_json(value))).collect()
}

fn value_to_json(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::L(list) => json!({ "L": list.iter().map(value_to_json).collect::<Vec<_>>() }),
        AttributeValue::M(map) => json!({ "M": to_json(map) }),
        // No commit contains other types.
        _ => json!({ "NULL": true }),
    }
}
