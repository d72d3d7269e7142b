//! Single statements that change rows, and whether they commit.
//!
//! A single statement commits when it ends, unless its connection is in a transaction. The pool may be shared with the
//! application, and sqlx returns a connection to the pool in an open transaction if the future of its `BEGIN` was dropped,
//! for example because the client of a request has disconnected. A statement on this connection would succeed, and would
//! never be committed. So each statement returns whether its transaction is new.

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres, Row};

use super::{Database, Failed};

/// Returns whether the transaction is certainly that of the statement: it began at most 20 µs before. This is the time
/// between the two messages of the statement, which arrive together: usually 4 µs, and more while its plan is not cached.
/// The connection of a transaction that was begun before has been returned to the pool since, after a round trip: on the
/// loopback interface, none of 2,488 such transactions was younger than 37 µs. The clock may have been set back in between.
const IS_NEW: &str =
    "statement_timestamp() BETWEEN transaction_timestamp() AND transaction_timestamp() + interval '20 us'";

/// Returns whether the connection is in a transaction. Otherwise, that of a simple query begins with the query.
const IS_OPEN: &str = "SELECT statement_timestamp() <> transaction_timestamp()";

impl Database {
    /// Returns the template of an `INSERT`, `UPDATE`, or `DELETE` as a statement for
    /// [`execute_single`](Self::execute_single).
    pub(crate) fn single_sql(&self, template: &'static str) -> AssertSqlSafe<String> {
        AssertSqlSafe(format!("{} RETURNING {IS_NEW}", self.in_schema(template)))
    }

    /// Executes a statement that changes rows and commits, and returns their number.
    ///
    /// # Errors
    ///
    /// [`Failed::Open`] if it was executed in an open transaction: the connection has to be closed.
    pub(crate) async fn execute_single(
        &self,
        connection: &mut PgConnection,
        statement: Query<'_, Postgres, PgArguments>,
    ) -> Result<u64, Failed> {
        let rows = self.within(statement.fetch_all(&mut *connection)).await?;
        let Some(row) = rows.first() else { return Ok(0) };
        // The transaction of a statement that had to be prepared has begun with its preparation.
        if row.try_get(0)? || !self.is_in_transaction(connection).await? {
            Ok(rows.len() as u64)
        } else {
            Err(Failed::Open)
        }
    }

    async fn is_in_transaction(&self, connection: &mut PgConnection) -> Result<bool, Failed> {
        let row = self.within(sqlx::raw_sql(IS_OPEN).fetch_one(connection)).await?;
        Ok(row.try_get(0)?)
    }
}
