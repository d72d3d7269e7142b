//! Changing documents: one with a conditional `PutItem` or `DeleteItem`, several in one transaction.

use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
    Update,
};
use es_core::StoreError;
use es_core::documents::{
    ChangeError, ChangeSet, DocumentChange, DocumentCondition, DocumentKey, ExpectedDocument, Revision,
};
use es_core::store::{AdditionalWrite, MAX_WRITE_BYTES};

use super::{document_item, document_key, revision_of};
use crate::table::{
    Cancelled, ConditionFailed, Item, PLACE_IS_FREE, Reason, Table, Transacted, Written, build_error,
    cancelled as why_cancelled, check_key, item_size, names, outcome_unknown, qualified,
};

/// An [`ExpectedDocument`] as a condition expression.
#[derive(Default)]
pub(crate) struct Condition {
    pub(crate) expression: Option<&'static str>,
    pub(crate) values: Option<Item>,
}

impl Condition {
    pub(crate) fn of(expected: ExpectedDocument) -> Self {
        match expected {
            ExpectedDocument::Any => Self::default(),
            ExpectedDocument::Absent => Self { expression: Some(PLACE_IS_FREE), values: None },
            ExpectedDocument::At(revision) => Self::on_revision("r = :revision", revision),
        }
    }

    /// Returns a condition with one value, `:revision`.
    fn on_revision(expression: &'static str, revision: Revision) -> Self {
        let value = AttributeValue::S(revision.to_string());
        let values = Some(Item::from([(":revision".to_owned(), value)]));
        Self { expression: Some(expression), values }
    }
}

impl Table {
    pub(crate) async fn change_one(
        &self,
        change: &DocumentChange,
        revision: Revision,
    ) -> Result<(), ChangeError> {
        let Condition { expression, values } = Condition::of(change.expected);
        let all_old = ReturnValuesOnConditionCheckFailure::AllOld;
        let written = match &change.body {
            Some(body) => {
                let put = self
                    .put_request(document_item(&change.key, revision, body)?)
                    .set_condition_expression(expression.map(str::to_owned))
                    .set_expression_attribute_values(values)
                    .return_values_on_condition_check_failure(all_old);
                self.put(put).await?
            }
            None => {
                let delete = self
                    .delete_request(document_key(&change.key))
                    .set_condition_expression(expression.map(str::to_owned))
                    .set_expression_attribute_values(values)
                    .return_values_on_condition_check_failure(all_old);
                self.delete(delete).await?
            }
        };
        let failed = match written {
            Written::Done(_) => return Ok(()),
            Written::Refused(failed) => failed,
        };
        failed.check(&document_key(&change.key))?;
        let ConditionFailed { item, is_outcome_unknown } = failed;
        if change.body.is_some() {
            let is_done = self.is_at(&change.key, item, revision).await;
            if is_done.map_err(|error| qualified(error, is_outcome_unknown))? {
                return Ok(());
            }
        }
        Err(outdated(&change.key, is_outcome_unknown))
    }

    /// Returns whether a document has the revision. `item` is the existing item of a failed condition, if it was
    /// returned; otherwise the document is read.
    async fn is_at(
        &self,
        key: &DocumentKey,
        item: Option<Item>,
        revision: Revision,
    ) -> Result<bool, StoreError> {
        let item = match item {
            Some(item) => {
                check_key(&item, &document_key(key))?;
                Some(item)
            }
            None => self.get(document_key(key)).await?.0,
        };
        match item {
            Some(item) => Ok(revision_of(key, &item)? == revision),
            None => Ok(false),
        }
    }
}

/// Returns the error for a document that does not meet its condition. If an earlier attempt may have been applied, the
/// document may be its result, or the result of a later writer.
pub(crate) fn outdated(key: &DocumentKey, is_outcome_unknown: bool) -> ChangeError {
    let outdated = ChangeError::outdated(key);
    match is_outcome_unknown {
        true => outcome_unknown(StoreError::Backend(outdated.into())).into(),
        false => outdated,
    }
}

/// The condition that the set has not written this document yet. It makes a repetition of an unconditional write fail,
/// so that the repetition is recognized.
const IS_NOT_OURS: &str = "attribute_not_exists(pk) OR r <> :revision";

impl Table {
    /// Applies a set in one transaction.
    ///
    /// The revision of the set is the client request token of the transaction. DynamoDB remembers it for ten minutes,
    /// in which it recognizes a repetition even if the documents have changed.
    pub(crate) async fn change_all(&self, set: &ChangeSet) -> Result<(), ChangeError> {
        let mut items = Vec::with_capacity(set.changes().len() + set.additional_writes().len());
        let mut bytes = 0;
        for change in set.changes() {
            let (item, size) = self.document_change(change, set.revision())?;
            items.push(item);
            bytes += size;
        }
        for write in set.additional_writes() {
            let item = self.additional(write)?;
            bytes += item.put().map_or(0, |put| item_size(put.item()));
            items.push(item);
        }
        if bytes > MAX_WRITE_BYTES {
            let what = format!("a set of {} changes", items.len());
            return Err(StoreError::too_large(what, bytes, MAX_WRITE_BYTES).into());
        }
        match self.transact_once(items, set.revision().to_string()).await? {
            Transacted::Done(_) => Ok(()),
            Transacted::Cancelled(cancelled) => self.outcome_of_cancelled(set, cancelled).await,
        }
    }

