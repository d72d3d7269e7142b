//! User code that panics or never returns affects its event, but neither its worker nor other slices.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use es_core::event::EventData;
use es_core::feed::EventFilter;
use es_core::prelude::*;
use es_core::projection::{OnFailure, ProjectError, SliceStatus, Tick, Transient};
use es_core::publish::{BatchLimits, CloudEvents, Envelope, PublishError, Publisher, Publishing};
use es_core::{MemoryStore, RetryPolicy, Version};
use es_tests::chaos::divert::{Divert, Sent};
use es_tests::domain::{Account, Deposited};
use tokio::time::{Instant, sleep, timeout};

use super::support::{LEASE, deposit, neighbor, projector, slice, work};

/// Much longer than in other tests, because minutes pass in these.
const POLL: Duration = Duration::from_secs(5);

/// The faults of a [`Faulty`], by the note of an event or the name of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Panic(&'static str),
    Hang(&'static str),
    /// It hangs, and panics when it is dropped.
    HangThenPanic(&'static str),
    /// It panics with a value that panics when it is dropped.
    PanicTwice(&'static str),
}

/// Panics when it is dropped, except in an unwinding thread.
struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a bug in drop");
    }
}

/// A projection whose clones collect the handled events until they flush.
#[derive(Default)]
struct Faulty {
    batch: Vec<String>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    faults: Mutex<BTreeSet<Fault>>,
    flushed: Mutex<Vec<String>>,
}

impl Faulty {
    fn with(fault: Fault) -> Self {
        let faulty = Self::default();
        faulty.shared.faults.lock().expect("no panic").insert(fault);
        faulty
    }

    fn mend(&self) {
        self.shared.faults.lock().expect("no panic").clear();
    }

    fn has(&self, fault: Fault) -> bool {
        self.shared.faults.lock().expect("no panic").contains(&fault)
    }

    fn perhaps_panic(&self, place: &'static str) {
        assert!(!self.has(Fault::Panic(place)), "a bug in {place}");
    }

    fn flushed(&self) -> Vec<String> {
        self.shared.flushed.lock().expect("no panic").clone()
    }
}

impl Clone for Faulty {
    fn clone(&self) -> Self {
        self.perhaps_panic("clone");
        Self { batch: Vec::new(), shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.perhaps_panic("drop");
        }
    }
}

impl Projection for Faulty {
    const NAME: &'static str = "faulty";

    fn filter(&self) -> EventFilter {
        self.perhaps_panic("filter");
        EventFilter::none().with_event::<Deposited>("account")
    }

