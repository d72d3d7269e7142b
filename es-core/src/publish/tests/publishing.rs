//! Publishing run by a projector.

use std::sync::Arc;

use chrono::DateTime;
use uuid::Uuid;

use super::{Unreliable, cloud_events, event, stream};
use crate::clock::ManualClock;
use crate::event::CommitId;
use crate::feed::{EventFilter, Feed};
use crate::ids::{IdSource, RandomIds};
use crate::memory::MemoryStore;
use crate::projection::{OnFailure, Projection, Projector};
use crate::publish::{BatchLimits, Publishing};
use crate::repository::RetryPolicy;
use crate::store::{Append, EventStore, NewCommit};
use crate::version::ExpectedVersion;

/// Appends a commit with the payloads to each of the streams 0 to 9.
async fn fill(store: &MemoryStore, payloads: &[&str]) {
    for number in 0..10 {
        let events = payloads.iter().map(|payload| event(payload)).collect();
        let commit = NewCommit::new(CommitId::new(RandomIds.new_id()), DateTime::UNIX_EPOCH, events);
        let append = Append::new(stream(number), ExpectedVersion::Any, commit);
        store.append(&append).await.expect("appends");
    }
}

fn publishing(broker: &Arc<Unreliable>) -> Publishing<Arc<Unreliable>> {
    let clock = ManualClock::at(DateTime::UNIX_EPOCH);
    Publishing::new("to_tests", Arc::clone(broker), cloud_events()).clock(clock)
}

fn projector(store: &MemoryStore, broker: &Arc<Unreliable>) -> Projector<Publishing<Arc<Unreliable>>> {
    let quick = RetryPolicy::default().with_max_attempts(3);
    Projector::builder(store.clone(), publishing(broker)).batch(7).retry(quick).build()
}

#[tokio::test]
async fn every_event_is_published_in_the_order_of_its_stream() {
    for seed in 0..20 {
        let (store, broker) = (MemoryStore::new(), Arc::new(Unreliable::seeded(seed, 0.3)));
        for _ in 0..3 {
            fill(&store, &["1", "2", "3"]).await;
            // A new projector each time, as after a restart.
            projector(&store, &broker).run_until_caught_up().await.expect("catches up");
        }
        let published = broker.published();
        assert_eq!(published.len(), 10);
        assert!(published.values().all(|versions| versions.iter().copied().eq(1..=9)), "{published:?}");
    }
}

#[tokio::test]
async fn a_broker_that_refuses_for_good_stops_the_slice_until_an_operator_says_so() {
    let (store, broker) = (MemoryStore::new(), Arc::new(Unreliable::reliable()));
    fill(&store, &["1", "2"]).await;
    broker.set_broken(true);
    let projector = projector(&store, &broker);
    let error = projector.run_until_caught_up().await.expect_err("stops").to_string();
    assert!(error.contains("`Counted` at version 1 of `order#"), "{error}");
    assert!(error.ends_with("the broker is broken on purpose"), "{error}");

    broker.set_broken(false);
    for slice in store.slices().await.expect("has some").iter() {
        let _ = projector.retry(slice).await; // those without events have not stopped
    }
    projector.run_until_caught_up().await.expect("catches up");
    assert!(broker.published().values().all(|versions| versions == &[1, 2]));
}

#[tokio::test]
async fn an_event_that_is_too_large_is_parked_alone_with_its_stream() {
    let limits = BatchLimits::default().envelope_bytes(2000);
    let (store, broker) = (MemoryStore::new(), Arc::new(Unreliable::reliable().limits(limits)));
    fill(&store, &["1"]).await;
    let large = format!("\"{}\"", "x".repeat(2000));
    let commit = NewCommit::new(CommitId::new(RandomIds.new_id()), DateTime::UNIX_EPOCH, vec![event(&large)]);
    store.append(&Append::new(stream(3), ExpectedVersion::Any, commit)).await.expect("appends");
    fill(&store, &["1"]).await;
    let projector = Projector::builder(store.clone(), publishing(&broker))
        .on_failure(OnFailure::Park)
        .retry(RetryPolicy::never())
        .build();
    projector.run_until_caught_up().await.expect("catches up");
    let published = broker.published();
    assert_eq!(published.len(), 10);
    for (name, versions) in published {
        let expected: &[u64] = if name == "order#3" { &[1] } else { &[1, 2] };
        assert_eq!(versions, expected, "{name}");
    }
}

/// Returns the parked events of a projector, by stream and version.
async fn parked(projector: &Projector<Publishing<Arc<Unreliable>>>) -> Vec<(String, u64)> {
    let parked = projector.parked().await.expect("can be read");
    let mut parked: Vec<_> =
        parked.into_iter().map(|parked| (parked.event.stream, parked.event.version.get())).collect();
    parked.sort();
    parked
}

