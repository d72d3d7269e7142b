//! The policy in the book: it allows every request that the library makes, and no others.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::Client;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use chrono::{TimeDelta, Utc};
use es_core::clock::ManualClock;
use es_core::documents::{ChangeSet, DocumentKey, DocumentQuery, Documents, ExpectedDocument};
use es_core::event::EventData;
use es_core::feed::{Feed, FeedRead, Position};
use es_core::payloads::{MemoryPayloads, PayloadName, PayloadStore};
use es_core::personal::{Keyring, Subject};
use es_core::snapshot::SnapshotPolicy;
use es_core::store::{Append, NewCommit};
use es_core::{EventStore, ExpectedVersion, Repository, StreamId, Transaction, Version};
use es_dynamo::embedded::{Connector, Engine};
use es_dynamo::keyring::{DynamoKeyring, LocalMasterKey};
use es_dynamo::{DynamoStore, Indexer, Reconciler, StreamsClient, SweepOptions, lambda};
use es_tests::conformance::time;
use es_tests::domain::{Account, Deposit, RequireBalance, TakeHandle, Withdraw};
use es_tools::policy::Feature;
use serde_json::{Value, json};

type Actions = BTreeSet<String>;

/// Records the actions that requests need, and forwards the requests.
#[derive(Clone, Debug)]
struct Recorder {
    way: Connector,
    actions: Arc<Mutex<Actions>>,
}

impl HttpConnector for Recorder {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").expect("an operation");
        let operation = target.rsplit('.').next().expect("at least one part");
        let body = serde_json::from_slice(request.body().bytes().expect("a body")).expect("JSON");
        self.actions.lock().expect("no panic before").extend(actions_of(operation, &body));
        self.way.call(request)
    }
}

impl Recorder {
    /// Returns the actions since the last call.
    fn take(&self) -> Actions {
        std::mem::take(&mut self.actions.lock().expect("no panic before"))
    }
}

/// Returns the actions that a role needs for a request. There is no action for a transaction: it needs the actions of
/// its parts ([IAM and
/// transactions](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html)).
fn actions_of(operation: &str, body: &Value) -> Actions {
    let contained = |action: &str| match action {
        "ConditionCheck" => "dynamodb:ConditionCheckItem".to_owned(),
        other => format!("dynamodb:{other}Item"),
    };
    match operation {
        "TransactWriteItems" | "TransactGetItems" => {
            let items = body["TransactItems"].as_array().expect("items");
            let kinds = items.iter().flat_map(|item| item.as_object().expect("an object").keys());
            kinds.map(|kind| contained(kind)).collect()
        }
        other => Actions::from([format!("dynamodb:{other}")]),
    }
}

/// Returns the actions of each statement of the policy in the book.
fn policy() -> Vec<Actions> {
    let book = include_str!("../../../docs/src/operations.md");
    let blocks = book.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    let policy = blocks.filter(|block| block.contains("\"Statement\"")).collect::<Vec<_>>();
    let [policy] = policy[..] else { panic!("the book has {} policies", policy.len()) };
    let policy: Value = serde_json::from_str(policy).expect("is JSON");
    let statements = policy["Statement"].as_array().expect("statements");
    let action = |action: &Value| action.as_str().expect("a text").to_owned();
    let actions = |statement: &Value| {
        assert_eq!(statement["Effect"], "Allow");
        let actions: Actions = statement["Action"].as_array().expect("a list").iter().map(action).collect();
        let of_the_stream = actions.contains("dynamodb:GetRecords");
        let stream = if of_the_stream { "/stream/*" } else { "" };
        let resource = format!("arn:aws:dynamodb:REGION:ACCOUNT:table/events{stream}");
        assert_eq!(statement["Resource"], resource);
        actions
    };
    statements.iter().map(actions).collect()
}

/// The actions that the templates of `es table template` allow a feature on the table.
fn actions_on_the_table(feature: Feature) -> Actions {
    feature.table_actions().iter().map(|action| (*action).to_owned()).collect()
}

