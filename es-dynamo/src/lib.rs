//! An event store for [`es_core`] on Amazon DynamoDB, and on an embedded engine that runs the same code.
//!
//! [`DynamoStore`] stores the events of all aggregates in one table. A command takes at most two requests: one `Query`,
//! which loads the aggregate from its newest snapshot, and one conditional `PutItem`, which appends its events as a
//! single item. The [`Indexer`] follows the commits of its process and the table's stream, and makes all events
//! available to projections, processes, and publishers. Commands write no additional items for the feed.
//!
//! # Example
//!
//! On the embedded engine (feature `embedded`), which needs neither a server nor an account:
//!
//! ```
//! # #[cfg(feature = "embedded")]
//! # mod example {
//! use es_core::prelude::*;
//! use es_dynamo::DynamoStore;
//!
//! #[event]
//! pub struct Deposited { pub cents: u64 }
//!
//! #[derive(Aggregate, Debug, Default)]
//! #[aggregate(name = "account", id = String, events(Deposited))]
//! pub struct Account { balance: u64 }
//!
//! #[handlers]
//! impl Account {
//!     #[apply]
//!     fn deposited(&mut self, event: &Deposited) {
//!         self.balance += event.cents;
//!     }
//! }
//!
//! pub struct Deposit { pub cents: u64 }
//!
//! #[handlers]
//! impl Account {
//!     #[handle]
//!     fn deposit(&self, command: &Deposit) -> Deposited {
//!         Deposited { cents: command.cents }
//!     }
//! }
//!
//! # pub async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let store = DynamoStore::embedded().await?; // on AWS: DynamoStore::from_env().await?
//! let accounts: Repository<Account> = Repository::new(store);
//! let ann = "ann".to_owned();
//!
//! accounts.execute(&ann, Deposit { cents: 500 }).await?;
//! let done = accounts.execute(&ann, Deposit { cents: 200 }).await?;
//! assert_eq!(done.state.balance, 700);
//! assert_eq!((done.cost.requests, done.cost.write_units), (2, 1.0)); // a Query and a PutItem
//! # Ok(())
//! # }
//! # }
//! # #[cfg(feature = "embedded")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #     let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! #     runtime.block_on(example::run())
//! # }
//! # #[cfg(not(feature = "embedded"))]
//! # fn main() {}
//! ```
//!
//! # Concepts
//!
//! - The *table* has the keys `pk` and `sk`, a stream, and time to live. [`DynamoStore::create_table`] creates it.
//! - A *commit* is one item in the partition of its stream, or several items written in one transaction if it exceeds
//!   400 KB. Its sort key is the version of its first event, which makes concurrent writers collide.
//! - A *snapshot* is one item in the same partition. It sorts after all commits, so one `Query` returns it with them.
//! - A *failed condition* returns the existing item. Its commit id distinguishes a conflict from a lost response.
//! - A *transaction* writes several streams, claims, an idempotency record, and your own items, at twice the units.
//! - A *document* is an item that is not an event, such as a checkpoint, a row of a read model, or a timeout.
//! - The *feed* consists of slices. The *log* of a slice consists of pages, each of which refers to up to 64 commits.
//! - *Indexers* append pages with conditional writes, so that each event is indexed once, without any locks.
//! - The *reconciler* adds commits that indexers have missed, and audits a table and its feed.
//! - The *cost* of each operation, in requests and capacity units, is part of its result ([`Cost`](es_core::Cost)).
//!
//! # Modules
//!
//! | item | content |
//! |---|---|
//! | [`DynamoStore`], [`DynamoStoreBuilder`], [`TableOptions`] | the store with the requests of each operation, its settings, and the creation of its table |
//! | [`Indexer`], [`Reconciler`] | maintaining the feed |
//! | [`lambda`] | indexing and publishing in AWS Lambda functions |
//! | `embedded` | the DynamoDB engine in this process, in memory or in a file |
//! | [`keyring`] | the keys of personal data in a table |
//! | `payloads` | a payload store on Amazon S3, for large events, snapshots, and archives |
//! | `publishers` | publishing to Kinesis Data Streams, EventBridge, SQS, and SNS |
//! | [`import`] | copying events from the tables of other libraries |
//! | [`names`] | names for filters on the table's stream |
//! | `testing` | fault injection below the SDK |
//!
//! # Features
//!
//! | feature | content |
//! |---|---|
//! | `aws` (default) | [`DynamoStore::from_env`] and [`DynamoStoreBuilder::endpoint`]: the credentials chain and an HTTPS client |
//! | `indexer` (default) | [`Indexer`] |
//! | `embedded` | [`DynamoStore::embedded`] and [`DynamoStore::embedded_at`] |
//! | `eventbridge`, `kinesis`, `sns`, `sqs` | the publisher to this broker in `publishers` |
//! | `kms` | `keyring::KmsMasterKey`, a master key in AWS KMS |
//! | `s3` | `payloads::S3Payloads`, a payload store on Amazon S3 |
//! | `metrics` | metrics: see `es_core::metrics` |
//! | `testing` | `testing::FaultyConnector` |
//!
//! Without `aws` and `embedded`, create a store from your own [`aws_sdk_dynamodb::Client`].
//!
//! # Further reading
//!
//! See the book in `docs/`: *Operations on AWS* describes permissions, settings, and costs, *The table format*
//! specifies every item, and *Design decisions* explains the design. [`es_core`] documents aggregates, repositories,
//! and projections.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod documents;
#[cfg(feature = "embedded")]
pub mod embedded;
mod feed;
pub mod import;
pub mod keyring;
#[cfg(feature = "s3")]
#[cfg_attr(docsrs, doc(cfg(feature = "s3")))]
pub mod payloads;
#[cfg(any(feature = "eventbridge", feature = "kinesis", feature = "sns", feature = "sqs"))]
#[cfg_attr(
    docsrs,
    doc(cfg(any(feature = "eventbridge", feature = "kinesis", feature = "sns", feature = "sqs")))
)]
pub mod publishers;
#[cfg(any(
    feature = "eventbridge",
    feature = "kinesis",
    feature = "kms",
    feature = "s3",
    feature = "sns",
    feature = "sqs"
))]
mod services;
mod store;
mod streams;
mod table;
#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "indexer")]
pub use aws_sdk_dynamodbstreams::Client as StreamsClient;
#[cfg(feature = "indexer")]
pub use feed::indexer::{Indexer, IndexerBuilder, IndexerProgress, IndexerShard};
pub use feed::lambda;
pub use feed::reconciler::{
    AuditReport, ReconcileProgress, Reconciler, ReconcilerBuilder, SweepOptions, SweepReport,
};
pub use store::{DynamoStore, DynamoStoreBuilder};
pub use table::CredentialsUnavailable;
pub use table::admin::TableOptions;

/// Names for filters on the table's stream: commits are the items whose [sort key](names::SORT_KEY) starts with
/// [`COMMIT_PREFIX`](names::COMMIT_PREFIX).
///
/// The book's chapter on the table format specifies all names.
pub mod names {
    pub use crate::table::names::{COMMIT_PREFIX, PARTITION_KEY, SORT_KEY};
}