    async fn handle(&mut self, event: &EventData, _: &EventContext) -> Result<(), ProjectError> {
        let note = Deposited::decode(event)?.note;
        self.batch.push(note.clone());
        if note == "bad" {
            self.perhaps_panic("bad");
            if self.has(Fault::PanicTwice("bad")) {
                std::panic::panic_any(PanicsInDrop);
            }
            let panics = self.has(Fault::HangThenPanic("bad")).then(|| PanicsInDrop);
            if panics.is_some() || self.has(Fault::Hang("bad")) {
                pending::<()>().await;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), BoxError> {
        self.perhaps_panic("flush");
        if self.has(Fault::Hang("flush")) {
            pending::<()>().await;
        }
        self.shared.flushed.lock().expect("no panic").append(&mut self.batch);
        Ok(())
    }

    async fn tick(&mut self, _: Tick<'_>) -> Result<es_core::projection::Due, ProjectError> {
        self.perhaps_panic("tick");
        Ok(es_core::projection::Due::default())
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_handler_panics_or_hangs_is_parked_alone() {
    let faults = [Fault::Panic, Fault::Hang, Fault::HangThenPanic, Fault::PanicTwice];
    for fault in faults.map(|fault| fault("bad")) {
        let store = MemoryStore::new();
        let neighbor = neighbor(&store, "ada").await;
        deposit(&store, &neighbor, &["before"]).await;
        deposit(&store, "ada", &["a", "bad", "c"]).await;
        deposit(&store, &neighbor, &["after"]).await;
        let faulty = Faulty::with(fault);
        let projector = projector(store.clone(), faulty.clone())
            .poll(POLL)
            .lease(POLL)
            .on_failure(OnFailure::Park)
            .build();
        let workers: Vec<_> = (0..3).map(|_| work(&projector)).collect();
        projector.caught_up().await.expect("goes on");
        // Events before the panic were handled again by a fresh clone, and finished once.
        assert_eq!(faulty.flushed(), ["before", "a", "after"], "{fault:?}");
        let parked = projector.parked().await.expect("parked");
        let versions: Vec<_> = parked.iter().map(|parked| parked.event.version.get()).collect();
        assert_eq!(versions, [2, 3]);
        let expected = match fault {
            Fault::Panic(_) => "user code panicked: a bug in bad",
            Fault::Hang(_) | Fault::HangThenPanic(_) => "user code did not return within 300s",
            Fault::PanicTwice(_) => "user code panicked: without a message",
        };
        assert_eq!(parked[0].error, expected);

        faulty.mend();
        projector.replay_parked().await.expect("ordered");
        projector.caught_up().await.expect("works");
        assert_eq!(faulty.flushed(), ["before", "a", "after", "bad", "c"]);
        projector.shutdown();
        for worker in workers {
            worker.await.expect("no worker panicked").expect("ends");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_anywhere_stops_the_slice_until_it_is_mended() {
    for place in ["filter", "flush", "tick", "bad"] {
        let store = MemoryStore::new();
        deposit(&store, "ada", &["bad"]).await;
        let faulty = Faulty::with(Fault::Panic(place));
        let projector = projector(store.clone(), faulty.clone()).poll(POLL).build();
        let worker = work(&projector);
        sleep(LEASE * 3).await;
        let progress = projector.progress().await.expect("progress");
        let slice = slice(&store, "ada").await;
        let (_, failure) = progress.stopped().find(|(stopped, _)| *stopped == slice).expect("has stopped");
        assert_eq!(failure.error, format!("user code panicked: a bug in {place}"));
        faulty.mend();
        // It retries automatically.
        sleep(Duration::from_secs(60)).await;
        projector.caught_up().await.expect("works");
        assert_eq!(faulty.flushed(), ["bad"]);
        projector.shutdown();
        worker.await.expect("no panic").expect("ends");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_delays_its_slices_until_it_is_mended() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a"]).await;
    let is_broken = Arc::new(AtomicBool::new(true));
    let broken = Arc::clone(&is_broken);
    let panicking = Divert::hanging(store.clone(), move |sent| {
        assert!(!matches!(sent, Sent::ReadFeed) || !broken.load(Ordering::SeqCst), "a bug in the store");
        false
    });
    let working = projector(panicking, Faulty::default()).build();
    let worker = work(&working);
    sleep(LEASE * 5).await;
    // Another process sees it.
    let observer = projector(store.clone(), Faulty::default()).build();
    let progress = observer.progress().await.expect("progress");
    let (_, delay) = progress.delayed().next().expect("is delayed");
    assert_eq!(delay.error, "user code panicked: a bug in the store");
    is_broken.store(false, Ordering::SeqCst);
    timeout(LEASE * 5, working.caught_up()).await.expect("in time").expect("works");
    sleep(LEASE).await;
    assert_eq!(observer.progress().await.expect("progress").delayed().count(), 0);
    working.shutdown();
    worker.await.expect("no panic").expect("ends");
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_stops_says_so_although_its_projection_panics_when_dropped() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "bad"]).await;
    let faulty = Faulty::with(Fault::Panic("bad"));
    faulty.shared.faults.lock().expect("no panic").insert(Fault::Panic("drop"));
    let projector = projector(store.clone(), faulty.clone()).poll(POLL).build();
    let worker = work(&projector);
    sleep(LEASE * 3).await;
    let progress = projector.progress().await.expect("progress");
    let (_, failure) = progress.stopped().next().expect("has stopped");
    assert_eq!(failure.error, "user code panicked: a bug in bad");
    faulty.mend();
    projector.retry(slice(&store, "ada").await).await.expect("ordered");
    projector.caught_up().await.expect("works");
    assert_eq!(faulty.flushed(), ["a", "bad"]);
    projector.shutdown();
    worker.await.expect("no panic").expect("ends");
}

#[tokio::test(start_paused = true)]
async fn a_projection_that_cannot_be_cloned_stops_its_slices() {
    let store = MemoryStore::new();
    let faulty = Faulty::default();
    let projector = projector(store, faulty.clone()).build();
    faulty.shared.faults.lock().expect("no panic").insert(Fault::Panic("clone"));
    let worker = work(&projector);
    sleep(LEASE).await;
    assert_eq!(projector.progress().await.expect("progress").stopped().count(), 4);
    projector.shutdown();
    worker.await.expect("no panic").expect("ends");
}

#[tokio::test(start_paused = true)]
async fn shutdown_does_not_wait_for_a_handler_that_hangs() {
    for fault in [Fault::Hang("bad"), Fault::Hang("flush")] {
        let store = MemoryStore::new();
        deposit(&store, "ada", &["bad"]).await;
        let projector =
            projector(store, Faulty::with(fault)).shutdown_timeout(Duration::from_secs(7)).build();
        let worker = work(&projector);
        sleep(LEASE).await;
        projector.shutdown();
        let start = Instant::now();
        timeout(Duration::from_secs(60), worker).await.expect("ends").expect("no panic").expect("ends");
        assert_eq!(start.elapsed().as_secs(), 7, "{fault:?}");
    }
}

/// A projection whose service is down, and whose errors are long.
#[derive(Clone, Projection)]
#[projection(name = "notifier", events(Account(Deposited)))]
struct Notifier(Arc<Mutex<Service>>);

#[derive(Clone, Copy, PartialEq)]
enum Service {
    Down,
    Up,
    Rejecting,
}

impl Project<Deposited> for Notifier {
    async fn project(&mut self, _: &Deposited, _: &EventContext) -> Result<(), BoxError> {
        match *self.0.lock().expect("no panic") {
            Service::Up => Ok(()),
            Service::Down => Err(Transient::new("the service is down").into()),
            Service::Rejecting => Err("no ".repeat(100_000).into()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_transient_error_is_waited_out_and_shown() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a"]).await;
    let service = Arc::new(Mutex::new(Service::Down));
    let working = projector(store.clone(), Notifier(Arc::clone(&service))).poll(POLL).build();
    let worker = work(&working);
    sleep(Duration::from_secs(600)).await;
    // Another process sees it, too.
    for projector in [&working, &projector(store.clone(), Notifier(Arc::clone(&service))).build()] {
        let progress = projector.progress().await.expect("progress");
        assert_eq!((progress.stopped().count(), progress.lag()), (0, 1));
        let (_, delay) = progress.delayed().next().expect("is delayed");
        let expected =
            "the event `Deposited` at version 1 of `account#ada` (position 1): the service is down";
        assert_eq!(delay.to_string(), expected);
        assert!(delay.attempts > 100 && delay.next_attempt - delay.since > chrono::TimeDelta::minutes(9));
    }
    *service.lock().expect("no panic") = Service::Up;
    working.caught_up().await.expect("works");
    sleep(LEASE).await;
    let progress = working.progress().await.expect("progress");
    assert!(progress.slices.iter().all(|slice| slice.status == SliceStatus::Running), "{progress:?}");
    working.shutdown();
    worker.await.expect("no panic").expect("ends");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_slice_tries_again_at_growing_intervals() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a"]).await;
    let service = Arc::new(Mutex::new(Service::Rejecting));
    let projector = projector(store.clone(), Notifier(Arc::clone(&service))).poll(POLL).lease(POLL).build();
    let worker = work(&projector);
    let mut intervals = Vec::new();
    while intervals.len() < 8 {
        sleep(Duration::from_secs(1)).await;
        let progress = projector.progress().await.expect("progress");
        let Some((_, failure)) = progress.stopped().next() else { continue };
        assert!(failure.error.len() <= 2048 && failure.error.ends_with("(truncated)"));
        if failure.attempts as usize > intervals.len() {
            intervals.push((failure.retry_at.expect("it tries again") - failure.at).num_milliseconds());
        }
    }
    for (attempt, interval) in intervals.iter().enumerate() {
        let longest = (10_000 << attempt).min(300_000);
        assert!((longest / 2..=longest).contains(interval), "{intervals:?}");
    }
    *service.lock().expect("no panic") = Service::Up;
    sleep(Duration::from_secs(330)).await;
    projector.caught_up().await.expect("works");
    assert_eq!(projector.progress().await.expect("progress").stopped().count(), 0);
    projector.shutdown();
    worker.await.expect("no panic").expect("ends");
}

/// A broker whose client panics or hangs.
#[derive(Debug)]
struct Broker(Mutex<Option<Fault>>);

#[async_trait::async_trait]
impl Publisher for Broker {
    fn limits(&self) -> BatchLimits {
        BatchLimits::default()
    }

    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Result<(), PublishError>>, PublishError> {
        let fault = *self.0.lock().expect("no panic");
        match fault {
            None => Ok(vec![Ok(()); batch.len()]),
            Some(Fault::Panic(place)) => panic!("a bug in {place}"),
            Some(_) => pending().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_panics_or_hangs_holds_up_its_slice() {
    for fault in [Fault::Panic("publish"), Fault::Hang("publish")] {
        let store = MemoryStore::new();
        deposit(&store, "ada", &["a"]).await;
        let broker = Arc::new(Broker(Mutex::new(Some(fault))));
        let source = CloudEvents::source("/tests").expect("a source");
        let clock = es_tests::chaos::projections::VirtualTime::new(chrono::TimeDelta::zero());
        let publishing = Publishing::new("to_tests", Arc::clone(&broker), source).clock(clock);
        let projector = projector(store, publishing.timeout(Duration::from_secs(5))).poll(POLL).build();
        let worker = work(&projector);
        sleep(Duration::from_secs(100)).await;
        let progress = projector.progress().await.expect("progress");
        let error = match fault {
            Fault::Panic(_) => progress.stopped().next().expect("has stopped").1.to_string(),
            _ => progress.delayed().next().expect("waits").1.to_string(),
        };
        let expected = "`Deposited` at version 1 of `account#ada` (position 1): it was not published: ";
        assert!(error.contains(expected), "{error}");
        *broker.0.lock().expect("no panic") = None;
        sleep(Duration::from_secs(330)).await;
        projector.caught_up().await.expect("works");
        projector.shutdown();
        worker.await.expect("no panic").expect("ends");
    }
}

/// Parks or skips the event at which `projector` is delayed, as another process would.
async fn decide<P: Projection>(projector: &Projector<P>, store: &MemoryStore, park: bool) {
    let slice = slice(store, "ada").await;
    let progress = projector.progress().await.expect("progress");
    let (_, delay) = progress.delayed().next().expect("is delayed");
    assert_eq!(delay.event.as_ref().expect("an event").name(), Some("Deposited"));
    projector.retry(slice).await.expect("has no effect, because it is tried again in any case");
    if park { projector.park(slice).await } else { projector.skip(slice).await }.expect("is delayed");
}

#[tokio::test(start_paused = true)]
async fn an_operator_can_park_or_skip_an_event_that_is_delayed() {
    for park in [true, false] {
        let store = MemoryStore::new();
        deposit(&store, "ada", &["a", "b"]).await;
        deposit(&store, &neighbor(&store, "ada").await, &["c"]).await;
        let service = Arc::new(Mutex::new(Service::Down));
        let working = projector(store.clone(), Notifier(Arc::clone(&service))).poll(POLL).build();
        let worker = work(&working);
        sleep(Duration::from_secs(60)).await;
        let operator = projector(store.clone(), Notifier(Arc::clone(&service))).build();
        decide(&operator, &store, park).await;
        *service.lock().expect("no panic") = Service::Up;
        timeout(Duration::from_secs(60), working.caught_up()).await.expect("in time").expect("goes on");
        let parked: Vec<_> = operator
            .parked()
            .await
            .expect("parked")
            .iter()
            .map(|parked| parked.event.version.get())
            .collect();
        let skipped: u64 =
            operator.progress().await.expect("progress").slices.iter().map(|slice| slice.skipped).sum();
        assert_eq!((parked, skipped), if park { (vec![1, 2], 0) } else { (vec![], 1) });
        let error = operator.park(slice(&store, "ada").await).await.expect_err("it goes on").to_string();
        assert!(error.contains("has not stopped"), "{error}");
        working.shutdown();
        worker.await.expect("no panic").expect("ends");
    }
}

/// A broker that is not available for one account.
#[derive(Debug)]
struct Partial(&'static str);

#[async_trait::async_trait]
impl Publisher for Partial {
    fn limits(&self) -> BatchLimits {
        BatchLimits::default()
    }

    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Result<(), PublishError>>, PublishError> {
        let is_down = |envelope: &Envelope| envelope.stream().id() == self.0;
        let publish = |envelope| match is_down(envelope) {
            true => Err(PublishError::transient("the partition is not available")),
            false => Ok(()),
        };
        Ok(batch.iter().map(publish).collect())
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_can_park_or_skip_an_event_that_a_broker_does_not_accept() {
    for park in [true, false] {
        let store = MemoryStore::new();
        let neighbor = neighbor(&store, "ada").await;
        deposit(&store, &neighbor, &["a"]).await;
        deposit(&store, "ada", &["b"]).await;
        deposit(&store, &neighbor, &["c"]).await;
        let source = CloudEvents::source("/tests").expect("a source");
        let clock = es_tests::chaos::projections::VirtualTime::new(chrono::TimeDelta::zero());
        let publishing = Publishing::new("to_tests", Partial("ada"), source).clock(clock);
        let projector = projector(store.clone(), publishing).poll(POLL).build();
        let worker = work(&projector);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(projector.progress().await.expect("progress").lag(), 3);
        decide(&projector, &store, park).await;
        timeout(Duration::from_secs(60), projector.caught_up()).await.expect("in time").expect("goes on");
        assert_eq!(projector.parked().await.expect("parked").len(), usize::from(park));
        projector.shutdown();
        worker.await.expect("no panic").expect("ends");
    }
}

/// A service, or a broker, that is not available for ada for some time.
#[derive(Debug, Default)]
struct Partner {
    is_up: AtomicBool,
    accepted: Mutex<Vec<String>>,
}

impl Partner {
    fn accept(&self, account: &str, version: Version) -> Result<(), &'static str> {
        if account == "ada" && !self.is_up.load(Ordering::SeqCst) {
            return Err("the service is down");
        }
        let account = if account == "ada" { account } else { "neighbor" };
        self.accepted.lock().expect("no panic").push(format!("{account} {version}"));
        Ok(())
    }

    fn accepted(&self) -> Vec<String> {
        self.accepted.lock().expect("no panic").clone()
    }
}

#[async_trait::async_trait]
impl Publisher for Partner {
    fn limits(&self) -> BatchLimits {
        BatchLimits::default()
    }

    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Result<(), PublishError>>, PublishError> {
        let publish = |envelope: &Envelope| {
            let accepted = self.accept(envelope.stream().id(), envelope.id().version());
            accepted.map_err(PublishError::transient)
        };
        Ok(batch.iter().map(publish).collect())
    }
}

#[derive(Clone, Projection)]
#[projection(name = "partnered", events(Account(Deposited)))]
struct Partnered(Arc<Partner>);

impl Project<Deposited> for Partnered {
    async fn project(&mut self, _: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
        self.0.accept(ctx.id(), ctx.version()).map_err(|error| Transient::new(error).into())
    }
}

/// Events are parked because a service is down, and replayed while it still is. The slice goes on, and the replay is
/// completed when the service is up.
async fn replay_early<P: Projection>(partner: Arc<Partner>, build: impl Fn(MemoryStore) -> Projector<P>) {
    let store = MemoryStore::new();
    let neighbor = neighbor(&store, "ada").await;
    deposit(&store, "ada", &["a", "b"]).await;
    let projector = build(store.clone());
    let worker = work(&projector);
    sleep(Duration::from_secs(60)).await;
    projector.park(slice(&store, "ada").await).await.expect("is delayed");
    sleep(Duration::from_secs(60)).await;
    projector.replay_parked().await.expect("ordered");
    sleep(Duration::from_secs(60)).await;
    deposit(&store, "ada", &["c"]).await;
    deposit(&store, &neighbor, &["d"]).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(partner.accepted(), ["neighbor 1"]);
    assert_eq!(projector.parked().await.expect("parked").len(), 3);
    partner.is_up.store(true, Ordering::SeqCst);
    timeout(Duration::from_secs(600), projector.caught_up()).await.expect("in time").expect("goes on");
    assert_eq!(partner.accepted(), ["neighbor 1", "ada 1", "ada 2", "ada 3"]);
    assert!(projector.parked().await.expect("parked").is_empty());
    projector.shutdown();
    worker.await.expect("no panic").expect("ends");
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_waits_for_a_service_does_not_hold_up_its_slice() {
    let partner = Arc::new(Partner::default());
    let build = |store| projector(store, Partnered(Arc::clone(&partner))).poll(POLL).build();
    replay_early(Arc::clone(&partner), build).await;

    let partner = Arc::new(Partner::default());
    let build = |store| {
        let source = CloudEvents::source("/tests").expect("a source");
        let clock = es_tests::chaos::projections::VirtualTime::new(chrono::TimeDelta::zero());
        let publishing = Publishing::new("to_tests", Arc::clone(&partner), source).clock(clock);
        projector(store, publishing).poll(POLL).build()
    };
    replay_early(Arc::clone(&partner), build).await;
}

/// The error of a handler, whose text, cause, or end is user code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostileError {
    PanicsInText,
    PanicsInSource,
    PanicsInDrop,
    Cycle,
    Endless,
}

/// A [`HostileError`] that is returned.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Returned(#[source] HostileError);

impl Drop for Returned {
    fn drop(&mut self) {
        assert!(self.0 != HostileError::PanicsInDrop || std::thread::panicking(), "a bug in drop");
    }
}

impl std::fmt::Display for HostileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PanicsInText => panic!("no text"),
            Self::Endless => loop {
                f.write_str("more ")?;
            },
            Self::PanicsInSource | Self::PanicsInDrop | Self::Cycle => f.write_str("hostile"),
        }
    }
}

impl std::error::Error for HostileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::PanicsInSource => panic!("no source"),
            Self::Cycle => Some(self),
            Self::PanicsInText | Self::PanicsInDrop | Self::Endless => None,
        }
    }
}

/// Returns a hostile error for the note "bad".
#[derive(Clone)]
struct Hostile(HostileError);

impl Projection for Hostile {
    const NAME: &'static str = "hostile";

    fn filter(&self) -> EventFilter {
        EventFilter::none().with_event::<Deposited>("account")
    }

    async fn handle(&mut self, event: &EventData, _: &EventContext) -> Result<(), ProjectError> {
        match Deposited::decode(event)?.note.as_str() {
            "bad" => Err(ProjectError::Handler(Returned(self.0).into())),
            _ => Ok(()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_with_a_hostile_error_is_parked_alone() {
    for (error, text) in [
        (HostileError::PanicsInText, "an error without a text: user code panicked: no text"),
        (HostileError::PanicsInSource, "an error without a text: user code panicked: no source"),
        (HostileError::PanicsInDrop, "hostile"),
        (HostileError::Cycle, "hostile"),
        (HostileError::Endless, "more more "),
    ] {
        let store = MemoryStore::new();
        deposit(&store, "ada", &["a", "bad"]).await;
        deposit(&store, &neighbor(&store, "ada").await, &["after"]).await;
        let projector = projector(store.clone(), Hostile(error)).on_failure(OnFailure::Park).build();
        let caught_up = timeout(Duration::from_secs(60), projector.run_until_caught_up()).await;
        caught_up.expect("in time").expect("goes on");
        let parked = projector.parked().await.expect("parked");
        assert_eq!(parked.len(), 1, "{error:?}");
        assert!(parked[0].error.starts_with(text), "{error:?}: {}", parked[0].error);
    }
}

/// `Duration::MAX` stands for "never".
#[tokio::test(start_paused = true)]
async fn settings_may_be_as_long_as_possible() {
    let longest = RetryPolicy::default()
        .with_max_attempts(2)
        .with_base_delay(Duration::MAX)
        .with_max_delay(Duration::MAX);
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "bad", "c"]).await;
    let build = |faulty: &Faulty| {
        projector(store.clone(), faulty.clone())
            .retry(RetryPolicy::never())
            .restart(longest)
            .lease(Duration::MAX)
            .handler_timeout(Duration::MAX)
            .shutdown_timeout(Duration::MAX)
            .build()
    };
    let faulty = Faulty::with(Fault::Panic("bad"));
    let projector = build(&faulty);
    let stopped = timeout(Duration::from_secs(60), projector.run_until_caught_up()).await;
    stopped.expect("in time").expect_err("stops");
    let progress = projector.progress().await.expect("progress");
    let (_, failure) = progress.stopped().next().expect("has stopped");
    assert_eq!(failure.retry_at.map(|at| at.to_rfc3339().starts_with("9999-")), Some(true));

    faulty.mend();
    let projector = build(&faulty);
    let worker = work(&projector);
    // A worker that starts retries immediately.
    let caught_up = async {
        while projector.progress().await.expect("progress").lag() > 0 {
            sleep(LEASE).await;
        }
    };
    timeout(Duration::from_secs(60), caught_up).await.expect("in time");
    projector.shutdown();
    timeout(Duration::from_secs(60), worker).await.expect("in time").expect("no panic").expect("ends");
}

/// A projection whose futures are large, as those with several SQL statements are.
#[derive(Clone, Projection)]
#[projection(name = "large-future", events(Account(Deposited)))]
struct LargeFuture;

#[handlers]
impl LargeFuture {
    #[project]
    async fn deposited(&mut self, event: &Deposited, _: &EventContext) -> Result<(), BoxError> {
        let held = [event.cents as u8; 100_000];
        tokio::task::yield_now().await;
        assert_eq!(held[99_999], event.cents as u8);
        Ok(())
    }
}

/// Each function of the worker that contains the future of a handler would also have a copy of it on its stack.
#[test]
fn a_large_future_does_not_overflow_the_stack_of_the_worker() {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let store = MemoryStore::new();
            deposit(&store, "ann", &["first"]).await;
            let projector = projector(store, LargeFuture).build();
            projector.run_until_caught_up().await.expect("handles the event");
        });
    };
    // The default stack of the threads of tokio.
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(run);
    thread.expect("starts").join().expect("no panic");
}
