//! Writing a set: commits, claims, an idempotency key, and additional writes in one transaction.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Delete, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use es_core::payloads::PayloadName;
use es_core::store::{
    Append, Claim, ClaimChange, Claimed, Conflict, Holder, IdempotencyKey, IdempotencyLookup, MAX_ITEM_BYTES,
    MAX_WRITE_BYTES, MAX_WRITE_ITEMS, NetChange, NewIdempotencyRecord, WriteError, WriteRefused, WriteSet,
    Written,
};
use es_core::{ExpectedVersion, StoreError, StreamId, Version};

use super::append::OldCommit;
use super::claims::{claim_item, claim_key, holder_of, record_from, record_item, record_key};
use super::item::{append_items, commit_items};
use super::objects::LargePayloads;
use crate::table::responses::{cancelled_cost, write_units};
use crate::table::{
    Cancelled, Item, PLACE_IS_FREE, PutIf, Reason, Table, Transacted, build_error, cancelled, check_key,
    item_size, key, names, outcome_unknown, qualified,
};

impl Table {
    pub(crate) async fn write(&self, set: &WriteSet) -> Result<Written, WriteError> {
        let written = set.checked()?;
        let mut large = Vec::new();
        let mut was_unknown = false;
        loop {
            let transaction = match self.transaction(set, &large).await {
                Err(WriteError::Store(StoreError::TooLarge { .. }))
                    if self.objects.is_some() && large.is_empty() =>
                {
                    large = self.large_payloads(set).await?;
                    self.transaction(set, &large).await?
                }
                transaction => transaction?,
            };
            let stored = self.store_objects(large.iter()).await;
            stored.map_err(|error| qualified(error, was_unknown))?;
            let Transaction { items, purposes, bytes, units } = transaction;
            if items.len() > MAX_WRITE_ITEMS {
                return Err(StoreError::too_many_items(items.len(), MAX_WRITE_ITEMS).into());
            }
            if bytes > MAX_WRITE_BYTES {
                let what = format!("a transaction of {} items", items.len());
                return Err(StoreError::too_large(what, bytes, MAX_WRITE_BYTES).into());
            }
            let outcome = self.transact(items).await.map_err(|error| qualified(error, was_unknown))?;
            let Cancelled { reasons, is_outcome_unknown } = match outcome {
                Transacted::Done(cost) => return Ok(written.at_cost(cost)),
                Transacted::Cancelled(cancelled) => cancelled,
            };
            was_unknown |= is_outcome_unknown;
            let closed = closed(&purposes, &reasons);
            if !closed.is_empty() {
                large.iter_mut().for_each(|large| large.rename(&closed));
                continue;
            }
            let resolved =
                self.resolve_cancelled(&purposes, &reasons, written.at_cost(cancelled_cost(units))).await;
            return match resolved {
                Err(error) if was_unknown => Err(still_possible(error)),
                resolved => resolved,
            };
        }
    }

    /// Returns the payloads of each append that become objects.
    async fn large_payloads(&self, set: &WriteSet) -> Result<Vec<LargePayloads>, WriteError> {
        let objects = self.objects(|| "an event".to_owned())?;
        let mut large = Vec::with_capacity(set.appends().len());
        for append in set.appends() {
            let claims = set.claims_taken_by(append.stream());
            large.push(objects.large_payloads(append, append.start()?.next(), &claims).await?);
        }
        Ok(large)
    }

    pub(crate) async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError> {
        let (item, cost) = self.get(claim_key(claim)).await?;
        Ok(Holder::new(item.map(|item| holder_of(claim, &item)).transpose()?, cost))
    }

    pub(crate) async fn idempotency_record(
        &self,
        key: &IdempotencyKey,
    ) -> Result<IdempotencyLookup, StoreError> {
        let (item, cost) = self.get(record_key(key)).await?;
        Ok(IdempotencyLookup::new(item.map(|item| record_from(&item)).transpose()?, cost))
    }
}

