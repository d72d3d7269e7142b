//! Reads of several items by their keys.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{KeysAndAttributes, ReturnConsumedCapacity};
use es_core::{Cost, StoreError};

use super::retry::Backoff;
use super::{Consistency, Item, build_error, required, responses, traced, translate};

/// The maximum number of keys in a request
/// ([limits](https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html)).
pub(crate) const MAX_KEYS: usize = 100;

/// The maximum number of requests for unprocessed keys without progress.
const MAX_RETRIES: u32 = 8;

/// The items with up to [`MAX_KEYS`] keys: a `BatchGetItem`, and further ones with backoff while a response leaves keys
/// unprocessed.
pub(crate) struct BatchGet<'a> {
    client: &'a Client,
    table: &'a str,
    consistency: Consistency,
    /// The keys that are not read yet.
    keys: Vec<Item>,
    backoff: Backoff,
    /// The time to wait before the next request.
    delay: Option<Duration>,
    /// The cost of the requests so far.
    pub(crate) cost: Cost,
}

impl<'a> BatchGet<'a> {
    /// Returns a read of the items with `keys` in `table`.
    pub(crate) fn new(client: &'a Client, table: &'a str, consistency: Consistency, keys: Vec<Item>) -> Self {
        let backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(5));
        Self { client, table, consistency, keys, backoff, delay: None, cost: Cost::ZERO }
    }

    /// Returns the existing items of the next response; `None` if all keys are read. `is_wanted` returns whether an item
    /// has one of the keys.
    ///
    /// # Errors
    ///
    /// [`StoreError::Throttled`] if keys remain unprocessed after several requests in a row without an item.
    pub(crate) async fn next(
        &mut self,
        is_wanted: impl Fn(&Item) -> bool,
    ) -> Result<Option<Vec<Item>>, StoreError> {
        if self.keys.is_empty() {
            return Ok(None);
        }
        if let Some(delay) = self.delay.take() {
            tokio::time::sleep(delay).await;
        }
        let wanted = KeysAndAttributes::builder()
            .set_keys(Some(std::mem::take(&mut self.keys)))
            .consistent_read(self.consistency == Consistency::Strong)
            .build()
            .map_err(build_error)?;
        let request = self
            .client
            .batch_get_item()
            .request_items(self.table, wanted)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let output = traced("BatchGetItem", self.table, request.send()).await;
        let output = output.map_err(|error| translate(self.table, error))?;
        self.cost += responses::batch_read_cost(output.consumed_capacity());
        let items = required(output.responses, "Responses")?.remove(self.table);
        let rest = required(output.unprocessed_keys, "UnprocessedKeys")?.remove(self.table);
        let is_from_table = items.is_some() || rest.is_some();
        let items = items.unwrap_or_default();
        if !is_from_table || !items.iter().all(is_wanted) {
            return Err(responses::of_another_request());
        }
        self.keys = rest.map(|rest| rest.keys).unwrap_or_default();
        if !items.is_empty() {
            self.backoff.reset();
        }
        if !self.keys.is_empty() {
            if self.backoff.failures() >= MAX_RETRIES {
                return Err(StoreError::Throttled("some keys of a BatchGetItem remain unprocessed".into()));
            }
            self.delay = Some(self.backoff.next());
        }
        Ok(Some(items))
    }
}
