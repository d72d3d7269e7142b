//! A set as the items of one transaction.

use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
    Update,
};
use es_core::documents::DocumentCondition;
use es_core::store::{Append, ClaimChange, JoinedWrite, NetChange, Once, WriteError, WriteSet};
use es_core::{StoreError, StreamId, Version};

use crate::capacity::write_units;
use crate::item::{Item, SIZE_LIMIT, claim_item, claim_key, commit_items, item_size, key, marker_item};
use crate::names;
use crate::store::Table;
use crate::transact::{PLACE_IS_FREE, PutIf, incomplete};

/// That a claim is free, or held by the one stream that may hold it.
const CLAIM_IS_FREE: &str = "attribute_not_exists(pk) OR h = :holder";

/// That there is no marker, or one that has expired.
const MARKER_IS_FREE: &str = "attribute_not_exists(pk) OR #ttl < :now";

/// What one item of the transaction is there for.
pub(super) enum Purpose<'a> {
    /// A part of the commit of this append.
    Commit(usize, &'a Append),
    /// The stream has not gone on.
    Unchanged(&'a StreamId, Version),
    Claim(NetChange<'a>),
    Once(&'a Once),
    /// The caller's own write with this number.
    Joined(usize),
}

/// A set as a transaction: its items, and what each of them is there for.
#[derive(Default)]
pub(super) struct Transaction<'a> {
    pub(super) items: Vec<TransactWriteItem>,
    pub(super) purposes: Vec<Purpose<'a>>,
    pub(super) bytes: u64,
    /// Write units, in a transaction two for each KB.
    pub(super) units: f64,
}

impl<'a> Transaction<'a> {
    fn add(&mut self, item: TransactWriteItem, purpose: Purpose<'a>, bytes: u64) {
        self.items.push(item);
        self.purposes.push(purpose);
        self.bytes += bytes;
        self.units += 2.0 * write_units(bytes);
    }
}

impl Table {
    pub(super) fn transaction<'a>(&self, set: &'a WriteSet) -> Result<Transaction<'a>, WriteError> {
        let mut transaction = Transaction::default();
        for (index, append) in set.appends().iter().enumerate() {
            for item in commit_items(append.stream(), append.start()?.next(), append.commit())? {
                let bytes = item_size(&item);
                let put = self.put_if(item, PLACE_IS_FREE).build()?;
                transaction.add(put, Purpose::Commit(index, append), bytes);
            }
        }
        for (stream, version) in set.unchanged_streams() {
            let check = self.is_unchanged(stream, *version)?;
            transaction.add(check, Purpose::Unchanged(stream, *version), 0);
        }
        for change in ClaimChange::net(set.claim_changes())? {
            let (item, bytes) = self.claim(&change)?;
            transaction.add(item, Purpose::Claim(change), bytes);
        }
        if let Some(once) = set.once_key() {
            let item = marker_item(once);
            let bytes = item_size(&item);
            if bytes > SIZE_LIMIT {
                return Err(StoreError::too_large("the marker of a key", bytes, SIZE_LIMIT).into());
            }
            let PutIf(put) = self.put_if(item, MARKER_IS_FREE);
            let now = AttributeValue::N(once.now.timestamp().to_string());
            let put = put.expression_attribute_names("#ttl", names::TIME_TO_LIVE);
            let put = PutIf(put.expression_attribute_values(":now", now)).build()?;
            transaction.add(put, Purpose::Once(once), bytes);
        }
        for (index, write) in set.joined_writes().iter().enumerate() {
            let item = self.joined(write)?;
            let bytes = item.put().map_or(0, |put| item_size(put.item()));
            transaction.add(item, Purpose::Joined(index), bytes);
        }
        Ok(transaction)
    }

    fn is_unchanged(&self, stream: &StreamId, version: Version) -> Result<TransactWriteItem, StoreError> {
        let check = ConditionCheck::builder()
            .table_name(&self.name)
            .set_key(Some(key(stream.as_str(), names::commit_key(version.next()))))
            .condition_expression(PLACE_IS_FREE)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .map_err(incomplete)?;
        Ok(TransactWriteItem::builder().condition_check(check).build())
    }

    fn claim(&self, change: &NetChange<'_>) -> Result<(TransactWriteItem, u64), StoreError> {
        let holder = AttributeValue::S(change.before.as_str().to_owned());
        let Some(after) = change.after else {
            let key = claim_key(change.claim);
            let bytes = item_size(&key);
            let delete = Delete::builder()
                .table_name(&self.name)
                .set_key(Some(key))
                .condition_expression(CLAIM_IS_FREE)
                .expression_attribute_values(":holder", holder)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .build()
                .map_err(incomplete)?;
            return Ok((TransactWriteItem::builder().delete(delete).build(), bytes));
        };
        let item = claim_item(change, after);
        let bytes = item_size(&item);
        let PutIf(put) = self.put_if(item, CLAIM_IS_FREE);
        Ok((PutIf(put.expression_attribute_values(":holder", holder)).build()?, bytes))
    }

    /// A write of the caller's own, of one of the SDK's types, if it leaves the store's own items alone.
    pub(crate) fn joined(&self, write: &JoinedWrite) -> Result<TransactWriteItem, StoreError> {
        if let Some(condition) = write.downcast_ref::<DocumentCondition>() {
            return self.document_condition(condition);
        }
        let builder = TransactWriteItem::builder();
        let item = if let Some(item) = write.downcast_ref::<TransactWriteItem>() {
            item.clone()
        } else if let Some(put) = write.downcast_ref::<Put>() {
            builder.put(put.clone()).build()
        } else if let Some(update) = write.downcast_ref::<Update>() {
            builder.update(update.clone()).build()
        } else if let Some(delete) = write.downcast_ref::<Delete>() {
            builder.delete(delete.clone()).build()
        } else if let Some(check) = write.downcast_ref::<ConditionCheck>() {
            builder.condition_check(check.clone()).build()
        } else {
            return Err(StoreError::invalid(format!(
                "a DynamoDB store cannot carry out a `{}`: join a Put, Update, Delete or ConditionCheck of aws_sdk_dynamodb::types",
                write.kind()
            )));
        };
        let target = item
            .put()
            .map(|put| (put.table_name(), put.item()))
            .or_else(|| item.update().map(|update| (update.table_name(), update.key())))
            .or_else(|| item.delete().map(|delete| (delete.table_name(), delete.key())));
        if target.is_some_and(|(table, item)| table == self.name && is_own(item)) {
            return Err(StoreError::invalid(
                "a joined write would change an item of the event store: use another table, or another key",
            ));
        }
        Ok(item)
    }
}

/// Whether the partition, or the sort key, is one of the store's own.
fn is_own(item: &Item) -> bool {
    let text = |name: &str| item.get(name).and_then(|key| key.as_s().ok());
    text(names::PARTITION_KEY).is_some_and(|key| key.starts_with(names::OWN_PARTITIONS))
        || text(names::SORT_KEY)
            .is_some_and(|key| names::OWN_SORT_KEYS.iter().any(|own| key.starts_with(own)))
}
