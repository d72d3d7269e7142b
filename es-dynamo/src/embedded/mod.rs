//! An embedded DynamoDB engine, which needs no network.
//!
//! The engine is [dynoxide](https://docs.rs/dynoxide-rs), on SQLite. Requests go through the SDK as on AWS, including
//! retries. Only the HTTP request is replaced by a function call. The engine is intended for development and tests.
//! Unlike a table on AWS, it does not limit throughput.
//!
//! A table has an outbox instead of a stream: each commit is added in the transaction that stores it, and an
//! [`Indexer`](crate::Indexer) removes it once it is in the feed. The cost of a command does not depend on the number
//! of earlier commands. Several processes can use one file, and an indexer in any of them indexes the commits of all.
//!
//! A permanent failure, such as a full disk or a damaged file, is reported immediately as [`StoreError::Backend`].

mod connector;
mod failure;
mod operations;
mod outbox;
mod storage;
mod tokens;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryPartition;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use es_core::StoreError;

use self::storage::Storage;
use crate::table::client::unsigned_config;

pub use connector::Connector;
pub(crate) use outbox::Outbox;
#[cfg(feature = "indexer")]
pub(crate) use outbox::Unindexed;

/// An embedded DynamoDB engine. Clones share it.
///
/// ```
/// use es_dynamo::embedded::Engine;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::in_memory()?;
/// let store = engine.store().await?;
/// let tables = engine.client().list_tables().send().await?;
/// assert_eq!(tables.table_names(), [store.table_name()]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Engine {
    storage: Arc<Storage>,
}

impl Engine {
    /// Starts an engine in memory. Its content is dropped with its last clone and its last client.
    ///
    /// # Errors
    ///
    /// [`StoreError::Backend`] if it cannot be started.
    pub fn in_memory() -> Result<Self, StoreError> {
        Ok(Self { storage: Storage::in_memory()? })
    }

    /// Opens an engine in a file, which is created if it does not exist.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] when the file cannot be opened, is read-only or locked, or is not a database of the
    /// engine; [`StoreError::Backend`] when it is damaged, or the disk is full.
    pub fn in_file(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Ok(Self { storage: Storage::in_file(path.as_ref())? })
    }

    /// Returns a client of this engine.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::from_conf(self.config_through(SharedHttpConnector::new(self.connector())).build())
    }

    /// Returns the settings of a client of this engine that sends its requests through `connector`. That connector
    /// forwards them to the engine's [`connector`](Self::connector), and may count, delay, or drop them.
    ///
    /// Each client has a separate retry budget. By default, the SDK shares one budget between all clients of a process,
    /// so that a test with many faults would use up the retries of concurrent tests.
    #[must_use]
    pub fn config_through(&self, connector: SharedHttpConnector) -> aws_sdk_dynamodb::config::Builder {
        unsigned_config()
            .endpoint_url("http://embedded.invalid")
            .retry_partition(RetryPartition::custom("embedded").build())
            .http_client(connector::Client::new(connector))
    }

    /// Returns a client of this engine's streams.
    #[cfg(feature = "indexer")]
    #[cfg_attr(docsrs, doc(cfg(feature = "indexer")))]
    #[must_use]
    pub fn streams_client(&self) -> aws_sdk_dynamodbstreams::Client {
        let config = self.streams_config_through(SharedHttpConnector::new(self.connector()));
        aws_sdk_dynamodbstreams::Client::from_conf(config.build())
    }

    /// Like [`config_through`](Self::config_through), for a client of this engine's streams.
    #[cfg(feature = "indexer")]
    #[cfg_attr(docsrs, doc(cfg(feature = "indexer")))]
    #[must_use]
    pub fn streams_config_through(
        &self,
        connector: SharedHttpConnector,
    ) -> aws_sdk_dynamodbstreams::config::Builder {
        crate::table::client::unsigned_streams_config()
            .endpoint_url("http://embedded.invalid")
            .retry_partition(RetryPartition::custom("embedded").build())
            .http_client(connector::Client::new(connector))
    }

    /// Returns a connector to the engine.
    #[must_use]
    pub fn connector(&self) -> Connector {
        Connector::new(Arc::clone(&self.storage))
    }

    /// Returns the outbox of the table `name`: its commits that are not in the feed yet.
    pub(crate) fn outbox(&self, name: &str) -> Outbox {
        Outbox::new(Arc::clone(&self.storage), name.to_owned())
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}
