//! The lowest layer: connections, time limits, and errors. It knows nothing of streams, documents, and the feed.

mod errors;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use es_core::StoreError;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, Transaction};

pub(crate) use errors::{Failed, is_transient};

/// A schema of a database, and the connections to it.
pub(crate) struct Database {
    pool: PgPool,
    schema: String,
    timeout: Duration,
    /// The maximum size of a payload or a state; `None` if each must fit into an item of a DynamoDB table.
    pub(crate) max_bytes: Option<u64>,
}

impl Database {
    /// The name of a schema must not need quotes.
    pub(crate) fn new(
        pool: PgPool,
        schema: String,
        timeout: Duration,
        max_bytes: Option<u64>,
    ) -> Result<Self, StoreError> {
        let begins = schema.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if !begins || schema.len() > 63 || schema.starts_with("pg_") || !schema.bytes().all(allowed) {
            return Err(StoreError::invalid(format!(
                "`{schema}` is not a valid name of a schema: use 1 to 63 lowercase letters, digits, or `_`, and begin \
                 with a letter other than in `pg_`"
            )));
        }
        Ok(Self { pool, schema, timeout, max_bytes })
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    /// Returns `sql` with the name of the schema in the place of `{schema}`.
    pub(crate) fn in_schema(&self, sql: &str) -> String {
        sql.replace("{schema}", &format!("\"{}\"", self.schema))
    }

    /// Returns `template` with the name of the schema, as a statement. Templates are constants, so values cannot be
    /// injected.
    pub(crate) fn sql(&self, template: &'static str) -> AssertSqlSafe<String> {
        AssertSqlSafe(self.in_schema(template))
    }

    /// Borrows a connection from the pool. Nothing was sent if this fails.
    pub(crate) async fn connect(&self) -> Result<Session, StoreError> {
        match tokio::time::timeout(self.timeout, self.pool.acquire()).await {
            Ok(Ok(connection)) => Ok(Session { connection, is_idle: false }),
            Ok(Err(error)) => Err(Failed::from(error).before_sending(self)),
            Err(_) => Err(Failed::Late(self.timeout).before_sending(self)),
        }
    }

    /// Waits for the response to a statement, or to a transaction as a whole.
    pub(crate) async fn within<T, E>(
        &self,
        statement: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failed>
    where
        Failed: From<E>,
    {
        match tokio::time::timeout(self.timeout, statement).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(Failed::Late(self.timeout)),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// A connection in use. Unless it is released, it is closed: a response may still be on its way, or a transaction open.
pub(crate) struct Session {
    connection: PoolConnection<Postgres>,
    is_idle: bool,
}

impl Session {
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Begins a transaction that other transactions cannot abort, whatever the server's default is.
    pub(crate) async fn begin(&mut self) -> Result<Transaction<'_, Postgres>, sqlx::Error> {
        self.connection.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await
    }

    /// Returns the connection to the pool after all responses were read.
    pub(crate) fn release(mut self) {
        self.is_idle = true;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.is_idle {
            self.connection.close_on_drop();
        }
    }
}
