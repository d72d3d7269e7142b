//! Errors of commands, and their exit codes.

use std::error::Error;
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use es_core::projection::ProjectorError;
use es_core::store::SetupKind;
use es_core::{BoxError, StoreError};
use es_dynamo::CredentialsUnavailable;

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

    /// Returns the error of an operation on a file or a directory.
    pub(crate) fn at(path: &Path, error: &std::io::Error) -> Self {
        Self::of(format!("{}: {error}", path.display()))
    }

    /// Returns what an operator can do, if the error is about reaching the store, which may be on PostgreSQL.
    pub(crate) fn help(&self, is_postgres: bool) -> Option<&'static str> {
        let Self::Error(error) = self else { return None };
        let mut cause: Option<&(dyn Error + 'static)> = Some(&**error);
        while let Some(error) = cause {
            let found = match error.downcast_ref() {
                Some(ProjectorError::Store(error)) => Some(error),
                _ => error.downcast_ref::<StoreError>(),
            };
            if let Some(error) = found {
                return if is_postgres { postgres_help(error) } else { dynamo_help(error) };
            }
            cause = error.source();
        }
        None
    }

    /// Returns whether the reader of the output has gone, as `head` does after its last line.
    pub(crate) fn is_closed_output(&self) -> bool {
        let Self::Error(error) = self else { return false };
        // An error of a connection is always within an error of the store.
        let kind = match error.downcast_ref::<std::io::Error>() {
            Some(error) => Some(error.kind()),
            None => error.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind),
        };
        kind == Some(ErrorKind::BrokenPipe)
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

fn postgres_help(error: &StoreError) -> Option<&'static str> {
    match error {
        StoreError::Unavailable(_) => Some(
            "check that this computer can reach PostgreSQL: the host and port of --postgres or ES_POSTGRES_URL, and the network",
        ),
        StoreError::Throttled(_) => {
            Some("try again later, or look for long transactions in pg_stat_activity")
        }
        StoreError::Setup { kind: SetupKind::Storage, .. } => {
            Some("to use another schema or database, pass --schema or --postgres")
        }
        _ => None,
    }
}

fn dynamo_help(error: &StoreError) -> Option<&'static str> {
    match error {
        StoreError::Unavailable(_) if has_no_credentials(error) => Some(
            "sign in, or set AWS_PROFILE; `aws sts get-caller-identity` shows which credentials are used",
        ),
        StoreError::Unavailable(_) => Some(
            "check that this computer can reach DynamoDB: the region, the network, and --endpoint or AWS_ENDPOINT_URL",
        ),
        StoreError::Throttled(_) => Some("try again later, or raise the throughput limits of the table"),
        StoreError::Setup { kind: SetupKind::Storage, .. } => {
            Some("to use another table, pass --table, or set ES_DYNAMO_TABLE")
        }
        StoreError::Setup { kind: SetupKind::Access, .. } => Some(
            "`aws sts get-caller-identity` shows which credentials are used, and whether AWS accepts them",
        ),
        _ => None,
    }
}

/// Returns whether a request was not sent because the credentials could not be loaded.
fn has_no_credentials(error: &StoreError) -> bool {
    matches!(error.source(), Some(cause) if cause.is::<CredentialsUnavailable>())
}

/// Returns whether an error of a verification is about the table or the schema, rather than about the access to it.
pub(crate) fn is_finding(error: &StoreError) -> bool {
    matches!(error, StoreError::Setup { kind: SetupKind::Storage, .. } | StoreError::Corrupt { .. })
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => f.write_str(&in_commands(es_core::error_text(&**error))),
            Self::Found => f.write_str("the check found a problem"),
            Self::Unconfirmed(what) => write!(f, "{what}: confirm it, or pass --yes"),
        }
    }
}

/// Methods in errors of the libraries, and the commands that call them.
const COMMANDS: [(&str, &str); 17] = [
    ("create_table", "table create"),
    ("DynamoStore::create_table", "table create"),
    ("PostgresStore::migrate", "schema migrate"),
    ("PostgresKeyring::migrate", "schema migrate --keyring"),
    ("delete_archived", "stream delete --archives"),
    ("rebuild_progress", "progress"),
    ("replay_parked", "replay"),
    ("discard_parked", "discard"),
    ("switch_anyway", "switch --anyway"),
    ("cancel_rebuild", "cancel-rebuild"),
    ("delete_replaced", "delete-replaced"),
    ("dismiss_passed_over", "dismiss-passed-over"),
    ("abandon", "abandon"),
    ("rebuild", "rebuild"),
    ("reset", "reset"),
    ("retry", "retry"),
    ("skip", "skip"),
];

/// Methods that have no command.
const OTHERS: [(&str, &str); 1] = [("with `payloads`", "with --payload-store or --to-payload-store")];

/// Returns the text of an error, which may be stored, with commands in place of methods.
pub(crate) fn in_commands(text: impl Into<String>) -> String {
    let text = COMMANDS.iter().fold(text.into(), |text, (method, command)| {
        let text = text.replace(&format!("call `{method}`"), &format!("use `{command}`"));
        text.replace(&format!("`{method}`"), &format!("`{command}`"))
    });
    OTHERS.iter().fold(text, |text, (method, advice)| text.replace(method, advice))
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_commands() {
        for (method, command) in [
            (
                "`parked` and `rebuild_progress` say why. After a fix, call `replay_parked` and `retry`, or call \
                 `switch_anyway`",
                "`parked` and `progress` say why. After a fix, use `replay` and `retry`, or use `switch --anyway`",
            ),
            ("create it with `DynamoStore::create_table`", "create it with `table create`"),
            ("call `PostgresStore::migrate`", "use `schema migrate`"),
            (
                "restore it, or delete it with `delete_archived`",
                "restore it, or delete it with `stream delete --archives`",
            ),
            (
                "call `replay_parked` or, to give it up, `abandon` for this instance",
                "use `replay` or, to give it up, `abandon` for this instance",
            ),
            (
                "because it was skipped: call `abandon` for this instance",
                "because it was skipped: use `abandon` for this instance",
            ),
            ("call `the support`", "call `the support`"),
        ] {
            assert_eq!(Failure::of(method).to_string(), command);
        }
    }

    #[test]
    fn a_verification_finds_problems_of_the_table_or_the_schema() {
        let setup = |kind| StoreError::setup_of(kind, "the setup is wrong", None);
        assert!(is_finding(&setup(SetupKind::Storage)));
        assert!(is_finding(&StoreError::corrupt_item("the table", "it is damaged")));
        assert!(!is_finding(&setup(SetupKind::Access)));
        assert!(!is_finding(&setup(SetupKind::Other)));
        assert!(!is_finding(&StoreError::unavailable("reset")));
    }

    #[test]
    fn only_a_closed_output_is_no_error() {
        let broken = || std::io::Error::from(ErrorKind::BrokenPipe);
        assert!(Failure::from(broken()).is_closed_output());
        assert!(Failure::from(serde_json::Error::io(broken())).is_closed_output());
        assert!(!Failure::from(StoreError::unavailable(broken())).is_closed_output());
        assert!(!Failure::from(std::io::Error::from(ErrorKind::NotFound)).is_closed_output());
    }
}
