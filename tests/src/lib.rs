//! The conformance suite: what every event store has to do, as one async function per rule.
//!
//! [`conformance!`] turns the suite into tests of one store. Whoever writes a store of their own adds this package
//! and tokio to the development dependencies, and a test:
//!
//! ```
//! es_tests::conformance!(std::sync::Arc::new(es_core::MemoryStore::new()));
//! # fn main() {}
//! ```
//!
//! [`documents_conformance!`] does the same for documents, [`feed_conformance!`] for the feed.
//!
//! The rules in [`conformance::contract`] look at the store alone; those in [`conformance::repository`] look at
//! what a repository makes of it.

#![allow(clippy::missing_panics_doc)] // a rule that is broken panics: that is what rules are for

pub mod chaos;
pub mod conformance;
pub mod domain;

/// The README's examples, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The book's examples, compiled and run: one item for each chapter.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../../docs/src/concepts.md")]
    struct Concepts;
    #[doc = include_str!("../../docs/src/tutorial.md")]
    struct Tutorial;
    #[doc = include_str!("../../docs/src/modelling.md")]
    struct Modelling;
    #[doc = include_str!("../../docs/src/evolution.md")]
    struct Evolution;
    #[doc = include_str!("../../docs/src/testing.md")]
    struct Testing;
    #[doc = include_str!("../../docs/src/operations.md")]
    struct Operations;
    #[doc = include_str!("../../docs/src/format.md")]
    struct Format;
    #[doc = include_str!("../../docs/src/migration.md")]
    struct Migration;
}

/// The book quotes costs that the README has, where they are measured.
#[test]
fn the_book_quotes_the_costs_of_the_readme() {
    let readme = include_str!("../../README.md");
    let book = include_str!("../../docs/src/operations.md");
    let rows = book.lines().filter(|row| row.starts_with("| ") && row.matches(" | ").count() == 4);
    let rows: Vec<_> = rows.filter(|row| !row.starts_with("| what ")).collect();
    assert!(rows.len() > 5, "the table is gone");
    for row in rows {
        assert!(readme.contains(row), "the README has no such row:\n{row}");
    }
}
