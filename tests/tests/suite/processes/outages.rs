//! Transient conditions: no slice stays stopped, and nothing is done twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use es_core::process::Reacting;
use es_core::testing::{Faults, FaultyStore};
use es_core::{MemoryStore, Projector, RetryPolicy};
use es_tests::chaos::divert::{Divert, Sent};

use super::support::{LEASE, Scripted, Work, diary, elsewhere, paid, pass, projector, tell};

const TURNS: &str = "#turn#";

/// Returns a projector that stops at the first permanent failure, without restarts.
fn strict(store: &Divert) -> Projector<Reacting<Scripted>> {
    let process = Scripted::new(store.clone());
    let builder = projector(store.clone(), process).retry(RetryPolicy::never()).restart(RetryPolicy::never());
    builder.build()
}

/// Checks that everything was done once, and that no slice has stopped.
async fn is_done(store: &MemoryStore, projector: &Projector<Reacting<Scripted>>, why: &str) {
    let progress = projector.progress().await.expect("progress");
    assert_eq!((progress.stopped().count(), progress.lag()), (0, 0), "{why}: {progress:?}");
    assert_eq!(paid(store).await, 2, "{why}");
    let expected = ["pay ask pay remind note", "reminded of pay ask pay remind note"];
    assert_eq!(diary(store).await, expected, "{why}");
}

#[tokio::test(start_paused = true)]
async fn writes_of_a_turn_may_lose_their_responses() {
    for script in ["pay ask pay remind note", "insist pay pay remind note"] {
        for seed in 0..20 {
            let store = MemoryStore::new();
            let faulty = FaultyStore::new(store.clone(), Faults::seeded(seed).lost_answers(0.7));
            let diverted = Divert::to(store.clone(), faulty, |sent| sent.changes(TURNS));
            tell(&store, "a", &format!("ann: {script}")).await;
            let projector = strict(&diverted);
            let _work = Work::on(&projector);
            let why = format!("{script}, seed {seed}");
            for _ in 0..120 {
                if diary(&store).await.len() == 2 {
                    break;
                }
                pass(Duration::from_secs(1)).await;
            }
            assert_eq!(projector.progress().await.expect("progress").stopped().count(), 0, "{why}");
            assert_eq!(paid(&store).await, 2, "{why}");
            assert_eq!(diary(&store).await, [script.to_owned(), format!("reminded of {script}")], "{why}");
        }
    }
}

/// Requests that `are_hit` selects fail with `faults` for some time, starting with the first request about a turn.
async fn outage(faults: Faults, lasts: Duration, are_hit: fn(Sent<'_>) -> bool) {
    let why = format!("{faults:?}");
    let store = MemoryStore::new();
    let (has_begun, is_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let is_diverted = {
        let (has_begun, is_over) = (Arc::clone(&has_begun), Arc::clone(&is_over));
        move |sent: Sent<'_>| {
            if sent.changes(TURNS) {
                has_begun.store(true, Ordering::SeqCst);
            }
            has_begun.load(Ordering::SeqCst) && !is_over.load(Ordering::SeqCst) && are_hit(sent)
        }
    };
    let faulty = FaultyStore::new(store.clone(), faults.clone());
    let diverted = Divert::to(store.clone(), faulty, is_diverted);
    tell(&store, "a", "ann: pay ask pay remind note").await;
    let projector = strict(&diverted);
    let _work = Work::on(&projector);
    pass(lasts).await;
    assert!(has_begun.load(Ordering::SeqCst) && faults.requests() > 3, "{why}: it is tried again");
    assert_eq!(diary(&store).await, [""; 0], "{why}");
    is_over.store(true, Ordering::SeqCst);
    pass(Duration::from_secs(40)).await;
    is_done(&store, &projector, &why).await;
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_stop_nothing() {
    // Longer than three leases.
    assert!(LEASE * 3 < Duration::from_secs(3));
    outage(Faults::seeded(1).refusals(1.0), Duration::from_secs(3), |_| true).await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_writes_of_turns_stops_nothing() {
    let turns = |sent: Sent<'_>| sent.changes(TURNS);
    outage(Faults::seeded(1).throttling(1.0), Duration::from_secs(13), turns).await;
    outage(Faults::seeded(1).internal_errors(1.0), Duration::from_secs(13), turns).await;
    outage(Faults::seeded(1).refusals(1.0), Duration::from_secs(13), turns).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_response_leaves_the_slice_to_another_worker() {
    let store = MemoryStore::new();
    // The first worker's second read of the feed, in each slice.
    let reads = AtomicU32::new(0);
    let hanging = Divert::hanging(store.clone(), move |sent| {
        matches!(sent, Sent::ReadFeed) && reads.fetch_add(1, Ordering::SeqCst) >= 4
    });
    let first = strict(&hanging);
    let _first = Work::on(&first);
    pass(LEASE).await;
    let other = elsewhere(&store, "a").await;
    tell(&store, "a", "ann: pay ask pay remind note").await;
    tell(&store, &other, "bob: note").await;
    let second = projector(store.clone(), Scripted::new(store.clone())).build();
    let _second = Work::on(&second);
    pass(LEASE * 8 + Duration::from_secs(1)).await;
    is_done(&store, &second, "a hang").await;
}
