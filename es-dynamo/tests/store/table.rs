//! The table: creation, including by concurrent processes, verification, and protection.

use std::cell::RefCell;
use std::fmt;
use std::sync::Once;
use std::time::Duration;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::types::{
    BillingMode, KeySchemaElement, StreamViewType, TimeToLiveSpecification, TimeToLiveStatus,
};
use es_core::feed::Feed;
use es_core::{EventStore, ExpectedVersion, StoreError};
use es_dynamo::embedded::Engine;
use es_dynamo::{DynamoStore, Reconciler, TableOptions};
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::support::*;

async fn time_to_live(store: &DynamoStore) -> (Option<TimeToLiveStatus>, Option<String>) {
    let request = store.client().describe_time_to_live().table_name(store.table_name());
    let found = request.send().await.expect("answers").time_to_live_description.expect("is known");
    (found.time_to_live_status, found.attribute_name)
}

fn enabled() -> (Option<TimeToLiveStatus>, Option<String>) {
    (Some(TimeToLiveStatus::Enabled), Some("ttl".to_owned()))
}

async fn set_time_to_live(store: &DynamoStore, attribute: &str, enabled: bool) {
    let specification = TimeToLiveSpecification::builder()
        .attribute_name(attribute)
        .enabled(enabled)
        .build()
        .expect("is whole");
    let request = store.client().update_time_to_live().table_name(store.table_name());
    request.time_to_live_specification(specification).send().await.expect("answers");
}

#[tokio::test]
async fn is_created_as_documented() {
    let engine = Engine::in_memory().expect("starts");
    let store = DynamoStore::builder().client(engine.client()).build().expect("valid");
    store.create_table().await.expect("creates");
    let described = store.client().describe_table().table_name("events").send().await.expect("answers");
    let table = described.table.expect("is there");
    let keys: Vec<_> = table.key_schema().iter().map(KeySchemaElement::attribute_name).collect();
    assert_eq!(keys, ["pk", "sk"]);
    assert_eq!(
        table.stream_specification().and_then(|stream| stream.stream_view_type()),
        Some(&StreamViewType::NewImage)
    );
    let billing = table.billing_mode_summary().and_then(|billing| billing.billing_mode());
    assert_eq!(billing, Some(&BillingMode::PayPerRequest));
    assert_eq!(time_to_live(&store).await, enabled());
    store.verify_table().await.expect("is as it should be");
}

/// Returns whether the table has deletion protection.
async fn is_protected(store: &DynamoStore) -> bool {
    let described = store.client().describe_table().table_name(store.table_name()).send().await;
    let table = described.expect("answers").table.expect("is there");
    table.deletion_protection_enabled == Some(true)
}

#[tokio::test]
async fn is_protected_against_loss() {
    let engine = Engine::in_memory().expect("starts");
    let (store, wire) = watch(&engine, RetryConfig::disabled());
    // AWS sets up the backups of a new table first.
    let mut answers = ["ContinuousBackupsUnavailableException", ""].into_iter();
    wire.plan(move |operation| match operation {
        "UpdateContinuousBackups" => match answers.next().expect("is asked twice") {
            "" => Act::Answer(200, "{}".to_owned()),
            code => Act::Answer(400, refusal(code, "later")),
        },
        _ => Act::Pass,
    });
    store.create_table().await.expect("creates");
    assert!(is_protected(&store).await);
    let backups = |wire: &Wire| {
        wire.bodies().into_iter().filter(|body| !body["PointInTimeRecoverySpecification"].is_null()).count()
    };
    assert_eq!(backups(&wire), 2);

    // An existing table keeps its settings.
    store.create_table().await.expect("is there");
    assert_eq!(backups(&wire), 0);
}

#[tokio::test]
async fn is_created_on_a_server_without_backups() {
    let engine = Engine::in_memory().expect("starts");
    let (store, wire) = watch(&engine, RetryConfig::disabled());
    store.create_table().await.expect("creates");
    assert_eq!(wire.seen().iter().filter(|operation| *operation == "UpdateContinuousBackups").count(), 1);
    assert!(is_protected(&store).await);
}

