//! Errors of commands, and their exit codes.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use es_core::projection::ProjectorError;
use es_core::{BoxError, StoreError};

/// The result of a command.
pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// The reason why a command has not succeeded.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error of the store, of the input, or of the output.
    Error(BoxError),
    /// A check found a problem, which is printed already.
    Found,
    /// The command has to be confirmed.
    Unconfirmed(String),
}

impl Failure {
    /// Returns an error with this text.
    pub(crate) fn of(text: impl Into<String>) -> Self {
        Self::Error(text.into().into())
    }

    /// Returns what an operator can do, if the error is about reaching the store.
    pub(crate) fn help(&self) -> Option<&'static str> {
        let Self::Error(error) = self else { return None };
        let mut cause: Option<&(dyn Error + 'static)> = Some(&**error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<StoreError>() {
                return store_help(error);
            }
            if let Some(ProjectorError::Store(error)) = error.downcast_ref() {
                return store_help(error);
            }
            cause = error.source();
        }
        None
    }

    /// Returns the exit code; see the crate page.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Error(_) => 1,
            Self::Found => 3,
            Self::Unconfirmed(_) => 4,
        })
    }
}

fn store_help(error: &StoreError) -> Option<&'static str> {
    match error {
        StoreError::Unavailable(_) => Some(
            "check that this computer can reach DynamoDB: the region, the network, and --endpoint or AWS_ENDPOINT_URL",
        ),
        StoreError::Throttled(_) => Some("try again later, or raise the throughput limits of the table"),
        StoreError::Setup { .. } if is_missing_table(error) => {
            Some("`table create` creates it; --table or ES_DYNAMO_TABLE names another table")
        }
        StoreError::Setup { .. } if error.source().is_some() => Some(
            "`aws sts get-caller-identity` shows which credentials are used, and whether AWS accepts them",
        ),
        _ => None,
    }
}

/// Returns whether an error says that the table does not exist.
fn is_missing_table(error: &StoreError) -> bool {
    error.source().is_some_and(|cause| cause.to_string().starts_with("ResourceNotFoundException"))
}

/// Returns whether an error of `verify_table` is about the table, rather than about the client or its credentials.
pub(crate) fn is_finding(error: &StoreError) -> bool {
    match error {
        StoreError::Setup { .. } => error.source().is_none() || is_missing_table(error),
        StoreError::Corrupt { .. } => true,
        _ => false,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => f.write_str(&es_core::error_text(&**error)),
            Self::Found => f.write_str("the check found a problem"),
            Self::Unconfirmed(what) => write!(f, "{what}: confirm it, or pass --yes"),
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}
