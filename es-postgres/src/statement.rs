//! Statements of the application that are part of a transaction of the store.

use std::fmt;
use std::sync::Arc;

use es_core::StoreError;
use es_core::documents::DocumentCondition;
use es_core::store::AdditionalWrite;
use sqlx::error::BoxDynError;
use sqlx::postgres::PgArguments;
use sqlx::{Arguments, AssertSqlSafe, Encode, PgConnection, Postgres, SqlSafeStr, Type};

use crate::database::{Database, Failed};
use crate::documents;
use crate::sql_read_model::OpenTransaction;

/// A statement of the application, as an additional write of a command or a transaction: both are committed, or
/// neither.
///
/// ```
/// use es_core::store::AdditionalWrite;
/// use es_postgres::Statement;
///
/// let statement = Statement::new("INSERT INTO balances (account, cents) VALUES ($1, $2)").bind("ann").bind(500_i64);
/// # assert_eq!(AdditionalWrite::new(statement.clone()).kind(), "es_postgres::statement::Statement");
/// // accounts.with_writes(|decided| [statement]).execute(&id, command).await?;
/// ```
///
/// The statement runs after the inserts of the store, in the order in which statements were added. It may run again, if
/// the command is decided again.
#[derive(Clone)]
pub struct Statement {
    sql: Arc<str>,
    arguments: PgArguments,
    /// The error of a value that cannot be encoded.
    invalid: Option<Arc<str>>,
    rows: Option<u64>,
}

impl Statement {
    /// Returns a statement with the placeholders `$1`, `$2`, and so on for values that are [bound](Self::bind).
    ///
    /// Wrap a text that is not a literal in [`AssertSqlSafe`].
    #[must_use]
    pub fn new(sql: impl SqlSafeStr) -> Self {
        let sql = sql.into_sql_str().as_str().into();
        Self { sql, arguments: PgArguments::default(), invalid: None, rows: None }
    }

    /// Binds a value to the next placeholder.
    #[must_use]
    pub fn bind<'v, T: Encode<'v, Postgres> + Type<Postgres>>(mut self, value: T) -> Self {
        let added: Result<(), BoxDynError> = self.arguments.add(value);
        if let Err(error) = added {
            self.invalid.get_or_insert_with(|| error.to_string().into());
        }
        self
    }

    /// Refuses the whole write unless the statement affects exactly this number of rows (default: any number).
    ///
    /// Use it for a condition: `UPDATE … WHERE …` that must find its row. The command then fails with
    /// [`ExecuteError::Refused`](es_core::ExecuteError::Refused).
    #[must_use]
    pub fn affecting(mut self, rows: u64) -> Self {
        self.rows = Some(rows);
        self
    }
}

/// Prints the statement, not its values.
impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement").field("sql", &self.sql).field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// Rejects additional writes of other types.
pub(crate) fn check_kind(write: &AdditionalWrite) -> Result<(), StoreError> {
    if write.downcast_ref::<DocumentCondition>().is_some()
        || write.downcast_ref::<OpenTransaction>().is_some()
    {
        return Ok(());
    }
    match write.downcast_ref::<Statement>() {
        None => Err(StoreError::invalid(format!(
            "a PostgreSQL store does not support additional writes of the type `{}`: use `es_postgres::Statement`",
            write.kind()
        ))),
        Some(Statement { invalid: Some(reason), .. }) => Err(StoreError::invalid(format!(
            "a value of an additional statement cannot be encoded: {reason}"
        ))),
        Some(_) => Ok(()),
    }
}

/// Executes an additional write in a transaction, and returns whether its condition holds.
pub(crate) async fn execute(
    database: &Database,
    connection: &mut PgConnection,
    write: &AdditionalWrite,
) -> Result<bool, Failed> {
    if let Some(condition) = write.downcast_ref::<DocumentCondition>() {
        return documents::holds(database, connection, condition).await;
    }
    let Some(statement) = write.downcast_ref::<Statement>() else { return Ok(true) };
    let sql = AssertSqlSafe(Arc::clone(&statement.sql));
    let query = sqlx::query_with(sql, statement.arguments.clone());
    let executed = database.within(query.execute(connection)).await;
    let affected = executed.map_err(|failed| failed.of_statement(&statement.sql))?.rows_affected();
    Ok(statement.rows.is_none_or(|rows| rows == affected))
}
