//! Tables with content that no store wrote: gaps, hostile items, and tables of another shape.

use std::collections::HashMap;
use std::pin::pin;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use es_core::store::Read;
use es_core::{EventStore, Repository, StoreError, StreamId, Version};
use es_dynamo::embedded::Engine;
use es_dynamo::{DynamoStore, names};
use es_tests::domain::{Account, Deposit};
use futures_util::{FutureExt, TryStreamExt};
use proptest::prelude::*;

use crate::{commit_key, engine};

type Item = HashMap<String, AttributeValue>;

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn number(number: &str) -> AttributeValue {
    AttributeValue::N(number.to_owned())
}

async fn account_of_five(store: &DynamoStore) -> (Repository<Account>, String, StreamId) {
    let accounts: Repository<Account> = Repository::new(store.clone());
    let id = "ann".to_owned();
    for n in 0..5 {
        accounts.execute(&id, Deposit::one(1, n.to_string())).await.expect("accepted");
    }
    (accounts, id, "account#ann".parse().expect("a stream"))
}

async fn get(store: &DynamoStore, stream: &StreamId, key: &str) -> Item {
    let request = store.client().get_item().table_name(store.table_name());
    let request = request.key(names::PARTITION_KEY, text(stream.as_str())).key(names::SORT_KEY, text(key));
    request.send().await.expect("answers").item.expect("is there")
}

async fn put(store: &DynamoStore, item: Item) {
    let request = store.client().put_item().table_name(store.table_name());
    request.set_item(Some(item)).send().await.expect("writes");
}

#[tokio::test]
async fn a_gap_in_a_stream_stops_every_way_to_read_it() {
    for missing in [1, 3] {
        let store = engine::dynamo_store().await;
        let (accounts, id, stream) = account_of_five(&store).await;
        let request = store.client().delete_item().table_name(store.table_name());
        let request = request.key(names::PARTITION_KEY, text(stream.as_str()));
        let key = commit_key(missing);
        request.key(names::SORT_KEY, text(&key)).send().await.expect("deletes");

        let error = accounts.load(&id).await.expect_err("stops");
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains(&format!("after version {}", missing - 1)), "{error}");
        assert!(error.to_string().contains("account#ann"), "{error}");
        assert!(accounts.load_at(&id, Version::new(5)).await.is_err());
        assert!(accounts.history(&id).all().await.is_err());
        assert!(accounts.execute(&id, Deposit::one(1, "")).await.is_err());
        assert_eq!(store.head(&stream).await.expect("is known").version, 5);
    }
}

#[tokio::test]
async fn a_damaged_commit_is_an_error_that_names_it_and_quotes_nothing() {
    let store = engine::dynamo_store().await;
    let (_, _, stream) = account_of_five(&store).await;
    let sound = get(&store, &stream, &commit_key(5)).await;
    let secret = "secret";
    let event = |pairs: &[(&str, AttributeValue)]| {
        let map = pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        AttributeValue::L(vec![AttributeValue::M(map)])
    };
    let cases: Vec<(&str, Option<AttributeValue>)> = vec![
        ("lv", None),
        ("lv", Some(text(secret))),
        ("lv", Some(number("-1"))),
        ("lv", Some(number("5.5"))),
        ("lv", Some(number("4"))),
        ("lv", Some(number("6"))),
        ("lv", Some(number("99999999999999999999999999999999999999"))),
        ("id", None),
        ("id", Some(text(secret))),
        ("at", Some(number("9e99"))),
        ("at", Some(number("9223372036854775807"))),
        ("md", Some(text("{\"actor\": secret"))),
        ("md", Some(text("[7]"))),
        ("md", Some(number("7"))),
        ("cf", Some(text(secret))),
        ("cf", Some(number("4"))),
        ("cl", Some(number("4"))),
        ("ev", None),
        ("ev", Some(text(secret))),
        ("ev", Some(AttributeValue::L(Vec::new()))),
        ("ev", Some(AttributeValue::L(vec![text(secret)]))),
        ("ev", Some(event(&[]))),
        ("ev", Some(event(&[("t", text("Deposited")), ("p", number("1"))]))),
        ("ev", Some(event(&[("t", AttributeValue::Bool(true)), ("p", text("{}"))]))),
        ("ev", Some(event(&[("t", text("Deposited")), ("p", text("{}")), ("v", number("-1"))]))),
    ];
    for (name, value) in cases {
        let mut item = sound.clone();
        let shown = format!("{name} = {value:?}");
        match value {
            Some(value) => drop(item.insert(name.to_owned(), value)),
            None => drop(item.remove(name)),
        }
        put(&store, item).await;
        let error = store.read(Read::all(stream.clone())).try_collect::<Vec<_>>().await.expect_err(&shown);
        assert!(matches!(error, StoreError::Corrupt { .. }), "{shown}: {error:?}");
        let message = format!("{error} {error:?}");
        assert!(message.contains("account#ann") && !message.contains(secret), "{shown}: {message}");
    }
}