#[tokio::test]
async fn is_not_protected_if_the_options_say_so() {
    let engine = Engine::in_memory().expect("starts");
    let (store, wire) = watch(&engine, RetryConfig::disabled());
    let options = TableOptions::on_demand().point_in_time_recovery(false).deletion_protection(false);
    store.create_table_with(options).await.expect("creates");
    assert!(!wire.seen().contains(&"UpdateContinuousBackups".to_owned()));
    assert!(!is_protected(&store).await);
}

/// The next process completes the table of a process that ended before it enabled backups.
#[tokio::test]
async fn is_completed_if_it_has_no_backups() {
    let engine = Engine::in_memory().expect("starts");
    let (store, wire) = watch(&engine, RetryConfig::disabled());
    let later = Act::Answer(500, refusal("InternalServerError", "later"));
    wire.once("UpdateContinuousBackups", later);
    store.create_table().await.expect_err("is not finished");
    wire.seen();
    store.create_table().await.expect("completes it");
    assert!(wire.seen().contains(&"UpdateContinuousBackups".to_owned()));
}

/// The text of the error of a deletion that is refused, after a check that the table is still there.
async fn refused_deletion(store: &DynamoStore) -> String {
    let error = store.clone().delete_table().await.expect_err("is refused");
    assert!(matches!(error, StoreError::Setup { .. }), "{error:?}");
    let tables = store.client().list_tables().send().await.expect("answers");
    assert!(tables.table_names().contains(&store.table_name().to_owned()), "it is still there");
    error.to_string()
}

#[tokio::test]
async fn is_deleted_only_if_it_is_an_unprotected_table_of_the_framework() {
    let engine = Engine::in_memory().expect("starts");
    let (store, _) = watch(&engine, RetryConfig::disabled());
    let missing = store.clone().delete_table().await.expect_err("does not exist").to_string();
    assert!(missing.contains("does not exist"), "{missing}");

    store.create_table().await.expect("creates");
    let refusal = refused_deletion(&store).await;
    assert!(refusal.contains("it has deletion protection: turn it off"), "{refusal}");
    let unprotected = store.client().update_table().table_name("events").deletion_protection_enabled(false);
    unprotected.send().await.expect("answers");

    // Without its feed, it may be the table of another program with the same names of keys.
    let key: Item =
        [("pk", "$feed"), ("sk", "C#")].map(|(name, value)| (name.to_owned(), text(value))).into();
    let request = store.client().get_item().table_name("events").set_key(Some(key.clone()));
    let settings = request.send().await.expect("answers").item.expect("is there");
    let request = store.client().delete_item().table_name("events").set_key(Some(key));
    request.send().await.expect("answers");
    let refusal = refused_deletion(&store).await;
    assert!(refusal.contains("it has no feed"), "{refusal}");
    store.client().put_item().table_name("events").set_item(Some(settings)).send().await.expect("answers");

    set_time_to_live(&store, "ttl", false).await;
    let refusal = refused_deletion(&store).await;
    assert!(refusal.contains("it has no time to live"), "{refusal}");
    set_time_to_live(&store, "ttl", true).await;

    store.clone().delete_table().await.expect("deletes");
    let tables = store.client().list_tables().send().await.expect("answers");
    assert!(tables.table_names().is_empty());
}

#[tokio::test]
async fn is_as_new_after_it_was_deleted_and_created_again() {
    let engine = Engine::in_memory().expect("starts");
    let store = engine.store().await.expect("creates");
    store.append(&append(ExpectedVersion::NoStream, 1)).await.expect("appends");
    store.delete_table().await.expect("deletes");

    let store = engine.store().await.expect("creates");
    store.verify_table().await.expect("is as it should be");
    assert_eq!(store.head(&stream()).await.expect("reads").version, 0);
    store.append(&append(ExpectedVersion::NoStream, 1)).await.expect("appends");
    Reconciler::builder(&store).build().run().await.expect("runs");
    assert_eq!(store.indexed(&stream()).await.expect("reads"), 1);
}

