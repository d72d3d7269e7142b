//! An event store for [`es_core`] on PostgreSQL 14 and later.
//!
//! The domain, repositories, projections, and processes are the same as on any other store. [`PostgresStore`] keeps all
//! of it in the tables of one schema: commits, snapshots, claims, idempotency records, and documents, such as
//! checkpoints and the rows of read models. An append is one `INSERT` and one round trip. The feed needs no indexer.
//!
//! # Example
//!
//! ```no_run
//! use es_core::prelude::*;
//! use es_postgres::PostgresStore;
//!
//! #[event]
//! pub struct Deposited { pub cents: u64 }
//!
//! #[derive(Aggregate, Debug, Default)]
//! #[aggregate(name = "account", id = String, events(Deposited))]
//! pub struct Account { balance: u64 }
//!
//! impl Apply<Deposited> for Account {
//!     fn apply(&mut self, event: &Deposited) { self.balance += event.cents; }
//! }
//!
//! pub struct Deposit { pub cents: u64 }
//!
//! impl Handle<Deposit> for Account {
//!     type Error = std::convert::Infallible;
//!
//!     fn handle(&self, command: &Deposit, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
//!         Ok(Deposited { cents: command.cents }.into())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = PostgresStore::connect("postgres://localhost/bank").await?;
//! store.migrate().await?;
//! let accounts: Repository<Account> = Repository::new(store);
//! let done = accounts.execute(&"ann".to_owned(), Deposit { cents: 500 }).await?;
//! assert_eq!(done.state.balance, 500);
//! # Ok(())
//! # }
//! ```
//!
//! # Concepts
//!
//! - A *commit* is a row. Its primary key is the stream and the version of its first event, which makes concurrent
//!   writers collide. Payloads are stored as `json`, and returned byte for byte.
//! - A *transaction* of the framework is one transaction of PostgreSQL, at the isolation level READ COMMITTED, in which
//!   every check is an insert that must succeed. Your own statements can be part of it: see [`Statement`].
//! - A *projection* can write tables of the application in one transaction with its checkpoint: see [`SqlReadModel`].
//! - The *feed* is the commits in the order of their transactions, up to the oldest transaction that is still open. No
//!   event is skipped, however long a writer takes between its insert and its commit. A long transaction delays the
//!   feed, which is reported: see [`PostgresStore::feed_delay`].
//! - The keys of *personal data* are in another schema or database: see [`keyring`].
//! - The *limits* are those of all stores ([`es_core::store::limits`]), so that an application can move to DynamoDB.
//!
//! The book's chapter on PostgreSQL has the schema, the operation of the database, and the differences from DynamoDB.

#![cfg_attr(docsrs, feature(doc_cfg))]

/// Compiles the snippets of the book's chapter.
#[cfg(doctest)]
#[doc = include_str!("../../docs/src/postgresql.md")]
mod book {}

mod database;
mod documents;
mod feed;
pub mod keyring;
mod schema;
mod sql_read_model;
mod statement;
mod store;
mod streams;

#[doc(inline)]
pub use {
    database::SqlTransaction,
    feed::{FeedDelay, OpenTransaction},
    sql_read_model::SqlReadModel,
    statement::Statement,
    store::{PostgresStore, PostgresStoreBuilder},
};

// Its types occur in the signatures of this crate.
#[doc(no_inline)]
pub use sqlx;
