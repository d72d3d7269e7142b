//! Metrics of projections, processes, publishing, indexers, and workers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use es_core::event::{CommitId, EventData};
use es_core::feed::Feed;
use es_core::prelude::*;
use es_core::projection::OnFailure;
use es_core::publish::{BatchLimits, CloudEvents, Envelope, Envelopes, Outbox, PublishError, Publisher};
use es_core::store::Commit;
use es_core::workers::Worker;
use es_core::{MemoryStore, RetryPolicy, StreamId, Workers};
use es_dynamo::Indexer;
use es_tests::domain::{Account, Deposit};
use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::engine;
use crate::processes::support as processes;
use crate::projections::support::{Journal, LEASE, deposit, projector, slice, work};
use es_tests::recorder::Recorded;

/// A slice that stops, is retried, and recovers.
#[test]
fn a_projection_records_its_events_and_failures() {
    let (mut slice_of_ada, mut count) = (String::new(), 0);
    let recorded = Recorded::of(async {
        let store = MemoryStore::new();
        deposit(&store, "ada", &["a", "b", "c"]).await;
        slice_of_ada = slice(&store, "ada").await.to_string();
        count = store.slices().await.expect("slices").count();
        let journal = Journal::new(&store);
        journal.fail("b", 6);
        let projector = projector(store, journal).build();
        let worker = work(&projector);
        // It fails three times, stops, and is retried after 5 to 10 and then 10 to 20 seconds.
        sleep(Duration::from_secs(40)).await;
        projector.shutdown();
        worker.await.expect("does not panic").expect("ends");
    });
    assert_eq!(recorded.sum("es.projection.events", &["journal", "handled"]), 3.0);
    assert_eq!(recorded.sum("es.projection.failures", &["journal", "stopped"]), 2.0);
    assert_eq!(recorded.sum("es.projection.retries", &["journal", "handler"]), 4.0);
    assert_eq!(recorded.sum("es.projection.checkpoints", &["journal"]), 2.0);
    let is_stopped = recorded.values("es.projection.stopped", &["journal", &slice_of_ada]);
    assert!(is_stopped.contains(&1.0) && is_stopped.last() == Some(&0.0), "{is_stopped:?}");
    let slices = recorded.values("es.projection.slices", &["journal"]);
    assert!(slices.contains(&f64::from(count)) && slices.last() == Some(&0.0), "{slices:?}");
}

/// An event that is retried for some seconds.
#[test]
fn the_lag_is_the_age_of_an_event_that_is_not_handled() {
    let mut slice_of_ada = String::new();
    let recorded = Recorded::of(async {
        let store = MemoryStore::new();
        let accounts: Repository<Account> = Repository::builder(store.clone()).clock(processes::Time).build();
        accounts.execute("ada", Deposit::one(1, "a")).await.expect("accepted");
        slice_of_ada = slice(&store, "ada").await.to_string();
        let journal = Journal::new(&store);
        journal.fail("a", 9);
        let second = Duration::from_secs(1);
        let retry = RetryPolicy::default().with_base_delay(second).with_max_delay(second);
        let projector = projector(store, journal).clock(processes::Time).retry(retry).build();
        let worker = work(&projector);
        sleep(Duration::from_secs(20)).await;
        projector.shutdown();
        worker.await.expect("does not panic").expect("ends");
    });
    let lag = recorded.values("es.projection.lag", &["journal", &slice_of_ada]);
    let handled = lag.iter().position(|lag| *lag > 1.0).expect("it grows");
    let highest = lag.iter().copied().fold(0.0, f64::max);
    assert!((1.0..9.5).contains(&highest), "{highest}");
    assert!(lag[..handled].is_sorted() && lag.last() == Some(&0.0), "{lag:?}");
}

#[test]
fn parked_events_are_counted() {
    let mut slice_of_ada = String::new();
    let recorded = Recorded::of(async {
        let store = MemoryStore::new();
        deposit(&store, "ada", &["a", "b", "c"]).await;
        slice_of_ada = slice(&store, "ada").await.to_string();
        let journal = Journal::new(&store);
        journal.fail("b", 9);
        let projector = projector(store, journal).on_failure(OnFailure::Park).build();
        let worker = work(&projector);
        sleep(LEASE * 10).await;
        projector.shutdown();
        worker.await.expect("does not panic").expect("ends");
    });
    assert_eq!(recorded.sum("es.projection.events", &["journal", "handled"]), 1.0);
    assert_eq!(recorded.sum("es.projection.events", &["journal", "parked"]), 2.0);
    assert_eq!(recorded.last("es.projection.parked", &["journal", &slice_of_ada]), 2.0);
    assert_eq!(recorded.series("es.projection.failures"), []);
}

#[test]
fn a_timeout_records_how_late_it_is() {
    let recorded = Recorded::of(async {
        let store = MemoryStore::new();
        processes::tell(&store, "a", "ann: remind note").await;
        let script = processes::Scripted::new(store.clone());
        // The timeout is due while no worker runs.
        let work = processes::Work::on(&processes::projector(store.clone(), script.clone()).build());
        sleep(Duration::from_millis(500)).await;
        drop(work);
        sleep(Duration::from_secs(30)).await;
        let _work = processes::Work::on(&processes::projector(store, script).build());
        sleep(Duration::from_secs(5)).await;
    });
    let lag = recorded.values("es.process.timeout.lag", &["script"]);
    assert!(lag.len() == 1 && (29.0..31.0).contains(&lag[0]), "{lag:?}");
}

