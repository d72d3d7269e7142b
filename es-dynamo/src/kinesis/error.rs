//! The errors of Kinesis, translated once.

use std::error::Error;

use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use es_core::publish::PublishError;

use crate::error::{cause, no_credentials};

/// What went wrong with a request to the data stream `stream`.
pub(super) fn translate<E>(stream: &str, error: SdkError<E, HttpResponse>) -> PublishError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let cause = cause(&error);
    let status = error.raw_response().map(|response| response.status().as_u16());
    match &error {
        SdkError::ConstructionFailure(_) => {
            return PublishError::permanent(format!("the request could not be made: {cause}"));
        }
        SdkError::DispatchFailure(failure)
            if failure.is_user() || failure.is_other() && no_credentials(&error) =>
        {
            return PublishError::permanent(format!("the request could not be sent or signed: {cause}"));
        }
        SdkError::ServiceError(_) if status.is_some_and(|status| !(200..300).contains(&status)) => {}
        // No answer, or none that can be read: what became of it is unknown.
        _ => return PublishError::transient(cause),
    }
    match error.code().unwrap_or_default() {
        "ProvisionedThroughputExceededException"
        | "LimitExceededException"
        | "KMSThrottlingException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "InternalFailureException"
        | "InternalFailure"
        | "ServiceUnavailable" => PublishError::transient(cause),
        "ResourceNotFoundException" => {
            PublishError::permanent(format!("the data stream `{stream}` does not exist: {cause}"))
        }
        "AccessDeniedException" => PublishError::permanent(format!(
            "the data stream `{stream}` needs the permissions kinesis:PutRecords and kinesis:PutRecord: {cause}"
        )),
        _ if status.is_some_and(|status| status >= 500) => PublishError::transient(cause),
        _ => PublishError::permanent(cause),
    }
}

/// That one record of a request was refused. Kinesis knows two reasons: too much at once, or a failure of its own.
pub(super) fn refused(code: Option<&str>, message: Option<&str>) -> PublishError {
    let code = code.unwrap_or("it has neither an error nor a sequence number");
    PublishError::transient(message.map_or_else(|| code.to_owned(), |message| format!("{code}: {message}")))
}
