//! Changing one document: one conditional `PutItem` or `DeleteItem`.

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use es_core::StoreError;
use es_core::documents::{ChangeError, DocumentChange, DocumentKey, ExpectedDocument, Revision};

use super::item::{document_item, document_key, revision_of};
use super::unanswered::Unanswered;
use crate::error::translate_write;
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
        let unanswered = Unanswered::default();
        let Condition { expression, values } = Condition::of(change.expected);
        let there = match &change.body {
            Some(body) => {
                let put = self
                    .client
                    .put_item()
                    .table_name(&self.name)
                    .set_item(Some(document_item(&change.key, revision, body)?))
                    .set_condition_expression(expression.map(str::to_owned))
                    .set_expression_attribute_values(values)
                    .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
                match put.customize().interceptor(unanswered.clone()).send().await {
                    Ok(_) => return Ok(()),
                    Err(error) => self.refused_put(error)?,
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
                    .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
                match delete.customize().interceptor(unanswered.clone()).send().await {
                    Ok(_) => return Ok(()),
                    Err(error) => self.refused_delete(error)?,
                }
            }
        };
        if change.body.is_some() && self.is_at(&change.key, there, revision).await? {
            return Ok(());
        }
        if unanswered.was_there() {
            let reason = "an attempt had no answer, and what it would have changed is something else by now";
            return Err(StoreError::Unavailable(reason.into()).into());
        }
        Err(ChangeError::outdated(&change.key))
    }

    /// What stood in the way of a put, if that is why it failed and if it is known.
    fn refused_put(&self, error: SdkError<PutItemError, HttpResponse>) -> Result<Option<Item>, StoreError> {
        match error {
            SdkError::ServiceError(error) if error.err().is_conditional_check_failed_exception() => {
                match error.into_err() {
                    PutItemError::ConditionalCheckFailedException(failed) => Ok(failed.item),
                    other => Err(StoreError::Backend(other.into())),
                }
            }
            error => Err(translate_write(&self.name, error)),
        }
    }

    /// The same of a delete.
    fn refused_delete(
        &self,
        error: SdkError<DeleteItemError, HttpResponse>,
    ) -> Result<Option<Item>, StoreError> {
        match error {
            SdkError::ServiceError(error) if error.err().is_conditional_check_failed_exception() => {
                match error.into_err() {
                    DeleteItemError::ConditionalCheckFailedException(failed) => Ok(failed.item),
                    other => Err(StoreError::Backend(other.into())),
                }
            }
            error => Err(translate_write(&self.name, error)),
        }
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
