//! Slices that are split: timeouts and turns of a process.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use es_core::MemoryStore;
use es_core::documents::{DocumentQuery, Documents};
use es_core::feed::Feed;
use es_core::projection::{OnFailure, SliceStatus};
use es_core::testing::{Faults, FaultyStore};

use super::failures::slice;
use super::support::{LEASE, Scripted, Work, diary, diary_of, pass, projector, tell};

#[tokio::test(start_paused = true)]
async fn timeouts_of_a_slice_that_was_split_come_once_wherever_the_worker_dies() {
    for requests in 1..80 {
        let store = MemoryStore::new();
        tell(&store, "a", "ann: remind note").await;
        let parent = slice(&store, "a").await;
        let first = projector(store.clone(), Scripted::new(store.clone())).build();
        first.run_until_caught_up().await.expect("schedules");
        store.split(parent).await.expect("splits");
        tell(&store, "a", "ann: note").await;
        let mortal = FaultyStore::new(store.clone(), Faults::seeded(requests).crash_after(requests));
        let work = Work::on(&projector(mortal.clone(), Scripted::new(mortal)).build());
        pass(Duration::from_millis(1_500)).await;
        drop(work);
        let last = projector(store.clone(), Scripted::new(store.clone())).build();
        let _work = Work::on(&last);
        pass(Duration::from_secs(3)).await;
        let mut diary = diary(&store).await;
        diary.sort_unstable();
        assert_eq!(diary, ["note", "remind note", "reminded of remind note"], "after {requests} requests");
        let progress = last.progress().await.expect("progress");
        let finished = progress.slices.iter().find(|slice| slice.slice == parent).expect("the parent");
        assert_eq!(finished.status, SliceStatus::Finished, "after {requests} requests");
    }
}

/// The worker, which never restarts, keeps the slice until its last timeout.
#[tokio::test(start_paused = true)]
async fn a_slice_that_was_split_is_kept_until_its_last_timeout() {
    let store = MemoryStore::new();
    let projector = projector(store.clone(), Scripted::new(store.clone())).build();
    let _work = Work::on(&projector);
    tell(&store, "a", "ann: remind note").await;
    projector.caught_up().await.expect("schedules");
    let parent = slice(&store, "a").await;
    store.split(parent).await.expect("splits");
    tell(&store, "a", "ann: note").await;
    pass(Duration::from_millis(500)).await;
    assert_eq!(diary(&store).await, ["remind note", "note"], "the child does not wait for the timeout");
    let status = async || {
        let progress = projector.progress().await.expect("progress");
        progress.slices.into_iter().find(|slice| slice.slice == parent).expect("the parent").status
    };
    assert_eq!(status().await, SliceStatus::Running);
    pass(Duration::from_secs(3)).await;
    assert_eq!(diary(&store).await, ["remind note", "note", "reminded of remind note"]);
    assert_eq!(status().await, SliceStatus::Finished);
}

/// A replay in a slice that is finished schedules a timeout, which another worker has to handle.
#[tokio::test(start_paused = true)]
async fn a_timeout_of_a_replayed_event_survives_its_worker() {
    let store = MemoryStore::new();
    let process = Scripted::new(store.clone());
    process.fail("fail remind", 99);
    let open = || projector(store.clone(), process.clone()).on_failure(OnFailure::Park).build();
    tell(&store, "a", "ann: fail remind").await;
    store.split(slice(&store, "a").await).await.expect("splits");
    let (first, second) = (open(), open());
    let work = Work::on(&first);
    let _idle = Work::on(&second);
    pass(Duration::from_secs(2)).await;
    assert_eq!(first.parked().await.expect("parked").len(), 1);
    process.fail("fail remind", 0);
    first.replay_parked().await.expect("ordered");
    pass(Duration::from_millis(500)).await;
    drop(work);
    pass(Duration::from_secs(5)).await;
    assert_eq!(diary(&store).await, ["reminded of fail remind"]);
}

/// One worker has all slices, with pending timeouts, when they are split and another worker starts.
#[tokio::test(start_paused = true)]
async fn slices_with_nothing_but_timeouts_are_shared() {
    let store = MemoryStore::new();
    let open = || projector(store.clone(), Scripted::new(store.clone())).build();
    let (first, second) = (open(), open());
    let _work = Work::on(&first);
    let mut slices = BTreeSet::new();
    for number in 0..20 {
        let account = format!("a-{number}");
        tell(&store, &account, &format!("ann-{number}: remind note")).await;
        slices.insert(slice(&store, &account).await);
    }
    first.caught_up().await.expect("schedules");
    for slice in &slices {
        store.split(*slice).await.expect("splits");
    }
    let _other = Work::on(&second);
    pass(LEASE * 2).await;
    let query = DocumentQuery::new("projection#script").prefix("slice#");
    let mut owners = BTreeMap::<String, usize>::new();
    for (name, document) in store.documents(&query).await.expect("lists").documents {
        let state: serde_json::Value = serde_json::from_str(&document.body).expect("JSON");
        if state["closed"] == "draining" {
            let owner = state["owner"].as_str().unwrap_or_else(|| panic!("{name} has no owner"));
            *owners.entry(owner.to_owned()).or_default() += 1;
        }
    }
    assert_eq!(slices.len(), 4);
    assert_eq!(owners.into_values().collect::<Vec<_>>(), [2, 2]);
    pass(Duration::from_secs(3)).await;
    for number in 0..20 {
        let diary = diary_of(&store, &format!("ann-{number}")).await;
        assert_eq!(diary, ["remind note", "reminded of remind note"], "{number}");
    }
    let progress = first.progress().await.expect("progress");
    let closed = progress.slices.iter().filter(|slice| slice.is_closed);
    assert!(closed.clone().all(|slice| slice.status == SliceStatus::Finished), "{progress:?}");
}
