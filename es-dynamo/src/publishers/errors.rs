//! The errors of brokers: which are permanent, and their texts.

use std::error::Error;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use es_core::publish::PublishError;

use crate::table::{Failed, cause, no_credentials, refusal_code};

/// The place that a publisher sends envelopes to, for the errors of its service.
pub(super) struct Destination<'a> {
    /// The kind, as in "the queue".
    pub(super) kind: &'static str,
    pub(super) name: &'a str,
    /// The permissions that the requests need.
    pub(super) permissions: &'static str,
    /// The error codes for a destination that does not exist.
    pub(super) missing: &'static [&'static str],
    /// The error codes for an envelope that is never accepted.
    pub(super) permanent: &'static [&'static str],
}

impl Destination<'_> {
    /// Translates the error of a request.
    ///
    /// Only errors about the envelopes themselves are permanent. Missing permissions and expired credentials are
    /// transient, so publishing waits for them as for an outage.
    pub(super) fn error<E>(&self, failed: Failed<E>) -> PublishError
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
            Some(code) => self.refusal(code, cause.to_string(), is_outcome_unknown),
            None => PublishError::transient(cause),
        }
    }

    /// Returns the error of an envelope that a response does not accept, with the code and the message of its entry.
    pub(super) fn refused(&self, code: Option<&str>, message: Option<&str>) -> PublishError {
        let Some(code) = code.filter(|code| !code.is_empty()) else {
            return PublishError::transient("the response does not say whether the message was accepted");
        };
        let cause = message.map_or_else(|| code.to_owned(), |message| format!("{code}: {message}"));
        self.refusal(code, cause, false)
    }

    fn refusal(&self, code: &str, cause: String, is_outcome_unknown: bool) -> PublishError {
        let Self { kind, name, permissions, .. } = self;
        // Services that moved from the Query protocol to JSON have prefixes and suffixes in some of their codes.
        let code = code.rsplit('.').next().unwrap_or(code);
        let code = code.strip_suffix("Exception").unwrap_or(code);
        let is_one_of = |codes: &[&str]| codes.contains(&code);
        if is_one_of(self.missing) {
            PublishError::transient(format!("the {kind} `{name}` does not exist: {cause}"))
        } else if is_one_of(&["AccessDenied", "AuthorizationError"]) {
            PublishError::transient(format!(
                "the {kind} `{name}` needs the permissions {permissions}: {cause}"
            ))
        } else if is_one_of(self.permanent) && !is_outcome_unknown {
            PublishError::permanent(cause)
        } else {
            PublishError::transient(cause)
        }
    }
}
