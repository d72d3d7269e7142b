//! Changing several documents: one transaction.

use aws_sdk_dynamodb::types::{
    ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use es_core::StoreError;
use es_core::documents::{
    ChangeError, ChangeSet, DocumentChange, DocumentCondition, ExpectedDocument, Revision,
};

use super::change::{Condition, outdated};
use super::item::{document_item, document_key};
use crate::attempts::qualified;
use crate::error::outcome_unknown;
use crate::item::item_size;
use crate::store::Table;
use crate::transact::{
    Cancelled, Reason, TRANSACTION_LIMIT, Transacted, cancelled as why_cancelled, incomplete,
};

/// That the set has not written this document yet: where nothing else is asked, a repetition is seen by it.
const IS_NOT_OURS: &str = "attribute_not_exists(pk) OR r <> :revision";

impl Table {
    /// The set's own revision is the token of the transaction: for the ten minutes that DynamoDB remembers it, a
    /// repetition is known whatever has become of the documents.
    pub(super) async fn change_all(&self, set: &ChangeSet) -> Result<(), ChangeError> {
        let mut items = Vec::with_capacity(set.changes().len() + set.joined_writes().len());
        let mut bytes = 0;
        for change in set.changes() {
            let (item, size) = self.document_change(change, set.revision())?;
            items.push(item);
            bytes += size;
        }
        for write in set.joined_writes() {
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
            .map_err(incomplete)?;
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
                .map_err(incomplete)?;
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
            .map_err(incomplete)?;
        Ok((TransactWriteItem::builder().put(put).build(), bytes))
    }
}
