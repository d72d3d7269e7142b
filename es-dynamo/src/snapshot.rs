//! Writing snapshots: one conditional `PutItem`.

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use es_core::{Cost, Snapshot, StoreError, StreamId, Version};

use crate::attempts::watched;
use crate::capacity;
use crate::item::{SIZE_LIMIT, item_size, snapshot_item};
use crate::store::Table;

/// That what is there is older, or has no version at all: two writers may be here at once, and the earlier
/// one may come later.
const IS_NEWER: &str = "attribute_not_exists(v) OR v < :v OR NOT attribute_type(v, :n) OR v > :max";

impl Table {
    pub(crate) async fn write_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError> {
        let item = snapshot_item(stream, snapshot);
        let bytes = item_size(&item);
        if bytes > SIZE_LIMIT {
            return Err(StoreError::too_large(
                format!("a snapshot of the stream `{stream}`"),
                bytes,
                SIZE_LIMIT,
            ));
        }
        let mut put = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(item))
            .condition_expression(IS_NEWER)
            .expression_attribute_values(":v", AttributeValue::N(snapshot.version().to_string()))
            .expression_attribute_values(":n", AttributeValue::S("N".to_owned()))
            .expression_attribute_values(":max", AttributeValue::N(Version::MAX.to_string()))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        if let Some(version) = replaces {
            put = put
                .condition_expression(format!("{IS_NEWER} OR v = :replaces"))
                .expression_attribute_values(":replaces", AttributeValue::N(version.to_string()));
        }
        match watched(put.send()).await {
            Ok(output) => capacity::of_write(output.consumed_capacity()),
            Err(failed) => failed.condition(&self.name).map(|_| capacity::of_failed_write(bytes, 0, 1)),
        }
    }
}
