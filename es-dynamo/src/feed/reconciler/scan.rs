//! Scanning the table for commits.

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use es_core::{Cost, StoreError};
use serde::{Deserialize, Serialize};

use crate::feed::log::hint::{Noted, Record};
use crate::table::{Item, ItemPage, Table, key, names, traced, translate};

/// The last key of a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScanKey {
    pub(crate) pk: String,
    pub(crate) sk: String,
}

/// A page of a scan.
#[derive(Debug)]
pub(crate) struct ScanPage {
    /// The meaning of its items for the feed.
    pub(crate) noted: Vec<Noted>,
    pub(crate) next: Option<ScanKey>,
    pub(crate) cost: Cost,
}

/// A table that can be scanned for commits.
#[async_trait]
pub(crate) trait Scan: Send + Sync {
    /// Returns a page of one of `segments` segments. The items of each stream are in order.
    async fn scan(
        &self,
        segment: u32,
        segments: u32,
        after: Option<&ScanKey>,
    ) -> Result<ScanPage, StoreError>;
}

#[async_trait]
impl Scan for Table {
    async fn scan(
        &self,
        segment: u32,
        segments: u32,
        after: Option<&ScanKey>,
    ) -> Result<ScanPage, StoreError> {
        let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let request = self
            .client
            .scan()
            .table_name(&self.name)
            .segment(number(segment))
            .total_segments(number(segments))
            .filter_expression("begins_with(sk, :commits)")
            .expression_attribute_values(":commits", AttributeValue::S(names::COMMIT_PREFIX.to_owned()))
            .set_exclusive_start_key(after.map(|after| key(&after.pk, &after.sk)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let output = traced("Scan", &self.name, request.send()).await;
        let output = output.map_err(|error| translate(&self.name, error))?;
        let ItemPage { items, last_key, cost } = ItemPage::of_scan(output, &self.name)?;
        let noted = items.into_iter().map(noted).collect();
        let text = |key: &Item, name| key.get(name).and_then(|value| value.as_s().ok()).cloned();
        let next = match last_key {
            None => None,
            Some(last) => match (text(&last, names::PARTITION_KEY), text(&last, names::SORT_KEY)) {
                (Some(pk), Some(sk)) => Some(ScanKey { pk, sk }),
                _ => return Err(StoreError::Backend("the last key of a Scan's page is incomplete".into())),
            },
        };
        Ok(ScanPage { noted, next, cost })
    }
}

/// Returns the meaning of an item for the feed, which equals the meaning of its stream record.
fn noted(item: Item) -> Noted {
    let keys = [names::PARTITION_KEY, names::SORT_KEY];
    let keys = keys.iter().filter_map(|name| Some(((*name).to_owned(), item.get(*name)?.clone()))).collect();
    Record { sequence: String::new(), keys, image: Some(item), is_removal: false }.noted()
}
