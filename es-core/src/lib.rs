//! Event sourcing for Rust: aggregates, commands, projections, and processes, on any store.
//!
//! You write a domain as structs and pure functions. A [`Repository`] loads an aggregate from its events, decides a
//! command on its state, and records the new events with optimistic concurrency. The crate depends neither on AWS nor
//! on an async runtime. [`MemoryStore`] is for tests; `es-dynamo` stores events in Amazon DynamoDB or in an embedded
//! engine.
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
//! #[handlers]
//! impl Account {
//!     #[apply]
//!     fn deposited(&mut self, event: &Deposited) {
//!         self.balance += event.cents;
//!     }
//!
//!     #[apply]
//!     fn withdrawn(&mut self, event: &Withdrawn) {
//!         self.balance -= event.cents;
//!     }
//! }
//!
//! pub struct Deposit { pub cents: u64 }
//! pub struct Withdraw { pub cents: u64 }
//!
//! #[derive(Debug, PartialEq)]
//! pub struct Overdrawn { pub balance: u64 }
//!
//! #[handlers]
//! impl Account {
//!     #[handle]
//!     fn deposit(&self, command: &Deposit) -> Deposited {
//!         Deposited { cents: command.cents }
//!     }
//!
//!     #[handle]
//!     fn withdraw(&self, command: &Withdraw) -> Result<Withdrawn, Overdrawn> {
//!         if command.cents > self.balance {
//!             return Err(Overdrawn { balance: self.balance });
//!         }
//!         Ok(Withdrawn { cents: command.cents })
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let accounts: Repository<Account> = Repository::new(MemoryStore::new());
//! let done = accounts.execute("ann", Deposit { cents: 500 }).await?;
//! assert_eq!((done.state.balance, done.version), (500, Version::new(1)));
//!
//! let error = accounts.execute("ann", Withdraw { cents: 700 }).await.unwrap_err();
//! assert_eq!(error.rejection(), Some(&Overdrawn { balance: 500 }));
//! # Ok(())
//! # }
//! ```
//!
//! # Concepts
//!
//! - A *stream* contains the events of one aggregate. The *version* of an event is its position in the stream, starting
//!   at 1.
//! - A *commit* contains the events of one command. It is stored atomically.
//! - An *expected version* is the condition of a write: the version of the stream on which the command was decided.
//! - A *snapshot* is a cached state. A load starts from a usable snapshot, or else from the first event.
//! - An *upcast* converts a stored event to the current version of its type.
//! - An *idempotency key* ensures that a command takes effect only once, even if it is sent repeatedly.
//! - A *claim* reserves a value, such as an email address. At most one stream holds a claim at a time.
//! - The *feed* contains the events of all streams, divided into *slices*. The *position* of an event is its place in
//!   the feed of its slice.
//! - A *projection* turns the feed into a *read model*. Its *checkpoint* is the position of the last event that it has
//!   processed.
//! - A *process* reacts to events with commands and timeouts.
//!
//! # Modules
//!
//! | module | contents | for |
//! |---|---|---|
//! | the crate's root | the names that most applications use | applications |
//! | [`prelude`] | the names that most domains use, for glob imports | applications |
//! | [`repository`] | repositories and their settings, requests, outcomes, histories, transactions, and errors | applications |
//! | [`event`](mod@event) | stored events, commit ids, schema versions, and errors | applications |
//! | [`metadata`] | typed metadata, and metadata from `tracing` spans | applications |
//! | [`read_model`] | queries of rows, and their errors | applications |
//! | [`projection`], [`process`], [`publish`] | projections, processes, and publishing, with their settings and errors | applications |
//! | [`snapshot`] | when snapshots are written, and how a state is stored | applications |
//! | [`clock`], [`ids`] | the sources of times and ids, with replacements for tests | applications, tests |
//! | `metrics` | the metrics of the framework (feature `metrics`) | applications, authors of stores |
//! | [`personal`] | personal data that can be forgotten, and the keyring | applications |
//! | [`schema`] | the shapes of stored types | applications, with the schema lock |
//! | `testing` | given/when/then, the schema lock, fault injection (feature `testing`) | tests |
//! | [`payloads`] | stores of large objects, in memory and in a directory | applications, authors of stores |
//! | [`workers`] | the supervision of projectors and indexers (feature `tokio`) | applications |
//! | [`store`], [`documents`], [`feed`], [`stream_id`] | the contracts that a store implements, and their types | authors of stores |
//!
//! # Features
//!
//! - `testing`: tools for tests.
//! - `proptest`: `testing::check_laws`, which checks the laws of an aggregate with random commands.
//! - `metrics`: records metrics through the facade of the crate `metrics`.
//! - `tokio`: `workers::Workers`, which runs indexers, projectors, and other workers, and
//!   `payloads::DirectoryPayloads`.
//! - `tracing-subscriber`: `MetadataLayer`, which takes the metadata of commands from `tracing` spans.
//!
//! The book in `docs/` continues from here: a tutorial, modeling, testing, evolution, and operations.

#![cfg_attr(docsrs, feature(doc_cfg))]

// The macros expand to paths that start with `::es_core`, also in the tests and examples of this crate.
extern crate self as es_core;

mod aggregate;
pub mod clock;
mod command;
mod cost;
pub mod documents;
mod error_text;
pub mod event;
mod events;
pub mod feed;
pub mod ids;
mod keys;
mod measure;
mod memory;
pub mod metadata;
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub mod metrics;
pub mod payloads;
pub mod personal;
pub mod process;
pub mod projection;
pub mod publish;
pub mod read_model;
pub mod repository;
pub mod schema;
pub mod snapshot;
mod spans;
pub mod store;
pub mod stream_id;
#[cfg(feature = "testing")]
pub mod testing;
mod version;
pub mod workers;
mod yielding;

#[doc(hidden)]
pub mod __private;

#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
#[doc(inline)]
pub use workers::Workers;
#[doc(inline)]
pub use {
    aggregate::{Aggregate, Apply},
    command::{Context, Handle},
    cost::Cost,
    error_text::error_text,
    es_macros::{Aggregate, Id, Process, Projection, Row, Schema, event, handlers},
    event::{Event, EventId},
    events::{Events, IntoEvents},
    memory::MemoryStore,
    metadata::Metadata,
    personal::Personal,
    process::{Process, React, Reaction},
    projection::{BoxError, EventContext, Project, Projection, Projector},
    read_model::{ReadModel, Row},
    repository::{ExecuteError, Outcome, Repository, RetryPolicy, Transaction},
    schema::Schema,
    store::{EventStore, StoreError},
    stream_id::StreamId,
    version::{ExpectedVersion, Version},
};

// Types of these crates appear in public signatures.
#[doc(no_inline)]
pub use {bytes, chrono, serde, serde_json, uuid};

/// The names that most domains use: `use es_core::prelude::*;`
pub mod prelude {
    pub use crate::{
        Aggregate, Apply, BoxError, Context, Event as _, EventContext, Events, ExecuteError, Handle, Id,
        Metadata, Process, Project, Projection, Projector, React, Reaction, ReadModel, Repository, Row,
        Transaction, Version, event, events, handlers,
    };
}
