//! The indexer and the reconciler, on the embedded engine with a stream as on DynamoDB, and with its outbox.

mod in_process;
mod outage;
mod outbox;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::documents::{ChangeSet, DocumentKey, DocumentQuery, Documents, ExpectedDocument};
use es_core::feed::{Feed, FeedRead, Position};
use es_core::{Repository, StreamId, Version};
use es_dynamo::embedded::Engine;
use es_dynamo::{DynamoStore, Indexer, IndexerBuilder, Reconciler, names};
use es_tests::domain::{Account, Deposit};

use crate::commit_key;

/// The timeout for operations that are immediate on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Creates a store that is indexed from its table's stream.
async fn store() -> DynamoStore {
    let engine = Engine::in_memory().expect("starts");
    let builder = DynamoStore::builder().client(engine.client()).streams_client(engine.streams_client());
    let store = builder.build().expect("has clients");
    store.create_table().await.expect("creates the table");
    store
}

fn quick(store: &DynamoStore) -> IndexerBuilder {
    let soon = Duration::from_millis(20);
    Indexer::builder(store).poll(soon).linger(soon).refresh(soon).lease(soon * 10)
}

/// Runs an indexer until it is told to stop.
fn start(indexer: &Indexer) -> tokio::task::JoinHandle<()> {
    let indexer = indexer.clone();
    tokio::spawn(async move { indexer.run().await.expect("runs") })
}

/// Stops an indexer, and waits for its end.
async fn stop(indexer: &Indexer, running: tokio::task::JoinHandle<()>) {
    indexer.shutdown();
    tokio::time::timeout(PATIENCE, running).await.expect("ends in time").expect("no panic");
}

/// Deposits `times` times in each of the accounts.
async fn deposit(store: &DynamoStore, accounts: u64, times: u64) {
    let repository: Repository<Account> = Repository::new(store.clone());
    for time in 0..times {
        for account in 0..accounts {
            let deposit = Deposit { cents: 1, notes: vec![String::new(); 1 + time as usize % 2] };
            repository.execute(&account.to_string(), deposit).await.expect("accepted");
        }
    }
}

fn account(id: impl std::fmt::Display) -> StreamId {
    StreamId::new("account", id).expect("valid")
}

