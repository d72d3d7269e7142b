//! Changing documents: one with a conditional `PutItem` or `DeleteItem`, several in one transaction.

use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
    Update,
};
use es_core::StoreError;
use es_core::documents::{
    ChangeError, ChangeSet, DocumentChange, DocumentCondition, DocumentKey, ExpectedDocument, Revision,
};
use es_core::store::AdditionalWrite;

use super::{document_item, document_key, revision_of};
use crate::table::{
    Cancelled, ConditionFailed, Item, PLACE_IS_FREE, Reason, TRANSACTION_LIMIT, Table, Transacted, Written,
    build_error, cancelled as why_cancelled, item_size, names, outcome_unknown, qualified,
};

/// What a document has to be, in DynamoDB's words.
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
            ExpectedDocument::At(revision) => Self::about("r = :revision", revision),
        }
    }

    /// A condition with one value, `:revision`.
    pub(crate) fn about(expression: &'static str, revision: Revision) -> Self {
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
        let ConditionFailed { item, is_outcome_unknown } = match written {
            Written::Done(_) => return Ok(()),
            Written::Refused(failed) => failed,
        };
        if change.body.is_some() {
            let is_done = self.is_at(&change.key, item, revision).await;
            if is_done.map_err(|error| qualified(error, is_outcome_unknown))? {
                return Ok(());
            }
        }
        Err(outdated(&change.key, is_outcome_unknown))
    }

    /// Whether a document has a revision, by the item that came back with a refusal, if one did.
    pub(crate) async fn is_at(
        &self,
        key: &DocumentKey,
        item: Option<Item>,
        revision: Revision,
    ) -> Result<bool, StoreError> {
        let item = match item {
            Some(item) => Some(item),
            None => self.get(document_key(key)).await?.0,
        };
        match item {
            Some(item) => Ok(revision_of(key, &item)? == revision),
            None => Ok(false),
        }
    }
}

/// The error for a document that is not what the change expects. If an earlier attempt may have been carried out, this
/// may be its work, or that of another writer after it.
pub(crate) fn outdated(key: &DocumentKey, is_outcome_unknown: bool) -> ChangeError {
    let outdated = ChangeError::outdated(key);
    match is_outcome_unknown {
        true => outcome_unknown(StoreError::Backend(outdated.into())).into(),
        false => outdated,
    }
}

/// That the set has not written this document yet: where nothing else is asked, a repetition is seen by it.
const IS_NOT_OURS: &str = "attribute_not_exists(pk) OR r <> :revision";

impl Table {
    /// The set's own revision is the token of the transaction: for the ten minutes that DynamoDB remembers it, a
    /// repetition is known whatever has become of the documents.
    pub(crate) async fn change_all(&self, set: &ChangeSet) -> Result<(), ChangeError> {
        let mut items = Vec::with_capacity(set.changes().len() + set.additional_writes().len());
        let mut bytes = 0;
        for change in set.changes() {
            let (item, size) = self.document_change(change, set.revision())?;
            items.push(item);
            bytes += size;
        }
        for write in set.additional_writes() {
            let item = self.joined(write)?;
            bytes += item.put().map_or(0, |put| item_size(put.item()));
            items.push(item);
        }
        if bytes > TRANSACTION_LIMIT {
            let what = format!("a set of {} changes", items.len());
            return Err(StoreError::too_large(what, bytes, TRANSACTION_LIMIT).into());
        }
        match self.transact_once(items, set.revision().to_string()).await? {
            Transacted::Done(_) => Ok(()),
            Transacted::Cancelled(cancelled) => self.why_unchanged(set, cancelled).await,
        }
    }

    /// Why a transaction was cancelled. That the set was carried out before is looked for first.
    async fn why_unchanged(&self, set: &ChangeSet, cancelled: Cancelled) -> Result<(), ChangeError> {
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
        // An item that another transaction holds says nothing of whose revision it has.
        if reasons.iter().any(|reason| matches!(reason, Reason::Passing(_) | Reason::Lasting(_))) {
            return Err(qualify(why_cancelled(&reasons)));
        }
        match unexpected {
            Some(key) => Err(outdated(key, is_outcome_unknown)),
            None if reasons.iter().any(|reason| matches!(reason, Reason::Condition(_))) => {
                // The condition of a joined write can come true before a late attempt arrives.
                match is_outcome_unknown {
                    true => Err(outcome_unknown(StoreError::Backend(ChangeError::Refused.into())).into()),
                    false => Err(ChangeError::Refused),
                }
            }
            None => Err(qualify(why_cancelled(&reasons))),
        }
    }

    /// Returns an additional write, of one of the SDK's types, if it does not touch the store's items.
    pub(crate) fn joined(&self, write: &AdditionalWrite) -> Result<TransactWriteItem, StoreError> {
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
                "a DynamoDB store does not support additional writes of type `{}`: use a Put, Update, Delete, or ConditionCheck of aws_sdk_dynamodb::types",
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

    /// What a document has to be, as a part of a transaction.
    pub(crate) fn document_condition(
        &self,
        condition: &DocumentCondition,
    ) -> Result<TransactWriteItem, StoreError> {
        let Condition { expression, values } = Condition::of(condition.expected);
        let Some(expression) = expression else {
            return Err(StoreError::invalid(
                "a condition on a document that may be anything is none: leave it out",
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

    /// A change as a part of a transaction, and its bytes.
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
            ExpectedDocument::Any => Condition::about(IS_NOT_OURS, revision),
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

/// Whether the partition, or the sort key, is one of the store's own.
fn is_own(item: &Item) -> bool {
    let text = |name: &str| item.get(name).and_then(|key| key.as_s().ok());
    text(names::PARTITION_KEY).is_some_and(|key| key.starts_with(names::OWN_PARTITIONS))
        || text(names::SORT_KEY)
            .is_some_and(|key| names::OWN_SORT_KEYS.iter().any(|own| key.starts_with(own)))
}
