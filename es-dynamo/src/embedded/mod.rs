//! DynamoDB in this process: the SDK's client, on an engine that is reached without a network.
//!
//! The engine is [dynoxide](https://docs.rs/dynoxide-rs), on SQLite. Requests go through the SDK as they
//! would to AWS, retries included; only the last step, over the wire, is a function call. It is for
//! development and tests, and says what it cannot do: the limits of a real table's throughput are not there.
//!
//! A table has an outbox in place of a stream: each commit is noted in the transaction that stores it, and an
//! [`Indexer`](crate::Indexer) removes it when it is in the feed. A command costs the same however many there were
//! before. Several processes may use one file: what one of them commits, any indexer on the file indexes.
//!
//! A failure that does not pass, such as a full disk or a damaged file, is a [`StoreError::Backend`] at once.

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

/// An engine. A clone is the same engine.
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
    /// A new engine in memory: its content goes with its last clone, and its last client.
    ///
    /// # Errors
    ///
    /// [`StoreError::Backend`] when it cannot be started.
    pub fn in_memory() -> Result<Self, StoreError> {
        Ok(Self { storage: Storage::in_memory()? })
    }

    /// An engine in a file, which is created if it does not exist.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] when the file cannot be opened, is read-only or locked, or is not a database of the
    /// engine; [`StoreError::Backend`] when it is damaged, or the disk is full.
    pub fn in_file(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Ok(Self { storage: Storage::in_file(path.as_ref())? })
    }

    /// A client of this engine.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::from_conf(self.config_through(SharedHttpConnector::new(self.connector())).build())
    }

    /// The settings of a client of this engine whose requests go through `connector`, which passes them on
    /// to [`connector`](Self::connector): to count them, to hold them up, to lose them.
    ///
    /// Each client has a separate budget of retries. The SDK's default is one budget for all clients of a process, with
    /// which a test with many faults would use up the retries of the tests beside it.
    #[must_use]
    pub fn config_through(&self, connector: SharedHttpConnector) -> aws_sdk_dynamodb::config::Builder {
        unsigned_config()
            .endpoint_url("http://embedded.invalid")
            .retry_partition(RetryPartition::custom("embedded").build())
            .http_client(connector::Client::new(connector))
    }

    /// A client of this engine's streams.
    #[cfg(feature = "indexer")]
    #[cfg_attr(docsrs, doc(cfg(feature = "indexer")))]
    #[must_use]
    pub fn streams_client(&self) -> aws_sdk_dynamodbstreams::Client {
        let config = self.streams_config_through(SharedHttpConnector::new(self.connector()));
        aws_sdk_dynamodbstreams::Client::from_conf(config.build())
    }

    /// The settings of a client of this engine's streams, as [`config_through`](Self::config_through).
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

    /// The way to the engine.
    #[must_use]
    pub fn connector(&self) -> Connector {
        Connector::new(Arc::clone(&self.storage))
    }

    /// The commits of the table `name` that are not in the feed yet.
    pub(crate) fn outbox(&self, name: &str) -> Outbox {
        Outbox::new(Arc::clone(&self.storage), name.to_owned())
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}
