//! Errors of commands, and their exit codes.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use es_core::BoxError;

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

    /// Returns the exit code; see the crate page.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Error(_) => 1,
            Self::Found => 3,
            Self::Unconfirmed(_) => 4,
        })
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
