//! A process with timeouts: its page in the explorer, and `es process timeouts`; a process whose reaction is abandoned.

use std::time::Duration;

use es_core::prelude::*;
use es_core::projection::{OnFailure, WaitError};
use es_core::{RetryPolicy, StreamId};
use es_dynamo::{DynamoStore, Reconciler};
use serde_json::Value;

use crate::support::{Account, Deposit, Deposited, Place};

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

/// Forwards deposits of 100 cents or more to the bank, and fails at those of [`POISON`] cents afterwards.
#[derive(Clone, Process)]
#[process(name = "forwarding", state = Review, events(Account(Deposited)))]
struct Forwarding {
    accounts: Repository<Account>,
}

const POISON: u64 = 113;

#[handlers]
impl Forwarding {
    #[react(instance = |event| (event.cents >= 100).then(|| "all".to_owned()))]
    async fn deposited(
        &self,
        event: &Deposited,
        reaction: &mut Reaction<'_, Review>,
    ) -> Result<Started, BoxError> {
        reaction.execute(&self.accounts, "bank", Deposit(1)).await?;
        if event.cents == POISON { Err("it cannot be forwarded".into()) } else { Ok(Started) }
    }
}

/// Runs the process until it has handled all events or has stopped.
async fn forward(place: &Place) -> Result<(), WaitError> {
    let store = place.store().await;
    Reconciler::builder(&store).build().run().await.expect("runs");
    let process = Forwarding { accounts: Repository::new(store.clone()) };
    let builder = Projector::process_builder(store, process).retry(RetryPolicy::never());
    builder.restart(RetryPolicy::never()).build().run_until_caught_up().await
}

#[tokio::test]
async fn an_unfinished_reaction_is_abandoned() {
    let place = Place::new("abandoned");
    place.deposit("ann", &[POISON, 100]).await;
    forward(&place).await.expect_err("the first deposit fails");
    let abandon =
        |more: &[&str]| place.es(&[&["process", "abandon", "forwarding", "review#all"][..], more].concat());
    let unfinished = abandon(&["--yes"]).fails(1);
    assert!(unfinished.contains("has not finished: `park` or `skip` it first"), "{unfinished}");
    place.es(&["process", "skip", "forwarding", "0", "--yes"]).succeeds();
    forward(&place).await.expect_err("the second deposit waits for the first");
    let progress = place.es(&["process", "progress", "forwarding"]).succeeds();
    let advice = "of the instance `review#all` has begun but not finished, because it was skipped: use `abandon` for this \
                  instance";
    assert!(progress.contains(advice), "{progress}");

    abandon(&[]).fails(4);
    let dry = abandon(&["--dry-run"]).succeeds();
    assert_eq!(dry, "would abandon the unfinished reaction of `review#all`\n");
    abandon(&["--yes"]).succeeds();
    forward(&place).await.expect("goes on");
    let bank: Value = serde_json::from_str(
        place.es(&["--json", "stream", "show", "account#bank"]).succeeds().lines().last().expect("an event"),
    )
    .expect("JSON");
    assert_eq!(bank["events"][0]["version"], 2, "the effects of the abandoned reaction remain");
    let nothing = abandon(&["--yes"]).fails(1);
    assert!(nothing.contains("no reaction of `forwarding` has begun and not finished"), "{nothing}");
    let projection = place.es(&["process", "abandon", "unknown", "review#all", "--yes"]).fails(1);
    assert!(projection.contains("no process `unknown` has run"), "{projection}");
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
