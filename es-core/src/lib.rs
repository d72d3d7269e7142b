//! Event sourcing for Rust: aggregates, commands, projections, and processes, independent of the store.
//!
//! A domain is written as structs and pure functions. A [`Repository`] loads an aggregate from its events, decides a
//! command on its state, and records the new events with optimistic concurrency. The crate depends on neither AWS nor a
//! runtime; [`MemoryStore`] is for tests, and `es-dynamo` stores events in Amazon DynamoDB or in an embedded engine.
//!
//! # Example
//!
//! ```
//! use es_core::prelude::*;
//! use es_core::MemoryStore;
//!
//! #[event]
//! pub struct Deposited { pub cents: u64 }
//!
//! #[event]
//! pub struct Withdrawn { pub cents: u64 }
//!
//! #[derive(Aggregate, Debug, Default)]
//! #[aggregate(name = "account", id = String, events(Deposited, Withdrawn))]
//! pub struct Account { balance: u64 }
//!
//! impl Apply<Deposited> for Account {
//!     fn apply(&mut self, event: &Deposited) { self.balance += event.cents; }
//! }
//!
//! impl Apply<Withdrawn> for Account {
//!     fn apply(&mut self, event: &Withdrawn) { self.balance -= event.cents; }
//! }
//!
//! pub struct Deposit { pub cents: u64 }
//! pub struct Withdraw { pub cents: u64 }
//!
//! #[derive(Debug, PartialEq)]
//! pub struct Overdrawn { pub balance: u64 }
//!
//! impl Handle<Deposit> for Account {
//!     type Error = std::convert::Infallible;
//!
//!     fn handle(&self, command: &Deposit, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
//!         Ok(Deposited { cents: command.cents }.into())
//!     }
//! }
//!
//! impl Handle<Withdraw> for Account {
//!     type Error = Overdrawn;
//!
//!     fn handle(&self, command: &Withdraw, _: &Context<Self>) -> Result<Events<Self>, Overdrawn> {
//!         if command.cents > self.balance {
//!             return Err(Overdrawn { balance: self.balance });
//!         }
//!         Ok(Withdrawn { cents: command.cents }.into())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let accounts: Repository<Account> = Repository::new(MemoryStore::new());
//! let ann = "ann".to_owned();
//!
//! let done = accounts.execute(&ann, Deposit { cents: 500 }).await?;
//! assert_eq!((done.state.balance, done.version), (500, Version::new(1)));
//!
//! let error = accounts.execute(&ann, Withdraw { cents: 700 }).await.unwrap_err();
//! assert_eq!(error.rejection(), Some(&Overdrawn { balance: 500 }));
//! # Ok(())
//! # }
//! ```
//!
//! # Concepts
//!
//! - A *stream* has the events of one aggregate. The *version* of an event is its place in the stream, from 1.
//! - A *commit* has the events of one command. It is stored whole or not at all.
//! - An *expected version* is the condition of a write: the end of the stream that the command was decided on.
//! - A *snapshot* is a cached state. A load starts from it if it fits, and from the first event otherwise.
//! - An *upcast* converts a stored event to the current version of its type.
//! - An *idempotency key* makes a command that is sent repeatedly take effect once.
//! - A *claim* is a value that at most one stream holds at a time, such as an email address.
//! - The *feed* has the events of all streams, in *slices*. The *position* of an event is its place in its slice.
//! - A *projection* turns the feed into a *read model*. Its *checkpoint* is the position up to which it has come.
//! - A *process* reacts to events with commands and timeouts.
//!
//! # Modules
//!
//! | module | contents | for |
//! |---|---|---|
//! | [`prelude`] | the names that most domains use | applications |
//! | [`event`](mod@event) | stored events, their ids, schema versions, and errors | applications |
//! | [`projection`], [`process`], [`publish`] | projections, processes, and publishing, with their settings and errors | applications |
//! | [`schema`] | the shapes of stored types | applications, with the schema lock |
//! | `testing` | given/when/then, the schema lock, fault injection (feature `testing`) | tests |
//! | [`workers`] | the supervision of projectors and indexers (feature `tokio`) | applications |
//! | [`store`], [`documents`], [`feed`] | the contracts that a store implements | authors of stores |
//!
//! # Features
//!
//! - `testing`: tools for tests.
//! - `proptest`: `testing::check_laws`, which checks the laws of an aggregate with random commands.
//! - `tokio`: `workers::Workers`, which runs indexers, projectors, and other workers.
//! - `tracing-subscriber`: `MetadataLayer`, which takes the metadata of commands from `tracing` spans.
//!
//! The book in `docs/` continues from here: a tutorial, modeling, testing, evolution, and operations.

#![cfg_attr(docsrs, feature(doc_cfg))]

// The macros expand to paths that start with `::es_core`, in this crate's own tests and examples too.
extern crate self as es_core;

mod aggregate;
mod clock;
mod command;
mod cost;
pub mod documents;
mod error_text;
pub mod event;
mod events;
pub mod feed;
mod ids;
mod keys;
mod memory;
mod metadata;
pub mod process;
pub mod projection;
pub mod publish;
mod read_model;
mod repository;
pub mod schema;
mod snapshot;
pub mod store;
mod stream_id;
#[cfg(feature = "testing")]
pub mod testing;
mod version;
pub mod workers;

#[doc(hidden)]
pub mod __private;

pub use aggregate::{Aggregate, Apply, IdFrom};
pub use clock::{Clock, ManualClock, SystemClock};
pub use command::{Context, Handle, HandledBy};
pub use cost::Cost;
pub use error_text::{MAX_ERROR_TEXT, error_text};
pub use es_macros::{Aggregate, Id, Process, Projection, Row, Schema, event, handlers};
pub use event::{CommitId, DecodeError, Event, EventData, EventId};
pub use events::{Events, HasEvent, IntoEvents};
pub use ids::{IdSource, RandomIds, SequentialIds};
pub use memory::MemoryStore;
#[cfg(feature = "tracing-subscriber")]
#[cfg_attr(docsrs, doc(cfg(feature = "tracing-subscriber")))]
pub use metadata::MetadataLayer;
pub use metadata::{Metadata, MetadataError, MetadataValue};
pub use process::{Process, React, Reaction};
pub use projection::{BoxError, EventContext, Project, Projection, Projector};
pub use read_model::{
    AggregateIds, FieldValue, IdRow, IndexPlace, OrderFields, ReadModel, ReadModelError, Row, RowIndex,
    RowListing, RowPage, RowQuery,
};
pub use repository::{
    Committed, Decided, ExecuteError, History, KeyReused, Loaded, Outcome, Recorded, Rejection, Repository,
    RepositoryBuilder, Request, RetryBudget, RetryPolicy, Transaction, TransactionError,
};
pub use schema::Schema;
pub use snapshot::{Fingerprint, Snapshot, SnapshotPolicy, SnapshotState, Snapshots};
pub use store::{EventStore, StoreError};
pub use stream_id::{InvalidStreamId, StreamId};
pub use version::{ExpectedVersion, Version};
pub use workers::Worker;
#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub use workers::Workers;

// Their types occur in the signatures of this crate.
#[doc(no_inline)]
pub use {chrono, serde, serde_json, uuid};

/// The names that most domains use: `use es_core::prelude::*;`
pub mod prelude {
    pub use crate::{
        Aggregate, Apply, BoxError, Context, Event as _, EventContext, Events, ExecuteError, Handle, Id,
        Metadata, Process, Project, Projection, Projector, React, Reaction, ReadModel, Repository, Row,
        Transaction, Version, event, events, handlers,
    };
}
