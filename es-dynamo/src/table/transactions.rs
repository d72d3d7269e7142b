//! Transactions: requests, and the reasons for cancellations.

use aws_sdk_dynamodb::error::{BuildError, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    CancellationReason, Put, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use es_core::{Cost, StoreError};

use super::responses::TRANSACT_WRITE;
use super::{ConditionFailed, Failed, Item, Table, qualified, responses, traced, watched};

/// The outcome of a transaction.
pub(crate) enum Transacted {
    Done(Cost),
    Cancelled(Cancelled),
}

/// A transaction whose last attempt was canceled.
pub(crate) struct Cancelled {
    /// One reason per item.
    pub(crate) reasons: Vec<Reason>,
    /// See [`Failed::is_outcome_unknown`].
    pub(crate) is_outcome_unknown: bool,
}

impl Cancelled {
    /// Returns the first condition that failed.
    ///
    /// # Errors
    ///
    /// The error of the transaction if it was canceled for other reasons.
    pub(crate) fn failed_condition(self) -> Result<ConditionFailed, StoreError> {
        let Self { mut reasons, is_outcome_unknown } = self;
        let failed = reasons.iter().position(Reason::is_condition);
        match failed.map(|index| reasons.swap_remove(index)) {
            Some(Reason::Condition(item)) => Ok(ConditionFailed { item, is_outcome_unknown }),
            _ => Err(qualified(cancelled(&reasons), is_outcome_unknown)),
        }
    }
}

/// Why one item contributed to a cancellation.
pub(crate) enum Reason {
    /// The item did not contribute.
    None,
    /// Its condition failed. Contains the existing item if the response contains it.
    Condition(Option<Item>),
    /// A transient error, by its code.
    Transient(String),
    /// A permanent error, by its code.
    Permanent(String),
}

impl Reason {
    /// Returns whether a condition failed.
    pub(crate) const fn is_condition(&self) -> bool {
        matches!(self, Self::Condition(_))
    }
}

impl Table {
    /// Sends a transaction.
    ///
    /// The SDK adds a client request token to each call, by which DynamoDB recognizes its retries. A later call
    /// recognizes an existing commit by its id, as for single items.
    pub(crate) async fn transact(&self, items: Vec<TransactWriteItem>) -> Result<Transacted, StoreError> {
        self.transact_with(items, None).await
    }

    /// Like [`transact`](Self::transact), with a client request token, by which DynamoDB also recognizes later calls
    /// for ten minutes.
    pub(crate) async fn transact_once(
        &self,
        items: Vec<TransactWriteItem>,
        token: String,
    ) -> Result<Transacted, StoreError> {
        self.transact_with(items, Some(token)).await
    }

    async fn transact_with(
        &self,
        items: Vec<TransactWriteItem>,
        token: Option<String>,
    ) -> Result<Transacted, StoreError> {
        let count = items.len();
        let request = self
            .client
            .transact_write_items()
            .set_transact_items(Some(items))
            .set_client_request_token(token)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let Failed { error, is_outcome_unknown } =
            match traced(TRANSACT_WRITE, &self.name, watched(request.send())).await {
                Ok(output) => {
                    return responses::transaction_cost(&self.name, output.consumed_capacity())
                        .map(Transacted::Done);
                }
                Err(failed) => failed,
            };
        match error {
            SdkError::ServiceError(error) if error.err().is_transaction_canceled_exception() => {
                let reasons = match error.into_err() {
                    TransactWriteItemsError::TransactionCanceledException(cancelled) => {
                        cancelled.cancellation_reasons.unwrap_or_default()
                    }
                    _ => Vec::new(),
                };
                if !reasons.is_empty() && reasons.len() != count {
                    return Err(responses::of_another_request());
                }
                let reasons = reasons.into_iter().map(Reason::from).collect();
                Ok(Transacted::Cancelled(Cancelled { reasons, is_outcome_unknown }))
            }
            error => Err(Failed { error, is_outcome_unknown }.translate(&self.name)),
        }
    }

    /// Returns a conditional put for a transaction. If the condition fails, it returns the existing item.
    pub(crate) fn put_if(&self, item: Item, condition: &str) -> PutIf {
        PutIf(
            Put::builder()
                .table_name(&self.name)
                .set_item(Some(item))
                .condition_expression(condition)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld),
        )
    }
}

/// A conditional put in a transaction.
pub(crate) struct PutIf(pub(crate) aws_sdk_dynamodb::types::builders::PutBuilder);

impl PutIf {
    pub(crate) fn build(self) -> Result<TransactWriteItem, StoreError> {
        let put = self.0.build().map_err(build_error)?;
        Ok(TransactWriteItem::builder().put(put).build())
    }
}

pub(crate) fn build_error(error: BuildError) -> StoreError {
    StoreError::Backend(error.into())
}

impl From<CancellationReason> for Reason {
    fn from(reason: CancellationReason) -> Self {
        match reason.code.as_deref() {
            None | Some("None") => Self::None,
            Some("ConditionalCheckFailed") => Self::Condition(reason.item),
            Some(
                code @ ("TransactionConflict"
                | "ProvisionedThroughputExceeded"
                | "ThrottlingError"
                | "RequestLimitExceeded"
                | "InternalServerError"),
            ) => Self::Transient(code.to_owned()),
            Some(code) => Self::Permanent(code.to_owned()),
        }
    }
}

/// Returns the error of a transaction that was canceled for a reason other than a condition.
pub(crate) fn cancelled(reasons: &[Reason]) -> StoreError {
    let mut transient = Vec::new();
    let mut permanent = Vec::new();
    for (index, reason) in reasons.iter().enumerate() {
        match reason {
            Reason::None | Reason::Condition(_) => {}
            Reason::Transient(code) => transient.push(format!("{code} at item {index}")),
            Reason::Permanent(code) => permanent.push(format!("{code} at item {index}")),
        }
    }
    let message = |codes: Vec<String>| format!("the transaction was canceled: {}", codes.join(", ")).into();
    match permanent.is_empty() && !transient.is_empty() {
        true => StoreError::Throttled(message(transient)),
        false => StoreError::Backend(message(permanent)),
    }
}
