//! Copying tables of dynamo-es 0.5 and event-store-adapter-rs 5.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use chrono::{DateTime, TimeDelta};
use es_core::event::EventData;
use es_core::store::{Append, Commit, NewCommit, Read};
use es_core::{EventStore, MemoryStore, Metadata, StoreError, StreamId, Version};
use es_dynamo::embedded::{Connector, Engine};
use es_dynamo::import::{ForeignEvent, Import};
use futures_util::TryStreamExt;

use super::support::*;

/// Creates a table whose key is a string and a number.
async fn create(client: &Client, table: &str, keys: [&str; 2]) {
    let mut request = client.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
    let kinds = [(ScalarAttributeType::S, KeyType::Hash), (ScalarAttributeType::N, KeyType::Range)];
    for (key, (scalar, kind)) in keys.into_iter().zip(kinds) {
        let attribute = AttributeDefinition::builder().attribute_name(key).attribute_type(scalar);
        let element = KeySchemaElement::builder().attribute_name(key).key_type(kind);
        request = request
            .attribute_definitions(attribute.build().expect("is whole"))
            .key_schema(element.build().expect("is whole"));
    }
    request.send().await.expect("creates the table");
}

async fn put(client: &Client, table: &str, item: Item) {
    client.put_item().table_name(table).set_item(Some(item)).send().await.expect("is put");
}

fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