/// Uses all operations of an application, so that every kind of request is sent.
async fn use_everything(store: &DynamoStore) {
    let accounts: Repository<Account> =
        Repository::builder(store.clone()).snapshots(SnapshotPolicy::Every(1)).cache(10).build();
    let id = "ann".to_owned();
    let large = Deposit { cents: 1, notes: vec!["a".repeat(150_000); 4] };
    accounts.execute(&id, Deposit::one(500, "a")).await.expect("accepted");
    accounts.execute(&id, Withdraw { cents: 200 }).await.expect("accepted");
    accounts.execute(&id, large).await.expect("accepted, in a transaction");
    accounts.execute(&id, Withdraw { cents: 1_000 }).await.expect_err("rejected");
    accounts.flush().await;
    accounts.load(&id).await.expect("loads");
    accounts.load_at(&id, Version::new(2)).await.expect("loads");
    accounts.load_as_of(&id, time(0)).await.expect("loads");
    accounts.history(&id).all().await.expect("reads");
    accounts.exists(&id).await.expect("is known");
    let elsewhere: Repository<Account> = Repository::new(store.clone());
    elsewhere.execute(&id, Deposit::one(1, "b")).await.expect("accepted");
    accounts.execute(&id, Deposit::one(1, "c")).await.expect("accepted, after a conflict");
    accounts.flush().await;

    for handle in ["ann", "anna"] {
        accounts.execute(&id, TakeHandle { handle: handle.to_owned() }).await.expect("is free");
    }
    accounts.claim_holder("handle", "anna").await.expect("is known");
    let withdraw = || accounts.once("key");
    withdraw().execute(&id, Withdraw { cents: 1_000 }).await.expect_err("rejected");
    withdraw().execute(&id, Withdraw { cents: 1 }).await.expect("accepted");
    withdraw().execute(&id, Withdraw { cents: 1 }).await.expect("accepted before");
    Transaction::new(store)
        .execute(&accounts, &id, RequireBalance { cents: 1 })
        .execute(&accounts, &"bob".to_owned(), Deposit::one(1, "a"))
        .commit()
        .await
        .expect("accepted");

    let rows = |name: &str| DocumentKey::new("rows", name);
    for name in ["a", "b"] {
        let set = ChangeSet::new(uuid::Uuid::new_v4()).put(rows(name), ExpectedDocument::Absent, "{}");
        store.change(&set).await.expect("writes");
        store.change(&set).await.expect("was written before");
    }
    let set = ChangeSet::new(uuid::Uuid::new_v4()).delete(rows("a"), ExpectedDocument::Any);
    store.change(&set).await.expect("deletes");
    let set = ChangeSet::new(uuid::Uuid::new_v4()).put(rows("a"), ExpectedDocument::Absent, "{}");
    let set = set.put(rows("b"), ExpectedDocument::Any, "{}");
    store.change(&set).await.expect("writes");
    store.document(&rows("b")).await.expect("reads");
    store.documents(&DocumentQuery::new("rows")).await.expect("lists");

    let stream: StreamId = "account#ann".parse().expect("a stream");
    store.head(&stream).await.expect("is known");

    let keys = json!({ "pk": { "S": "account#ann" }, "sk": { "S": "E#000000000001" } });
    let record = json!({ "dynamodb": { "SequenceNumber": "1", "Keys": keys } });
    lambda::handle(store, json!({ "Records": [record] })).await.expect("has records");
    let slice = store.slices().await.expect("are known").of(&stream);
    let page = store.read_feed(&FeedRead::new(slice, Position::NONE)).await.expect("reads");
    assert!(!page.entries.is_empty(), "the feed has events");
    for expected in [
        ExpectedVersion::NoStream,
        ExpectedVersion::StreamExists,
        ExpectedVersion::Any,
        ExpectedVersion::Exact(Version::new(1)),
    ] {
        let events = vec![EventData::new("Withdrawn", 1, "{\"cents\":0}")];
        let id = uuid::Uuid::new_v4().to_string().parse().expect("a UUID");
        // The requests are sent, whether the write succeeds or not.
        let _ =
            store.append(&Append::new(stream.clone(), expected, NewCommit::new(id, time(0), events))).await;
    }
}

/// Runs an indexer for the first time, which includes a reconciliation.
async fn index_everything(store: &DynamoStore) {
    let soon = std::time::Duration::from_millis(10);
    let indexer = Indexer::builder(store).poll(soon).refresh(soon);
    let indexer = indexer.build().expect("has a client");
    let running = tokio::spawn({
        let indexer = indexer.clone();
        async move { indexer.run().await.expect("runs") }
    });
    let is_done = || {
        let progress = indexer.progress();
        progress.records > 0 && progress.reconciliation.is_some() && !progress.reconciling
    };
    let start = std::time::Instant::now();
    while !is_done() {
        assert!(start.elapsed().as_secs() < 120, "it never ends: {:?}", indexer.progress());
        tokio::time::sleep(soon).await;
    }
    indexer.shutdown();
    running.await.expect("ends");
}

