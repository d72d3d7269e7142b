//! The errors of the SDK, translated once.

use std::error::Error;
use std::fmt;
use std::iter::successors;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use es_core::store::SetupKind;
use es_core::{BoxError, StoreError, error_text};

/// The credentials could not be loaded, so a request was not sent.
///
/// It is the [`source`](Error::source) of a [`StoreError::Unavailable`], because a later attempt may load them.
///
/// ```
/// use std::error::Error;
///
/// use es_core::StoreError;
/// use es_dynamo::CredentialsUnavailable;
///
/// fn is_signed_out(error: &StoreError) -> bool {
///     error.source().is_some_and(|cause| cause.is::<CredentialsUnavailable>())
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[error("the credentials could not be loaded")]
#[non_exhaustive]
pub struct CredentialsUnavailable {
    #[source]
    cause: BoxError,
}

/// Translates the error of the last attempt of a request to `table`. Writes use
/// [`Failed::translate`](super::Failed::translate), which knows about the attempts before it.
///
/// The caller has handled failed conditions; here they would be unexpected errors.
pub(crate) fn translate<E>(table: &str, error: SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match refusal_code(&error) {
        Some("ResourceNotFoundException") => StoreError::setup_of(
            SetupKind::Storage,
            format!("the table `{table}` does not exist: create it with `create_table`"),
            Some(cause(&error)),
        ),
        Some("AccessDeniedException") => StoreError::setup_of(
            SetupKind::Access,
            format!(
                "access to the table `{table}` is denied: compare the role's policy with the one in the book's \
                 chapter on DynamoDB"
            ),
            Some(cause(&error)),
        ),
        _ => translate_general(error),
    }
}

/// Translates the errors that are the same for all services: throttling, credentials, and requests that were not sent
/// or not answered.
pub(crate) fn translate_general<E>(error: SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match &error {
        SdkError::ConstructionFailure(_) => {
            return StoreError::setup_of(
                SetupKind::Access,
                "the request could not be made: check the credentials and the region of the client",
                Some(cause(&error)),
            );
        }
        SdkError::DispatchFailure(failure) if failure.is_user() => {
            return StoreError::setup(
                "the client cannot send requests: check its HTTP client",
                Some(cause(&error)),
            );
        }
        SdkError::DispatchFailure(failure) if failure.is_other() && no_credentials(&error) => {
            return StoreError::setup_of(
                SetupKind::Access,
                "the request could not be signed: check the credentials and the region of the client",
                Some(cause(&error)),
            );
        }
        SdkError::DispatchFailure(failure) if failure.is_other() && no_region(&error) => {
            return StoreError::setup(
                "the client has no region: set `AWS_REGION`, or a region in the profile or the client",
                Some(cause(&error)),
            );
        }
        SdkError::DispatchFailure(failure) if failure.is_other() && credentials_error(&error).is_some() => {
            return StoreError::unavailable(CredentialsUnavailable { cause: cause(&error) });
        }
        _ => {}
    }
    // Without a code, there was no response, or something other than the service sent it.
    let Some(code) = refusal_code(&error) else { return StoreError::unavailable(cause(&error)) };
    match code {
        "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "ThrottlingException"
        | "Throttling"
        | "LimitExceededException"
        | "TransactionConflictException"
        | "ReplicatedWriteConflictException" => StoreError::Throttled(cause(&error)),
        // An earlier attempt of the same transaction.
        "TransactionInProgressException" => StoreError::unavailable(cause(&error)),
        "ExpiredTokenException" | "ExpiredToken" => StoreError::setup_of(
            SetupKind::Access,
            "the credentials have expired: renew them, for example with `aws sso login`",
            Some(cause(&error)),
        ),
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignature" => StoreError::setup_of(
            SetupKind::Access,
            "the credentials are not accepted: check them, and the region",
            Some(cause(&error)),
        ),
        _ => StoreError::Backend(cause(&error)),
    }
}

/// Returns the code with which the service refused a request: the error code of a response with a status from 400 to
/// 499. After any other response, the outcome of the request is unknown.
pub(crate) fn refusal_code<E>(error: &SdkError<E, HttpResponse>) -> Option<&str>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let SdkError::ServiceError(refused) = error else { return None };
    error.code().filter(|code| !code.is_empty() && refused.raw().status().is_client_error())
}

/// Returns whether the client is configured without credentials. A failure to load them is a different error, which may
/// be transient.
pub(crate) fn no_credentials(error: &(dyn Error + 'static)) -> bool {
    match credentials_error(error) {
        Some(error) => {
            matches!(
                error,
                CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)
            )
        }
        // The SDK's own type for this is private.
        None => causes(error).any(|cause| cause.to_string().contains("auth scheme")),
    }
}

/// Returns whether the client is configured without a region. The SDK has no type for this; the texts are those of the
/// endpoint rules of S3 and of the other services.
pub(crate) fn no_region(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| {
        let text = cause.to_string();
        text.contains("Missing Region") || text.contains("region must be set")
    })
}

fn credentials_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CredentialsError> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(error.source(), |cause| (*cause).source())
}

/// Returns the error as a message: its code and message, or its causes. Never includes the response with its items.
pub(crate) fn cause<E>(error: &SdkError<E, HttpResponse>) -> Box<dyn Error + Send + Sync>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let code = error.code().filter(|code| !code.is_empty());
    Box::from(match (code, error.message(), error.raw_response()) {
        (Some(code), Some(message), _) => format!("{code}: {message}"),
        (Some(code), None, _) => code.to_owned(),
        // The error of the SDK's parser contains the location of the failure, but not the body.
        (None, _, Some(response)) => {
            let bytes = response.body().bytes().map_or(0, <[u8]>::len);
            let status = response.status().as_u16();
            format!(
                "the response cannot be read (HTTP status {status}, {bytes} bytes): {}",
                error_text(error)
            )
        }
        (None, _, None) => error_text(error),
    })
}

/// Returns the error of a write whose last attempt failed with `last`, and of which an earlier attempt may have been
/// executed.
pub(crate) fn outcome_unknown(last: StoreError) -> StoreError {
    match last {
        StoreError::Unavailable(_) => last,
        last => StoreError::unavailable(Unresolved { last }),
    }
}

/// An attempt without a readable response, before the last one.
#[derive(Debug)]
struct Unresolved {
    last: StoreError,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an earlier attempt had no readable response and may have been executed; the last attempt failed",
        )
    }
}

impl Error for Unresolved {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.last)
    }
}