#[tokio::test]
async fn a_table_of_another_shape_is_refused_with_every_difference() {
    use aws_sdk_dynamodb::types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    };
    let definition = |name: &str, ty| {
        AttributeDefinition::builder().attribute_name(name).attribute_type(ty).build().expect("is whole")
    };
    let key = |name: &str, kind| {
        KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect("is whole")
    };
    let client = engine::dynamo_store().await.client().clone();
    let table = format!("another-{}", uuid::Uuid::new_v4());
    client
        .create_table()
        .table_name(&table)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(definition("id", ScalarAttributeType::S))
        .attribute_definitions(definition("sk", ScalarAttributeType::N))
        .key_schema(key("id", KeyType::Hash))
        .key_schema(key("sk", KeyType::Range))
        .send()
        .await
        .expect("creates");

    let store = DynamoStore::builder().client(client).table(&table).build().expect("a valid name");
    for error in
        [store.verify_table().await.expect_err("refused"), store.create_table().await.expect_err("refused")]
    {
        assert!(matches!(error, StoreError::Setup { .. }), "{error:?}");
        let message = error.to_string();
        for difference in [
            table.as_str(),
            "its partition key is `id`, not `pk`",
            "its sort key `sk` is not of type S",
            "it has no stream: enable it with NEW_IMAGE",
            "it has no time to live: enable it on `ttl`",
        ] {
            assert!(message.contains(difference), "{difference} is missing in: {message}");
        }
    }
}

