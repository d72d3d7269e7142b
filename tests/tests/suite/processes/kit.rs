//! The test kit for processes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use es_core::prelude::*;
use es_core::testing::{Reacted, TestStore, react};
use es_tests::chaos::processes::shop::{
    CalledOff, Finished, Fulfill, Fulfillment, Order, PATIENCE, PaidIn, Placed, Received, Released, Reserved,
    Shipped, Stock, Taken, Waiting, Wallet,
};

use super::support::shop;

fn placed(articles: &[&str]) -> Placed {
    let articles = articles.iter().map(|article| (*article).to_owned()).collect();
    Placed { articles, wallet: "ann".into() }
}

fn reserved() -> Reserved {
    Reserved { order: "1".into() }
}

fn waiting() -> Waiting {
    Waiting { articles: vec!["cup".into()], wallet: "ann".into() }
}

/// An order that waits for its money.
async fn unpaid() -> Reacted<Fulfill> {
    react(|store: &TestStore| shop(store))
        .given::<Stock>("cup", [Received { pieces: 1 }])
        .await
        .when::<Order>("1", placed(&["cup"]))
        .await
}

/// Returns the message of a failed assertion.
fn complaint(assertion: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(assertion)).expect_err("the assertion does not hold");
    panic.downcast_ref::<String>().expect("a text").clone()
}

#[tokio::test]
async fn steps_are_looked_at_one_by_one() {
    unpaid()
        .await
        .then_events::<Stock>("cup", [reserved()])
        .then_events::<Fulfillment>("1", [waiting()])
        .then_nothing::<Order>("1")
        .when::<Wallet>("ann", PaidIn { order: "1".into() })
        .await
        .then_nothing::<Stock>("cup")
        .then_events::<Wallet>("ann", [Taken { order: "1".into() }])
        .then_events::<Order>("1", [Shipped])
        .then_state(&"1".to_owned(), |state| assert_eq!(state.finished, 1))
        .later(PATIENCE * 2)
        .await
        .then_nothing::<Order>("1");
}

#[tokio::test]
async fn what_went_wrong_is_undone_in_time() {
    unpaid()
        .await
        .later(PATIENCE - Duration::from_millis(1))
        .await
        .then_nothing::<Order>("1")
        .later(Duration::from_millis(1))
        .await
        .then_events::<Stock>("cup", [Released { order: "1".into() }])
        .then_events::<Order>("1", [CalledOff])
        .then_events::<Fulfillment>("1", [Finished]);
}

#[tokio::test]
async fn a_rejection_is_compensated() {
    react(|store: &TestStore| shop(store))
        .given::<Stock>("cup", [Received { pieces: 1 }])
        .await
        .when::<Order>("1", placed(&["cup", "pot"]))
        .await
        .then_events::<Stock>("cup", events![reserved(), Released { order: "1".into() }])
        .then_nothing::<Stock>("pot")
        .then_events::<Order>("1", [CalledOff]);
}

#[tokio::test]
async fn complaints_show_what_differs() {
    let waits = unpaid().await;
    let text = complaint(|| drop(waits.then_events::<Stock>("cup", [Reserved { order: "2".into() }])));
    assert!(text.starts_with("`stock#cup` has different events than expected"), "{text}");
    assert!(
        text.contains("-             order: \"2\"") && text.contains("+             order: \"1\""),
        "{text}"
    );
    let waits = unpaid().await;
    let text = complaint(|| drop(waits.then_nothing::<Stock>("cup")));
    assert!(text.contains("+             order: \"1\""), "{text}");
    let waits = unpaid().await;
    let text = complaint(|| waits.then_failed("anything"));
    assert!(text.starts_with("the process handled all events"), "{text}");
}

/// Fails at once.
#[derive(Clone, Process)]
#[process(name = "failing", state = Fulfillment, events(Order(Placed)))]
struct Failing;

impl React<Placed> for Failing {
    fn instance(&self, _: &Placed, ctx: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(Some(ctx.id().to_owned()))
    }

    async fn react(
        &self,
        _: &Placed,
        _: &mut Reaction<'_, Fulfillment>,
    ) -> Result<Events<Fulfillment>, BoxError> {
        Err("the shop is closed".into())
    }
}

#[tokio::test]
async fn a_failure_is_expected_or_told() {
    let failed = async || react(|_: &TestStore| Failing).when::<Order>("1", placed(&[])).await;
    failed().await.then_failed("at version 1 of `order#1` (position 1): the shop is closed");
    let other = failed().await;
    let text = complaint(|| other.then_failed("something else"));
    assert!(text.starts_with("the process failed with a different error: "), "{text}");
    let told = failed().await;
    let text = complaint(|| drop(told.then_nothing::<Order>("1")));
    assert!(text.contains("the shop is closed"), "{text}");
}
