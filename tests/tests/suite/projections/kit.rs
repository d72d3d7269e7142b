//! The test kit for projections.

use std::panic::{AssertUnwindSafe, catch_unwind};

use es_core::events;
use es_core::testing::{Projected, project};
use es_tests::domain::{Account, Deposited, RateSet, Withdrawn};

use super::support::{Journal, Line};

fn deposited(note: &str) -> Deposited {
    Deposited { cents: 5, note: note.to_owned() }
}

fn line(note: &str, version: u64) -> Line {
    Line { note: note.to_owned(), account: "ada".to_owned(), version }
}

async fn journal() -> Projected<Journal> {
    project(Journal::new)
        .given::<Account>("ada", events![deposited("a"), RateSet { rate: 0.5 }, Withdrawn { cents: 1 }])
        .await
        .given::<Account>("bob", [deposited("b")])
        .await
}

/// Returns the message of a failed assertion.
fn complaint(assertion: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(assertion)).expect_err("the assertion does not hold");
    panic.downcast_ref::<String>().expect("a text").clone()
}

#[tokio::test]
async fn rows_are_those_of_the_events() {
    let journal = journal().await.then_row(|journal| &journal.lines, "a", line("a", 1));
    let journal =
        journal.then_no_row(|journal| &journal.lines, "c").given::<Account>("ada", [deposited("a")]);
    let journal = journal.await.then_row(|journal| &journal.lines, "a", line("a", 4));
    assert_eq!(journal.projection().versions("ada"), [1, 3, 4]);
}

#[tokio::test]
async fn complaints_show_what_differs() {
    let (first, second, third) = (journal().await, journal().await, journal().await);
    let text = complaint(|| drop(first.then_row(|journal| &journal.lines, "a", line("a", 2))));
    assert!(text.contains("the row of `lines` differs from the expected row"), "{text}");
    assert!(text.contains("-     version: 2") && text.contains("+     version: 1"), "{text}");
    let text = complaint(|| drop(second.then_row(|journal| &journal.lines, "c", line("c", 1))));
    assert!(text.starts_with("`lines` has no such row; expected: Line"), "{text}");
    let text = complaint(|| drop(third.then_no_row(|journal| &journal.lines, "a")));
    assert!(text.starts_with("`lines` has an unexpected row: Line"), "{text}");
}

#[tokio::test]
async fn a_failure_is_expected_or_told() {
    let failing = async || project(Journal::new).given::<Account>("ada", [deposited("many:x")]).await;
    failing().await.then_failed("at version 1 of `account#ada` (position 1): invalid digit");
    let failed = failing().await;
    let text = complaint(|| failed.then_failed("something else"));
    assert!(text.starts_with("the projection failed with a different error: "), "{text}");
    let failed = failing().await;
    let text = complaint(|| drop(failed.then_no_row(|journal| &journal.lines, "a")));
    assert!(text.contains("invalid digit"), "{text}");
    let works = journal().await;
    let text = complaint(|| works.then_failed("anything"));
    assert!(text.starts_with("the projection handled all events"), "{text}");
}