thread_local! {
    static WARNINGS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Records the warnings of each thread. It must be the global subscriber: `tracing` caches for each call site whether
/// any subscriber is interested, and a call site that another test reaches first may remain disabled.
struct Warnings;

impl Warnings {
    fn record() {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            tracing::subscriber::set_global_default(Self).expect("is the only subscriber");
        });
        tracing::callsite::rebuild_interest_cache();
        WARNINGS.take();
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN && metadata.target().starts_with("es_dynamo")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Message;

        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                if field.name() == "message" {
                    WARNINGS.with_borrow_mut(|warnings| warnings.push(format!("{value:?}")));
                }
            }
        }

        event.record(&mut Message);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn causes_warnings_if_it_is_unprotected() {
    let backups = |status: &str| {
        let recovery = json!({ "PointInTimeRecoveryStatus": status });
        let backups =
            json!({ "ContinuousBackupsStatus": "ENABLED", "PointInTimeRecoveryDescription": recovery });
        (200, json!({ "ContinuousBackupsDescription": backups }).to_string())
    };
    let (recovery, unchecked, deletion) =
        ("point-in-time recovery is off", "could not check", "deletion protection is off");
    for (protected, (status, answer), expected) in [
        (true, backups("ENABLED"), &[][..]),
        (true, backups("DISABLED"), &[recovery]),
        (false, backups("ENABLED"), &[deletion]),
        (false, backups("DISABLED"), &[recovery, deletion]),
        (false, (400, refusal("AccessDeniedException", "no")), &[unchecked, deletion]),
        (false, (400, refusal("UnknownOperationException", "what")), &[]),
    ] {
        let engine = Engine::in_memory().expect("starts");
        let (store, wire) = watch(&engine, RetryConfig::disabled());
        let options = TableOptions::on_demand().deletion_protection(protected);
        store.create_table_with(options).await.expect("creates");
        wire.once("DescribeContinuousBackups", Act::Answer(status, answer));
        Warnings::record();
        store.verify_table().await.expect("a warning is no error");
        let warnings = WARNINGS.take();
        assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(warning.contains(expected), "{warning}");
        }
    }
}

#[tokio::test]
async fn may_have_provisioned_capacity() {
    let engine = Engine::in_memory().expect("starts");
    let store = DynamoStore::builder().client(engine.client()).table("orders").build().expect("valid");
    store.create_table_with(TableOptions::provisioned(5, 7)).await.expect("creates");
    let described = store.client().describe_table().table_name("orders").send().await.expect("answers");
    let throughput = described.table.and_then(|table| table.provisioned_throughput).expect("is there");
    assert_eq!((throughput.read_capacity_units, throughput.write_capacity_units), (Some(5), Some(7)));
}

#[tokio::test]
async fn creation_can_be_repeated() {
    let Watched { store, other, .. } = watched().await;
    grow(&other, &[1, 2]).await;
    for _ in 0..2 {
        store.create_table().await.expect("is there");
    }
    assert_eq!(ends(&store).await, [(1, 1), (2, 3)]);
}

/// Servers that start together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn may_be_created_by_several_at_once() {
    for _ in 0..10 {
        let engine = Engine::in_memory().expect("starts");
        let stores: Vec<_> = (0..4)
            .map(|_| {
                let engine = engine.clone();
                tokio::spawn(async move { engine.store().await.map(drop) })
            })
            .collect();
        for store in stores {
            store.await.expect("does not panic").expect("creates or finds it");
        }
        assert_eq!(time_to_live(&engine.store().await.expect("is there")).await, enabled());
    }
}

/// The next process completes the table of a process that ended between the two requests.
#[tokio::test]
async fn is_completed_if_it_has_no_time_to_live() {
    let engine = Engine::in_memory().expect("starts");
    let (store, wire) = watch(&engine, RetryConfig::disabled());
    wire.plan(|operation| match operation {
        "UpdateTimeToLive" => Act::Answer(500, refusal("InternalServerError", "later")),
        _ => Act::Pass,
    });
    let error = store.create_table().await.expect_err("is not finished");
    assert!(error.is_retryable(), "{error:?}");
    assert!(store.verify_table().await.expect_err("is not finished").to_string().contains("no time to live"));
    wire.plan(|_| Act::Pass);
    store.create_table().await.expect("completes it");
    assert_eq!(time_to_live(&store).await, enabled());
}

