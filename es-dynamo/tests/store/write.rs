//! Transactions: requests, and the meaning of cancellation reasons.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, ConditionCheck, Delete, KeySchemaElement, KeyType, Put,
    ScalarAttributeType, TransactWriteItem, Update,
};
use chrono::TimeDelta;
use es_core::store::{
    AdditionalWrite, Append, Claim, ClaimChange, EventRange, IdempotencyKey, NewIdempotencyRecord,
    WriteError, WriteSet,
};
use es_core::{EventStore, StoreError, StreamId, Version};
use es_dynamo::DynamoStore;

use super::support::*;

/// Creates a table of the application.
const ROWS: &str = "rows";

async fn create_rows(store: &DynamoStore) {
    let attribute = AttributeDefinition::builder()
        .attribute_name("k")
        .attribute_type(ScalarAttributeType::S)
        .build()
        .expect("is whole");
    let key =
        KeySchemaElement::builder().attribute_name("k").key_type(KeyType::Hash).build().expect("is whole");
    let request = store.client().create_table().table_name(ROWS).billing_mode(BillingMode::PayPerRequest);
    request.attribute_definitions(attribute).key_schema(key).send().await.expect("creates");
}

fn put_row(key: &str) -> Put {
    Put::builder()
        .table_name(ROWS)
        .item("k", text(key))
        .item("n", number("1"))
        .condition_expression("attribute_not_exists(k)")
        .build()
        .expect("is whole")
}

async fn row(store: &DynamoStore, key: &str) -> Option<Item> {
    let request = store.client().get_item().table_name(ROWS).consistent_read(true);
    request.key("k", text(key)).send().await.expect("answers").item
}

fn other_stream() -> StreamId {
    StreamId::new("order", "bob").expect("a valid stream")
}

fn after(stream: StreamId, version: u64) -> Append {
    Append::after_loaded(stream, Version::new(version), commit(1))
}

fn claim() -> Claim {
    Claim::new("email", "ann@example.com").expect("valid")
}

fn take(stream: StreamId) -> ClaimChange {
    ClaimChange::Take { stream, claim: claim() }
}

fn once(id: u128) -> NewIdempotencyRecord {
    let key = IdempotencyKey::new(Some(stream()), "k").expect("valid");
    let place = EventRange::new(stream(), Version::FIRST, Version::FIRST);
    NewIdempotencyRecord::new(
        key,
        uuid::Uuid::from_u128(id),
        time(),
        time() + TimeDelta::days(7),
        vec![place],
    )
}

/// All kinds of additional writes are executed with the events, and counted.
#[tokio::test]
async fn joined_writes_are_carried_out_with_the_events() {
    let Watched { store, wire, .. } = watched().await;
    create_rows(&store).await;
    for key in ["b", "c"] {
        store.client().put_item().table_name(ROWS).item("k", text(key)).send().await.expect("writes");
    }
    wire.seen();
    let update = Update::builder()
        .table_name(ROWS)
        .key("k", text("b"))
        .update_expression("SET n = :n")
        .expression_attribute_values(":n", number("2"));
    let delete = Delete::builder().table_name(ROWS).key("k", text("c")).build().expect("is whole");
    let check = ConditionCheck::builder()
        .table_name(ROWS)
        .key("k", text("d"))
        .condition_expression("attribute_not_exists(k)");
    let set = WriteSet::new().append(after(stream(), 0)).with_additional([
        AdditionalWrite::new(put_row("a")),
        AdditionalWrite::new(update.build().expect("is whole")),
        AdditionalWrite::new(TransactWriteItem::builder().delete(delete).build()),
        AdditionalWrite::new(check.build().expect("is whole")),
    ]);
    let written = store.write(&set).await.expect("writes");
    assert_eq!(wire.seen(), ["TransactWriteItems"]);
    assert_eq!((written.cost.requests, written.appended.len()), (1, 1));
    assert!(written.cost.write_units >= 8.0, "{}", written.cost);
    assert_eq!(row(&store, "a").await.expect("is there")["n"], number("1"));
    assert_eq!(row(&store, "b").await.expect("is there")["n"], number("2"));
    assert_eq!(row(&store, "c").await, None);

    // The response is lost: the repetition succeeds, although the row exists by now.
    assert!(store.write(&set).await.expect("is found").repeated);
}

/// The error contains the index of the write, and nothing is written.
#[tokio::test]
async fn a_joined_write_that_is_refused_stops_all() {
    let Watched { store, .. } = watched().await;
    create_rows(&store).await;
    store.client().put_item().table_name(ROWS).item("k", text("b")).send().await.expect("writes");
    let set = WriteSet::new().append(after(stream(), 0)).claims([take(stream())]);
    let set = set.with_additional([AdditionalWrite::new(put_row("a")), AdditionalWrite::new(put_row("b"))]);
    let error = store.write(&set).await.expect_err("is there already");
    assert!(matches!(&error, WriteError::Refused(refused) if refused.index == 1), "{error:?}");
    assert_eq!((row(&store, "a").await, ends(&store).await), (None, vec![]));
    assert_eq!(store.claim_holder(&claim()).await.expect("is known").stream, None);
}

