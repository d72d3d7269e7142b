//! The lowest layer: connections, time limits, and errors. It knows nothing of streams, documents, and the feed.

mod errors;
mod probe;
mod single;
mod transaction;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use es_core::StoreError;
use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, Transaction};

use self::probe::{Probe, Probes};

pub(crate) use errors::{Failed, is_transient};
pub use transaction::SqlTransaction;

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
            "the URL of the database is invalid: use `postgres://user@host/database`",
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
    probes: Probes,
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
        Ok(Self { pool, schema, contents, timeout, probes: Probes::default(), max_bytes })
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
        match self.within(self.pool.acquire()).await {
            Ok(connection) => Ok(Session { connection, is_idle: false }),
            Err(failed) => Err(self.not_connected(failed).await),
        }
    }

    /// Returns the error of a connection that could not be borrowed.
    ///
    /// A pool that waits for the server and one that waits for a free connection fail alike, so the server is probed.
    ///
    /// The future is boxed, because those of all operations contain it.
    pub(crate) fn not_connected(&self, failed: Failed) -> BoxFuture<'_, StoreError> {
        self.find_reason(failed).boxed()
    }

    async fn find_reason(&self, failed: Failed) -> StoreError {
        if !matches!(failed, Failed::Late(_) | Failed::Sql(sqlx::Error::PoolTimedOut)) {
            return failed.before_sending(self);
        }
        match self.probes.probe(&self.pool).await {
            Probe::Accepted => {
                let most = self.pool.options().get_max_connections();
                let reason = format!(
                    "no connection of the pool became free in time: it has at most {most}. Enlarge the pool, or hold its \
                     connections for less time"
                );
                StoreError::Throttled(reason.into())
            }
            Probe::Full(reason) => {
                let reason = format!(
                    "the server accepts no more connections: use smaller pools, or raise `max_connections`: {reason}"
                );
                StoreError::Throttled(reason.into())
            }
            Probe::Failed(reason) => self.unreachable(&reason),
        }
    }

    /// Returns the error of a server that does not accept connections.
    fn unreachable(&self, reason: &str) -> StoreError {
        let options = self.pool.connect_options();
        let address = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        StoreError::unreachable(format!(
            "no connection to PostgreSQL at `{address}`: check the address, the server, and the network: {reason}"
        ))
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
    pub(crate) async fn begin(&mut self) -> Result<Transaction<'_, Postgres>, Failed> {
        let begun = self.connection.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await;
        begun.map_err(Failed::of_begin)
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
