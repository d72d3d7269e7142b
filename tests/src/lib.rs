//! The conformance suite for event stores: one async function per rule.
//!
//! [`conformance!`] generates one test per rule for a store. Add this package and tokio to the development dependencies
//! of your store, and a test:
//!
//! ```
//! es_tests::conformance!(std::sync::Arc::new(es_core::MemoryStore::new()));
//! # fn main() {}
//! ```
//!
//! [`documents_conformance!`] generates the tests for documents, [`feed_conformance!`] those for the feed,
//! [`splits_conformance!`] those for a feed whose slices can be split, [`large_events_conformance!`] those for events
//! and snapshots that do not fit into an item, [`payloads_conformance!`] those for payload stores, and
//! [`keyring_conformance!`] those for keyrings.
//!
//! The rules in [`conformance::contract`] test the store alone; those in [`conformance::repository`] test a repository
//! on the store.

#![allow(clippy::missing_panics_doc)] // a rule that is broken panics: that is what rules are for

pub mod chaos;
pub mod conformance;
#[cfg(test)]
mod docs;
pub mod domain;
pub mod gate;
pub mod recorder;

/// Compiles and runs the examples of the book: one item per chapter.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../../docs/src/concepts.md")]
    struct Concepts;
    #[doc = include_str!("../../docs/src/tutorial.md")]
    struct Tutorial;
    #[doc = include_str!("../../docs/src/modeling.md")]
    struct Modeling;
    #[doc = include_str!("../../docs/src/lifecycle.md")]
    struct Lifecycle;
    #[doc = include_str!("../../docs/src/large-events.md")]
    struct LargeEvents;
    #[doc = include_str!("../../docs/src/evolution.md")]
    struct Evolution;
    #[doc = include_str!("../../docs/src/projections.md")]
    struct Projections;
    #[doc = include_str!("../../docs/src/processes.md")]
    struct Processes;
    #[doc = include_str!("../../docs/src/publishing.md")]
    struct Publishing;
    #[doc = include_str!("../../docs/src/personal-data.md")]
    struct PersonalData;
    #[doc = include_str!("../../docs/src/testing.md")]
    struct Testing;
    #[doc = include_str!("../../docs/src/operations.md")]
    struct DynamoDb;
    #[doc = include_str!("../../docs/src/feed.md")]
    struct Feed;
    #[doc = include_str!("../../docs/src/deployment.md")]
    struct Deployment;
    #[doc = include_str!("../../docs/src/monitoring.md")]
    struct Monitoring;
    #[doc = include_str!("../../docs/src/command-line.md")]
    struct CommandLine;
    #[doc = include_str!("../../docs/src/format.md")]
    struct Format;
    #[doc = include_str!("../../docs/src/migration.md")]
    struct Migration;
    #[doc = include_str!("../../docs/src/diagnostics.md")]
    struct Diagnostics;
}
