//! The keyring in a table, and what a table with personal data contains.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use chrono::{DateTime, TimeDelta};
use es_core::StoreError;
use es_core::clock::ManualClock;
use es_core::payloads::{MemoryPayloads, PayloadStore};
use es_core::personal::{KeyState, Keyring, MAX_KEY_AGE, MemoryKeyring, Personal, SealedStore, Subject};
use es_core::prelude::*;
use es_core::projection::OnFailure;
use es_core::snapshot::SnapshotPolicy;
use es_dynamo::embedded::Engine;
use es_dynamo::keyring::{DynamoKeyring, LocalMasterKey};
use es_dynamo::{DynamoStore, Reconciler};
use tracing::Level;

use super::consumers::{Broker, publishing};
use super::domain::{
    Claim, Customer, DELAY, Directory, Greet, Greeting, Move, Register, Registered, SendMail, secret,
};
use crate::processes::support::{Time, projector};
use es_tests::conformance::keyring::ForgettingMasterKey;
use es_tests::recorder::Seen;

fn subject(id: &str) -> Subject {
    Subject::new(id).expect("valid")
}

fn master_key(number: u8) -> LocalMasterKey {
    LocalMasterKey::new([number; 32])
}

/// Returns a store, and a keyring on the same engine.
async fn keyring() -> (DynamoStore, DynamoKeyring) {
    let store = DynamoStore::embedded().await.expect("created");
    let keyring = DynamoKeyring::builder(store.client(), master_key(1)).build();
    keyring.create_table().await.expect("created");
    keyring.create_table().await.expect("exists already");
    (store, keyring)
}

es_tests::keyring_conformance!({
    let (store, _) = keyring().await;
    Arc::new(move || DynamoKeyring::builder(store.client(), master_key(1)).build())
});

#[tokio::test]
async fn a_forgotten_key_never_comes_back() {
    let (store, keyring) = keyring().await;
    let other = DynamoKeyring::builder(store.client(), master_key(1)).cache(Duration::ZERO).build();
    let ann = [subject("ann")];
    keyring.keys_or_create(&ann).await.expect("created");
    other.forget(&ann[0]).await.expect("forgotten");
    assert_eq!(other.keys_or_create(&ann).await.expect("read"), [KeyState::Forgotten]);
    assert!(matches!(keyring.keys(&ann).await.expect("cached")[..], [KeyState::Known(_)]));
    keyring.forget(&ann[0]).await.expect("forgotten before");
    assert_eq!(
        keyring.keys_or_create(&ann).await.expect("read"),
        [KeyState::Forgotten],
        "not cached any more"
    );

    // Before it ever had a key.
    keyring.forget(&subject("bob")).await.expect("forgotten");
    assert_eq!(other.keys_or_create(&[subject("bob")]).await.expect("read"), [KeyState::Forgotten]);
    assert_eq!(items(store.client(), "events-keys").await.len(), 2, "tombstones remain");
}

/// Another process forgets a subject: its key is used for another minute at most, whatever the builder is told.
#[tokio::test]
async fn a_cached_key_does_not_outlive_a_minute() {
    let (store, forgetting) = keyring().await;
    let hour = Duration::from_secs(3_600);
    for (id, age, limit) in [("17", hour, MAX_KEY_AGE), ("18", MAX_KEY_AGE / 2, MAX_KEY_AGE / 2)] {
        let (subjects, clock) = ([subject(id)], ManualClock::at(DateTime::UNIX_EPOCH));
        let caching = DynamoKeyring::builder(store.client(), master_key(1)).cache(age).clock(clock.clone());
        let caching = caching.build();
        let created = caching.keys_or_create(&subjects).await.expect("created");
        forgetting.forget(&subjects[0]).await.expect("forgotten");
        clock.advance(TimeDelta::from_std(limit).expect("short") - TimeDelta::milliseconds(1));
        assert_eq!(caching.keys(&subjects).await.expect("cached"), created);
        clock.advance(TimeDelta::milliseconds(1));
        assert_eq!(caching.keys(&subjects).await.expect("read"), [KeyState::Forgotten]);
    }
}

#[tokio::test]
async fn the_master_key_can_be_rotated() {
    let (store, before) = keyring().await;
    let subjects = ["ann", "bob", "eve"].map(subject);
    let keys = before.keys_or_create(&subjects).await.expect("created");
    before.forget(&subjects[2]).await.expect("forgotten");

    let new = |number| DynamoKeyring::builder(store.client(), master_key(number));
    let error = new(2).build().keys(&subjects).await.expect_err("another master key");
    assert!(
        matches!(error, StoreError::Setup { .. }) && error.to_string().contains("previous_master_key"),
        "{error}"
    );
    let during = new(2).previous_master_key(master_key(1)).build();
    assert_eq!(during.keys(&subjects[..2]).await.expect("read"), keys[..2]);
    assert_eq!(during.rewrap().await.expect("rewrapped"), 2);
    assert_eq!(during.rewrap().await.expect("rewrapped before"), 0);
    let after = new(2).build();
    assert_eq!(
        after.keys(&subjects).await.expect("read"),
        [keys[0].clone(), keys[1].clone(), KeyState::Forgotten]
    );
}