/// Returns the closed names of objects, if they are the only reason why a transaction was canceled.
fn closed(purposes: &[Purpose<'_>], reasons: &[Reason]) -> BTreeSet<PayloadName> {
    let mut closed = BTreeSet::new();
    for (purpose, reason) in purposes.iter().zip(reasons) {
        match (purpose, reason) {
            (_, Reason::None) => {}
            (Purpose::Open(name), Reason::Condition(_)) => {
                closed.insert(name.clone());
            }
            _ => return BTreeSet::new(),
        }
    }
    closed
}

/// Returns the error of a set whose last attempt was cancelled while an earlier attempt, which was sent but may not
/// have arrived yet, can still be applied.
fn still_possible(error: WriteError) -> WriteError {
    let reason = match error {
        // Commits are never moved, and idempotency records stay until they expire, so a late attempt is refused as
        // well.
        WriteError::Conflict(_) | WriteError::AlreadyDone(_) => return error,
        WriteError::Store(error) => return outcome_unknown(error).into(),
        // A claim can be released, and the condition of an additional write can become true.
        WriteError::Claimed(claimed) => claimed.to_string(),
        WriteError::Refused(refused) => refused.to_string(),
        other => other.to_string(),
    };
    outcome_unknown(StoreError::Backend(reason.into())).into()
}

/// The condition that a claim is free, or held by the stream that may hold it.
const CLAIM_IS_FREE: &str = "attribute_not_exists(pk) OR h = :holder";

/// The condition that there is no idempotency record, or one that has expired.
const RECORD_IS_ABSENT: &str = "attribute_not_exists(pk) OR #ttl < :now";

/// The purpose of an item in the transaction.
pub(crate) enum Purpose<'a> {
    /// A part of the commit of this append.
    Commit(usize, &'a Append),
    /// Verifies that the stream has not changed.
    Unchanged(&'a StreamId, Version),
    Claim(NetChange<'a>),
    Once(&'a NewIdempotencyRecord),
    /// The additional write with this index.
    Joined(usize),
    /// Verifies that the name of an object is not closed.
    Open(PayloadName),
}

/// A set as a transaction: its items, with their purposes.
#[derive(Default)]
pub(crate) struct Transaction<'a> {
    pub(crate) items: Vec<TransactWriteItem>,
    pub(crate) purposes: Vec<Purpose<'a>>,
    pub(crate) bytes: u64,
    /// The write units, which are two per KB in a transaction.
    pub(crate) units: f64,
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
    /// Returns `set` as a transaction, in which the payloads `large` of each append are objects. There are none if it
    /// is empty.
    pub(crate) async fn transaction<'a>(
        &self,
        set: &'a WriteSet,
        large: &[LargePayloads],
    ) -> Result<Transaction<'a>, WriteError> {
        let mut transaction = Transaction::default();
        let none = LargePayloads::default();
        for (index, append) in set.appends().iter().enumerate() {
            let large = large.get(index).unwrap_or(&none);
            let taken = set.claims_taken_by(append.stream());
            let first = append.start()?.next();
            let items = match append.commits() {
                [commit] => commit_items(append.stream(), first, commit, &taken, large)?,
                _ => append_items(append, first)?,
            };
            for item in self.compress(items).await? {
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
        if let Some(once) = set.idempotency() {
            let item = record_item(once);
            let bytes = item_size(&item);
            if bytes > MAX_ITEM_BYTES {
                return Err(
                    StoreError::too_large("the record of an idempotency key", bytes, MAX_ITEM_BYTES).into()
                );
            }
            let PutIf(put) = self.put_if(item, RECORD_IS_ABSENT);
            let now = AttributeValue::N(once.now.timestamp().to_string());
            let put = put.expression_attribute_names("#ttl", names::TIME_TO_LIVE);
            let put = PutIf(put.expression_attribute_values(":now", now)).build()?;
            transaction.add(put, Purpose::Once(once), bytes);
        }
        for (index, write) in set.additional_writes().iter().enumerate() {
            let item = self.additional(write)?;
            let bytes = item.put().map_or(0, |put| item_size(put.item()));
            transaction.add(item, Purpose::Joined(index), bytes);
        }
        for name in large.iter().flat_map(LargePayloads::names).collect::<BTreeSet<_>>() {
            transaction.add(self.is_open(&name)?, Purpose::Open(name), 0);
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
            .map_err(build_error)?;
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
                .map_err(build_error)?;
            return Ok((TransactWriteItem::builder().delete(delete).build(), bytes));
        };
        let item = claim_item(change, after);
        let bytes = item_size(&item);
        let PutIf(put) = self.put_if(item, CLAIM_IS_FREE);
        Ok((PutIf(put.expression_attribute_values(":holder", holder)).build()?, bytes))
    }
}

/// An item of a canceled transaction whose condition failed: its purpose, and the existing item, if there is one.
type FailedItem<'r, 'a> = (&'r Purpose<'a>, &'r Option<Item>);

/// What the failed conditions on streams say about a transaction.
enum StreamsFound {
    /// An earlier attempt has applied the transaction.
    Applied,
    Conflict(Conflict),
    /// No condition on a stream failed.
    Unchanged,
}

impl Table {
    /// Resolves a canceled transaction: returns the error, or the success of an earlier attempt.
    async fn resolve_cancelled(
        &self,
        purposes: &[Purpose<'_>],
        reasons: &[Reason],
        mut written: Written,
    ) -> Result<Written, WriteError> {
        let failed: Vec<FailedItem<'_, '_>> = purposes
            .iter()
            .zip(reasons)
            .filter_map(|(purpose, reason)| match reason {
                Reason::Condition(item) => Some((purpose, item)),
                _ => None,
            })
            .collect();
        let streams = self.resolve_streams(&failed, &mut written).await?;
        if let StreamsFound::Applied = streams {
            return Ok(written.repeated());
        }
        // An idempotency record comes before a conflict, which may be with the commits of the recorded outcome.
        for (purpose, item) in &failed {
            if let Purpose::Once(once) = purpose {
                return self.resolve_recorded(once, item.as_ref(), written).await;
            }
        }
        if let StreamsFound::Conflict(conflict) = streams {
            return Err(conflict.into());
        }
        // Transient reasons come before claims: another transaction may be releasing the claim at this moment.
        if !reasons.iter().any(|reason| matches!(reason, Reason::Transient(_) | Reason::Permanent(_)))
            && let Some(error) = self.refusal(&failed).await?
        {
            return Err(error);
        }
        Err(cancelled(reasons).into())
    }

    /// Resolves the failed conditions on streams, and adds the cost of the reads to `written`. If one of the
    /// transaction's commits exists, an earlier attempt has applied the whole transaction.
    async fn resolve_streams(
        &self,
        failed: &[FailedItem<'_, '_>],
        written: &mut Written,
    ) -> Result<StreamsFound, WriteError> {
        let mut conflict = None;
        for (purpose, item) in failed {
            match purpose {
                Purpose::Commit(index, append) => {
                    let first = written.appended[*index].first;
                    let (old, read) = self.old_commit(append.stream(), first, (*item).clone()).await?;
                    written.cost += read;
                    let old = match old {
                        Some(old) if old.head.id == append.id() => {
                            old.repeated(append, written.cost)?;
                            return Ok(StreamsFound::Applied);
                        }
                        old => old,
                    };
                    conflict.get_or_insert((append.stream(), append.expected(), old));
                }
                Purpose::Unchanged(stream, version) => {
                    let place = key(stream.as_str(), names::commit_key(version.next()));
                    check_key(item.as_ref(), &place)?;
                    let old = (*item).clone().and_then(|item| OldCommit::of(stream, item).ok());
                    conflict.get_or_insert((stream, ExpectedVersion::Exact(*version), old));
                }
                Purpose::Claim(_) | Purpose::Once(_) | Purpose::Joined(_) | Purpose::Open(_) => {}
            }
        }
        let Some((stream, expected, old)) = conflict else { return Ok(StreamsFound::Unchanged) };
        let (actual, winner) = old.map(|old| (old.head.last, old.commits)).unzip();
        let conflict = Conflict::new(stream.clone(), expected, actual, written.cost);
        Ok(StreamsFound::Conflict(conflict.with_commits(winner.unwrap_or_default())))
    }

    /// Resolves the failed condition on the record of an idempotency key: the record is of an earlier attempt, or of
    /// another command.
    async fn resolve_recorded(
        &self,
        once: &NewIdempotencyRecord,
        item: Option<&Item>,
        mut written: Written,
    ) -> Result<Written, WriteError> {
        let record = match item {
            Some(item) => {
                check_key(item, &record_key(&once.key))?;
                Some(record_from(item)?)
            }
            None => {
                let found = self.idempotency_record(&once.key).await?;
                written.cost += found.cost;
                found.record
            }
        };
        match record {
            Some(record) if record.id == once.id => Ok(written.repeated()),
            Some(record) => Err(WriteError::AlreadyDone(record)),
            None => {
                Err(StoreError::Throttled("the record of an idempotency key has just expired".into()).into())
            }
        }
    }

    /// Returns the error for a claim that another stream holds, or for an additional write whose condition is false.
    async fn refusal(&self, failed: &[FailedItem<'_, '_>]) -> Result<Option<WriteError>, StoreError> {
        for (purpose, item) in failed {
            match purpose {
                Purpose::Claim(change) => {
                    let holder = match item {
                        Some(item) => {
                            check_key(item, &claim_key(change.claim))?;
                            Some(holder_of(change.claim, item)?)
                        }
                        None => self.claim_holder(change.claim).await?.stream,
                    };
                    let wanted_by = change.before.clone();
                    return Ok(Some(Claimed::new(change.claim.clone(), holder, wanted_by).into()));
                }
                Purpose::Joined(index) => return Ok(Some(WriteRefused::new(*index).into())),
                Purpose::Commit(..) | Purpose::Unchanged(..) | Purpose::Once(_) | Purpose::Open(_) => {}
            }
        }
        Ok(None)
    }
}
