//! Timeouts.

use std::time::Duration;

use es_core::MemoryStore;
use es_core::testing::{Faults, FaultyStore};

use crate::support::{Scripted, Work, diary, pass, projector, tell};

#[tokio::test(start_paused = true)]
async fn a_timeout_comes_once_and_survives_a_restart() {
    let store = MemoryStore::new();
    tell(&store, "a", "ann: remind note").await;
    let first = projector(store.clone(), Scripted::new(store.clone())).build();
    let work = Work::on(&first);
    first.caught_up().await.expect("works");
    pass(Duration::from_millis(500)).await;
    assert_eq!(diary(&store).await, ["remind note"], "it is not due yet");
    drop(work);
    pass(Duration::from_secs(5)).await;
    let _work = Work::on(&projector(store.clone(), Scripted::new(store.clone())).build());
    pass(Duration::from_secs(5)).await;
    assert_eq!(diary(&store).await, ["remind note", "reminded of remind note"]);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_not_lost_and_comes_once_wherever_the_worker_dies() {
    for requests in 1..100 {
        let store = MemoryStore::new();
        tell(&store, "a", "ann: remind note").await;
        let mortal = FaultyStore::new(store.clone(), Faults::seeded(requests).crash_after(requests));
        let work = Work::on(&projector(mortal.clone(), Scripted::new(mortal)).build());
        pass(Duration::from_millis(1_500)).await;
        drop(work);
        let _work = Work::on(&projector(store.clone(), Scripted::new(store.clone())).build());
        pass(Duration::from_secs(2)).await;
        let expected = ["remind note", "reminded of remind note"];
        assert_eq!(diary(&store).await, expected, "after {requests} requests");
    }
}