#[tokio::test]
async fn a_subject_that_is_forgotten_during_a_rotation_stays_forgotten() {
    let (store, keyring) = keyring().await;
    let subjects = ["ann", "bob"].map(subject);
    let keys = keyring.keys_or_create(&subjects).await.expect("created");
    let new =
        ForgettingMasterKey { key: master_key(2), keyring: Arc::new(keyring), subject: subjects[1].clone() };
    let during = DynamoKeyring::builder(store.client(), new).previous_master_key(master_key(1)).build();
    assert_eq!(during.rewrap().await.expect("rewrapped"), 1);
    let after = DynamoKeyring::builder(store.client(), master_key(2)).build();
    assert_eq!(after.keys_or_create(&subjects).await.expect("read"), [keys[0].clone(), KeyState::Forgotten]);
}

/// Answers every request with an empty object, as a broken gateway does.
#[derive(Debug)]
struct Gateway;

impl HttpConnector for Gateway {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let status = 200.try_into().expect("a status");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, "{}".into())))
    }
}

#[tokio::test]
async fn a_response_that_is_not_from_dynamodb_neither_creates_nor_forgets_a_key() {
    let engine = Engine::in_memory().expect("starts");
    let client = Client::from_conf(engine.config_through(SharedHttpConnector::new(Gateway)).build());
    let keyring = DynamoKeyring::builder(&client, master_key(1)).build();
    let ann = [subject("ann")];
    for result in [
        keyring.keys(&ann).await.map(drop),
        keyring.keys_or_create(&ann).await.map(drop),
        keyring.forget(&ann[0]).await,
        keyring.rewrap().await.map(drop),
    ] {
        let error = result.expect_err("not from DynamoDB");
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    }
}

/// A projection that fails on every event.
#[derive(Clone, Projection)]
#[projection(name = "picky", events(Customer(Registered)))]
struct Picky;

#[handlers]
impl Picky {
    #[project]
    async fn registered(&mut self, _: &Registered) -> Result<(), BoxError> {
        Err("not today".into())
    }
}

/// Returns all items of a table.
async fn items(client: &Client, table: &str) -> Vec<HashMap<String, AttributeValue>> {
    let (mut items, mut start) = (Vec::new(), None);
    loop {
        let page =
            client.scan().table_name(table).set_exclusive_start_key(start).send().await.expect("scanned");
        items.extend(page.items.unwrap_or_default());
        match page.last_evaluated_key {
            Some(last) => start = Some(last),
            None => return items,
        }
    }
}

