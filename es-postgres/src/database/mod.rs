//! The lowest layer: connections, time limits, and errors. It knows nothing of streams, documents, and the feed.

mod errors;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use es_core::StoreError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, Transaction};

pub(crate) use errors::{Failed, is_transient};

/// The default time limit of a statement.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of connections of a pool that [`connect`] creates.
const DEFAULT_CONNECTIONS: u32 = 16;

/// How long a connection may have been idle before it is checked.
const IDLE_UNCHECKED: Duration = Duration::from_secs(30);

/// Returns a pool of connections to the database at `url`, which has none yet.
pub(crate) fn connect(url: &str) -> Result<PgPool, StoreError> {
    let options = PgPoolOptions::new().max_connections(DEFAULT_CONNECTIONS).acquire_timeout(DEFAULT_TIMEOUT);
    // A check before every use would double the round trips.
    let options = options.test_before_acquire(false).before_acquire(|connection, usage| {
        Box::pin(async move {
            if usage.idle_for >= IDLE_UNCHECKED {
                connection.ping().await?;
            }
            Ok(true)
        })
    });
    options.connect_lazy(url).map_err(|error| {
        StoreError::setup(
            "the URL of the database is invalid: use `postgres://user:password@host/database`",
            Some(Box::new(error)),
        )
    })
}

/// What a schema contains.
#[derive(Debug)]
pub(crate) struct Contents {
    /// Its name, and the article of the name.
    pub(crate) name: &'static str,
    pub(crate) article: &'static str,
    /// The function that creates it, for errors.
    pub(crate) migrate: &'static str,
    /// The statements that lead to the current format, in order. Those of a release are never changed.
    pub(crate) migrations: &'static [&'static str],
    /// The table with the number of migrations that were executed, as `format`.
    pub(crate) format_table: &'static str,
    /// Whether it has a feed, whose order depends on the ids of transactions.
    pub(crate) has_feed: bool,
}

/// A schema of a database, and the connections to it.
pub(crate) struct Database {
    pool: PgPool,
    schema: String,
    contents: &'static Contents,
    timeout: Duration,
    /// The maximum size of a payload or a state; `None` if each must fit into an item of a DynamoDB table.
    pub(crate) max_bytes: Option<u64>,
}

impl Database {
    /// The name of a schema must not need quotes.
    pub(crate) fn new(
        pool: PgPool,
        schema: String,
        contents: &'static Contents,
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
        Ok(Self { pool, schema, contents, timeout, max_bytes })
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    pub(crate) fn contents(&self) -> &'static Contents {
        self.contents
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

    /// Checks that the server can be reached.
    pub(crate) async fn check_connection(&self) -> Result<(), StoreError> {
        self.connect().await?.release();
        Ok(())
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
