//! The errors of Kinesis, translated once.

use std::error::Error;

use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use es_core::publish::PublishError;

use crate::attempts::Failed;
use crate::error::{cause, no_credentials, refusal_code};

/// Translates the error of a request to the data stream `stream`.
///
/// Only what is wrong with the records is permanent. Missing permissions and expired credentials pass, so that publishing
/// waits for them, as for an outage.
pub(super) fn translate<E>(stream: &str, failed: Failed<E>) -> PublishError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let Failed { error, is_outcome_unknown } = failed;
    let cause = cause(&error);
    match &error {
        SdkError::ConstructionFailure(_) => {
            return PublishError::transient(format!("the request could not be made: {cause}"));
        }
        SdkError::DispatchFailure(failure)
            if failure.is_user() || failure.is_other() && no_credentials(&error) =>
        {
            return PublishError::transient(format!("the request could not be sent or signed: {cause}"));
        }
        _ => {}
    }
    match refusal_code(&error) {
        Some("ResourceNotFoundException") => {
            PublishError::transient(format!("the data stream `{stream}` does not exist: {cause}"))
        }
        Some("AccessDeniedException") => PublishError::transient(format!(
            "the data stream `{stream}` needs the permissions kinesis:PutRecords and kinesis:PutRecord: {cause}"
        )),
        Some("ValidationException" | "InvalidArgumentException" | "SerializationException")
            if !is_outcome_unknown =>
        {
            PublishError::permanent(cause)
        }
        _ => PublishError::transient(cause),
    }
}

/// The error for one record of a request that was refused: Kinesis throttles it, or fails internally.
pub(super) fn refused(code: Option<&str>, message: Option<&str>) -> PublishError {
    let code = code.unwrap_or("the response has neither an error nor a sequence number");
    PublishError::transient(message.map_or_else(|| code.to_owned(), |message| format!("{code}: {message}")))
}
