//! The errors of the server and of sqlx, translated once.

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

use es_core::store::SetupKind;
use es_core::{StoreError, error_text};
use sqlx::postgres::PgDatabaseError;

use super::Database;

const READ_ONLY: &str =
    "the server is read-only: connect to the primary, for example with `target_session_attrs` in a proxy";

const LEFT_OPEN: &str = "a connection of the pool was in an open transaction, and is closed: if the application uses the \
    pool, it has dropped a future while a transaction began";

/// Why a statement or a transaction has no result.
#[derive(Debug)]
pub(crate) enum Failed {
    Sql(sqlx::Error),
    /// There was no response in this time.
    Late(Duration),
    /// The statement has succeeded in an open transaction, which nothing will commit.
    Open,
    /// The result is not as it must be, or the request is invalid.
    Store(StoreError),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failed {
    /// Translates the error of a `BEGIN … READ WRITE`, which a standby server rejects as a feature that it does not
    /// support.
    pub(crate) fn of_begin(error: sqlx::Error) -> Self {
        match code_of(&error).as_deref() {
            Some("0A000") => Self::Store(StoreError::setup(READ_ONLY, Some(cause(error)))),
            _ => Self::Sql(error),
        }
    }

    /// Translates the error of a connection that could not be opened.
    pub(super) fn before_sending(self, database: &Database) -> StoreError {
        match self {
            Self::Sql(sqlx::Error::Io(error)) => database.unreachable(&error_text(&error)),
            Self::Sql(error @ (sqlx::Error::Configuration(_) | sqlx::Error::Tls(_))) => {
                let reason =
                    "no connection can be opened: check the URL, and the certificates of server and client";
                StoreError::setup(reason, Some(cause(error)))
            }
            Self::Sql(sqlx::Error::Database(refused)) if refused.code().as_deref() == Some("08P01") => {
                let reason = "the parameters of the connection are rejected: with PgBouncer, set \
                              `ignore_startup_parameters = extra_float_digits`";
                StoreError::setup(reason, Some(cause(sqlx::Error::Database(refused))))
            }
            failed => failed.translate(database, StoreError::unreachable),
        }
    }

    /// Translates the error of a read, or of a transaction before its `COMMIT` was sent: without a response, nothing
    /// was written.
    pub(crate) fn of_read(self, database: &Database) -> StoreError {
        self.translate(database, StoreError::unreachable)
    }

    /// Translates the error of a statement that commits: without a response, it may have been executed.
    pub(crate) fn of_write(self, database: &Database) -> StoreError {
        self.translate(database, StoreError::unavailable)
    }

    /// Translates the error of a statement in the transaction of a projection's handlers, before its `COMMIT` was sent.
    pub(crate) fn of_handlers(self, database: &Database) -> StoreError {
        match &self {
            Self::Sql(error) if Condition::of_error(error) == Condition::Aborted => StoreError::invalid(
                "a statement of the transaction has failed, and its error was ignored: return it from the handler",
            ),
            _ => self.of_read(database),
        }
    }

    /// Translates the errors that are about a statement of the application, not about the schema of the store.
    pub(crate) fn of_statement(self, sql: &str) -> Self {
        let Self::Sql(error) = self else { return self };
        match code_of(&error).map(|code| Condition::of(&code)) {
            Some(Condition::Access | Condition::Schema) => {
                let reason = format!(
                    "the additional statement `{sql}` cannot be executed: check the names of its tables, columns, and \
                     functions, and the privileges of the user"
                );
                Self::Store(StoreError::setup(reason, Some(cause(error))))
            }
            Some(Condition::Invalid | Condition::Other) => {
                let cause = cause(error);
                Self::Store(StoreError::invalid(format!(
                    "the additional statement `{sql}` cannot be executed: {cause}"
                )))
            }
            _ => Self::Sql(error),
        }
    }

    fn translate(
        self,
        database: &Database,
        lost: impl FnOnce(Box<dyn Error + Send + Sync>) -> StoreError,
    ) -> StoreError {
        let error = match self {
            Self::Store(error) => return error,
            Self::Late(timeout) => return lost(format!("no response within {timeout:?}").into()),
            Self::Open => return lost(LEFT_OPEN.into()),
            Self::Sql(error) => error,
        };
        match Condition::of_error(&error) {
            Condition::Lost => lost(cause(error)),
            Condition::PoolClosed => {
                StoreError::setup("the pool of connections is closed", Some(cause(error)))
            }
            Condition::Unsendable => {
                StoreError::invalid(format!("a value cannot be sent to PostgreSQL: {error}"))
            }
            Condition::Transient => StoreError::Throttled(cause(error)),
            Condition::Invalid => StoreError::invalid(cause(error).to_string()),
            Condition::Access => StoreError::setup_of(
                SetupKind::Access,
                format!(
                    "access to the schema `{}` is denied: check the database, the user, the password, and the privileges",
                    database.schema()
                ),
                Some(cause(error)),
            ),
            Condition::ReadOnly => StoreError::setup(READ_ONLY, Some(cause(error))),
            Condition::Schema => StoreError::setup_of(
                SetupKind::Storage,
                format!(
                    "the schema `{}` is not that of {} {}: call `{}`",
                    database.schema(),
                    database.contents().article,
                    database.contents().name,
                    database.contents().migrate
                ),
                Some(cause(error)),
            ),
            Condition::Unprepared => StoreError::setup(
                "prepared statements are lost or mixed up: a connection pooler in transaction mode has to track them, as \
                 PgBouncer 1.21 or later does with `max_prepared_statements`",
                Some(cause(error)),
            ),
            // The pool has returned a connection in such a transaction, and it is closed now.
            Condition::Aborted => StoreError::Throttled(LEFT_OPEN.into()),
            Condition::Other => StoreError::Backend(cause(error)),
        }
    }
}

/// Returns whether an error of a statement of the application is transient: nothing was written, and it may succeed
/// soon.
pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
    matches!(Condition::of_error(error), Condition::Lost | Condition::Transient)
}