#[tokio::test]
async fn a_table_that_does_not_exist_is_named() {
    let client = engine::dynamo_store().await.client().clone();
    let store = DynamoStore::builder().client(client).table("nowhere").build().expect("a valid name");
    let accounts: Repository<Account> = Repository::new(store.clone());
    let load = accounts.load(&"ann".to_owned()).await.expect_err("no table");
    let verify = store.verify_table().await.expect_err("no table");
    for error in [load, verify] {
        assert!(error.to_string().contains("the table `nowhere` does not exist: create it"), "{error}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_sent() {
    let store = engine::dynamo_store().await;
    let accounts: Repository<Account> = Repository::new(store);
    let id = "ann".to_owned();
    let refusal = async |notes: Vec<String>| {
        let error = accounts.execute(&id, Deposit { cents: 1, notes }).await.expect_err("too large");
        std::error::Error::source(&error).expect("has a cause").to_string()
    };
    let event = refusal(vec!["a".to_owned(), "b".repeat(500_000)]).await;
    assert!(
        event.starts_with("the event `Deposited` at version 2 of the stream `account#ann` has 500"),
        "{event}"
    );
    let advice = ": to store larger events and snapshots, give the store a payload store with `payloads`";
    assert!(event.ends_with(&format!("the limit is 409600{advice}")), "{event}");
    let commit = refusal(vec!["c".repeat(300_000); 15]).await;
    assert!(commit.starts_with("a commit of 15 events for the stream `account#ann` has 450"), "{commit}");
    assert!(commit.ends_with("the limit is 4194304"), "{commit}");
    let commit = refusal(vec!["d".repeat(100); 60_000]).await;
    assert!(commit.starts_with("a commit of 60000 events"), "{commit}");
    assert!(!accounts.exists(&id).await.expect("is known"));
}

/// A commit of six large events, and its items.
async fn parts(store: &DynamoStore) -> (Repository<Account>, StreamId, Vec<Item>) {
    let accounts: Repository<Account> = Repository::new(store.clone());
    let notes = (0..6).map(|n| format!("{n}").repeat(150_000)).collect();
    accounts.execute(&"ann".to_owned(), Deposit { cents: 1, notes }).await.expect("accepted");
    let stream: StreamId = "account#ann".parse().expect("a stream");
    let mut items = Vec::new();
    for first in [1, 3, 5] {
        items.push(get(store, &stream, &commit_key(first)).await);
    }
    (accounts, stream, items)
}

async fn delete(store: &DynamoStore, item: &Item) {
    let request = store.client().delete_item().table_name(store.table_name());
    let request = request.key("pk", item["pk"].clone()).key("sk", item["sk"].clone());
    request.send().await.expect("deletes");
}

#[tokio::test]
async fn a_part_of_a_commit_that_is_missing_stops_the_load() {
    for missing in 0..3 {
        let store = engine::dynamo_store().await;
        let (accounts, _, items) = parts(&store).await;
        delete(&store, &items[missing]).await;
        let error = accounts.load(&"ann".to_owned()).await.expect_err("stops");
        assert!(matches!(error, StoreError::Corrupt { .. }), "{missing}: {error:?}");
    }
}

/// Time advances only while all tasks wait, so the items are visible at the next read of the load.
#[tokio::test(start_paused = true)]
async fn a_part_of_a_commit_that_cannot_be_seen_yet_is_waited_for() {
    for late in [1, 2] {
        let store = store_in_place().await;
        let (accounts, _, items) = parts(&store).await;
        for item in &items[late..] {
            delete(&store, item).await;
        }
        let id = "ann".to_owned();
        let mut load = pin!(accounts.load(&id));
        assert!(load.as_mut().now_or_never().is_none(), "waits for the items");
        for item in &items[late..] {
            put(&store, item.clone()).await;
        }
        assert_eq!(load.await.expect("loads").version, 6);
    }
}

/// Creates a store whose requests are executed immediately on the sending thread.
async fn store_in_place() -> DynamoStore {
    let engine = Engine::in_memory().expect("starts");
    let config = engine.config_through(SharedHttpConnector::new(engine.connector().in_place()));
    let builder = DynamoStore::builder().client(Client::from_conf(config.build()));
    let store = builder.build().expect("a valid table name");
    store.create_table().await.expect("creates the table");
    store
}

/// Generates attribute values with some nesting.
fn any_value() -> impl Strategy<Value = AttributeValue> {
    let leaf = prop_oneof![
        ".{0,20}".prop_map(AttributeValue::S),
        "-?[0-9]{1,30}(\\.[0-9]{1,5})?".prop_map(AttributeValue::N),
        any::<bool>().prop_map(AttributeValue::Bool),
        Just(AttributeValue::Null(true)),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(AttributeValue::L),
            prop::collection::hash_map("[a-z]{1,3}", inner, 0..5).prop_map(AttributeValue::M),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Reading any item ends with commits or an error, never with a panic.
    #[test]
    fn no_item_makes_a_read_panic(
        key in prop_oneof![Just("E#000000000001".to_owned()), Just("S#".to_owned()), "E#.{0,14}"],
        attributes in prop::collection::hash_map("lv|id|at|md|ev|cf|cl|v|fp|ck|st|xx", any_value(), 0..8),
    ) {
        tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
            let store = DynamoStore::embedded().await.expect("starts");
            let mut item: Item = attributes.into_iter().collect();
            item.insert("pk".to_owned(), text("account#ann"));
            item.insert("sk".to_owned(), text(&key));
            let request = store.client().put_item().table_name(store.table_name());
            if request.set_item(Some(item)).send().await.is_ok() {
                let accounts: Repository<Account> = Repository::new(store);
                let _ = accounts.load(&"ann".to_owned()).await;
                let _ = accounts.history(&"ann".to_owned()).all().await;
                let _ = accounts.exists(&"ann".to_owned()).await;
            }
        });
    }
}
