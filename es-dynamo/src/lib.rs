//! An event store for [`es_core`] on Amazon DynamoDB, and on an embedded engine that runs the same code.
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
//! | `aws` (default) | [`DynamoStore::from_env`] and [`DynamoStoreBuilder::endpoint`]: the credentials chain and an HTTPS client |
//! | `indexer` (default) | [`Indexer`]: indexes commits from the table's stream into the feed |
//! | `embedded` | [`DynamoStore::embedded`]: a DynamoDB engine in this process, in memory or in a file |
//! | `kinesis` | `kinesis::KinesisPublisher`: publishes events to Amazon Kinesis Data Streams |
//! | `testing` | `testing::FaultyConnector`: injects faults into requests |
//!
//! Without `aws` and `embedded`, create a store from your own [`aws_sdk_dynamodb::Client`].
//!
//! # The table
//!
//! The table has one item per commit, and one snapshot per stream; [`names`] documents every attribute. [`DynamoStore`]
//! documents the requests of each operation and their costs.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod documents;
#[cfg(feature = "embedded")]
pub mod embedded;
mod feed;
pub mod import;
#[cfg(feature = "kinesis")]
#[cfg_attr(docsrs, doc(cfg(feature = "kinesis")))]
pub mod kinesis;
mod store;
mod streams;
mod table;
#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "indexer")]
pub use aws_sdk_dynamodbstreams::Client as StreamsClient;
#[cfg(feature = "indexer")]
pub use feed::indexer::{Indexer, IndexerBuilder, IndexerProgress};
pub use feed::lambda;
pub use feed::reconciler::{AuditReport, ReconcileProgress, Reconciler, ReconcilerBuilder};
pub use store::{DynamoStore, DynamoStoreBuilder};
pub use table::admin::TableOptions;
pub use table::names;