/// Additional writes cannot change items of the store.
#[tokio::test]
async fn joined_writes_leave_the_store_alone() {
    let Watched { store, wire, other, .. } = watched().await;
    let key = |sort: &str| [("pk".to_owned(), text("order#ann")), ("sk".to_owned(), text(sort))];
    for sort in ["E#000000000001", "S#", "C#", "I#k"] {
        let item = Some(Item::from(key(sort)));
        let put = Put::builder().table_name("events").set_item(item.clone()).build().expect("is whole");
        let delete = Delete::builder().table_name("events").set_key(item.clone()).build().expect("is whole");
        let update =
            Update::builder().table_name("events").set_key(item).update_expression("SET a = :a").build();
        for write in [
            AdditionalWrite::new(put),
            AdditionalWrite::new(delete),
            AdditionalWrite::new(update.expect("is whole")),
        ] {
            let set = WriteSet::new().append(after(stream(), 0)).with_additional([write]);
            let error = store.write(&set).await.expect_err("refused");
            assert!(error.to_string().contains("use another table"), "{sort}: {error}");
        }
    }
    let error = store
        .write(&WriteSet::new().append(after(stream(), 0)).with_additional([AdditionalWrite::new(1_u8)]))
        .await;
    assert!(
        error
            .expect_err("is no write")
            .to_string()
            .contains("does not support additional writes of type `u8`")
    );
    assert_eq!(wire.seen(), Vec::<String>::new(), "nothing is sent");
    let row = Put::builder().table_name("events").set_item(Some(Item::from(key("row")))).build();
    let set = WriteSet::new()
        .append(after(stream(), 0))
        .with_additional([AdditionalWrite::new(row.expect("is whole"))]);
    store.write(&set).await.expect("is a separate row");
    assert!(get(&other, "row").await.contains_key("pk"));
}

/// Transient reasons are retryable errors, unless another reason makes a retry pointless.
#[tokio::test]
async fn reasons_that_pass_are_tried_again() {
    let cancelled = |codes: &[&str]| {
        let reasons: Vec<_> = codes.iter().map(|code| serde_json::json!({ "Code": code })).collect();
        let body = serde_json::json!({
            "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
            "message": "cancelled",
            "CancellationReasons": reasons,
        });
        Act::Answer(400, body.to_string())
    };
    let Watched { store, wire, other, .. } = watched().await;
    let set = || WriteSet::new().append(after(stream(), 0)).append(after(other_stream(), 0));
    for (codes, expected) in [
        (&["TransactionConflict", "None"][..], "throttled"),
        (&["None", "ProvisionedThroughputExceeded"], "throttled"),
        (&["ThrottlingError", "TransactionConflict"], "throttled"),
        (&["ValidationError", "None"], "backend"),
        (&["ValidationError", "TransactionConflict"], "backend"),
        (&["ItemCollectionSizeLimitExceeded", "None"], "backend"),
        (&["ConditionalCheckFailed", "TransactionConflict"], "conflict"),
    ] {
        if expected == "conflict" {
            grow(&other, &[1]).await;
        }
        wire.once("TransactWriteItems", cancelled(codes));
        let error = store.write(&set()).await.expect_err("cancelled");
        let found = match &error {
            WriteError::Conflict(_) => "conflict",
            WriteError::Store(StoreError::Throttled(_)) => "throttled",
            WriteError::Store(StoreError::Backend(_)) => "backend",
            _ => "another",
        };
        assert_eq!(found, expected, "{codes:?}: {error:?}");
    }
    // Another stream holds the claim, but a concurrent write may be releasing it.
    let holder = WriteSet::new().append(after(other_stream(), 0)).claims([take(other_stream())]);
    other.write(&holder).await.expect("is free");
    let wanted = || WriteSet::new().append(after(stream(), 1)).claims([take(stream())]);
    wire.once("TransactWriteItems", cancelled(&["TransactionConflict", "ConditionalCheckFailed"]));
    let error = store.write(&wanted()).await.expect_err("not yet known");
    assert!(matches!(error, WriteError::Store(StoreError::Throttled(_))), "{error:?}");
    let error = store.write(&wanted()).await.expect_err("is taken");
    assert!(matches!(error, WriteError::Claimed(_)), "{error:?}");
}