/// Adds the texts in a value, also those in compressed bytes.
fn texts(value: &AttributeValue, found: &mut Vec<String>) {
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => found.push(text.clone()),
        AttributeValue::Ss(all) | AttributeValue::Ns(all) => found.extend(all.iter().cloned()),
        AttributeValue::L(all) => all.iter().for_each(|value| texts(value, found)),
        AttributeValue::M(all) => {
            found.extend(all.keys().cloned());
            all.values().for_each(|value| texts(value, found));
        }
        AttributeValue::B(bytes) => {
            found.push(String::from_utf8_lossy(bytes.as_ref()).into_owned());
            if let Ok(bytes) = miniz_oxide::inflate::decompress_to_vec(bytes.as_ref()) {
                found.push(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        AttributeValue::Bool(_) | AttributeValue::Null(_) => {}
        other => panic!("an attribute of an unexpected type: {other:?}"),
    }
}

/// Returns the texts of all items whose partition key contains `part`.
async fn texts_of(client: &Client, part: &str) -> Vec<String> {
    let mut found = Vec::new();
    for item in items(client, "events").await {
        if item["pk"].as_s().is_ok_and(|key| key.contains(part)) {
            item.values().for_each(|value| texts(value, &mut found));
        }
    }
    found
}

#[test]
fn nothing_that_is_stored_published_or_logged_contains_a_value() {
    let seen = Seen::default();
    let broker = Broker::default();
    seen.record(leave_traces(broker.clone()));
    let lines = seen.lines(Level::TRACE);
    assert!(lines.iter().any(|line| line.level == Level::DEBUG), "the log is recorded");
    for line in lines {
        assert!(!format!("{line:?}").contains("Planted"), "{line:?}");
    }
    let published = broker.bodies();
    assert!(!published.is_empty());
    published.iter().for_each(|body| assert!(!body.contains("Planted") && body.contains("17"), "{body}"));
}

/// Values are sealed before large events and snapshots become objects.
#[tokio::test]
async fn objects_of_large_events_contain_no_values() {
    let payloads = MemoryPayloads::new();
    let engine = Engine::in_memory().expect("the engine starts");
    let raw = DynamoStore::builder().engine(&engine).payloads(payloads.clone()).build().expect("valid");
    raw.create_table().await.expect("created");
    let keyring = MemoryKeyring::new();
    let store = SealedStore::new(raw, keyring.clone());
    let customers = || -> Repository<Customer> {
        Repository::builder(store.clone()).snapshots(SnapshotPolicy::Every(2)).clock(Time).build()
    };
    let first = customers();
    first.execute("17", Register { name: secret("17") }).await.expect("accepted");
    let done = first.execute("17", Move { street: secret("17").repeat(30_000) }).await.expect("accepted");
    first.flush().await;

    let names = payloads.names();
    assert_eq!(names.len(), 2, "the event, and the snapshot");
    for name in names {
        let content = payloads.get(&name).await.expect("is there");
        let content = miniz_oxide::inflate::decompress_to_vec(&content).unwrap_or(content.to_vec());
        let content = String::from_utf8_lossy(&content);
        assert!(content.len() > 600_000 && content.contains("$sealed"), "{} bytes", content.len());
        assert!(!content.contains("Planted"));
    }
    assert!(customers().load("17").await.expect("loaded").state == done.state, "the values are opened");
    keyring.forget(&subject("17")).await.expect("forgotten");
    let address = customers().load("17").await.expect("loaded").state.address;
    assert!(address.is_some_and(|address| address.is_forgotten()));
}

/// Stores personal data in every way, and looks for it.
async fn leave_traces(broker: Broker) {
    let (raw, keyring) = keyring().await;
    let client = raw.client().clone();
    let store = SealedStore::new(raw.clone(), keyring.clone());
    let customers: Repository<Customer> =
        Repository::builder(store.clone()).snapshots(SnapshotPolicy::Every(2)).clock(Time).build();
    customers.execute("17", Register { name: secret("17") }).await.expect("accepted");
    // The snapshot is large enough to be compressed.
    customers.execute("17", Move { street: secret("17").repeat(1_000) }).await.expect("accepted");
    customers.execute("17", Claim { email: secret("17") }).await.expect("accepted");
    customers.execute("17", SendMail).await.expect("accepted");
    customers.flush().await;
    Reconciler::builder(&raw).build().run().await.expect("indexed");

    let directory = Projector::new(store.clone(), Directory { entries: ReadModel::of::<Directory>(&store) });
    directory.run_until_caught_up().await.expect("caught up");
    let picky = Projector::builder(store.clone(), Picky).on_failure(OnFailure::Park);
    let picky = picky.retry(es_core::RetryPolicy::never()).build();
    picky.run_until_caught_up().await.expect("caught up");
    assert_eq!(picky.parked().await.expect("read").len(), 1);
    Projector::new(store.clone(), publishing(broker)).run_until_caught_up().await.expect("caught up");
    let lets_pass = Arc::new(AtomicBool::new(false));
    let process = Greet { customers: customers.clone(), lets_pass: Arc::clone(&lets_pass) };
    let process = projector(store.clone(), process).build();
    let work = tokio::spawn({
        let process = process.clone();
        async move { process.run().await }
    });
    while !texts_of(&client, "#turn#").await.iter().any(|text| text.contains("rejections")) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for part in ["#turn#", "customer#17"] {
        let texts = texts_of(&client, part).await;
        assert!(texts.iter().any(|text| text.contains("$sealed")), "{part} is sealed");
    }
    assert!(texts_of(&client, "").await.iter().all(|text| !text.contains("Planted")));
    lets_pass.store(true, Ordering::SeqCst);
    process.caught_up().await.expect("caught up");

    for part in ["customer#17", "directory", "#timers#", "greeting#17"] {
        let texts = texts_of(&client, part).await;
        let sealed = texts.iter().filter(|text| text.contains("$sealed")).count();
        assert!(sealed > 0, "{part} is sealed");
    }
    let inflated = texts_of(&client, "customer#17").await;
    let snapshot = inflated.iter().find(|text| text.starts_with("{\"name\":{\"$sealed\""));
    assert!(snapshot.is_some_and(|snapshot| snapshot.len() > 20_000), "the snapshot is searched");
    let all = texts_of(&client, "").await;
    assert!(all.len() > 100 && all.iter().all(|text| !text.contains("Planted")));
    let keys = items(&client, "events-keys").await;
    assert_eq!(keys.len(), 2, "the subject, and claims");

    keyring.forget(&subject("17")).await.expect("forgotten");
    tokio::time::sleep(DELAY * 2).await;
    let greetings: Repository<Greeting> = Repository::new(store);
    while greetings.load("17").await.expect("loaded").state.names.len() < 2 {
        tokio::time::sleep(DELAY).await;
    }
    assert!(greetings.load("17").await.expect("loaded").state.names.iter().all(Personal::is_forgotten));
    process.shutdown();
    work.await.expect("no panic").expect("ended");
}
