//! Writes, and whether one of their attempts may have been executed.
//!
//! The SDK retries a request whose response is lost, and reports only the last attempt. If the last attempt is refused,
//! for example because the credentials have expired in the meantime, its error says nothing about the earlier attempts,
//! which may have been executed. An interceptor therefore watches every attempt of every write.

use std::cell::Cell;
use std::error::Error;

use aws_sdk_dynamodb::error::{ErrorMetadata, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, SharedInterceptor, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use es_core::StoreError;
use futures_util::FutureExt;
use serde::Deserialize;

use super::{Item, check_key, outcome_unknown, translate};

tokio::task_local! {
    /// The attempts of the write that the current task is sending.
    static ATTEMPTS: Attempts;
}

/// The attempts of a write so far.
#[derive(Default)]
struct Attempts {
    /// Whether the current attempt was handed to the HTTP client.
    transmitted: Cell<bool>,
    /// Whether an attempt ended without a response that proves its outcome.
    unresolved: Cell<bool>,
}

/// A write that failed.
#[derive(Debug)]
pub(crate) struct Failed<E> {
    /// The error of the last attempt.
    pub(crate) error: SdkError<E, HttpResponse>,
    /// Whether any attempt may have been executed, or may still be: a request can arrive late.
    pub(crate) is_outcome_unknown: bool,
}

impl<E> ProvideErrorMetadata for Failed<E>
where
    SdkError<E, HttpResponse>: ProvideErrorMetadata,
{
    fn meta(&self) -> &ErrorMetadata {
        self.error.meta()
    }
}

/// Sends a write through a client that has the [`interceptor`], and watches its attempts.
#[expect(clippy::result_large_err, reason = "the SDK's own errors are as large")]
pub(crate) fn watched<T, E>(
    request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> impl Future<Output = Result<T, Failed<E>>> {
    // Combinators are used because `async` blocks would copy the future of the request, which is several KB in size,
    // several times.
    let watched = request.map(|result| {
        let is_outcome_unknown = ATTEMPTS.with(|attempts| attempts.unresolved.get());
        result.map_err(|error| Failed { error, is_outcome_unknown })
    });
    ATTEMPTS.scope(Attempts::default(), watched)
}

/// Returns the interceptor that [`watched`] needs.
pub(crate) fn interceptor() -> SharedInterceptor {
    SharedInterceptor::permanent(WatchAttempts)
}

#[derive(Debug)]
struct WatchAttempts;

#[dyn_dispatch_hint]
impl Intercept for WatchAttempts {
    fn name(&self) -> &'static str {
        "WatchAttempts"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // Reads are not watched, so they have no task-local.
        let _ = ATTEMPTS.try_with(|attempts| attempts.transmitted.set(true));
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let _ = ATTEMPTS.try_with(|attempts| {
            // An attempt without credentials, for example, never leaves the process.
            if attempts.transmitted.replace(false) && !is_resolved(context) {
                attempts.unresolved.set(true);
            }
        });
        Ok(())
    }
}

/// Returns whether the response to an attempt proves its outcome: the service executed the request, or refused it.
fn is_resolved(context: &FinalizerInterceptorContextRef<'_>) -> bool {
    matches!(context.output_or_error(), Some(Ok(_))) || context.response().is_some_and(is_refusal)
}

/// Returns whether the service refused a request. A client error without an error code is from an intermediary such as
/// a gateway, which may have forwarded the request.
fn is_refusal(response: &HttpResponse) -> bool {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(rename = "__type")]
        code: String,
    }

    response.status().is_client_error()
        && response.body().bytes().is_some_and(|body| match serde_json::from_slice(body) {
            // An earlier attempt of this transaction is under way.
            Ok(Refusal { code }) => !code.ends_with("TransactionInProgressException"),
            Err(_) => is_query_error(body),
        })
}

/// Returns whether `body` is an error of the AWS Query protocol, which is XML. SNS uses this protocol.
fn is_query_error(body: &[u8]) -> bool {
    str::from_utf8(body).is_ok_and(|text| text.contains("<ErrorResponse") && text.contains("<Code>"))
}

impl<E> Failed<E>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    /// Translates the error of a write to `table`.
    pub(crate) fn translate(self, table: &str) -> StoreError {
        qualified(translate(table, self.error), self.is_outcome_unknown)
    }
}

impl<E: ConditionalWrite> Failed<E> {
    /// Returns the condition that failed.
    ///
    /// # Errors
    ///
    /// The translated error if the write failed for another reason.
    pub(crate) fn condition(self, table: &str) -> Result<ConditionFailed, StoreError> {
        let Self { error, is_outcome_unknown } = self;
        match error {
            SdkError::ServiceError(error) if error.err().is_condition_failed() => {
                Ok(ConditionFailed { item: error.into_err().into_item(), is_outcome_unknown })
            }
            error => Err(Self { error, is_outcome_unknown }.translate(table)),
        }
    }
}

/// A write whose condition failed at the last attempt.
#[derive(Debug)]
pub(crate) struct ConditionFailed {
    /// The item that failed it, if it was returned.
    pub(crate) item: Option<Item>,
    /// See [`Failed::is_outcome_unknown`].
    pub(crate) is_outcome_unknown: bool,
}

impl ConditionFailed {
    /// Checks that the item, if it was returned, has the `key` of the write.
    pub(crate) fn check(&self, key: &Item) -> Result<(), StoreError> {
        check_key(self.item.as_ref(), key)
    }
}

/// The error of a write of one item, which may have a condition.
pub(crate) trait ConditionalWrite: ProvideErrorMetadata + Error + Send + Sync + 'static {
    /// Returns whether the condition failed.
    fn is_condition_failed(&self) -> bool;

    /// Returns the item that failed the condition.
    fn into_item(self) -> Option<Item>;
}

impl ConditionalWrite for PutItemError {
    fn is_condition_failed(&self) -> bool {
        self.is_conditional_check_failed_exception()
    }

    fn into_item(self) -> Option<Item> {
        match self {
            Self::ConditionalCheckFailedException(failed) => failed.item,
            _ => None,
        }
    }
}

impl ConditionalWrite for DeleteItemError {
    fn is_condition_failed(&self) -> bool {
        self.is_conditional_check_failed_exception()
    }

    fn into_item(self) -> Option<Item> {
        match self {
            Self::ConditionalCheckFailedException(failed) => failed.item,
            _ => None,
        }
    }
}

/// Returns `error`, or an error that says that the outcome is unknown if `is_outcome_unknown`.
pub(crate) fn qualified(error: StoreError, is_outcome_unknown: bool) -> StoreError {
    match is_outcome_unknown {
        true => outcome_unknown(error),
        false => error,
    }
}
