//! Alternatives of other libraries: an index of all events by slice and time, and scans of the table.
//!
//! The index follows the documentation of Akka's plugin for DynamoDB: its keys are a slice and a timestamp, and it
//! contains all attributes.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ProjectionType, ScalarAttributeType};
use es_dynamo::{embedded, names};

use crate::Failure;
use crate::costs::Cost;
use crate::engine::Engine;
use crate::meter::Meter;
use crate::tables::{self, Index, Item};

const TABLE: &str = "journal";
const INDEX: &str = "by-slice";
const SLICE: &str = "slice";
const SLICE_VALUE: &str = "account-0";
const TIMESTAMP: &str = "ts";

/// Writes the commits to a table with such an index, and reads them from the index.
///
/// All commits are in one slice, which is an advantage for the index: fewer requests round up their units.
pub async fn index(commits: &[Item]) -> Result<Cost, Failure> {
    let alone = write(commits, None, &Meter::default()).await?.1;
    let meter = Meter::default();
    let index = Index {
        name: INDEX,
        keys: [(SLICE, ScalarAttributeType::S), (TIMESTAMP, ScalarAttributeType::N)],
        projection: ProjectionType::All,
    };
    let (client, with_index) = write(commits, Some(index), &meter).await?;
    let query = client
        .query()
        .table_name(TABLE)
        .index_name(INDEX)
        .key_condition_expression("slice = :slice AND ts > :after")
        .expression_attribute_values(":slice", AttributeValue::S(SLICE_VALUE.to_owned()))
        .expression_attribute_values(":after", AttributeValue::N("0".to_owned()));
    let found: Vec<Item> = query.into_paginator().items().send().collect::<Result<_, _>>().await?;
    check(&found, commits)?;
    let each = |units: f64| units / commits.len() as f64;
    let read_units = each(meter.take().read_units);
    let name = "a global secondary index by slice and time".to_owned();
    Ok(Cost {
        name,
        write_units: each(with_index - alone),
        copy_units: 0.0,
        read_units,
        skip_units: read_units,
    })
}

/// Scans a table that contains only the commits.
pub async fn scan(commits: &[Item]) -> Result<Cost, Failure> {
    let meter = Meter::default();
    let (client, _) = write(commits, None, &meter).await?;
    let scan = client.scan().table_name(TABLE).into_paginator().items().send();
    let found: Vec<Item> = scan.collect::<Result<_, _>>().await?;
    check(&found, commits)?;
    let read_units = meter.take().read_units / commits.len() as f64;
    let name = "scanning the whole table, each time".to_owned();
    Ok(Cost { name, write_units: 0.0, copy_units: 0.0, read_units, skip_units: read_units })
}

fn check(found: &[Item], commits: &[Item]) -> Result<(), Failure> {
    match found.len() == commits.len() {
        true => Ok(()),
        false => Err(format!("{} of {} commits were read", found.len(), commits.len()).into()),
    }
}

/// Writes the commits to a new table, and returns the units.
async fn write(commits: &[Item], index: Option<Index<'_>>, meter: &Meter) -> Result<(Client, f64), Failure> {
    let client = Engine::Embedded(embedded::Engine::in_memory()?).metered_client(meter);
    let keys = [names::PARTITION_KEY, names::SORT_KEY].map(|name| (name, ScalarAttributeType::S));
    let is_indexed = index.is_some();
    tables::create(&client, TABLE, &keys, index).await?;
    let items = commits.iter().enumerate().map(|(place, commit)| {
        let mut item = commit.clone();
        if is_indexed {
            item.insert(SLICE.to_owned(), AttributeValue::S(SLICE_VALUE.to_owned()));
            // Consecutive microseconds.
            let time = 1_800_000_000_000_000 + place;
            item.insert(TIMESTAMP.to_owned(), AttributeValue::N(time.to_string()));
        }
        item
    });
    tables::fill(&client, TABLE, items).await?;
    Ok((client, meter.take().write_units))
}
