//! The store of a run: on a DynamoDB-compatible server or on PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use es_core::BoxError;
use es_core::feed::Feed;
use es_dynamo::{DynamoStore, TableOptions};
use es_postgres::PostgresStore;
use es_postgres::sqlx::postgres::PgPoolOptions;
use es_postgres::sqlx::{self, AssertSqlSafe};

/// The time limit of a statement of PostgreSQL: short, so that many statements exceed it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(3);

/// A store with its type, for what only one of them has.
#[derive(Clone)]
pub(crate) enum Store {
    Dynamo(DynamoStore),
    Postgres(PostgresStore),
}

impl Store {
    /// Returns the store in a table or schema of the server at `url`. A `timeout` replaces the time limits of requests.
    pub(crate) fn open(url: &str, name: &str, timeout: Option<Duration>) -> Result<Self, BoxError> {
        if url.starts_with("http") {
            let builder = DynamoStore::builder().endpoint(url).table(name);
            let builder = match timeout {
                Some(timeout) => builder.attempt_timeout(timeout).operation_timeout(timeout),
                None => builder,
            };
            return Ok(Self::Dynamo(builder.build()?));
        }
        let timeout = timeout.unwrap_or(TIMEOUT);
        let options = PgPoolOptions::new().max_connections(8).test_before_acquire(false);
        let pool = options.acquire_timeout(timeout).connect_lazy(url)?;
        Ok(Self::Postgres(PostgresStore::builder(pool).schema(name).timeout(timeout).build()?))
    }

    /// Creates the table or schema.
    pub(crate) async fn create(&self) -> Result<(), BoxError> {
        match self {
            Self::Dynamo(store) => {
                let options = TableOptions::on_demand().point_in_time_recovery(false);
                Ok(store.create_table_with(options.deletion_protection(false)).await?)
            }
            Self::Postgres(store) => Ok(store.migrate().await?),
        }
    }

    /// Deletes the table or schema, and the schemas of its projections.
    pub(crate) async fn delete(&self) -> Result<(), BoxError> {
        match self {
            Self::Dynamo(store) => {
                store.client().delete_table().table_name(store.table_name()).send().await?;
            }
            Self::Postgres(store) => {
                let mut schemas = store.projection_schemas("ledger").await?;
                schemas.push(store.schema().to_owned());
                let drop = format!("DROP SCHEMA {} CASCADE", schemas.join(", "));
                sqlx::raw_sql(AssertSqlSafe(drop)).execute(store.pool()).await?;
            }
        }
        Ok(())
    }

    /// Returns a handle for repositories and projectors.
    pub(crate) fn feed(&self) -> Arc<dyn Feed> {
        match self {
            Self::Dynamo(store) => Arc::new(store.clone()),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    pub(crate) fn postgres(&self) -> Option<&PostgresStore> {
        match self {
            Self::Dynamo(_) => None,
            Self::Postgres(store) => Some(store),
        }
    }
}
