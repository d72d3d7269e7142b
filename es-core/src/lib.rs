//! Event sourcing for Rust: the vocabulary of a domain, and the contract of an event store.

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

#[doc(hidden)]
pub mod __private;

pub use aggregate::{Aggregate, Apply};
pub use clock::{Clock, ManualClock, SystemClock};
pub use command::{Context, Handle, HandledBy};
pub use cost::Cost;
pub use error_text::{MAX_ERROR_TEXT, error_text};
pub use es_macros::{Aggregate, Process, Projection, Row, Schema, event};
pub use event::{CommitId, DecodeError, Event, EventData, EventId};
pub use events::{Events, HasEvent};
pub use ids::{IdSource, RandomIds, SequentialIds};
pub use memory::MemoryStore;
#[cfg(feature = "tracing-subscriber")]
#[cfg_attr(docsrs, doc(cfg(feature = "tracing-subscriber")))]
pub use metadata::MetadataLayer;
pub use metadata::{Metadata, MetadataError, MetadataValue};
pub use process::{Process, React, Reaction};
pub use projection::{BoxError, EventContext, Project, Projection, Projector};
pub use read_model::{IndexPlace, ReadModel, ReadModelError, Row, RowPage, RowQuery};
pub use repository::{
    Committed, Decided, ExecuteError, History, KeyReused, Loaded, Outcome, Recorded, Rejection, Repository,
    RepositoryBuilder, Request, RetryBudget, RetryPolicy, Transaction, TransactionError,
};
pub use schema::Schema;
pub use serde;
pub use snapshot::{Fingerprint, Snapshot, SnapshotPolicy, SnapshotState, Snapshots};
pub use store::{EventStore, StoreError};
pub use stream_id::{InvalidStreamId, StreamId};
pub use version::{ExpectedVersion, Version};

/// What a domain needs: `use es_core::prelude::*;`
pub mod prelude {
    pub use crate::{
        Aggregate, Apply, BoxError, Context, Event as _, EventContext, Events, ExecuteError, Handle,
        Metadata, Process, Project, Projection, Projector, React, Reaction, ReadModel, Repository, Row,
        Transaction, Version, event, events,
    };
}
