//! Spans of projections, processes, publishers, indexers, and requests to DynamoDB.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use es_core::publish::Outbox;
use es_core::{MemoryStore, Repository, RetryPolicy};
use es_dynamo::Indexer;
use es_tests::domain::{Account, Deposit};
use futures_util::FutureExt;
use tokio::time::sleep;

use crate::engine;
use crate::metrics::consumers::{Broker, envelope};
use crate::processes::support as processes;
use crate::projections::support::{Journal, deposit, projector, work};
use es_tests::recorder::{Fields, Seen};

fn outcomes(spans: &[Fields]) -> Vec<&str> {
    spans.iter().map(|span| span.text("outcome")).collect()
}

#[test]
fn each_page_of_a_projection_has_a_span_with_its_outcome() {
    let spans = Seen::default().of("project", async {
        let store = MemoryStore::new();
        deposit(&store, "ada", &["a", "b", "c"]).await;
        let journal = Journal::new(&store);
        journal.fail("b", 3);
        let projector = projector(store, journal).build();
        let worker = work(&projector);
        // It fails three times, stops, and is retried after 5 to 10 seconds.
        sleep(Duration::from_secs(20)).await;
        projector.shutdown();
        worker.await.expect("does not panic").expect("ends");
    });
    assert_eq!(outcomes(&spans), ["stopped", "handled"]);
    let figures =
        |span: &Fields| (span.text("projection").to_owned(), span.number("events"), span.number("position"));
    let journal = |events, position| ("journal".to_owned(), events, position);
    assert_eq!(spans.iter().map(figures).collect::<Vec<_>>(), [journal(2, 1), journal(2, 3)]);
}

#[test]
fn a_page_that_a_killed_worker_handles_is_dropped() {
    let spans = Seen::default().of("project", async {
        let store = MemoryStore::new();
        deposit(&store, "ada", &["a"]).await;
        let journal = Journal::new(&store);
        journal.fail("a", 99);
        let patient = RetryPolicy::default().with_base_delay(Duration::from_secs(60));
        let worker =
            work(&projector(store, journal).retry(patient.with_max_delay(Duration::from_secs(60))).build());
        sleep(Duration::from_secs(1)).await;
        worker.abort();
        worker.await.expect_err("is aborted");
    });
    assert_eq!(outcomes(&spans), ["dropped"]);
}

#[test]
fn each_reaction_has_a_span_with_its_outcome() {
    let spans = Seen::default().of("react", async {
        let store = MemoryStore::new();
        processes::tell(&store, "a", "ann: remind note").await;
        let script = processes::Scripted::new(store.clone());
        let _work = processes::Work::on(&processes::projector(store, script).build());
        sleep(Duration::from_secs(10)).await;
    });
    assert_eq!(outcomes(&spans), ["done", "done"]);
    let what =
        |span: &Fields| ["process", "instance", "event", "timeout"].map(|name| span.text(name).to_owned());
    let expected = [["script", "ann", "Deposited", "false"], ["script", "ann", "Reminder", "true"]];
    assert_eq!(spans.iter().map(what).collect::<Vec<_>>(), expected);
}

#[test]
fn each_batch_has_a_span_with_its_outcome() {
    let spans = Seen::default().of("publish", async {
        for broker in [Broker::Accepts, Broker::AcceptsOne, Broker::Fails, Broker::Hangs, Broker::Panics] {
            let mut outbox = Outbox::new();
            for id in 1..=3 {
                outbox.push(envelope(id), &broker).expect("is small");
            }
            let sent = AssertUnwindSafe(outbox.send_once(&broker)).catch_unwind();
            let _ = tokio::time::timeout(Duration::from_secs(1), sent).await;
        }
    });
    assert_eq!(outcomes(&spans), ["accepted", "partial", "failed", "dropped", "panicked"]);
    for span in &spans {
        assert_eq!(
            (span.text("messaging.system"), span.text("messaging.operation.type")),
            ("broker", "send")
        );
        assert_eq!(span.number("messaging.batch.message_count"), 3);
    }
    assert_eq!(spans[..3].iter().map(|span| span.number("accepted")).collect::<Vec<_>>(), [3, 1, 0]);
}

#[test]
fn commits_are_indexed_in_a_span() {
    let spans = Seen::default().of("index", async {
        let store = engine::dynamo_store().await;
        let accounts: Repository<Account> = Repository::new(store.clone());
        accounts.execute("ada", Deposit { cents: 1, notes: vec![String::new(); 3] }).await.expect("accepted");
        let indexer = Indexer::builder(&store).build().expect("has an outbox");
        indexer.shutdown();
        indexer.run().await.expect("ends");
    });
    let [span] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!(span.text("outcome"), "indexed");
    assert_eq!(["commits", "events", "pages"].map(|name| span.number(name)), [1, 3, 1]);
}

/// Requests have the attributes of the semantic conventions of OpenTelemetry.
#[test]
fn each_request_to_dynamodb_has_a_span() {
    let spans = Seen::default().of("dynamodb", async {
        let accounts: Repository<Account> = Repository::new(engine::dynamo_store().await);
        accounts.execute("ada", Deposit::one(1, "")).await.expect("accepted");
        accounts.create("ada", Deposit::one(1, "")).await.expect_err("exists");
    });
    let first = spans.iter().position(|span| span.text("db.operation.name") == "Query").expect("a load");
    let operations: Vec<_> = spans[first..].iter().map(|span| span.text("db.operation.name")).collect();
    assert_eq!(operations, ["Query", "PutItem", "PutItem"]);
    for span in &spans {
        assert_eq!(span.text("otel.name"), span.text("db.operation.name"));
        assert_eq!((span.text("otel.kind"), span.text("db.system.name")), ("client", "aws.dynamodb"));
        assert!(!span.text("db.collection.name").is_empty());
    }
    assert_eq!(spans[first + 2].text("error.type"), "ConditionalCheckFailedException");
}
