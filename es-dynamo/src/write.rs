//! Writing a set: commits, claims, a marker and the caller's own writes in one transaction.

use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Delete, Put, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure,
    TransactWriteItem, Update,
};
use es_core::store::{
    Append, Claim, ClaimChange, Claimed, Conflict, Holder, JoinedWrite, MarkerRead, NetChange, Once, OnceKey,
    WriteError, WriteRefused, WriteSet, Written,
};
use es_core::{Cost, ExpectedVersion, StoreError, StreamId, Version};

use crate::capacity;
use crate::error::translate;
use crate::item::{
    Item, SIZE_LIMIT, claim_item, claim_key, commit_items, holder_of, item_size, marker_from, marker_item,
    marker_key,
};
use crate::names;
use crate::store::Table;
use crate::transact::{
    MOST_ITEMS, PLACE_IS_FREE, PutIf, Reason, TRANSACTION_LIMIT, Transacted, cancelled, incomplete,
};

/// That a claim is free, or held by the one stream that may hold it.
const CLAIM_IS_FREE: &str = "attribute_not_exists(pk) OR h = :holder";

/// That there is no marker, or one that has expired.
const MARKER_IS_FREE: &str = "attribute_not_exists(pk) OR #ttl < :now";

/// What one item of the transaction is there for.
enum Purpose<'a> {
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
struct Transaction<'a> {
    items: Vec<TransactWriteItem>,
    purposes: Vec<Purpose<'a>>,
    bytes: u64,
    /// Write units, in a transaction two for each KB.
    units: f64,
}

impl<'a> Transaction<'a> {
    fn add(&mut self, item: TransactWriteItem, purpose: Purpose<'a>, bytes: u64) {
        self.items.push(item);
        self.purposes.push(purpose);
        self.bytes += bytes;
        self.units += 2.0 * bytes.div_ceil(1024).max(1) as f64;
    }
}

impl Table {
    pub(crate) async fn write(&self, set: &WriteSet) -> Result<Written, WriteError> {
        let written = set.checked()?;
        let Transaction { items, purposes, bytes, units } = self.transaction(set)?;
        if items.len() > MOST_ITEMS {
            return Err(StoreError::too_many_items(items.len(), MOST_ITEMS).into());
        }
        if bytes > TRANSACTION_LIMIT {
            let what = format!("a transaction of {} items", items.len());
            return Err(StoreError::too_large(what, bytes, TRANSACTION_LIMIT).into());
        }
        let reasons = match self.transact(items).await? {
            Transacted::Done(cost) => return Ok(written.at_cost(cost)),
            Transacted::Cancelled(reasons) => reasons,
        };
        self.why(&purposes, &reasons, written.at_cost(Cost::write(units))).await
    }

    fn transaction<'a>(&self, set: &'a WriteSet) -> Result<Transaction<'a>, WriteError> {
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
            .key(names::PARTITION_KEY, AttributeValue::S(stream.as_str().to_owned()))
            .key(names::SORT_KEY, AttributeValue::S(names::commit_key(version.next())))
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
    fn joined(&self, write: &JoinedWrite) -> Result<TransactWriteItem, StoreError> {
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
                "a joined write would change an item of the event store: use another table, or another sort key",
            ));
        }
        Ok(item)
    }

    /// Why a transaction was cancelled. That its own commit is there already is looked for first: then all of
    /// it is, whatever else has happened since.
    async fn why(
        &self,
        purposes: &[Purpose<'_>],
        reasons: &[Reason],
        written: Written,
    ) -> Result<Written, WriteError> {
        let failed = || {
            purposes.iter().zip(reasons).filter_map(|(purpose, reason)| match reason {
                Reason::Condition(item) => Some((purpose, item)),
                _ => None,
            })
        };
        let mut cost = written.cost;
        let mut conflict = None;
        for (purpose, item) in failed() {
            match purpose {
                Purpose::Commit(index, append) => {
                    let first = written.appended[*index].first;
                    let (old, read) = self.old_commit(append.stream(), first, item.clone()).await?;
                    cost += read;
                    if let Some(old) = old.filter(|old| old.id == append.commit().id) {
                        self.repeated(append.stream(), old, written.appended[*index].last, cost)?;
                        return Ok(written.at_cost(cost).repeated());
                    }
                    let actual = old.map(|old| old.last);
                    conflict = Some((append.stream(), append.expected(), actual));
                }
                Purpose::Unchanged(stream, version) => {
                    conflict = conflict.or(Some((stream, ExpectedVersion::Exact(*version), None)));
                }
                Purpose::Claim(_) | Purpose::Once(_) | Purpose::Joined(_) => {}
            }
        }
        for (purpose, item) in failed() {
            if let Purpose::Once(once) = purpose {
                let (marker, read) = match item {
                    Some(item) => (Some(marker_from(item)?), Cost::ZERO),
                    None => {
                        let found = self.marker(&once.key).await?;
                        (found.marker, found.cost)
                    }
                };
                cost += read;
                return match marker {
                    Some(marker) if marker.id == once.id => Ok(written.at_cost(cost).repeated()),
                    Some(marker) => Err(WriteError::Done(marker)),
                    None => Err(StoreError::Throttled("the marker of a key has just expired".into()).into()),
                };
            }
        }
        if let Some((stream, expected, actual)) = conflict {
            return Err(Conflict::new(stream.clone(), expected, actual, cost).into());
        }
        // What still changes is seen again first: the holder of a claim may be giving it back right now.
        if reasons.iter().any(|reason| matches!(reason, Reason::Passing(_) | Reason::Lasting(_))) {
            return Err(cancelled(reasons).into());
        }
        for (purpose, item) in failed() {
            match purpose {
                Purpose::Claim(change) => {
                    let holder = match item {
                        Some(item) => Some(holder_of(change.claim, item)?),
                        None => self.claim_holder(change.claim).await?.stream,
                    };
                    let wanted_by = change.before.clone();
                    return Err(Claimed::new(change.claim.clone(), holder, wanted_by).into());
                }
                Purpose::Joined(index) => return Err(WriteRefused::new(*index).into()),
                Purpose::Commit(..) | Purpose::Unchanged(..) | Purpose::Once(_) => {}
            }
        }
        Err(cancelled(reasons).into())
    }

    pub(crate) async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError> {
        let (item, cost) = self.get(claim_key(claim)).await?;
        Ok(Holder::new(item.map(|item| holder_of(claim, &item)).transpose()?, cost))
    }

    pub(crate) async fn marker(&self, key: &OnceKey) -> Result<MarkerRead, StoreError> {
        let (item, cost) = self.get(marker_key(key)).await?;
        Ok(MarkerRead::new(item.map(|item| marker_from(&item)).transpose()?, cost))
    }

    /// The item with a key, strongly consistent.
    pub(crate) async fn get(&self, key: Item) -> Result<(Option<Item>, Cost), StoreError> {
        let output = self
            .client
            .get_item()
            .table_name(&self.name)
            .set_key(Some(key))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| translate(&self.name, error))?;
        let cost = capacity::of_read(output.consumed_capacity());
        Ok((output.item, cost))
    }
}

/// Whether the sort key is one of the store's own.
fn is_own(item: &Item) -> bool {
    let sort_key = item.get(names::SORT_KEY).and_then(|key| key.as_s().ok());
    sort_key.is_some_and(|key| names::OWN_SORT_KEYS.iter().any(|own| key.starts_with(own)))
}
