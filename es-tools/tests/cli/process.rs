//! A process with timeouts: its page in the explorer, and `es process timeouts`.

use std::time::Duration;

use es_core::prelude::*;
use es_core::projection::OnFailure;
use es_core::{RetryPolicy, StreamId};
use es_dynamo::{DynamoStore, Reconciler};
use serde_json::Value;

use crate::support::{Account, Deposited, Place};

#[event]
pub(crate) struct Started;

#[event]
pub(crate) struct ReviewDue;

#[derive(Aggregate, Debug, Default)]
#[aggregate(name = "review", id = String, events(Started))]
pub(crate) struct Review;

#[handlers]
impl Review {
    #[apply]
    fn started(&mut self, _: &Started) {}
}

/// Schedules a review after each deposit, as many seconds later as it has cents. Every review fails.
#[derive(Clone, Process)]
#[process(name = "reviews", state = Review, events(Account(Deposited)), timeouts(ReviewDue))]
pub(crate) struct Reviews;

#[handlers]
impl Reviews {
    #[react]
    async fn deposited(
        &self,
        event: &Deposited,
        reaction: &mut Reaction<'_, Review>,
    ) -> Result<Started, BoxError> {
        reaction.schedule(Duration::from_secs(event.cents), ReviewDue)?;
        Ok(Started)
    }

    #[react]
    async fn review_due(
        &self,
        _: &ReviewDue,
        _: &mut Reaction<'_, Review>,
    ) -> Result<Events<Review>, BoxError> {
        Err("there is no reviewer".into())
    }
}

/// Runs the process until it has handled all events and the timeouts that are due.
async fn run(store: &DynamoStore) {
    Reconciler::builder(store).build().run().await.expect("runs");
    let builder = Projector::process_builder(store.clone(), Reviews).retry(RetryPolicy::never());
    let projector = builder.on_failure(OnFailure::Park).build();
    projector.run_until_caught_up().await.expect("handles all events");
}

const YEAR: u64 = 365 * 24 * 3600;

#[tokio::test]
async fn pending_timeouts_are_listed_by_due_time() {
    let place = Place::new("timeouts");
    place.deposit("ann", &[2 * YEAR]).await;
    place.deposit("bob", &[YEAR]).await;
    let store = place.store().await;
    run(&store).await;

    let listed = place.es(&["--json", "process", "timeouts", "reviews"]).json();
    let instances: Vec<_> = listed.as_array().expect("a list").iter().map(|one| &one["instance"]).collect();
    assert_eq!(instances, ["review#bob", "review#ann"]);
    assert!(listed[0]["due"].as_str() < listed[1]["due"].as_str(), "{listed}");
    assert_eq!(listed[0]["event"], "ReviewDue");
    let first = place.es(&["process", "timeouts", "reviews", "--limit", "1"]).succeeds();
    assert!(first.contains("review#bob") && !first.contains("review#ann"), "{first}");
    place.es(&["process", "timeouts", "reviews", "--limit", "0"]).fails(2);
    let unknown = place.es(&["process", "timeouts", "unknown"]).fails(1);
    assert!(unknown.contains("no process `unknown` has run"), "{unknown}");
    let other: Value = place.es(&["--json", "process", "parked", "reviews"]).json();
    assert_eq!(other.as_array().map(Vec::len), Some(0), "{other}");
}

#[cfg(feature = "explorer")]
mod pages {
    use es_tools::{Application, Explorer};

    use super::*;
    use crate::explorer::shown;

    #[tokio::test]
    async fn the_page_of_a_process_shows_pending_and_parked_timeouts() {
        let place = Place::new("timeout-pages");
        place.deposit("ann", &[YEAR]).await;
        place.deposit("bob", &[0]).await;
        let store = place.store().await;
        run(&store).await;
        let router = Explorer::new(store, Application::new("bank")).into_router();

        let page = shown(&router, "/consumers/reviews").await;
        let (before, pending) = page.split_once("Pending timeouts").expect("the section");
        let link = |id: &str| {
            let stream = StreamId::new("review", id).expect("valid");
            format!("href=\"/streams/review%23{id}\">{stream}</a>")
        };
        assert!(pending.contains("ReviewDue") && pending.contains(&link("ann")), "{pending}");
        assert!(!pending.contains(&link("bob")), "it is parked: {pending}");
        let (_, parked) = before.split_once("Parked events").expect("the section");
        assert!(parked.contains("href=\"/streams/review%23bob\""), "{parked}");
        assert!(parked.contains("there is no reviewer"), "{parked}");
        assert!(pending.contains("href=\"/traces/"), "the event that led to the timeout: {pending}");
    }
}