/// Waits until a stream is indexed up to a version.
async fn indexed(store: &DynamoStore, stream: &StreamId, version: u64) {
    let start = Instant::now();
    while store.indexed(stream).await.expect("is known") < version {
        assert!(start.elapsed() < PATIENCE, "{stream} is never indexed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Checks that the feed contains every event once and in order.
async fn check(store: &DynamoStore, events: u64) {
    let report = Reconciler::builder(store).build().audit().await.expect("audits");
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.events, events);
    let mut read = 0;
    for slice in store.slices().await.expect("is known").iter() {
        let (mut after, mut next) = (Position::NONE, Position::new(1));
        loop {
            let page = store.read_feed(&FeedRead::new(slice, after).limit(7)).await.expect("reads");
            for entry in &page.entries {
                assert_eq!(entry.position, next);
                next = entry.last().next();
                read += entry.commit.events.len() as u64;
            }
            if page.is_last {
                break;
            }
            after = page.through;
        }
    }
    assert_eq!(read, events);
}

#[tokio::test]
async fn events_come_into_the_feed_as_they_happen() {
    let store = store().await;
    let indexer = quick(&store).build().expect("has a client");
    let running = start(&indexer);
    deposit(&store, 3, 4).await;
    for id in 0..3 {
        indexed(&store, &account(id), 6).await;
    }
    deposit(&store, 1, 1).await;
    indexed(&store, &account(0), 7).await;
    stop(&indexer, running).await;
    check(&store, 19).await;
    let progress = indexer.progress();
    let reconciled = progress.reconciliation.clone().expect("was reconciled").events_indexed;
    let events = progress.events + reconciled;
    assert_eq!((events, progress.damaged.len(), progress.foreign_items), (19, 0, 0));
    assert!(progress.pages <= 13 && progress.records > 13, "{progress:?}");
}

#[tokio::test]
async fn indexers_may_come_and_go_and_run_at_once() {
    let store = store().await;
    deposit(&store, 4, 2).await;
    for round in 0..3 {
        let indexers: Vec<_> = (0..3)
            .map(|_| {
                let builder = DynamoStore::builder().client(store.client().clone());
                let elsewhere = builder.streams_client(store.streams_client().expect("has one").clone());
                quick(&elsewhere.build().expect("has clients")).build().expect("has a client")
            })
            .collect();
        let running: Vec<_> = indexers.iter().map(start).collect();
        deposit(&store, 4, 2).await;
        for id in 0..4 {
            indexed(&store, &account(id), 3 * (round + 2)).await;
        }
        // One of them is killed.
        running[round as usize].abort();
        for indexer in &indexers {
            indexer.shutdown();
        }
        for running in running {
            let _ = tokio::time::timeout(PATIENCE, running).await.expect("ends in time");
        }
    }
    check(&store, 4 * 12).await;
}

#[tokio::test]
async fn a_table_without_a_feed_is_reconciled_by_itself() {
    let store = store().await;
    deposit(&store, 20, 3).await;
    // The stream may still contain the records, but the first indexer always reconciles.
    let indexer = quick(&store).build().expect("has a client");
    let running = start(&indexer);
    for id in 0..20 {
        indexed(&store, &account(id), 4).await;
    }
    let start = Instant::now();
    loop {
        let documents = store.documents(&DocumentQuery::new("$indexer")).await.expect("lists").documents;
        let reconciled = documents.iter().find(|(name, _)| name.starts_with("reconcile/"));
        if reconciled.is_some_and(|(_, state)| state.body.contains("\"pending\":false")) {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "it never ends: {documents:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop(&indexer, running).await;
    check(&store, 80).await;
}

#[tokio::test]
async fn the_reconciler_indexes_a_table_and_goes_on_where_it_was() {
    let store = store().await;
    deposit(&store, 30, 3).await;
    let before = Reconciler::builder(&store).build().audit().await.expect("audits");
    assert_eq!((before.missing.len(), before.streams, before.events), (30, 30, 0));
    assert_eq!(before.missing[&account(7)], (Version::NONE, Version::new(4)));

    let pages = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&pages);
    let builder = || Reconciler::builder(&store).segments(3).name("first");
    let done = builder().on_progress(move |progress| counted.store(progress.pages, Ordering::SeqCst));
    let done = done.build().run().await.expect("reconciles");
    assert_eq!((done.events_indexed, done.commits, done.segments_done), (120, 90, 3));
    assert_eq!(done.pages, pages.load(Ordering::SeqCst));
    check(&store, 120).await;
    let again = builder().build().run().await.expect("reconciles");
    assert_eq!((again.events_indexed, again.commits), (0, 90));
    check(&store, 120).await;
}

/// With zero segments, nothing would be read; with a million, there would be too many concurrent requests.
#[tokio::test]
async fn a_reconciliation_has_a_bounded_number_of_segments() {
    let store = store().await;
    let key = DocumentKey::new("$indexer", "reconcile/named/first");
    for count in [0, 1_001] {
        let segment = r#"{"after":null,"done":false}"#;
        let body = format!(r#"{{"pending":true,"segments":[{}]}}"#, vec![segment; count].join(","));
        let set = ChangeSet::new(uuid::Uuid::new_v4()).put(key.clone(), ExpectedDocument::Any, body);
        store.change(&set).await.expect("writes");
        let named = Reconciler::builder(&store).name("first").build();
        let error = named.run().await.expect_err("is damaged").to_string();
        assert!(
            error.contains("reconcile/named/first") && error.contains(&format!("{count} segments")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn the_audit_finds_what_is_wrong() {
    let store = store().await;
    deposit(&store, 3, 2).await;
    Reconciler::builder(&store).build().run().await.expect("reconciles");
    check(&store, 9).await;
    let key = |version| AttributeValue::S(commit_key(version));
    let delete = async |id: u64, version| {
        let request = store.client().delete_item().table_name(store.table_name());
        let request = request.key(names::PARTITION_KEY, AttributeValue::S(account(id).to_string()));
        request.key(names::SORT_KEY, key(version)).send().await.expect("deletes");
    };
    delete(0, 1).await;
    delete(1, 2).await;
    // The stream is deleted and started again.
    for version in [1, 2] {
        delete(2, version).await;
    }
    let again: Repository<Account> = Repository::new(store.clone());
    for cents in 1..4 {
        again.execute(&"2".to_owned(), Deposit::one(cents, "again")).await.expect("accepted");
    }
    let report = Reconciler::builder(&store).build().audit().await.expect("audits");
    assert_eq!(report.disordered, ["in the table, version 2 of `account#0` follows version 0"]);
    assert_eq!(report.unfounded[&account(1)], (Version::new(3), Version::new(1)));
    assert_eq!(report.contradicting[&account(2)], Version::new(3));
    assert!(!report.is_sound());
    let reconciled = Reconciler::builder(&store).build().run().await.expect("reconciles");
    assert!(reconciled.contradicting.contains(&account(2)), "{reconciled:?}");

    // An indexed commit without an id.
    let get = store.client().get_item().table_name(store.table_name());
    let get = get.key(names::PARTITION_KEY, AttributeValue::S(account(1).to_string()));
    let mut item = get.key(names::SORT_KEY, key(1)).send().await.expect("reads").item.expect("is there");
    item.remove("id");
    let put = store.client().put_item().table_name(store.table_name());
    put.set_item(Some(item)).send().await.expect("writes");
    let report = Reconciler::builder(&store).build().audit().await.expect("goes on");
    assert_eq!(report.damaged.keys().collect::<Vec<_>>(), [&account(1)]);
    assert_eq!(report.contradicting.len(), 1);
}

#[tokio::test]
async fn without_a_client_for_the_stream_there_is_no_indexer() {
    let store = store().await;
    let without = DynamoStore::builder().client(store.client().clone()).build().expect("has a client");
    let error = Indexer::builder(&without).build().expect_err("has none");
    assert!(error.to_string().contains("call `streams_client` on the store's builder"), "{error}");
}
