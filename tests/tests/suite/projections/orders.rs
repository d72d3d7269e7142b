//! Operations: pause, resume, reset.

use std::time::Duration;

use es_core::MemoryStore;
use tokio::time::sleep;

use super::support::{Journal, LEASE, deposit, projector, work};

#[tokio::test(start_paused = true)]
async fn workers_of_other_handles_pause_and_resume() {
    let store = MemoryStore::new();
    let journal = Journal::new(&store);
    let working = projector(store.clone(), journal.clone()).build();
    let worker = work(&working);
    deposit(&store, "ada", &["a"]).await;
    working.caught_up().await.expect("works");

    let other = projector(store.clone(), journal.clone()).build();
    other.pause().await.expect("paused");
    sleep(LEASE).await;
    deposit(&store, "ada", &["b"]).await;
    sleep(Duration::from_secs(60)).await;
    let progress = other.progress().await.expect("progress");
    assert_eq!((progress.paused, progress.lag()), (true, 1));
    assert_eq!(journal.versions("ada"), [1]);

    other.resume().await.expect("resumed");
    working.caught_up().await.expect("works");
    assert_eq!(journal.versions("ada"), [1, 2]);
    working.shutdown();
    worker.await.expect("no panic").expect("ends");
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_ends_at_once_stops_nobody_for_long() {
    let store = MemoryStore::new();
    let journal = Journal::new(&store);
    let projector = projector(store.clone(), journal.clone()).lease(Duration::from_secs(3600)).build();
    let worker = work(&projector);
    deposit(&store, "ada", &["a"]).await;
    projector.caught_up().await.expect("works");
    projector.pause().await.expect("paused");
    tokio::task::yield_now().await;
    projector.resume().await.expect("resumed");
    deposit(&store, "ada", &["b"]).await;
    let start = tokio::time::Instant::now();
    projector.caught_up().await.expect("works");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    projector.shutdown();
    worker.await.expect("no panic").expect("ends");
}

#[tokio::test(start_paused = true)]
async fn a_reset_starts_from_nothing() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "b"]).await;
    let journal = Journal::new(&store);
    let projector = projector(store.clone(), journal.clone()).build();
    projector.run_until_caught_up().await.expect("works");
    projector.reset().await.expect("reset");
    // Readers cache the active build for some time, but a new reader queries it.
    assert!(Journal::new(&store).lines.all().await.expect("rows").is_empty());
    projector.run_until_caught_up().await.expect("works");
    assert_eq!(journal.versions("ada"), [1, 2, 1, 2]);
    assert_eq!(Journal::new(&store).lines.all().await.expect("rows").len(), 2);
    projector.rebuild().await.expect("begins");
    projector.rebuild().await.expect("the first response may have been lost");
    let error = projector.reset().await.expect_err("it is being rebuilt").to_string();
    assert!(error.contains("switch to the new build, or cancel it"), "{error}");
}

/// The response to the first call may have been lost.
#[tokio::test(start_paused = true)]
async fn orders_of_a_rebuild_can_be_repeated() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "b"]).await;
    let journal = Journal::new(&store);
    let projector = projector(store.clone(), journal.clone()).build();
    for result in
        [projector.switch().await, projector.switch_anyway().await, projector.cancel_rebuild().await]
    {
        let error = result.expect_err("there has been no rebuild").to_string();
        assert!(error.contains("is not being rebuilt"), "{error}");
    }
    projector.rebuild().await.expect("begins");
    projector.cancel_rebuild().await.expect("cancels");
    projector.cancel_rebuild().await.expect("has no effect");
    projector.switch().await.expect_err("it was canceled");
    for _ in 0..2 {
        projector.rebuild().await.expect("begins once");
    }
    projector.run_until_caught_up().await.expect("works");
    assert_eq!(journal.versions("ada"), [1, 2, 1, 2], "the active build, and one new build");
    let error = projector.rebuild().await.expect_err("the new build has handled events").to_string();
    assert!(error.contains("has handled events: let it continue and switch to it, or cancel it"), "{error}");
    projector.switch().await.expect("switches");
    projector.switch().await.expect("has no effect");
    projector.switch_anyway().await.expect("has no effect");
    projector.cancel_rebuild().await.expect_err("it was switched to");
    deposit(&store, "ada", &["c"]).await;
    projector.run_until_caught_up().await.expect("works");
    assert_eq!(journal.versions("ada"), [1, 2, 1, 2, 3], "of the new build alone");
    projector.delete_replaced().await.expect("deletes");
    projector.switch().await.expect("has no effect");
    projector.reset().await.expect("starts again");
    projector.switch().await.expect_err("the rebuild before the reset is over");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_asked_to_end_finishes_its_batch() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "b", "c", "d"]).await;
    let journal = Journal::new(&store);
    journal.fail("d", 2);
    let projector = projector(store.clone(), journal.clone()).build();
    let worker = work(&projector);
    while journal.handled().is_empty() {
        tokio::task::yield_now().await;
    }
    projector.shutdown();
    worker.await.expect("no panic").expect("ends");
    let handled = journal.versions("ada").len() as u64;
    assert_eq!(projector.progress().await.expect("progress").finished(), handled);
    assert_eq!(journal.lines.all().await.expect("rows").len() as u64, handled);
    projector.run().await.expect("ends at once, as it was asked to");
}