/// DynamoDB refuses a second change of the time to live within the hour; one that is on is good enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_complete_when_another_one_was_faster() {
    let engine = Engine::in_memory().expect("starts");
    let (store, wire) = watch(&engine, RetryConfig::disabled());
    let other = DynamoStore::builder().engine(&engine).build().expect("valid");
    let faster = {
        let other = other.clone();
        Box::pin(async move { set_time_to_live(&other, "ttl", true).await })
    };
    let mut faster: Option<futures_core::future::BoxFuture<'static, ()>> = Some(faster);
    wire.plan(move |operation| match (operation, faster.take()) {
        ("UpdateTimeToLive", Some(faster)) => {
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(faster));
            Act::Answer(400, refusal("ValidationException", "TimeToLive is already enabled"))
        }
        (_, kept) => {
            faster = kept;
            Act::Pass
        }
    });
    store.create_table().await.expect("is complete");
    assert_eq!(time_to_live(&store).await, enabled());
}

/// A time to live on another attribute is not changed.
#[tokio::test]
async fn is_refused_if_its_time_to_live_is_on_another_attribute() {
    let Watched { store, other, .. } = watched().await;
    set_time_to_live(&other, "ttl", false).await;
    set_time_to_live(&other, "expires", true).await;
    for error in
        [store.create_table().await.expect_err("refused"), store.verify_table().await.expect_err("refused")]
    {
        assert!(matches!(error, StoreError::Setup { .. }), "{error:?}");
        assert!(error.to_string().contains("its time to live is on `expires`: move it to `ttl`"), "{error}");
    }
    assert_eq!(time_to_live(&other).await.1.as_deref(), Some("expires"));
}

#[tokio::test]
async fn creation_waits_until_it_is_active() {
    let engine = Engine::in_memory().expect("starts");
    let (store, wire) = watch(&engine, RetryConfig::disabled());
    let mut creating = 3;
    wire.plan(move |operation| match operation {
        "DescribeTable" if creating > 0 => {
            creating -= 1;
            Act::Change(|body| body["Table"]["TableStatus"] = "CREATING".into())
        }
        _ => Act::Pass,
    });
    store.create_table().await.expect("becomes active");
    let described = wire.seen().iter().filter(|operation| *operation == "DescribeTable").count();
    assert!(described >= 4, "{described}");
}

#[test]
fn names_are_checked() {
    let engine = Engine::in_memory().expect("starts");
    let build = |name: &str| DynamoStore::builder().client(engine.client()).table(name).build();
    for name in ["", "ab", "with space", "größe", &"x".repeat(256)] {
        let error = build(name).expect_err("refused");
        assert!(matches!(error, StoreError::Invalid { .. }) && error.to_string().contains(name), "{error:?}");
    }
    for name in ["abc", "My-Table_1.2", &"x".repeat(255)] {
        assert_eq!(build(name).expect("is allowed").table_name(), name);
    }
    let error = DynamoStore::builder().build().expect_err("has no client");
    assert!(error.to_string().contains("needs a client"), "{error}");
    assert_eq!(format!("{:?}", build("abc").expect("valid")), "DynamoStore { table: \"abc\", .. }");
}

/// Tasks are completed, on the current runtime or on a separate one.
#[test]
fn tasks_run_with_and_without_a_runtime() {
    let engine = Engine::in_memory().expect("starts");
    let store = DynamoStore::builder().client(engine.client()).build().expect("valid");
    let run = |store: &DynamoStore| {
        let (done, when_done) = std::sync::mpsc::channel();
        let task_store = store.clone();
        store.spawn(Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let tables = task_store.client().list_tables().send().await;
            done.send(tables.is_ok()).expect("is waited for");
        }));
        when_done
    };
    let without = run(&store).recv_timeout(Duration::from_secs(120));
    assert_eq!(without, Ok(true), "without a runtime");
    let runtime = tokio::runtime::Runtime::new().expect("starts");
    let guard = runtime.enter();
    assert_eq!(run(&store).recv_timeout(Duration::from_secs(120)), Ok(true), "with one");
    drop(guard);
}