fn number(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

fn bytes(text: &str) -> AttributeValue {
    AttributeValue::B(Blob::new(text))
}

fn item<const N: usize>(attributes: [(&str, AttributeValue); N]) -> Item {
    attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

const EVENTS: &str = "Events";
const JOURNAL: &str = "journal";

/// Returns the item of an event of cqrs-es in a table of dynamo-es.
fn cqrs(id: &str, sequence: u64, event: (&str, &str), metadata: &str) -> Item {
    item([
        ("AggregateTypeAndId", text(format!("account:{id}"))),
        ("AggregateIdSequence", number(sequence)),
        ("AggregateType", text("account")),
        ("AggregateId", text(id)),
        ("EventVersion", text("1.0")),
        ("EventType", text(event.0)),
        ("Payload", bytes(event.1)),
        ("Metadata", bytes(metadata)),
    ])
}

/// Returns the item of an event in the journal of event-store-adapter-rs. The time is in nanoseconds.
fn journaled(aid: &str, sequence: u64, nanoseconds: i64, manifest: &str, payload: &str) -> Item {
    item([
        ("aid", text(aid)),
        ("seq_nr", number(sequence)),
        ("occurred_at", number(nanoseconds)),
        ("manifest", text(manifest)),
        ("payload", bytes(payload)),
    ])
}

async fn cqrs_table() -> Client {
    let client = Engine::in_memory().expect("starts").client();
    create(&client, EVENTS, ["AggregateTypeAndId", "AggregateIdSequence"]).await;
    client
}

async fn journal() -> Client {
    let client = Engine::in_memory().expect("starts").client();
    create(&client, JOURNAL, ["aid", "seq_nr"]).await;
    let configuration = item([("aid", text("__config__")), ("seq_nr", number(0)), ("store_id", text("s"))]);
    put(&client, JOURNAL, configuration).await;
    client
}

fn cqrs_import(client: &Client) -> Import {
    Import::dynamo_es(client.clone(), EVENTS).undated(time())
}

async fn commits(store: &dyn EventStore, id: &str) -> Vec<Commit> {
    let read = Read::all(StreamId::new("account", id).expect("a valid stream"));
    let pages: Vec<_> = store.read(read).try_collect().await.expect("reads");
    pages.into_iter().flat_map(|page| page.commits).collect()
}

fn invalid(result: Result<impl std::fmt::Debug, StoreError>) -> String {
    match result {
        Err(StoreError::Invalid { reason, .. }) => reason,
        other => panic!("expected an invalid import, got {other:?}"),
    }
}

const DEPOSITED: (&str, &str) =
    ("Deposited", r#"{"Deposited":{"cents":5,"big":340282366920938463463374607431768211455}}"#);

#[tokio::test]
async fn events_of_cqrs_es_are_copied() {
    let client = cqrs_table().await;
    let (one, other) = (r#"{"user":"ann"}"#, r#"{"user":"bob"}"#);
    // Two commands, and one that exceeds a commit. The id contains the separators of both libraries.
    put(&client, EVENTS, cqrs("a:n#n", 1, ("AccountOpened", r#"{"Opened":{"owner":"Ann"}}"#), one)).await;
    put(&client, EVENTS, cqrs("a:n#n", 2, DEPOSITED, one)).await;
    for sequence in 3..=30 {
        put(&client, EVENTS, cqrs("a:n#n", sequence, ("Closed", "\"Closed\""), other)).await;
    }
    put(&client, EVENTS, cqrs("bob", 1, DEPOSITED, "{}")).await;

    let target = MemoryStore::new();
    let imported = cqrs_import(&client).run(&target).await.expect("is copied");
    assert_eq!((imported.streams, imported.events, imported.new), (2, 31, 31));
    let ann = commits(&target, "a:n#n").await;
    assert_eq!(ann.iter().map(|commit| commit.last().get()).collect::<Vec<_>>(), [2, 27, 30]);
    assert_eq!(
        ann[0].events,
        [
            EventData::new("AccountOpened", 1, r#"{"owner":"Ann"}"#),
            EventData::new("Deposited", 1, r#"{"cents":5,"big":340282366920938463463374607431768211455}"#),
        ]
    );
    assert_eq!((ann[1].events[0].payload(), ann[1].time), ("null", time()));
    let users: Vec<_> = ann.iter().map(|commit| (*commit.metadata).clone()).collect();
    let user = |name: &str| Metadata::new().with_entry("user", name);
    assert_eq!(users, [user("ann"), user("bob"), user("bob")]);
    assert_eq!(commits(&target, "bob").await.len(), 1);
}

#[tokio::test]
async fn events_of_event_store_adapter_are_copied() {
    let client = journal().await;
    let second = 1_000_000_000;
    let start = 1_700_000_000 * second;
    for (sequence, at) in [(1, start), (2, start + 2 * second + 7), (3, start + second)] {
        put(&client, JOURNAL, journaled("account-a-n", sequence, at, "", DEPOSITED.1)).await;
    }
    put(&client, JOURNAL, journaled("account-bob", 1, start, "AccountOpened", r#"{"Opened":{}}"#)).await;

    let store = Engine::in_memory().expect("starts").store().await.expect("has a table");
    let imported = Import::event_store_adapter(client, JOURNAL).run(&store).await.expect("is copied");
    assert_eq!((imported.streams, imported.events, imported.new), (2, 4, 4));
    let ann = commits(&store, "a-n").await;
    assert_eq!(ann.iter().map(|commit| commit.events[0].name()).collect::<Vec<_>>(), ["Deposited"; 3]);
    let start = DateTime::from_timestamp_secs(1_700_000_000).expect("a valid time");
    let times: Vec<_> = ann.iter().map(|commit| (commit.time - start).num_milliseconds()).collect();
    assert_eq!(times, [0, 2_000, 2_000], "the clock that went back does not count");
    assert_eq!(commits(&store, "bob").await[0].events, [EventData::new("AccountOpened", 1, "{}")]);
}

#[tokio::test]
async fn a_second_run_copies_new_events() {
    let client = cqrs_table().await;
    let (target, import) = (MemoryStore::new(), cqrs_import(&client));
    for (sequence, new) in [(1, 1), (2, 1), (2, 0)] {
        put(&client, EVENTS, cqrs("ann", sequence, DEPOSITED, "{}")).await;
        let imported = import.run(&target).await.expect("is copied");
        assert_eq!((imported.events, imported.new), (sequence, new));
    }
    let ends: Vec<_> = commits(&target, "ann").await.iter().map(Commit::last).collect();
    assert_eq!(ends, [Version::new(1), Version::new(2)]);
}

/// All copies of a table have the same ids, so that a write whose response was lost is recognized.
#[tokio::test]
async fn ids_depend_only_on_the_stream_and_the_version() {
    let client = cqrs_table().await;
    put(&client, EVENTS, cqrs("ann", 1, DEPOSITED, "{}")).await;
    put(&client, EVENTS, cqrs("bob", 1, DEPOSITED, "{}")).await;
    let mut ids = Vec::new();
    for target in [MemoryStore::new(), MemoryStore::new()] {
        cqrs_import(&client).run(&target).await.expect("is copied");
        ids.push([commits(&target, "ann").await[0].id, commits(&target, "bob").await[0].id]);
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0][0], ids[0][1]);
    assert_eq!((ids[0][0].as_uuid().get_version_num(), ids[0][1].as_uuid().get_version_num()), (5, 5));
}

/// Responses to writes are lost, and the import runs until it succeeds.
#[tokio::test]
async fn an_import_continues_after_a_failure() {
    let client = cqrs_table().await;
    for sequence in 1..=60 {
        put(&client, EVENTS, cqrs("ann", sequence, DEPOSITED, "{}")).await;
    }
    let Watched { store, wire, other, .. } = watched().await;
    for act in [Act::LoseAnswer, Act::Answer(500, "{}".to_owned())] {
        wire.once("PutItem", act);
        cqrs_import(&client).run(&store).await.expect_err("fails on purpose");
    }
    assert_eq!(cqrs_import(&client).run(&store).await.expect("is copied").new, 35);
    let ends: Vec<_> = commits(&other, "ann").await.iter().map(|commit| commit.last().get()).collect();
    assert_eq!(ends, [25, 50, 60]);
}

#[tokio::test]
async fn differences_are_reported() {
    let client = cqrs_table().await;
    put(&client, EVENTS, cqrs("ann", 1, DEPOSITED, "{}")).await;
    let target = MemoryStore::new();
    cqrs_import(&client).run(&target).await.expect("is copied");

    put(&client, EVENTS, cqrs("ann", 1, ("Deposited", r#"{"Deposited":{"cents":6}}"#), "{}")).await;
    let reason = invalid(cqrs_import(&client).run(&target).await);
    assert_eq!(reason, "the copy of `account#ann`: event 1 of the target differs from that of the table");

    put(&client, EVENTS, cqrs("ann", 1, DEPOSITED, "{}")).await;
    let commit = NewCommit::new(commit(1).id, time(), vec![EventData::new("Later", 1, "{}")]);
    let stream = StreamId::new("account", "ann").expect("a valid stream");
    target.append(&Append::after_loaded(stream, Version::FIRST, commit)).await.expect("goes on");
    let reason = invalid(cqrs_import(&client).run(&target).await);
    assert_eq!(reason, "the copy of `account#ann`: the target has an event 2, but the table does not");
}

#[tokio::test]
async fn an_event_that_cannot_be_copied_is_named() {
    let wrong = |name: &str, value| {
        let mut item = cqrs("ann", 1, DEPOSITED, "{}");
        item.insert(name.to_owned(), value);
        item
    };
    for (item, expected) in [
        (cqrs("ann", 2, DEPOSITED, "{}"), "has the number 2"),
        (wrong("EventVersion", text("2.1")), "its version is `2.1`: set a whole number in `convert`"),
        (wrong("EventType", number(1)), "the attribute `EventType` is missing, or not a string"),
        (wrong("Metadata", bytes("secret")), "the attribute `Metadata` is not a JSON object"),
        (wrong("AggregateType", text("a#b")), "`#`"),
        (
            wrong("Payload", bytes(r#"{"secret":1,"b":2}"#)),
            "the payload is not an enum value: convert it in `convert`",
        ),
    ] {
        let client = cqrs_table().await;
        put(&client, EVENTS, item).await;
        let target = MemoryStore::new();
        let reason = invalid(cqrs_import(&client).run(&target).await);
        assert!(reason.starts_with("the table `Events`: `account:ann`, event 1: "), "{reason}");
        assert!(reason.contains(expected) && !reason.contains("secret"), "{reason}");
        assert!(commits(&target, "ann").await.is_empty());
    }
    let client = cqrs_table().await;
    put(&client, EVENTS, cqrs("ann", 1, DEPOSITED, "{}")).await;
    let undated = Import::dynamo_es(client, EVENTS).run(&MemoryStore::new()).await;
    assert!(invalid(undated).ends_with("it has no time: set one in `convert`, or with `undated`"));
}

#[tokio::test]
async fn an_unreadable_payload_is_named() {
    let nested = |levels: usize| format!(r#"{{"A":{}{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1));
    for (payload, expected) in [
        (nested(128), "recursion limit exceeded"),
        (r#"{"A":{"secret":1e999}}"#.to_owned(), "number out of range"),
        (r#"{"A":{"secret":"\ud800"}}"#.to_owned(), "hex escape"),
        (r#"{"A":{"\udc00secret":1}}"#.to_owned(), "surrogate"),
        (r#"{"A":{"secret":1,"secret":1}}"#.to_owned(), "duplicate field"),
        (r#"{"A":{"b":[{"secret":1,"secr\u0065t":2}]}}"#.to_owned(), "duplicate field"),
        (r#"{"secret":1,"secret":2}"#.to_owned(), "duplicate field"),
        (r#"{"A":{"secret":"\u0007"}}"#.replace("\\u0007", "\u{7}"), "control character"),
        (r#"{"A":{"secret":01}}"#.to_owned(), "invalid number"),
        (r#"{"A":NaN}"#.to_owned(), "expected value"),
        (r#"{"A":1} "secret""#.to_owned(), "trailing characters"),
        (String::new(), "EOF while parsing"),
    ] {
        let client = cqrs_table().await;
        put(&client, EVENTS, cqrs("ann", 1, DEPOSITED, "{}")).await;
        put(&client, EVENTS, cqrs("ann", 2, ("A", &payload), "{}")).await;
        for import in [cqrs_import(&client), cqrs_import(&client).convert(|_| Ok::<_, StoreError>(()))] {
            let target = MemoryStore::new();
            let reason = invalid(import.run(&target).await);
            let place = "the table `Events`: `account:ann`, event 2: its payload cannot be read: ";
            assert!(reason.starts_with(place) && reason.contains(expected), "{payload}: {reason}");
            assert!(!reason.contains("secret"), "{reason}");
            assert!(commits(&target, "ann").await.is_empty());
        }
    }
    // The deepest readable level.
    let client = cqrs_table().await;
    put(&client, EVENTS, cqrs("ann", 1, ("A", &nested(127)), "{}")).await;
    cqrs_import(&client).run(&MemoryStore::new()).await.expect("is copied");
}

/// The policy in the book contains exactly the permissions that an import needs on the old table.
#[tokio::test]
async fn the_old_table_is_only_read() {
    let book = include_str!("../../../docs/src/migration.md");
    let policy = book.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a policy");
    let policy: serde_json::Value = serde_json::from_str(policy).expect("is JSON");
    let allowed: BTreeSet<String> = serde_json::from_value(policy["Action"].clone()).expect("a list");

    let engine = Engine::in_memory().expect("starts");
    create(&engine.client(), EVENTS, ["AggregateTypeAndId", "AggregateIdSequence"]).await;
    put(&engine.client(), EVENTS, cqrs("ann", 1, DEPOSITED, "{}")).await;
    let recorder = Recorder { way: engine.connector(), actions: Arc::default() };
    let config = engine.config_through(SharedHttpConnector::new(recorder.clone()));
    cqrs_import(&Client::from_conf(config.build())).run(&MemoryStore::new()).await.expect("is copied");
    assert_eq!(*recorder.actions.lock().expect("no panic before"), allowed);
}

/// Records the actions that requests need, and forwards the requests.
#[derive(Clone, Debug)]
struct Recorder {
    way: Connector,
    actions: Arc<Mutex<BTreeSet<String>>>,
}

impl HttpConnector for Recorder {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").expect("an operation");
        let operation = target.rsplit('.').next().expect("at least one part");
        let action = format!("dynamodb:{operation}");
        self.actions.lock().expect("no panic before").insert(action);
        self.way.call(request)
    }
}

#[tokio::test]
async fn an_event_is_converted() {
    let client = cqrs_table().await;
    put(&client, EVENTS, cqrs("ann", 1, DEPOSITED, r#"{"user":"ann","at":"2020-01-01T00:00:00Z"}"#)).await;
    let convert = |event: &mut ForeignEvent| {
        event.unwrap_variant()?;
        event.name = "MoneyIn".to_owned();
        event.version = "3".to_owned();
        let at = event.metadata.get("at").and_then(|at| at.as_str()).ok_or("has no time")?;
        event.time = Some(at.parse::<DateTime<_>>()? + TimeDelta::milliseconds(1));
        event.metadata = Metadata::new().with_actor(event.id.clone());
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    let target = MemoryStore::new();
    Import::dynamo_es(client, EVENTS).convert(convert).run(&target).await.expect("is copied");
    let [commit] = &commits(&target, "ann").await[..] else { panic!("one commit") };
    assert_eq!((commit.events[0].name(), commit.events[0].version()), ("MoneyIn", 3));
    assert_eq!(commit.time.to_rfc3339(), "2020-01-01T00:00:00.001+00:00");
    assert_eq!(commit.metadata.actor(), Some("ann"));
}

/// A Scan and a Query end after 1 MB.
#[tokio::test]
async fn all_pages_are_copied() {
    let client = cqrs_table().await;
    let payload = format!(r#"{{"Deposited":{{"note":"{}"}}}}"#, "x".repeat(100_000));
    for id in ["ann", "bob"] {
        for sequence in 1..=15 {
            put(&client, EVENTS, cqrs(id, sequence, ("Deposited", &payload), "{}")).await;
        }
    }
    let store = Engine::in_memory().expect("starts").store().await.expect("has a table");
    let imported = cqrs_import(&client).run(&store).await.expect("is copied");
    assert_eq!((imported.streams, imported.new), (2, 30));
    assert_eq!(commits(&store, "bob").await.iter().map(|commit| commit.events.len()).sum::<usize>(), 15);
}
