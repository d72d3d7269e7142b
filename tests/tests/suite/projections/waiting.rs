//! Waiting for a projection.

use std::time::Duration;

use es_core::clock::ManualClock;
use es_core::projection::{OnFailure, WaitError};
use es_core::{MemoryStore, Projector, Version};
use tokio::time::{Instant, timeout};

use super::support::{Journal, deposit, projector, slice, stream, work};

const SHORT: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn one_reads_what_one_has_written() {
    let store = MemoryStore::new();
    let journal = Journal::new(&store);
    let projector = projector(store.clone(), journal.clone()).poll(Duration::from_secs(60)).build();
    let worker = work(&projector);
    for number in 0..5 {
        let note = format!("n{number}");
        let version = deposit(&store, "ada", &[&note]).await;
        projector.wait_for(&stream("ada"), version, SHORT).await.expect("comes");
        assert!(journal.lines.get(&note).await.expect("a row").is_some());
    }
    projector.shutdown();
    worker.await.expect("no panic").expect("ends");
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_when_its_time_is_over() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a"]).await;
    let projector = projector(store.clone(), Journal::new(&store)).build();
    let reasons = [
        (1, "it has not handled the event yet, so check that its projector is running"),
        (7, "the event was not found in the feed, so check that an indexer is running"),
    ];
    for (version, reason) in reasons {
        let start = Instant::now();
        let error =
            projector.wait_for(&stream("ada"), Version::new(version), SHORT).await.expect_err("nobody works");
        assert_eq!(
            error.to_string(),
            format!(
                "`journal` did not reach version {version} of `account#ada` before the timeout: {reason}"
            )
        );
        assert!((SHORT..SHORT * 2).contains(&start.elapsed()), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_when_the_slice_has_stopped() {
    let store = MemoryStore::new();
    let journal = Journal::new(&store);
    journal.fail("b", 99);
    let projector = projector(store.clone(), journal.clone()).build();
    let worker = work(&projector);
    let version = deposit(&store, "ada", &["a", "b"]).await;
    let error = projector.wait_for(&stream("ada"), version, SHORT).await.expect_err("b fails");
    assert!(matches!(error, WaitError::Stopped { .. }), "{error}");
    assert!(matches!(projector.caught_up().await, Err(WaitError::Stopped { .. })));
    projector.skip(slice(&store, "ada").await).await.expect("skips");
    projector.wait_for(&stream("ada"), version, SHORT).await.expect("goes on");
    projector.shutdown();
    worker.await.expect("no panic").expect("ends");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_moves_by_itself_keeps_nobody_waiting_for_ever() {
    let store = MemoryStore::new();
    let journal = Journal::new(&store);
    let projector = Projector::builder(store.clone(), journal.clone())
        .clock(ManualClock::at("2030-01-01T00:00:00Z".parse().expect("a time")))
        .on_failure(OnFailure::Park)
        .build();
    let version = deposit(&store, "ada", &["a", "b"]).await;
    let limit = Duration::from_secs(60);
    let ada = stream("ada");
    let late = projector.wait_for(&ada, version, SHORT);
    let late = timeout(limit, late).await.expect("it ends").expect_err("nobody works");
    assert!(matches!(late, WaitError::TimedOut { .. }), "{late}");
    journal.fail("b", 99);
    timeout(limit, projector.run_until_caught_up()).await.expect("it ends").expect("works");
    let worker = work(&projector);
    let version = deposit(&store, "ada", &["c"]).await;
    projector.wait_for(&stream("ada"), version, SHORT).await.expect("comes");
    projector.shutdown();
    timeout(limit, worker).await.expect("it ends").expect("no panic").expect("ends");
    assert_eq!(projector.parked().await.expect("parked").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn caught_up_is_what_nothing_has_happened_to() {
    let store = MemoryStore::new();
    let projector = projector(store.clone(), Journal::new(&store)).build();
    projector.caught_up().await.expect("there is nothing");
    projector.run_until_caught_up().await.expect("there is nothing");
    projector.wait_for(&stream("ada"), Version::NONE, SHORT).await.expect("there is nothing");
}
