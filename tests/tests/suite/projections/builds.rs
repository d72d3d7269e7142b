//! Rebuilds of a projection while the old build is being read.

use std::sync::Arc;
use std::time::Duration;

use es_core::documents::{ChangeSet, DocumentChange, DocumentKey, DocumentQuery, Documents};
use es_core::event::EventData;
use es_core::feed::EventFilter;
use es_core::prelude::*;
use es_core::projection::{OnFailure, ProjectError, ProjectorBuilder, ProjectorError, Stage, registered};
use es_core::read_model::UntypedRows;
use es_core::testing::{Faults, FaultyStore};
use es_core::{MemoryStore, StoreError};
use es_tests::chaos::slow::Slow;
use fastrand::Rng;
use tokio::time::Instant;

use super::support::{Journal, deposit, projector, slice, work};

async fn documents(store: &MemoryStore, collection: &str) -> usize {
    store.documents(&DocumentQuery::new(collection)).await.expect("a page").documents.len()
}

/// Returns the number of rows and index entries of a build.
async fn rows(store: &MemoryStore, build: u32) -> usize {
    let mut count = documents(store, &format!("read#journal#{build}#lines#i#by_account#ada")).await;
    for bucket in 0..16 {
        count += documents(store, &format!("read#journal#{build}#lines#r#{bucket}")).await;
    }
    count
}

#[tokio::test(start_paused = true)]
async fn a_new_build_takes_the_place_of_the_old_one() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "b"]).await;
    let journal = Journal::new(&store);
    let projector = projector(store.clone(), journal.clone()).build();
    projector.run_until_caught_up().await.expect("works");
    assert!(projector.switch().await.expect_err("no new build").to_string().contains("`rebuild` begins"));

    projector.rebuild().await.expect("begins");
    projector.rebuild().await.expect("the new build has not begun, so this has no effect");
    assert_eq!(projector.rebuild_progress().await.expect("progress").expect("a new build").lag(), 2);
    let error = projector.switch().await.expect_err("it is behind").to_string();
    assert!(error.contains("is at position 0") && error.contains("wait until it has caught up"), "{error}");
    deposit(&store, "ada", &["c"]).await;
    projector.run_until_caught_up().await.expect("works on both");
    assert!(projector.rebuild().await.is_err(), "one is enough");
    assert_eq!(journal.handled().len(), 6);
    assert_eq!((rows(&store, 1).await, rows(&store, 2).await), (6, 6));

    projector.switch().await.expect("switched");
    assert_eq!(projector.rebuild_progress().await.expect("progress"), None);
    deposit(&store, "ada", &["d"]).await;
    projector.run_until_caught_up().await.expect("works");
    assert_eq!((rows(&store, 1).await, rows(&store, 2).await), (6, 8));
    projector.delete_replaced().await.expect("deleted");
    projector.delete_replaced().await.expect("nothing left to delete");
    assert_eq!((rows(&store, 1).await, rows(&store, 2).await), (0, 8));
    // The control document, and a checkpoint for each slice of the only build.
    assert_eq!(documents(&store, "projection#journal").await, 5);
    assert_eq!(Journal::new(&store).lines.all().await.expect("rows").len(), 4);
}