/// A broker, by what becomes of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Broker {
    Accepts,
    /// Accepts the first envelope, and rejects the others permanently.
    AcceptsOne,
    Fails,
    Hangs,
    Panics,
}

#[async_trait]
impl Publisher for Broker {
    fn system(&self) -> &'static str {
        "broker"
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits::default()
    }

    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Result<(), PublishError>>, PublishError> {
        let mut outcomes = vec![Ok(()); batch.len()];
        match self {
            Self::Accepts => {}
            Self::AcceptsOne => outcomes[1..].fill(Err(PublishError::permanent("no"))),
            Self::Fails => return Err(PublishError::transient("down")),
            Self::Hangs => std::future::pending().await,
            Self::Panics => panic!("on purpose"),
        }
        Ok(outcomes)
    }
}

pub(crate) fn envelope(id: u64) -> Envelope {
    let stream = StreamId::new("account", id).expect("a valid stream");
    let event = EventData::new("Deposited", 1, "{}");
    let commit = Commit::new(
        CommitId::new(uuid::Uuid::from_u128(1)),
        Version::new(1),
        chrono::DateTime::UNIX_EPOCH,
        vec![event],
    );
    let ctx = EventContext::outside_the_feed(&stream, &commit, 0);
    let envelopes = CloudEvents::source("/tests").expect("a source");
    envelopes.envelope(&commit.events[0], &ctx).expect("an envelope")
}

#[test]
fn each_batch_has_one_outcome() {
    let recorded = Recorded::of(async {
        for broker in [Broker::Accepts, Broker::AcceptsOne, Broker::Fails, Broker::Hangs, Broker::Panics] {
            let mut outbox = Outbox::new();
            for id in 1..=3 {
                outbox.push(envelope(id), &broker).expect("is small");
            }
            let sent = std::panic::AssertUnwindSafe(outbox.send_once(&broker)).catch_unwind();
            let _ = tokio::time::timeout(Duration::from_secs(1), sent).await;
        }
    });
    let batches = recorded.series("es.publish.duration");
    let batches: Vec<_> = batches.iter().map(|(labels, count, _)| (labels.as_str(), *count)).collect();
    let outcomes = ["accepted", "dropped", "failed", "panicked", "partial"];
    let expected = outcomes.map(|outcome| format!("broker,{outcome}"));
    assert_eq!(batches, expected.iter().map(|labels| (labels.as_str(), 1)).collect::<Vec<_>>());
    let events = |outcome| recorded.sum("es.publish.events", &["broker", outcome]);
    assert_eq!((events("accepted"), events("transient"), events("permanent")), (4.0, 3.0, 2.0));
}

#[test]
fn an_indexer_records_its_lag_and_its_events() {
    let recorded = Recorded::of(async {
        let store = engine::dynamo_store().await;
        let accounts: Repository<Account> = Repository::new(store.clone());
        accounts.execute("ada", Deposit { cents: 1, notes: vec![String::new(); 3] }).await.expect("accepted");
        let indexer = Indexer::builder(&store).build().expect("has an outbox");
        let running = tokio::spawn({
            let indexer = indexer.clone();
            async move { indexer.run().await }
        });
        while indexer.progress().events < 3 {
            sleep(Duration::from_millis(10)).await;
        }
        indexer.shutdown();
        running.await.expect("does not panic").expect("ends");
    });
    assert_eq!(recorded.sum("es.indexer.events", &[]), 3.0);
    assert_eq!(recorded.last("es.indexer.lag", &[]), 0.0);
    assert_eq!(recorded.last("es.indexer.damaged", &[]), 0.0);
}

/// A worker that fails twice, and then runs until it is stopped, or even longer.
#[derive(Debug, Default)]
struct Failing {
    runs: AtomicU32,
    stop: Notify,
    hangs: bool,
}

#[async_trait]
impl Worker for Failing {
    fn name(&self) -> &str {
        "mails"
    }

    async fn run(&self) -> Result<(), BoxError> {
        match self.runs.fetch_add(1, Ordering::SeqCst) {
            0 => Err("the server is away".into()),
            1 => panic!("on purpose"),
            _ => {
                self.stop.notified().await;
                if self.hangs {
                    std::future::pending::<()>().await;
                }
                Ok(())
            }
        }
    }

    fn shutdown(&self) {
        self.stop.notify_one();
    }
}

#[test]
fn workers_record_failures_and_shutdowns() {
    let recorded = Recorded::of(async {
        let spawn = async |hangs| {
            let workers = Workers::new().add(Failing { hangs, ..Failing::default() }).spawn();
            sleep(Duration::from_secs(60)).await;
            workers
        };
        spawn(false).await.shutdown().await.expect("is complete");
        spawn(true).await.shutdown().await.expect_err("had to be aborted");
        // As at a second signal.
        assert!(spawn(true).await.shutdown().now_or_never().is_none());
    });
    assert_eq!(recorded.sum("es.worker.failures", &["mails"]), 6.0);
    let shutdowns = |outcome| recorded.sum("es.worker.shutdowns", &[outcome]);
    assert_eq!((shutdowns("complete"), shutdowns("incomplete"), shutdowns("dropped")), (1.0, 1.0, 1.0));
}
