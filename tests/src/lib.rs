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
    struct Operations;
    #[doc = include_str!("../../docs/src/format.md")]
    struct Format;
    #[doc = include_str!("../../docs/src/migration.md")]
    struct Migration;
    #[doc = include_str!("../../docs/src/diagnostics.md")]
    struct Diagnostics;
}

/// Checks that each compiler message quoted in the book occurs in a UI test.
#[test]
fn the_book_quotes_the_compiler() {
    let ui = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
    let files =
        |folder| std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
    let said: String = files(ui)
        .filter(|path| path.is_dir())
        .flat_map(files)
        .filter(|file| file.extension().is_some_and(|extension| extension == "stderr"))
        .map(|file| std::fs::read_to_string(file).expect("is text"))
        .collect();

    let book = include_str!("../../docs/src/diagnostics.md");
    let quotes: Vec<_> = book.lines().filter_map(|row| row.strip_prefix("| **here** | `` ")).collect();
    let mistakes: Vec<_> = book
        .split("| mistake | message |\n|---|---|\n")
        .skip(1)
        .flat_map(|rest| rest.lines().take_while(|row| row.starts_with('|')))
        .filter_map(|row| Some(row.split_once(" | `` ")?.1))
        .collect();
    assert!(quotes.len() > 10 && mistakes.len() > 5, "the tables are gone");
    for quote in quotes.into_iter().chain(mistakes) {
        let message = quote.split(" ``").next().expect("has an end");
        assert!(said.contains(message), "no UI test has this message:\n{message}");
    }
}

/// Checks that the README quotes the costs in the book. A test in `examples` compares those with a measurement.
#[test]
fn the_readme_quotes_the_costs_of_the_book() {
    let readme = include_str!("../../README.md");
    let book = include_str!("../../docs/src/operations.md");
    let rows = readme.lines().filter(|row| row.starts_with("| ") && row.matches(" | ").count() == 4);
    let rows: Vec<_> = rows.filter(|row| !row.starts_with("| what ")).collect();
    assert!(rows.len() > 3, "the table is gone");
    for row in rows {
        assert!(book.contains(row), "the book has no such row:\n{row}");
    }
}

/// Checks that the files and folders named in ARCHITECTURE.md exist.
#[test]
fn the_architecture_names_what_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = include_str!("../../ARCHITECTURE.md");
    let paths: Vec<_> = page.split('`').skip(1).step_by(2).filter(|name| name.contains('/')).collect();
    assert!(paths.len() > 10, "the paths are gone");
    for path in paths {
        assert!(root.join(path).exists(), "there is no such file: {path}");
    }
}
