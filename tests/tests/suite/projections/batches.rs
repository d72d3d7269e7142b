//! Projections that send in batches, and projections with timed work.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use es_core::event::Event as _;
use es_core::event::EventData;
use es_core::feed::{EventFilter, Slice};
use es_core::projection::{Due, ProjectError, Tick};
use es_core::{BoxError, EventContext, MemoryStore, Projection, StoreError};
use es_tests::domain::Deposited;
use tokio::time::sleep;

use super::support::{deposit, projector, slice, work};

/// Sends the notes of deposits in batches, of which the first attempts fail.
#[derive(Clone)]
struct Sender {
    batch: Vec<String>,
    shared: Arc<Mutex<Sent>>,
}

#[derive(Default)]
struct Sent {
    batches: Vec<Vec<String>>,
    failures: u32,
    ticks: Vec<Slice>,
    /// The number of ticks at which the store is unavailable.
    outages: u32,
}

impl Projection for Sender {
    const NAME: &'static str = "sender";

    fn filter(&self) -> EventFilter {
        EventFilter::none().with_event::<Deposited>("account")
    }

    async fn handle(&mut self, event: &EventData, _: &EventContext) -> Result<(), ProjectError> {
        self.batch.push(Deposited::decode(event)?.note);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), BoxError> {
        let mut sent = self.shared.lock().expect("no panic");
        if sent.failures > 0 {
            sent.failures -= 1;
            return Err("the network is down".into());
        }
        sent.batches.push(std::mem::take(&mut self.batch));
        Ok(())
    }

    async fn tick(&mut self, tick: Tick<'_>) -> Result<Due, ProjectError> {
        let mut sent = self.shared.lock().expect("no panic");
        sent.ticks.push(tick.slice());
        if sent.outages > 0 {
            sent.outages -= 1;
            let error = StoreError::Throttled("throttled on purpose".into());
            return Err(ProjectError::Handler(error.into()));
        }
        Ok(Due::default())
    }
}

fn sender(failures: u32) -> Sender {
    Sender { batch: Vec::new(), shared: Arc::new(Mutex::new(Sent { failures, ..Sent::default() })) }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_sent_before_its_checkpoint() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "b"]).await;
    deposit(&store, "ada", &["c", "d"]).await;
    let sender = sender(2);
    let projector = projector(store, sender.clone()).batch(3).build();
    projector.run_until_caught_up().await.expect("the third attempt works");
    assert_eq!(sender.shared.lock().expect("no panic").batches, [["a", "b", "c", "d"]]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_cannot_be_sent_stops_the_slice_and_is_sent_later() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a"]).await;
    let sender = sender(3);
    let projector = projector(store.clone(), sender.clone()).build();
    let error = projector.run_until_caught_up().await.expect_err("it cannot be sent").to_string();
    let slice = slice(&store, "ada").await;
    assert_eq!(error, format!("`sender` has stopped in slice {slice}: the network is down"));
    let error = projector.skip(slice).await.expect_err("no event is to blame").to_string();
    assert!(error.contains("has not stopped at an event"), "{error}");
    assert_eq!(projector.progress().await.expect("progress").stopped().count(), 1, "it is as it was");
    projector.retry(slice).await.expect("it may");
    projector.run_until_caught_up().await.expect("works");
    assert_eq!(sender.shared.lock().expect("no panic").batches, [["a"]]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_between_events_stops_no_slice() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a"]).await;
    let sender = sender(0);
    sender.shared.lock().expect("no panic").outages = 100;
    projector(store, sender.clone()).build().run_until_caught_up().await.expect("gets through at last");
    assert_eq!(sender.shared.lock().expect("no panic").batches, [["a"]]);
}

#[tokio::test(start_paused = true)]
async fn time_passes_in_every_slice_without_events() {
    let store = MemoryStore::new();
    let sender = sender(0);
    let projector = projector(store, sender.clone()).build();
    let worker = work(&projector);
    sleep(Duration::from_millis(105)).await;
    projector.shutdown();
    worker.await.expect("no panic").expect("ends");
    let sent = sender.shared.lock().expect("no panic");
    for slice in 0..4 {
        let ticks = sent.ticks.iter().filter(|of| of.get() == slice).count();
        assert!((2..=40).contains(&ticks), "{ticks} in 100 ms, with 10 ms between");
    }
}