#[tokio::test(start_paused = true)]
async fn no_build_gets_the_number_of_one_that_was_deleted() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a"]).await;
    let projector = projector(store.clone(), Journal::new(&store)).build();
    assert!(projector.cancel_rebuild().await.is_err());
    projector.rebuild().await.expect("begins");
    projector.run_until_caught_up().await.expect("works");
    projector.cancel_rebuild().await.expect("cancelled");
    projector.delete_replaced().await.expect("deleted");
    projector.rebuild().await.expect("begins");
    projector.run_until_caught_up().await.expect("works");
    assert_eq!((rows(&store, 1).await, rows(&store, 2).await, rows(&store, 3).await), (2, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_new_build_that_misses_events_takes_the_place_of_the_old_one_on_demand_only() {
    for (on_failure, anyway) in
        [(OnFailure::Park, false), (OnFailure::Stop, false), (OnFailure::Park, true), (OnFailure::Stop, true)]
    {
        let store = MemoryStore::new();
        deposit(&store, "ada", &["a", "b"]).await;
        let journal = Journal::new(&store);
        let projector = projector(store.clone(), journal.clone()).on_failure(on_failure).build();
        projector.run_until_caught_up().await.expect("works");
        assert!(projector.switch_anyway().await.is_err(), "there is no new build");
        journal.fail("b", 99);
        projector.rebuild().await.expect("begins");
        assert!(projector.switch_anyway().await.is_err(), "the new build has not begun");
        let built = projector.run_until_caught_up().await;
        let error = projector.switch().await.expect_err("an event is missing").to_string();
        let parked = projector.parked().await.expect("parked");
        if on_failure == OnFailure::Park {
            built.expect("parks");
            assert!(error.contains("(parked events: 1; stopped slices: none)"), "{error}");
            assert_eq!((parked.len(), parked[0].build), (1, 2));
        } else {
            built.expect_err("stops");
            let expected = format!("(parked events: 0; stopped slices: {})", slice(&store, "ada").await);
            assert!(error.contains(&expected), "{error}");
            assert!(parked.is_empty());
        }
        if anyway {
            projector.switch_anyway().await.expect("as the operator wants it");
            assert_eq!(Journal::new(&store).lines.all().await.expect("rows").len(), 1);
        }
        journal.fail("b", 0);
        projector.replay_parked().await.expect("ordered");
        projector.run_until_caught_up().await.expect("works");
        if !anyway {
            projector.switch().await.expect("nothing is missing");
        }
        assert_eq!(Journal::new(&store).lines.all().await.expect("rows").len(), 2);
        assert_eq!(projector.progress().await.expect("progress").build, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn there_is_no_build_after_the_largest_number() {
    let store = MemoryStore::new();
    let projector = projector(store.clone(), Journal::new(&store)).build();
    let stored = async |control: &str, id| {
        let key = DocumentKey::new("projection#journal", "control");
        let set = ChangeSet::new(uuid::Uuid::from_u128(id)).with_changes([DocumentChange::put(key, control)]);
        store.change(&set).await.expect("stores");
    };
    for (control, id) in [
        (r#"{"active":1,"last":4294967295}"#, 1),
        (r#"{"active":4294967295}"#, 2),
        (r#"{"active":1,"replaced":[4294967295]}"#, 3),
    ] {
        stored(control, id).await;
        for result in [projector.reset().await, projector.rebuild().await] {
            let error = result.expect_err("there is no such build").to_string();
            assert!(error.contains("has a build numbered 4294967295, after which there is none"), "{error}");
        }
    }
    stored(r#"{"active":1,"last":4294967294}"#, 4).await;
    projector.rebuild().await.expect("the last build");
    projector.run_until_caught_up().await.expect("works on both");
}

/// A projection of which only the name and the read models are known.
#[derive(Clone)]
struct Named(UntypedRows);

impl Projection for Named {
    const NAME: &'static str = "journal";

    fn filter(&self) -> EventFilter {
        EventFilter::none()
    }

    async fn handle(&mut self, _: &EventData, _: &EventContext) -> Result<(), ProjectError> {
        unreachable!("it is only operated")
    }

    fn stages(&mut self) -> Vec<&mut dyn Stage> {
        vec![&mut self.0]
    }
}

#[tokio::test(start_paused = true)]
async fn rows_of_an_unknown_type_are_deleted_with_their_copies_in_indexes() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "b"]).await;
    let worker = projector(store.clone(), Journal::new(&store)).build();
    worker.run_until_caught_up().await.expect("works");
    worker.reset().await.expect("starts again");
    worker.run_until_caught_up().await.expect("works");
    let lines = UntypedRows::new(&store, "lines");
    let tool = projector(store.clone(), Named(lines.clone())).build();
    assert_eq!(tool.replaced_builds().await.expect("reads"), [1]);
    tool.delete_replaced().await.expect("deletes");
    assert_eq!((rows(&store, 1).await, rows(&store, 2).await), (0, 4));
    assert_eq!(tool.replaced_builds().await.expect("reads"), [0_u32; 0]);
    assert_eq!(lines.deleted(), 2, "rows, without their copies");
}

/// Returns a store with 301 rows in build 1, which a reset has replaced.
async fn many_rows() -> MemoryStore {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["many:30"; 10]).await;
    let worker = projector(store.clone(), Journal::new(&store)).build();
    worker.run_until_caught_up().await.expect("works");
    worker.reset().await.expect("starts again");
    store
}

#[tokio::test(start_paused = true)]
async fn the_buckets_of_a_read_model_are_emptied_at_the_same_time() {
    let store = many_rows().await;
    let slow = Slow::new(Arc::new(store.clone()), 1.0, Duration::from_millis(100), Rng::with_seed(1));
    let rows = UntypedRows::new(&slow, "lines");
    let begin = Instant::now();
    rows.delete("journal", 1).await.expect("deletes");
    assert_eq!(rows.deleted(), 301);
    // A request takes 100 ms on average, and each of the 16 buckets has about 20 rows.
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_deletion_of_rows_waits_if_the_store_throttles() {
    let store = many_rows().await;
    let throttled = |rate| FaultyStore::new(store.clone(), Faults::seeded(3).throttling(rate));
    let rows = UntypedRows::new(&throttled(1.0), "lines");
    let error = projector(store.clone(), Named(rows)).build().delete_replaced().await.expect_err("gives up");
    assert!(matches!(error, ProjectorError::Store(StoreError::Throttled(_))), "{error:?}");
    let rows = UntypedRows::new(&throttled(0.01), "lines");
    projector(store.clone(), Named(rows.clone())).build().delete_replaced().await.expect("deletes");
    assert_eq!(rows.deleted(), 301);
}

/// Returns the number of all documents of the projection `journal`, of builds 1 and 2.
async fn all_documents(store: &MemoryStore) -> usize {
    let mut count = rows(store, 1).await + rows(store, 2).await;
    for collection in ["projections", "projection#journal", "projection#journal#accepted"] {
        count += documents(store, collection).await;
    }
    for (build, slice) in (1..=2).flat_map(|build| (0..4).map(move |slice| (build, slice))) {
        count += documents(store, &format!("projection#journal#parked#{build}#{slice}")).await;
    }
    count
}

/// A projection with two builds, parked events in both, and the heartbeat of a worker that has crashed.
async fn retired(store: &MemoryStore) -> ProjectorBuilder<Journal> {
    deposit(store, "ada", &["a"]).await;
    deposit(store, "bob", &["b"]).await;
    let journal = Journal::new(store);
    journal.fail("b", 99);
    let builder = || projector(store.clone(), journal.clone()).on_failure(OnFailure::Park);
    let projector = builder().build();
    projector.run_until_caught_up().await.expect("works");
    projector.rebuild().await.expect("begins");
    projector.run_until_caught_up().await.expect("works");
    let crashed = work(&builder().build());
    while documents(store, "projection#journal").await < 10 {
        tokio::task::yield_now().await;
    }
    crashed.abort();
    assert_eq!((rows(store, 1).await, rows(store, 2).await), (2, 2));
    assert_eq!(projector.parked().await.expect("parked").len(), 2);
    builder()
}

#[tokio::test(start_paused = true)]
async fn a_removed_projection_leaves_nothing_and_can_start_again() {
    let store = MemoryStore::new();
    let projector = retired(&store).await.build();
    projector.remove().await.expect("removes it");
    assert_eq!(all_documents(&store).await, 0);
    assert_eq!(registered(&store).await.expect("reads"), []);
    projector.remove().await.expect("nothing is left");
    assert!(!projector.progress().await.expect("progress").paused);

    projector.run_until_caught_up().await.expect("works");
    let progress = projector.progress().await.expect("progress");
    assert_eq!((progress.build, progress.lag(), rows(&store, 1).await), (1, 0, 2));
}

/// The process that removes it dies after each number of requests.
#[tokio::test(start_paused = true)]
async fn an_interrupted_removal_is_completed_by_another_one() {
    for requests in 0.. {
        let store = MemoryStore::new();
        let other = retired(&store).await.build();
        let faults = Faults::seeded(1).crash_after(requests);
        let dying = projector(FaultyStore::new(store.clone(), faults), Journal::new(&store)).build();
        let removed = tokio::time::timeout(Duration::from_secs(3600), dying.remove()).await;
        if matches!(removed, Ok(Ok(()))) {
            assert!(requests > 20, "{requests}");
            break;
        }
        let names: Vec<_> =
            registered(&store).await.expect("reads").into_iter().map(|one| one.name).collect();
        assert!(names == ["journal"] || all_documents(&store).await == 0, "after {requests}: {names:?}");
        other.remove().await.expect("removes the rest");
        assert_eq!(all_documents(&store).await, 0, "after {requests}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_projection_with_a_worker_is_not_removed() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a"]).await;
    let running = projector(store.clone(), Journal::new(&store)).build();
    let worker = work(&running);
    running.caught_up().await.expect("works");
    let before = all_documents(&store).await;
    let tool = projector(store.clone(), Journal::new(&store)).build();
    let error = tool.remove().await.expect_err("a worker runs").to_string();
    assert!(error.contains("1 worker of `journal` is running: stop it"), "{error}");
    assert_eq!(all_documents(&store).await, before);
    assert!(!tool.progress().await.expect("progress").paused);
    running.shutdown();
    worker.await.expect("no panic").expect("ends");
    tool.remove().await.expect("removes it");
    assert_eq!(all_documents(&store).await, 0);
}
