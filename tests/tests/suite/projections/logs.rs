//! The logs of projectors.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use es_core::event::EventData;
use es_core::prelude::*;
use es_core::projection::OnFailure;
use es_core::store::Append;
use es_core::{EventStore, ExpectedVersion, MemoryStore};
use es_tests::conformance::new_commit;
use es_tests::domain::{Account, Deposited};
use tokio::time::sleep;
use tracing::Level;

use super::support::{Journal, LEASE, deposit, projector, stream, work};
use super::workers::owners;
use es_tests::recorder::{Fields, Line, Seen};

/// An error with a cause.
#[derive(Debug)]
struct Refused(fmt::Error);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the search index refused the document")
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// A projection whose second event of an account fails a number of times.
#[derive(Clone, Projection)]
#[projection(name = "search", events(Account(Deposited)))]
struct Search {
    failures: Arc<AtomicU32>,
}

impl Project<Deposited> for Search {
    async fn project(&mut self, _: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
        let fails = ctx.version().get() == 2
            && self
                .failures
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok();
        if fails { Err(Refused(fmt::Error).into()) } else { Ok(()) }
    }
}

/// The fields that identify the event and the error.
fn assert_names_the_event(fields: &Fields, reason: &str) {
    assert_eq!(
        ["projection", "stream", "event"].map(|name| fields.text(name)),
        ["search", "account#ada", "Deposited"]
    );
    assert_eq!(["build", "version", "position"].map(|name| fields.number(name)), [1, 2, 2]);
    let reason = fields.text(reason);
    assert!(reason.contains("the search index refused the document: "), "{reason}");
    assert!(reason.ends_with(&fmt::Error.to_string()), "{reason}");
}

#[test]
fn a_failed_event_is_named_with_all_causes() {
    for (failures, on_failure) in [(2, OnFailure::Stop), (3, OnFailure::Stop), (3, OnFailure::Park)] {
        let seen = Seen::default();
        seen.record(async {
            let store = MemoryStore::new();
            deposit(&store, "ada", &["a", "b", "c"]).await;
            let search = Search { failures: Arc::new(failures.into()) };
            let projector = projector(store.clone(), search).on_failure(on_failure).build();
            let ended = projector.run_until_caught_up().await;
            assert_eq!(ended.is_err(), failures == 3 && on_failure == OnFailure::Stop);
        });
        let log = seen.log(Level::WARN);
        let messages: Vec<_> = log.iter().map(Fields::message).collect();
        let end = match (failures, on_failure) {
            (2, _) => &[][..],
            (_, OnFailure::Park) => &["an event is parked"; 2],
            _ => &["a slice has stopped"],
        };
        assert_eq!(messages, [&["an event failed"; 2], end].concat());
        for failed in &log[..2] {
            assert_names_the_event(failed, "reason");
        }
        if let Some(last) = log.get(2) {
            assert_names_the_event(last, if on_failure == OnFailure::Park { "reason" } else { "error" });
        }
    }
}

/// In a rolling deployment, another worker continues, so this is not an error.
#[test]
fn the_wait_for_code_that_reads_a_newer_version_is_a_warning_once() {
    let seen = Seen::default();
    seen.record(async {
        let store = MemoryStore::new();
        let data = EventData::new("Deposited", 2, r#"{"cents":5,"note":"b"}"#);
        let append = Append::new(stream("ada"), ExpectedVersion::Any, new_commit(vec![data]));
        store.append(&append).await.expect("appended");
        let projector = projector(store.clone(), Journal::new(&store)).build();
        let worker = work(&projector);
        sleep(LEASE * 1000).await;
        projector.shutdown();
        worker.await.expect("no panic").expect("ends");
    });
    let log = seen.lines(Level::WARN);
    let [Line { level, fields, .. }] = &log[..] else { panic!("{log:?}") };
    assert_eq!(*level, Level::WARN);
    assert_eq!(fields.message(), "a slice waits for a worker whose code reads a newer version of an event");
    assert_eq!((fields.text("projection"), fields.number("event_version")), ("journal", 2));
    assert!(fields.text("event").contains("`Deposited` at version 1 of `account#ada`"), "{fields:?}");
}

/// A worker that waits for the slices of a dead one logs this once, with the owner and the remaining time.
#[test]
fn the_wait_for_the_lease_of_a_dead_worker_is_logged_once() {
    let seen = Seen::default();
    let owner = seen.record(async {
        let store = MemoryStore::new();
        let journal = Journal::new(&store);
        let dies = work(&projector(store.clone(), journal.clone()).build());
        sleep(LEASE * 2).await;
        let (owners, _) = owners(&store).await;
        dies.abort();
        let second = projector(store.clone(), journal).build();
        let worker = work(&second);
        deposit(&store, "ada", &["a"]).await;
        sleep(LEASE * 2 / 3).await;
        // A worker also looks for work after each order.
        for _ in 0..3 {
            sleep(LEASE / 12).await;
            second.resume().await.expect("resumes");
        }
        second.caught_up().await.expect("takes over");
        sleep(LEASE * 5).await;
        second.shutdown();
        worker.await.expect("no panic").expect("ends");
        owners.into_keys().next().expect("has slices")
    });
    let log = seen.lines(Level::INFO);
    let waits: Vec<_> = log.iter().filter(|line| line.fields.message().starts_with("waiting for")).collect();
    let [Line { level, fields, .. }] = waits[..] else { panic!("{log:?}") };
    assert_eq!((*level, fields.text("projection")), (Level::INFO, "journal"));
    assert_eq!((fields.text("owner"), fields.number("slices")), (&*owner, 4));
    assert!(fields.text("time_left").ends_with("ms"), "{fields:?}");
    assert!(log.iter().all(|line| line.level > Level::WARN), "{log:?}");
}

/// Nothing that belongs to normal operation is a warning.
#[test]
fn normal_operation_logs_no_warning() {
    let seen = Seen::default();
    seen.record(async {
        let store = MemoryStore::new();
        let journal = Journal::new(&store);
        let mut workers = BTreeMap::new();
        for number in 0..3 {
            let projector = projector(store.clone(), journal.clone()).build();
            workers.insert(number, (work(&projector), projector));
            deposit(&store, &format!("account-{number}"), &["a", "b"]).await;
            sleep(LEASE * 2).await;
        }
        let (_, projector) = &workers[&0];
        projector.caught_up().await.expect("catches up");
        projector.pause().await.expect("pauses");
        sleep(LEASE).await;
        projector.resume().await.expect("resumes");
        projector.rebuild().await.expect("begins");
        while projector.rebuild_progress().await.expect("is known").is_some_and(|progress| progress.lag() > 0)
        {
            sleep(LEASE).await;
        }
        projector.switch().await.expect("has caught up");
        projector.delete_replaced().await.expect("deletes");
        projector.reset().await.expect("is no process");
        for (number, (worker, projector)) in workers {
            deposit(&store, &format!("account-{number}"), &["c"]).await;
            sleep(LEASE * 2).await;
            projector.shutdown();
            worker.await.expect("no panic").expect("ends");
        }
    });
    let log = seen.log(Level::WARN);
    assert!(log.is_empty(), "{log:?}");
}