#[tokio::test]
async fn the_policy_allows_what_is_used_and_nothing_else() {
    let engine = Engine::in_memory().expect("starts");
    let recorder = Recorder { way: engine.connector(), actions: Arc::default() };
    let config = engine.config_through(SharedHttpConnector::new(recorder.clone()));
    let streams = engine.streams_config_through(SharedHttpConnector::new(recorder.clone()));
    let builder = DynamoStore::builder().client(Client::from_conf(config.build()));
    let builder = builder.streams_client(StreamsClient::from_conf(streams.build()));
    let store = builder.build().expect("a valid name");
    let [application, verification, indexer, stream] = &policy()[..] else {
        panic!("the policy has four statements")
    };

    store.create_table().await.expect("creates the table");
    let creation = recorder.take();
    assert!(creation.contains("dynamodb:CreateTable"), "{creation:?}");
    // The creator of the table, which is not the application, creates the settings of the feed.
    let shared = ["dynamodb:GetItem", "dynamodb:PutItem"].map(str::to_owned);
    assert_eq!(application & &creation, Actions::from(shared));

    use_everything(&store).await;
    let used = recorder.take();
    assert_eq!(
        used,
        actions_on_the_table(Feature::Application),
        "used by the application; its templates allow it"
    );
    assert_eq!(&used, application, "used by the application; the policy allows it");

    store.verify_table().await.expect("is the right table");
    let used = recorder.take();
    assert_eq!(used, actions_on_the_table(Feature::Verify), "used by verify_table; its templates allow it");
    let used = &used - application;
    assert_eq!(&used, verification, "used by verify_table; the policy allows it");

    index_everything(&store).await;
    let used = recorder.take();
    let allowed = actions_on_the_table(Feature::Indexer);
    let of_the_stream: Actions =
        Feature::Indexer.stream_actions().iter().map(|action| (*action).to_owned()).collect();
    // An indexer deletes replaced summaries, which takes more pages than there are here.
    let later = Actions::from(["dynamodb:DeleteItem".to_owned()]);
    assert_eq!(&used | &later, &allowed | &of_the_stream, "used by an indexer; its templates allow it");
    let used = &used - application;
    assert_eq!(used, indexer | stream, "used by an indexer; the policy allows it");
}

#[tokio::test]
async fn the_templates_permit_what_a_keyring_uses_and_nothing_else() {
    let engine = Engine::in_memory().expect("starts");
    let recorder = Recorder { way: engine.connector(), actions: Arc::default() };
    let config = engine.config_through(SharedHttpConnector::new(recorder.clone()));
    let client = Client::from_conf(config.build());
    let keyring = |number| DynamoKeyring::builder(&client, LocalMasterKey::new([number; 32]));
    let permitted = |actions: &[&str]| actions.iter().map(|action| (*action).to_owned()).collect::<Actions>();
    keyring(1).build().create_table().await.expect("creates the table");
    recorder.take();

    let [ann, bob] = ["ann", "bob"].map(|id| Subject::new(id).expect("valid"));
    keyring(1).build().keys_or_create(&[ann]).await.expect("created");
    keyring(1).build().forget(&bob).await.expect("forgotten");
    let used = recorder.take();
    assert_eq!(used, permitted(Feature::PersonalData.keys_actions()), "used by a keyring");
    assert_eq!(used, permitted(Feature::Kms.keys_actions()), "used by a keyring with KMS");

    let rotating = keyring(2).previous_master_key(LocalMasterKey::new([1; 32])).build();
    assert_eq!(rotating.rewrap().await.expect("rewrapped"), 1);
    assert_eq!(recorder.take(), permitted(Feature::KeyRotation.keys_actions()), "used by a rotation");
}

#[tokio::test]
async fn the_templates_permit_what_a_sweep_uses_and_nothing_else() {
    let engine = Engine::in_memory().expect("starts");
    let recorder = Recorder { way: engine.connector(), actions: Arc::default() };
    let config = engine.config_through(SharedHttpConnector::new(recorder.clone()));
    let payloads = MemoryPayloads::new();
    let store = DynamoStore::builder().client(Client::from_conf(config.build())).payloads(payloads.clone());
    let store = store.build().expect("a valid name");
    store.create_table().await.expect("creates the table");
    let orphan = PayloadName::of("events/payloads".parse().expect("valid"), b"orphan");
    payloads.put(&orphan, "orphan".into()).await.expect("stores");
    recorder.take();

    let clock = ManualClock::at(Utc::now() + TimeDelta::days(2));
    for dry_run in [true, false, false] {
        let options = SweepOptions::new().with_clock(clock.clone()).with_dry_run(dry_run);
        Reconciler::builder(&store).build().sweep_payloads(options).await.expect("sweeps");
        clock.advance(TimeDelta::hours(1));
    }
    assert!(payloads.names().is_empty(), "the orphan is deleted");
    assert_eq!(recorder.take(), actions_on_the_table(Feature::PayloadSweep));
}

#[test]
fn a_transaction_needs_what_its_items_need() {
    let body = json!({ "TransactItems": [
        { "Put": {} }, { "Put": {} }, { "Delete": {} }, { "Update": {} }, { "ConditionCheck": {} },
    ] });
    let actions = ["PutItem", "DeleteItem", "UpdateItem", "ConditionCheckItem"];
    let expected = actions.map(|action| format!("dynamodb:{action}"));
    assert_eq!(actions_of("TransactWriteItems", &body), Actions::from(expected));
    assert_eq!(actions_of("Query", &json!({})), Actions::from(["dynamodb:Query".to_owned()]));
}
