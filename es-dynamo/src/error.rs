//! The errors of the SDK, translated once.

use std::error::Error;
use std::fmt;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use es_core::StoreError;

/// What went wrong with a request to `table`.
///
/// Conditions that failed are looked at before: here they are none of the expected errors.
pub(crate) fn translate<E>(table: &str, error: SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    match &error {
        SdkError::ConstructionFailure(_) => {
            return StoreError::setup(
                "the request could not be made: check the credentials and the region of the client",
                Some(cause(&error)),
            );
        }
        SdkError::DispatchFailure(failure) if failure.is_user() => {
            return StoreError::setup("the client is not set up to send requests", Some(cause(&error)));
        }
        SdkError::DispatchFailure(failure) if failure.is_other() && no_credentials(&error) => {
            return StoreError::setup(
                "the request could not be signed: check the credentials and the region of the client",
                Some(cause(&error)),
            );
        }
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
            return StoreError::Unavailable(cause(&error));
        }
        _ => {}
    }
    match error.code().unwrap_or_default() {
        "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "ThrottlingException"
        | "Throttling"
        | "LimitExceededException"
        | "TransactionConflictException"
        | "TransactionInProgressException"
        | "ReplicatedWriteConflictException" => StoreError::Throttled(cause(&error)),
        "ResourceNotFoundException" => StoreError::setup(
            format!("the table `{table}` does not exist: create it with `DynamoStore::create_table`"),
            Some(cause(&error)),
        ),
        "AccessDeniedException" => StoreError::setup(
            format!(
                "access to the table `{table}` is denied: compare the policy of the role with the one in the README"
            ),
            Some(cause(&error)),
        ),
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "ExpiredTokenException"
        | "IncompleteSignature" => StoreError::setup(
            "the credentials are not accepted: check them, and the region",
            Some(cause(&error)),
        ),
        _ if status.is_some_and(|status| status >= 500) => StoreError::Unavailable(cause(&error)),
        _ => StoreError::Backend(cause(&error)),
    }
}

/// What went wrong with a write to `table`: as [`translate`], but a success that cannot be read, of a proxy
/// perhaps, tells nothing about what became of it.
pub(crate) fn translate_write<E>(table: &str, error: SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match error.raw_response() {
        Some(response) if response.status().is_success() => StoreError::Unavailable(cause(&error)),
        _ => translate(table, error),
    }
}

/// Whether there are no credentials to be had: not for the moment, but the way the client is set up.
pub(crate) fn no_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        match error.downcast_ref() {
            Some(CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)) => {
                return true;
            }
            Some(_) => return false,
            None => cause = error.source(),
        }
        // The SDK's own type for this is private.
        if error.to_string().contains("auth scheme") {
            return true;
        }
    }
    false
}

/// The error as a text: code and message, not the response with its items.
pub(crate) fn cause<E>(error: &SdkError<E, HttpResponse>) -> Box<dyn Error + Send + Sync>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => Box::new(Said(format!("{code}: {message}"))),
        (Some(code), None) => Box::new(Said(code.to_owned())),
        // Nothing came back, so nothing of an item can be in it.
        (None, _) if error.raw_response().is_none() => Box::new(Said(chain(error))),
        (None, _) => Box::new(Said("the answer could not be read".to_owned())),
    }
}

/// An error and its causes on one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut parts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        parts.push(error.to_string());
        cause = error.source();
    }
    parts.dedup();
    parts.join(": ")
}

/// What DynamoDB, or the way to it, said.
#[derive(Debug)]
struct Said(String);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Said {}