/// Returns the code of an error of the server.
fn code_of(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code)
}

/// Returns whether the server has rejected a connection because it has too many.
pub(super) fn is_full(error: &sqlx::Error) -> bool {
    code_of(error).as_deref() == Some("53300")
}

/// The meaning of an error, or of the
/// [code](https://www.postgresql.org/docs/current/errcodes-appendix.html) of an error of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// The connection ends, and a commit may have been recorded before.
    Lost,
    /// The application has closed the pool of connections.
    PoolClosed,
    /// A value cannot be encoded for the server.
    Unsendable,
    /// Nothing was written, and the same request may succeed soon.
    Transient,
    Invalid,
    Access,
    ReadOnly,
    Schema,
    /// The connection does not have the prepared statements of its client.
    Unprepared,
    /// An earlier statement of the transaction has failed.
    Aborted,
    Other,
}

impl Condition {
    fn of_error(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(refused) => Self::of(&refused.code().unwrap_or_default()),
            sqlx::Error::Io(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed
            | sqlx::Error::PoolTimedOut => Self::Lost,
            sqlx::Error::PoolClosed => Self::PoolClosed,
            sqlx::Error::InvalidArgument(_) | sqlx::Error::Encode(_) => Self::Unsendable,
            _ => Self::Other,
        }
    }

    fn of(code: &str) -> Self {
        match code {
            // statement_completion_unknown, admin_shutdown, crash_shutdown, cannot_connect_now, database_dropped,
            // idle_session_timeout
            "40003" | "57P01" | "57P02" | "57P03" | "57P04" | "57P05" => Self::Lost,
            // query_canceled, lock_not_available, and timeouts of transactions, which roll them back
            "57014" | "55P03" | "25P03" | "25P04" => Self::Transient,
            "25006" => Self::ReadOnly,
            "25P02" => Self::Aborted,
            // invalid_sql_statement_name, duplicate_prepared_statement
            "26000" | "42P05" => Self::Unprepared,
            "3D000" | "42501" => Self::Access,
            // invalid_schema_name, undefined_table, undefined_column, undefined_function
            "3F000" | "42P01" | "42703" | "42883" => Self::Schema,
            _ => match &code[..code.len().min(2)] {
                "08" => Self::Lost,
                // transaction_rollback: deadlocks and serialization failures; insufficient_resources: connections,
                // memory
                "40" | "53" => Self::Transient,
                // data_exception, integrity_constraint_violation, program_limit_exceeded
                "22" | "23" | "54" => Self::Invalid,
                "28" => Self::Access,
                _ => Self::Other,
            },
        }
    }
}

/// Returns an error as a message. The details of the server's errors are left out: they have the values of keys.
pub(super) fn cause(error: sqlx::Error) -> Box<dyn Error + Send + Sync> {
    let refused = error.as_database_error().and_then(|refused| refused.try_downcast_ref::<PgDatabaseError>());
    Box::from(match refused {
        Some(refused) => format!("{}: {}", refused.code(), refused.message()),
        None => error_text(&error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn codes_are_classified() {
        for (code, condition) in [
            ("08006", Condition::Lost),
            ("57P01", Condition::Lost),
            ("57P03", Condition::Lost),
            ("40003", Condition::Lost),
            ("40001", Condition::Transient),
            ("40P01", Condition::Transient),
            ("53300", Condition::Transient),
            ("57014", Condition::Transient),
            ("22P02", Condition::Invalid),
            ("54000", Condition::Invalid),
            ("23505", Condition::Invalid),
            ("25P02", Condition::Aborted),
            ("28P01", Condition::Access),
            ("25006", Condition::ReadOnly),
            ("26000", Condition::Unprepared),
            ("42P05", Condition::Unprepared),
            ("42P01", Condition::Schema),
            ("XX000", Condition::Other),
            ("", Condition::Other),
        ] {
            assert_eq!(Condition::of(code), condition, "{code}");
        }
    }

    #[test]
    fn errors_of_the_client_are_classified() {
        for (error, condition) in [
            (sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()), Condition::Lost),
            (sqlx::Error::PoolTimedOut, Condition::Lost),
            (sqlx::Error::PoolClosed, Condition::PoolClosed),
            (sqlx::Error::Encode("a value".into()), Condition::Unsendable),
            (sqlx::Error::RowNotFound, Condition::Other),
        ] {
            assert_eq!(Condition::of_error(&error), condition, "{error}");
            assert_eq!(is_transient(&error), condition == Condition::Lost, "{error}");
        }
    }

    #[tokio::test]
    async fn a_lost_response_is_unknown_only_after_a_commit() {
        let pool = sqlx::PgPool::connect_lazy("postgres://localhost/none").expect("a valid URL");
        let database = Database::new(pool, "es".to_owned(), &schema::STORE, Duration::from_secs(1), None);
        let database = database.expect("a valid name");
        let lost = || Failed::Sql(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()));
        for (error, is_outcome_unknown) in [
            (lost().of_write(&database), true),
            (lost().of_read(&database), false),
            (lost().before_sending(&database), false),
            (Failed::Late(Duration::from_secs(1)).of_write(&database), true),
            (Failed::Late(Duration::from_secs(1)).of_read(&database), false),
        ] {
            assert_eq!(error.is_outcome_unknown(), is_outcome_unknown, "{error:?}");
            assert!(error.is_retryable() && error.is_transient(), "{error:?}");
        }
    }
}
