//! Changing one document: one conditional `PutItem` or `DeleteItem`.

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure};
use es_core::StoreError;
use es_core::documents::{ChangeError, DocumentChange, DocumentKey, ExpectedDocument, Revision};

use super::item::{document_item, document_key, revision_of};
use crate::attempts::{ConditionFailed, qualified, watched};
use crate::capacity;
use crate::error::outcome_unknown;
use crate::item::Item;
use crate::store::Table;
use crate::transact::PLACE_IS_FREE;

/// What a document has to be, in DynamoDB's words.
#[derive(Default)]
pub(super) struct Condition {
    pub(super) expression: Option<&'static str>,
    pub(super) values: Option<Item>,
}

impl Condition {
    pub(super) fn of(expected: ExpectedDocument) -> Self {
        match expected {
            ExpectedDocument::Any => Self::default(),
            ExpectedDocument::Absent => Self { expression: Some(PLACE_IS_FREE), values: None },
            ExpectedDocument::At(revision) => Self::about("r = :revision", revision),
        }
    }

    /// A condition with one value, `:revision`.
    pub(super) fn about(expression: &'static str, revision: Revision) -> Self {
        let value = AttributeValue::S(revision.to_string());
        let values = Some(Item::from([(":revision".to_owned(), value)]));
        Self { expression: Some(expression), values }
    }
}

impl Table {
    pub(super) async fn change_one(
        &self,
        change: &DocumentChange,
        revision: Revision,
    ) -> Result<(), ChangeError> {
        let Condition { expression, values } = Condition::of(change.expected);
        let all_old = ReturnValuesOnConditionCheckFailure::AllOld;
        let result = match &change.body {
            Some(body) => {
                let put = self
                    .client
                    .put_item()
                    .table_name(&self.name)
                    .set_item(Some(document_item(&change.key, revision, body)?))
                    .set_condition_expression(expression.map(str::to_owned))
                    .set_expression_attribute_values(values)
                    .return_values_on_condition_check_failure(all_old)
                    .return_consumed_capacity(ReturnConsumedCapacity::Total);
                match watched(put.send()).await {
                    Ok(output) => Ok(output.consumed_capacity),
                    Err(failed) => Err(failed.condition(&self.name)?),
                }
            }
            None => {
                let delete = self
                    .client
                    .delete_item()
                    .table_name(&self.name)
                    .set_key(Some(document_key(&change.key)))
                    .set_condition_expression(expression.map(str::to_owned))
                    .set_expression_attribute_values(values)
                    .return_values_on_condition_check_failure(all_old)
                    .return_consumed_capacity(ReturnConsumedCapacity::Total);
                match watched(delete.send()).await {
                    Ok(output) => Ok(output.consumed_capacity),
                    Err(failed) => Err(failed.condition(&self.name)?),
                }
            }
        };
        let ConditionFailed { item, is_outcome_unknown } = match result {
            Ok(consumed) => {
                capacity::of_write(consumed.as_ref())?;
                return Ok(());
            }
            Err(failed) => failed,
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
    pub(super) async fn is_at(
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
pub(super) fn outdated(key: &DocumentKey, is_outcome_unknown: bool) -> ChangeError {
    let outdated = ChangeError::outdated(key);
    match is_outcome_unknown {
        true => outcome_unknown(StoreError::Backend(outdated.into())).into(),
        false => outdated,
    }
}