    /// Returns the outcome of a set whose transaction was canceled: success if a document shows that the set was
    /// applied before.
    async fn outcome_of_cancelled(&self, set: &ChangeSet, cancelled: Cancelled) -> Result<(), ChangeError> {
        let Cancelled { mut reasons, is_outcome_unknown } = cancelled;
        let qualify = |error| ChangeError::from(qualified(error, is_outcome_unknown));
        let mut unexpected = None;
        for (change, reason) in set.changes().iter().zip(&mut reasons) {
            let Reason::Condition(item) = reason else { continue };
            if change.body.is_some()
                && self.is_at(&change.key, item.take(), set.revision()).await.map_err(qualify)?
            {
                return Ok(());
            }
            unexpected = unexpected.or(Some(&change.key));
        }
        // An item in a transaction conflict is not returned, so its revision is unknown.
        if reasons.iter().any(|reason| matches!(reason, Reason::Transient(_) | Reason::Permanent(_))) {
            return Err(qualify(why_cancelled(&reasons)));
        }
        match unexpected {
            Some(key) => Err(outdated(key, is_outcome_unknown)),
            None if reasons.iter().any(Reason::is_condition) => {
                // The condition of an additional write can become true before a late attempt arrives.
                match is_outcome_unknown {
                    true => Err(outcome_unknown(StoreError::Backend(ChangeError::Refused.into())).into()),
                    false => Err(ChangeError::Refused),
                }
            }
            None => Err(qualify(why_cancelled(&reasons))),
        }
    }

    /// Returns an additional write as an item of a transaction. It has one of the SDK's types, and must not change an
    /// item of the store.
    pub(crate) fn additional(&self, write: &AdditionalWrite) -> Result<TransactWriteItem, StoreError> {
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
                "a DynamoDB store does not support additional writes of type `{}`: use a Put, Update, Delete, or \
                 ConditionCheck of aws_sdk_dynamodb::types",
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
                "an additional write would change an item of the event store: use another table, or another key",
            ));
        }
        Ok(item)
    }

    /// Returns a condition on a document as an item of a transaction.
    fn document_condition(&self, condition: &DocumentCondition) -> Result<TransactWriteItem, StoreError> {
        let Condition { expression, values } = Condition::of(condition.expected);
        let Some(expression) = expression else {
            return Err(StoreError::invalid(
                "the condition `ExpectedDocument::Any` on a document has no effect: remove it",
            ));
        };
        let check = ConditionCheck::builder()
            .table_name(&self.name)
            .set_key(Some(document_key(condition.key.checked()?)))
            .condition_expression(expression)
            .set_expression_attribute_values(values)
            .build()
            .map_err(build_error)?;
        Ok(TransactWriteItem::builder().condition_check(check).build())
    }

    /// Returns a change as an item of a transaction, and its size in bytes.
    fn document_change(
        &self,
        change: &DocumentChange,
        revision: Revision,
    ) -> Result<(TransactWriteItem, u64), StoreError> {
        let all_old = ReturnValuesOnConditionCheckFailure::AllOld;
        let Some(body) = &change.body else {
            let key = document_key(&change.key);
            let bytes = item_size(&key);
            let Condition { expression, values } = Condition::of(change.expected);
            let delete = Delete::builder()
                .table_name(&self.name)
                .set_key(Some(key))
                .set_condition_expression(expression.map(str::to_owned))
                .set_expression_attribute_values(values)
                .return_values_on_condition_check_failure(all_old)
                .build()
                .map_err(build_error)?;
            return Ok((TransactWriteItem::builder().delete(delete).build(), bytes));
        };
        let item = document_item(&change.key, revision, body)?;
        let bytes = item_size(&item);
        let Condition { expression, values } = match change.expected {
            ExpectedDocument::Any => Condition::on_revision(IS_NOT_OURS, revision),
            expected => Condition::of(expected),
        };
        let put = Put::builder()
            .table_name(&self.name)
            .set_item(Some(item))
            .set_condition_expression(expression.map(str::to_owned))
            .set_expression_attribute_values(values)
            .return_values_on_condition_check_failure(all_old)
            .build()
            .map_err(build_error)?;
        Ok((TransactWriteItem::builder().put(put).build(), bytes))
    }
}

/// Returns whether a key belongs to the store.
fn is_own(item: &Item) -> bool {
    let text = |name: &str| item.get(name).and_then(|key| key.as_s().ok());
    text(names::PARTITION_KEY).is_some_and(|key| key.starts_with(names::OWN_PARTITIONS))
        || text(names::SORT_KEY)
            .is_some_and(|key| names::OWN_SORT_KEYS.iter().any(|own| key.starts_with(own)))
}
