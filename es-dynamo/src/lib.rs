//! An event store on Amazon DynamoDB for [`es_core`], and the same code on an embedded engine.
//!
//! ```
//! use es_core::{EventStore, StreamId};
//! use es_dynamo::DynamoStore;
//!
//! # #[cfg(feature = "embedded")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = DynamoStore::embedded().await?; // in production: DynamoStore::from_env().await?
//! let head = store.head(&StreamId::new("order", "1001")?).await?;
//! assert!(head.version.is_none());
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "embedded"))]
//! # fn main() {}
//! ```
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `aws` (default) | [`DynamoStore::from_env`] and [`DynamoStoreBuilder::endpoint`]: credentials, and the HTTPS client |
//! | `indexer` (default) | [`Indexer`]: follows the table's stream |
//! | `embedded` | [`DynamoStore::embedded`]: a DynamoDB engine in this process, in memory or in a file |
//! | `kinesis` | `kinesis::KinesisPublisher`: events for Amazon Kinesis Data Streams |
//! | `testing` | `testing::FaultyConnector`: requests that fail on purpose |
//!
//! With neither, a store is made from an [`aws_sdk_dynamodb::Client`] of the application's own.
//!
//! # The table
//!
//! One item for each commit, one snapshot for each stream; [`names`] documents every attribute. See
//! [`DynamoStore`] for what operations do and cost.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod append;
mod assembly;
mod attempts;
mod backoff;
mod builder;
mod capacity;
mod checkpoint;
mod documents;
#[cfg(feature = "embedded")]
pub mod embedded;
mod error;
mod feed;
pub mod import;
#[cfg(feature = "indexer")]
mod indexer;
mod item;
#[cfg(feature = "kinesis")]
#[cfg_attr(docsrs, doc(cfg(feature = "kinesis")))]
pub mod kinesis;
pub mod lambda;
pub mod names;
mod read;
mod reconciler;
mod response;
mod sending;
mod snapshot;
mod store;
mod table;
#[cfg(feature = "testing")]
pub mod testing;
mod transact;
mod write;

#[cfg(feature = "indexer")]
pub use aws_sdk_dynamodbstreams::Client as StreamsClient;
pub use builder::DynamoStoreBuilder;
#[cfg(feature = "indexer")]
pub use indexer::{Indexer, IndexerBuilder, IndexerProgress};
pub use reconciler::{AuditReport, ReconcileProgress, Reconciler, ReconcilerBuilder};
pub use store::DynamoStore;
pub use table::TableOptions;