/// If a server does not return old items, they are read.
#[tokio::test]
async fn a_server_that_returns_no_old_items_is_asked_for_them() {
    let forget = |body: &mut serde_json::Value| {
        for reason in body["CancellationReasons"].as_array_mut().expect("has reasons") {
            reason.as_object_mut().expect("an object").remove("Item");
        }
    };
    let Watched { store, wire, other, .. } = watched().await;
    let set = WriteSet::new().append(after(stream(), 0)).claims([take(stream())]).idempotent(once(1));
    store.write(&set).await.expect("writes");
    wire.once("TransactWriteItems", Act::Change(forget));
    assert!(store.write(&set).await.expect("is found").repeated);

    wire.once("TransactWriteItems", Act::Change(forget));
    let error = store.write(&WriteSet::new().append(after(stream(), 1)).idempotent(once(2))).await;
    assert!(matches!(&error, Err(WriteError::AlreadyDone(record)) if record.id.as_u128() == 1), "{error:?}");
    wire.once("TransactWriteItems", Act::Change(forget));
    let set = WriteSet::new().append(after(other_stream(), 0)).claims([take(other_stream())]);
    let error = store.write(&set).await;
    assert!(
        matches!(&error, Err(WriteError::Claimed(claimed)) if claimed.holder == Some(stream())),
        "{error:?}"
    );
    wire.once("TransactWriteItems", Act::Change(forget));
    let late = WriteSet::new().append(after(stream(), 0)).append(after(other_stream(), 0));
    let error = store.write(&late).await;
    assert!(
        matches!(&error, Err(WriteError::Conflict(conflict)) if conflict.actual == Some(Version::FIRST)),
        "{error:?}"
    );
    assert_eq!(ends(&other).await, [(1, 1)]);
}

/// Once the request is lost, and once the response; then the stream grows.
#[tokio::test]
async fn a_lost_answer_is_found_by_any_of_the_commits() {
    let Watched { store, wire, other, .. } = watched().await;
    let set = WriteSet::new().append(after(stream(), 0)).append(after(other_stream(), 0)).idempotent(once(1));
    wire.once("TransactWriteItems", Act::LoseAnswer);
    let error = store.write(&set).await.expect_err("lost");
    assert!(matches!(&error, WriteError::Store(error) if error.is_retryable()), "{error:?}");
    grow(&other, &[2]).await;
    let found = store.write(&set).await.expect("is found");
    assert!(found.repeated);
    assert_eq!(found.appended[1].last, 1);
    // Only the idempotency record shows that a set without commits was applied.
    let nothing = WriteSet::new().idempotent(NewIdempotencyRecord::new(
        IdempotencyKey::new(None, "t").expect("valid"),
        uuid::Uuid::from_u128(2),
        time(),
        time(),
        vec![],
    ));
    wire.once("TransactWriteItems", Act::LoseAnswer);
    assert!(store.write(&nothing).await.is_err());
    assert!(store.write(&nothing).await.expect("is found").repeated);
}

/// The error is returned before a request is sent, and says what to do.
#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_sent() {
    let Watched { store, wire, .. } = watched().await;
    let many = (0..101).fold(WriteSet::new(), |set, index| {
        set.append(after(StreamId::new("order", index).expect("valid"), 0))
    });
    let error = store.write(&many).await.expect_err("are too many");
    assert!(error.to_string().contains("101 items is too large, the limit is 100"), "{error}");
    let large = (0..15).fold(WriteSet::new(), |set, index| {
        let commit = commit_of(events_of(1, 300_000));
        let stream = StreamId::new("order", index).expect("valid");
        set.append(Append::after_loaded(stream, Version::NONE, commit))
    });
    let error = store.write(&large).await.expect_err("is too large");
    assert!(matches!(&error, WriteError::Store(StoreError::TooLarge { limit: 4_194_304, .. })), "{error:?}");
    assert_eq!(wire.seen(), Vec::<String>::new());
}

/// The stored items match the constants in `names`.
#[tokio::test]
async fn claims_and_idempotency_records_are_stored_as_documented() {
    let Watched { store, .. } = watched().await;
    let set = WriteSet::new().append(after(stream(), 0)).claims([take(stream())]).idempotent(once(1));
    store.write(&set).await.expect("writes");
    let scan =
        store.client().scan().table_name("events").consistent_read(true).send().await.expect("answers");
    let mut items = scan.items.expect("has items");
    items.retain(|item| item["sk"] != text("E#000000000001") && item["pk"] != text("$feed"));
    items.sort_by_key(|item| item["sk"].as_s().expect("is text").clone());
    let place = Item::from([
        ("s".to_owned(), text("order#ann")),
        ("f".to_owned(), number("1")),
        ("l".to_owned(), number("1")),
    ]);
    let expected = [
        Item::from([
            ("pk".to_owned(), text("$claim#email#ann@example.com")),
            ("sk".to_owned(), text("C#")),
            ("h".to_owned(), text("order#ann")),
        ]),
        Item::from([
            ("pk".to_owned(), text("$once#order#ann")),
            ("sk".to_owned(), text("I#k")),
            ("id".to_owned(), text("00000000-0000-0000-0000-000000000001")),
            ("ttl".to_owned(), number("1800604800")),
            (
                "to".to_owned(),
                aws_sdk_dynamodb::types::AttributeValue::L(vec![aws_sdk_dynamodb::types::AttributeValue::M(
                    place,
                )]),
            ),
        ]),
    ];
    assert_eq!(items, expected);
}