/// Several in one batch, rejected alone or with their requests.
#[tokio::test]
async fn events_that_the_broker_rejects_permanently_are_parked_alone_with_their_streams() {
    for rejects_requests in [false, true] {
        let (store, broker) = (MemoryStore::new(), Arc::new(Unreliable::reliable()));
        fill(&store, &["1", "2", "3"]).await;
        broker.set_rejected(&[(1, 1), (4, 2), (5, 2), (7, 3)], rejects_requests);
        let projector = Projector::builder(store.clone(), publishing(&broker))
            .on_failure(OnFailure::Park)
            .retry(RetryPolicy::never())
            .build();
        projector.run_until_caught_up().await.expect("nothing stops");

        let expected = [(1, 1), (1, 2), (1, 3), (4, 2), (4, 3), (5, 2), (5, 3), (7, 3)];
        let expected: Vec<_> = expected.map(|(number, version)| (stream(number).to_string(), version)).into();
        assert_eq!(parked(&projector).await, expected);
        let sent = broker.repetitions();
        assert_eq!(sent.len(), 30 - expected.len());
        assert!(sent.values().all(|times| *times <= 2), "{sent:?}");

        // They remain parked if they are rejected again, and nothing stops.
        projector.replay_parked().await.expect("is requested");
        projector.run_until_caught_up().await.expect("nothing stops");
        assert_eq!(parked(&projector).await, expected);

        broker.set_rejected(&[], rejects_requests);
        projector.replay_parked().await.expect("is requested");
        projector.run_until_caught_up().await.expect("nothing stops");
        assert_eq!(parked(&projector).await, []);
        assert_eq!(broker.repetitions().len(), 30);
    }
}

/// Two in one batch: the decision about the second must not undo the one about the first.
#[tokio::test]
async fn an_operator_can_decide_about_each_event_that_the_broker_rejects() {
    let (store, broker) = (MemoryStore::new(), Arc::new(Unreliable::reliable()));
    let slices = store.slices().await.expect("has some");
    let together: Vec<usize> = (0..10).filter(|number| slices.of(&stream(*number)).get() == 0).collect();
    let [first, second, ..] = together[..] else { panic!("too few: {together:?}") };
    fill(&store, &["1"]).await;
    broker.set_rejected(&[(first, 1), (second, 1)], false);
    let projector =
        Projector::builder(store.clone(), publishing(&broker)).retry(RetryPolicy::never()).build();

    projector.run_until_caught_up().await.expect_err("stops at the first event");
    projector.park(slices.of(&stream(first))).await.expect("has stopped there");
    let error = projector.run_until_caught_up().await.expect_err("stops at the second event").to_string();
    assert!(error.contains(&stream(second).to_string()), "{error}");
    projector.skip(slices.of(&stream(second))).await.expect("has stopped there");
    projector.run_until_caught_up().await.expect("catches up");
    assert_eq!(parked(&projector).await, [(stream(first).to_string(), 1)]);
    assert_eq!(broker.repetitions().len(), 8);
}

#[tokio::test]
async fn only_what_is_chosen_is_published() {
    let (store, broker) = (MemoryStore::new(), Arc::new(Unreliable::reliable()));
    fill(&store, &["1"]).await;
    let nothing = publishing(&broker).only(EventFilter::none().with_events("order", ["Other"]));
    Projector::new(store, nothing).run_until_caught_up().await.expect("catches up");
    assert_eq!(broker.batches(), 0);
}

#[tokio::test]
async fn several_publish_beside_each_other() {
    let store = MemoryStore::new();
    fill(&store, &["1"]).await;
    for name in ["first", "second"] {
        let broker = Arc::new(Unreliable::reliable());
        let publishing = Publishing::new(name, Arc::clone(&broker), cloud_events());
        Projector::new(store.clone(), publishing).run_until_caught_up().await.expect("catches up");
        assert_eq!(broker.published().len(), 10);
    }
}

#[tokio::test]
async fn a_clone_has_an_outbox_of_its_own() {
    let broker = Arc::new(Unreliable::reliable());
    let mut first = publishing(&broker);
    let id = CommitId::new(Uuid::from_u128(1));
    let commit = crate::store::Commit::new(
        id,
        crate::version::Version::new(1),
        DateTime::UNIX_EPOCH,
        vec![event("1")],
    );
    let ctx = crate::projection::EventContext::outside_the_feed(&stream(0), &commit, 0);
    first.handle(&commit.events[0], &ctx).await.expect("collects");
    first.clone().flush().await.expect("has nothing to send");
    assert_eq!(broker.batches(), 0);
    first.flush().await.expect("sends");
    assert_eq!((broker.batches(), broker.published().len()), (1, 1));
}
