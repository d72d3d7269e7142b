//! The server, and a database on it for each contender.

use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{AssertSqlSafe, PgPool};

use crate::Failure;

/// The variable that names the server.
const VARIABLE: &str = "ES_POSTGRES_URL";

/// The number of connections of each pool.
pub const CONNECTIONS: u32 = 16;

/// The size of all tables and indexes of the application in the database.
const SIZE: &str = "SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::bigint FROM pg_class \
     JOIN pg_namespace ON pg_namespace.oid = relnamespace \
     WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema')";

pub struct Server {
    options: PgConnectOptions,
    admin: PgPool,
}

impl Server {
    pub async fn from_env() -> Result<Self, Failure> {
        let url = std::env::var(VARIABLE).map_err(|_| {
            format!("{VARIABLE} is not set: `scripts/postgres COMMAND` starts a server and sets it")
        })?;
        let options = PgConnectOptions::from_str(&url)?.ssl_mode(PgSslMode::Disable);
        let admin = PgPoolOptions::new().max_connections(2).connect_with(options.clone()).await?;
        Ok(Self { options, admin })
    }

    /// Returns the version and the settings on which the results depend.
    pub async fn description(&self) -> Result<String, Failure> {
        let settings = "SELECT 'PostgreSQL ' || current_setting('server_version') || ', fsync = ' || current_setting('fsync') \
             || ', shared_buffers = ' || current_setting('shared_buffers')";
        Ok(sqlx::query_scalar(settings).fetch_one(&self.admin).await?)
    }

    /// Creates an empty database, and replaces one of the same name.
    pub async fn create(&self, name: &str) -> Result<Database, Failure> {
        self.drop(name).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&self.admin).await?;
        let options = self.options.clone().database(name);
        let pool = PgPoolOptions::new().max_connections(2).connect_with(options.clone()).await?;
        Ok(Database { name: name.to_owned(), options, pool })
    }

    pub async fn drop(&self, name: &str) -> Result<(), Failure> {
        let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&self.admin).await?;
        Ok(())
    }
}

/// A database, and connections for what is not measured.
pub struct Database {
    pub name: String,
    options: PgConnectOptions,
    pub pool: PgPool,
}

impl Database {
    pub fn address(&self) -> (String, u16) {
        (self.options.get_host().to_owned(), self.options.get_port())
    }

    /// Returns the URL of the database, without TLS.
    pub fn url(&self) -> String {
        self.url_at(self.options.get_host(), self.options.get_port())
    }

    /// Returns the URL of the database behind a proxy.
    pub fn url_through(&self, port: u16) -> String {
        self.url_at("127.0.0.1", port)
    }

    fn url_at(&self, host: &str, port: u16) -> String {
        format!("postgres://{}@{host}:{port}/{}?sslmode=disable", self.options.get_username(), self.name)
    }

    pub async fn execute(&self, sql: &str) -> Result<(), Failure> {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await?;
        Ok(())
    }

    /// Updates the statistics, so that no contender is planned on the statistics of an empty table.
    pub async fn analyze(&self) -> Result<(), Failure> {
        self.execute("VACUUM ANALYZE").await
    }

    pub async fn bytes(&self) -> Result<i64, Failure> {
        Ok(sqlx::query_scalar(SIZE).fetch_one(&self.pool).await?)
    }

    /// Returns how many sessions of this database wait for a lock.
    pub async fn waiting(&self) -> Result<i64, Failure> {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'";
        Ok(sqlx::query_scalar(waiting).bind(&self.name).fetch_one(&self.pool).await?)
    }
}
