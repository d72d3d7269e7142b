//! The options that select a store, for the command lines of the Order and the Bank example.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use es_core::StoreError;
use es_core::feed::Feed;
use es_dynamo::{DynamoStore, Indexer};
use es_postgres::PostgresStore;

/// Where the events are stored: by default, in memory, on an embedded DynamoDB engine.
#[derive(Debug, Args)]
pub struct Place {
    /// Store the table in this file; the next run with the same file continues from there.
    #[arg(long, value_name = "PATH", group = "place")]
    file: Option<PathBuf>,

    /// Use a DynamoDB-compatible server, DynamoDB Local for example, such as http://localhost:8000
    #[arg(long, value_name = "URL", group = "place")]
    endpoint: Option<String>,

    /// Use Amazon DynamoDB, with the credentials and the region of the AWS CLI. Creates the table with on-demand
    /// capacity if it does not exist
    #[arg(long, group = "place")]
    aws: bool,

    /// Use the PostgreSQL database at this URL, such as postgres://localhost/shop, and its schema `es`
    #[arg(long, value_name = "URL", group = "place")]
    postgres: Option<String>,

    /// The name of the table on a server or on AWS
    #[arg(long, value_name = "NAME", default_value = concat!(env!("CARGO_BIN_NAME"), "-example"))]
    table: String,
}

/// An open store.
pub struct Opened {
    /// The store.
    pub store: Arc<dyn Feed>,
    /// The worker that adds commits to the feed. PostgreSQL needs none.
    pub indexer: Option<Indexer>,
}

impl Place {
    /// Opens the store. This is the only code that depends on it.
    pub async fn open(&self) -> Result<Opened, StoreError> {
        if let Some(url) = &self.postgres {
            let store = PostgresStore::connect(url).await?;
            store.migrate().await?;
            return Ok(Opened { store: Arc::new(store), indexer: None });
        }
        let store = self.open_dynamo_store().await?;
        let indexer = Some(Indexer::builder(&store).build()?);
        Ok(Opened { store: Arc::new(store), indexer })
    }

    async fn open_dynamo_store(&self) -> Result<DynamoStore, StoreError> {
        if let Some(path) = &self.file {
            return DynamoStore::embedded_at(path).await;
        }
        if !self.aws && self.endpoint.is_none() {
            return DynamoStore::embedded().await;
        }
        let builder = DynamoStore::builder().table(&self.table);
        let store = match &self.endpoint {
            Some(url) => builder.endpoint(url).build()?,
            None => builder.from_env().await.build()?,
        };
        store.create_table().await?;
        Ok(store)
    }

    /// Describes the location of the store.
    pub fn describe(&self) -> String {
        if let Some(path) = &self.file {
            format!("in the file {}", path.display())
        } else if self.postgres.is_some() {
            "in a PostgreSQL database".to_owned()
        } else if let Some(url) = &self.endpoint {
            format!("in the table {} at {url}", self.table)
        } else if self.aws {
            format!("in the table {} on Amazon DynamoDB", self.table)
        } else {
            "in memory, for this run".to_owned()
        }
    }
}
