//! Capacity units of the feed for each event, compared with an index and a scan.

use std::collections::HashMap;

use es_core::feed::{EventFilter, Feed, FeedRead, Position, Slice};
use es_dynamo::{DynamoStore, embedded, lambda};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::Failure;
use crate::domain::Deposit;
use crate::meter::{Meter, Usage};
use crate::place::Settings;
use crate::plan::Plan;
use crate::sliced;
use crate::tables::{self, Item};
use crate::{load, place};

/// The cost of one way to read all events, in units for each event.
pub struct Cost {
    pub name: String,
    /// In addition to the write of the commit.
    pub write_units: f64,
    /// The read units of the indexer that copies commits into pages.
    pub copy_units: f64,
    /// The read units of a consumer that processes every event.
    pub read_units: f64,
    /// The read units of a consumer that skips every event.
    pub skip_units: f64,
}

pub async fn measure(plan: &Plan) -> Result<Vec<Cost>, Failure> {
    let mut costs = Vec::new();
    let mut reads = HashMap::new();
    for (commits_a_page, max_copy) in [(1, 0), (16, 0), (64, 0), (16, MAX_COPY), (64, MAX_COPY)] {
        eprintln!("costs: {commits_a_page} commits a page, copies up to {max_copy} bytes");
        let (mut cost, index_units) = feed(plan, commits_a_page, max_copy).await?;
        // The other reads of the writer are the same with and without copies.
        cost.copy_units = index_units - *reads.entry(commits_a_page).or_insert(index_units);
        costs.push(cost);
    }
    eprintln!("costs: an index, and a scan");
    let commits = items(&filled(&embedded::Engine::in_memory()?, plan).await?).await?;
    costs.push(sliced::index(&commits).await?);
    costs.push(sliced::scan(&commits).await?);
    Ok(costs)
}

/// The maximum size in bytes of a copied commit, which exceeds that of the measured ones.
pub const MAX_COPY: u64 = 1_024;

/// Measures the feed if a writer indexes `commits_a_page` commits at a time. Also returns the read units of the writer.
async fn feed(plan: &Plan, commits_a_page: usize, max_copy: u64) -> Result<(Cost, f64), Failure> {
    let engine = embedded::Engine::in_memory()?;
    let commits = items(&filled(&engine, plan).await?).await?;
    let meter = Meter::default();
    let store = place::store(&engine, Settings { max_copy, ..Settings::new(1) }, Some(&meter)).await?;
    store.slices().await?;
    meter.take();
    for batch in commits.chunks(commits_a_page) {
        let answer = lambda::handle(&store, json!({ "Records": records(batch) })).await?;
        if answer != json!({ "batchItemFailures": [] }) {
            return Err(format!("records were not indexed: {answer}").into());
        }
    }
    let each = |units: f64| units / commits.len() as f64;
    let Usage { write_units, read_units: index_units, .. } = meter.take();
    let (write_units, index_units) = (each(write_units), each(index_units));
    let mut read_units = [0.0; 2];
    for (units, filter) in read_units.iter_mut().zip([EventFilter::all(), EventFilter::none()]) {
        let found = consume(&store, filter.clone()).await?;
        *units = each(meter.take().read_units);
        if found != if filter == EventFilter::none() { 0 } else { commits.len() } {
            return Err(format!("{found} of {} commits were read", commits.len()).into());
        }
    }
    let [read_units, skip_units] = read_units;
    let plural = if commits_a_page == 1 { "" } else { "s" };
    let copies = if max_copy == 0 { "" } else { ", with copies" };
    let name = format!("this framework's feed, pages of {commits_a_page} commit{plural}{copies}");
    Ok((Cost { name, write_units, copy_units: 0.0, read_units, skip_units }, index_units))
}

/// Creates a store with commits of one event, each of a separate account with a UUID.
async fn filled(engine: &embedded::Engine, plan: &Plan) -> Result<DynamoStore, Failure> {
    let store = place::store(engine, Settings::new(1), None).await?;
    let accounts = load::repository(&store);
    for _ in 0..plan.counted {
        accounts.execute(&Uuid::new_v4().to_string(), Deposit).await?;
    }
    Ok(store)
}

/// Returns the items of its commits.
async fn items(store: &DynamoStore) -> Result<Vec<Item>, Failure> {
    let scan = store.client().scan().table_name(store.table_name()).consistent_read(true);
    let mut items: Vec<Item> = scan.into_paginator().items().send().collect::<Result<_, _>>().await?;
    items.retain(|item| item.contains_key("ev"));
    Ok(items)
}

/// Reads the feed once like a projector with default settings, and returns the number of commits.
async fn consume(store: &DynamoStore, filter: EventFilter) -> Result<usize, Failure> {
    let (mut after, mut found) = (Position::NONE, 0);
    loop {
        let read = FeedRead::new(Slice::new(0), after).limit(100).filter(filter.clone());
        let page = store.read_feed(&read).await?;
        found += page.entries.len();
        after = page.through;
        if page.is_last {
            return Ok(found);
        }
    }
}

/// Returns the records that a Lambda function receives for the items.
fn records(items: &[Item]) -> Vec<Value> {
    let record = |item: &Item| {
        let image = tables::to_json(item);
        let keys = json!({ "pk": image["pk"], "sk": image["sk"] });
        let change = json!({ "SequenceNumber": "1", "Keys": keys, "NewImage": image });
        json!({ "eventName": "INSERT", "dynamodb": change })
    };
    items.iter().map(record).collect()
}
