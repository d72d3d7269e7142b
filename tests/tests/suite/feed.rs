//! The feed on DynamoDB: the embedded engine, or the server at `ES_DYNAMO_ENDPOINT`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::feed::{EventFilter, Feed, FeedRead, Position, Slice, Slices};
use es_core::prelude::*;
use es_core::projection::{OnFailure, SliceStatus};
use es_core::store::Read;
use es_core::{Repository, RetryPolicy, StoreError, StreamId, Version};
use es_dynamo::embedded::Engine;
use es_dynamo::{DynamoStore, Reconciler, lambda, names};
use es_tests::conformance::read_all;
use es_tests::domain::{Account, Deposit, Deposited, Withdraw, Withdrawn};
use serde_json::{Value, json};

use crate::{commit_key, engine};

/// Indexes the new commits of the account `id`.
async fn tell(store: &DynamoStore, id: &str) {
    let keys = json!({ "pk": { "S": format!("account#{id}") }, "sk": { "S": "E#000000000001" } });
    let record = json!({ "eventName": "INSERT", "dynamodb": { "SequenceNumber": "1", "Keys": keys } });
    let answer = lambda::handle(store, json!({ "Records": [record] })).await.expect("has records");
    assert_eq!(answer, json!({ "batchItemFailures": [] }));
}

/// Returns all entries of a slice, read in pages of about `limit` events.
async fn all(store: &DynamoStore, slice: Slice, limit: u32) -> Vec<(u64, String, u64)> {
    let (mut after, mut found) = (Position::NONE, Vec::new());
    loop {
        let page = store.read_feed(&FeedRead::new(slice, after).limit(limit)).await.expect("reads");
        for entry in &page.entries {
            assert!(entry.position > after && entry.last() <= page.through);
            found.push((entry.position.get(), entry.stream.to_string(), entry.commit.first.get()));
        }
        if page.is_last {
            assert_eq!(page.through, store.feed_end(slice).await.expect("is known").position);
            return found;
        }
        assert!(page.through > after, "it goes on");
        after = page.through;
    }
}

/// Small commits are read from their copies in the pages, and from the table if a copy is that of another commit.
#[tokio::test]
async fn copies_of_small_commits_replace_reads() {
    let store = engine::dynamo_store_with(|builder| builder.copy_commits(600)).await;
    let accounts: Repository<Account> = Repository::new(store.clone());
    for (id, note) in [("ann", "note".to_owned()), ("bob", "long".repeat(200)), ("ann", "note".to_owned())] {
        let deposit = Deposit { cents: 10, notes: vec![note] };
        accounts.execute(&id.to_owned(), deposit).await.expect("accepted");
        tell(&store, id).await;
    }
    let read = async || {
        let page = store.read_feed(&FeedRead::new(Slice::new(0), Position::NONE)).await.expect("reads");
        let found: Vec<_> = page.entries.iter().map(|entry| entry.commit.clone()).collect();
        (page.cost.requests, found)
    };
    let mut expected = Vec::new();
    for (id, version) in [("ann", 0), ("bob", 0), ("ann", 1)] {
        let stream = StreamId::new("account", id).expect("valid");
        expected.push(read_all(&store, Read::all(stream)).await.commits[version].clone());
    }
    assert_eq!(read().await, (2, expected.clone()), "the pages, and the commit that is too large");
    let without = DynamoStore::builder().client(store.client().clone()).table(store.table_name());
    let without = without.build().expect("a valid name");
    let page = without.read_feed(&FeedRead::new(Slice::new(0), Position::new(1))).await.expect("reads");
    assert_eq!(page.entries.len(), 2, "also without the setting");
    assert!(Reconciler::builder(&store).build().audit().await.expect("audits").is_sound());

    // Copies of another commit, and of no commit.
    for damage in [json!({ "id": "x" }), json!({ "id": uuid::Uuid::nil().simple().to_string() })] {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let key = HashMap::from([("pk".to_owned(), text("$feed#0")), ("sk".to_owned(), text(&page_key(1)))]);
        let get = store.client().get_item().table_name(store.table_name()).set_key(Some(key));
        let mut item = get.send().await.expect("reads").item.expect("is there");
        let Some(AttributeValue::L(copies)) = item.get_mut("c") else { panic!("no copies: {item:?}") };
        let Some(AttributeValue::M(copy)) = copies.first_mut() else { panic!("no copy: {copies:?}") };
        copy.insert("id".to_owned(), text(damage["id"].as_str().expect("a text")));
        let put = store.client().put_item().table_name(store.table_name()).set_item(Some(item));
        put.send().await.expect("writes");
        assert_eq!(read().await, (2, expected.clone()), "the table decides");
        let report = Reconciler::builder(&store).build().audit().await.expect("audits");
        assert!(
            report.disordered.len() == 1 && report.disordered[0].contains("the copy of version 1"),
            "{report:?}"
        );
    }
}

/// Creates a store with one slice, and accounts with seven commits in total.
async fn told() -> (DynamoStore, Repository<Account>) {
    let store = engine::dynamo_store_with(|builder| builder.slices(Slices::new(1).expect("not zero"))).await;
    let accounts: Repository<Account> = Repository::new(store.clone());
    for (id, notes) in [("ann", 1), ("bob", 3), ("ann", 2), ("eve", 1), ("bob", 1)] {
        let deposit = Deposit { cents: 10, notes: vec!["note".to_owned(); notes] };
        accounts.execute(&id.to_owned(), deposit).await.expect("accepted");
        tell(&store, id).await;
    }
    for id in ["ann", "eve"] {
        accounts.execute(&id.to_owned(), Withdraw { cents: 1 }).await.expect("accepted");
        tell(&store, id).await;
    }
    (store, accounts)
}

const FEED: [(u64, &str, u64); 7] = [
    (1, "account#ann", 1),
    (2, "account#bob", 1),
    (5, "account#ann", 2),
    (7, "account#eve", 1),
    (8, "account#bob", 4),
    (9, "account#ann", 4),
    (10, "account#eve", 2),
];

#[tokio::test]
async fn everything_is_read_in_order_from_any_place() {
    let (store, _) = told().await;
    let expected = FEED.map(|(position, stream, first)| (position, stream.to_owned(), first));
    for limit in [1, 2, 3, 100] {
        assert_eq!(all(&store, Slice::new(0), limit).await, expected);
    }
    for after in 0..=10 {
        // Another process has no cached positions.
        let store = DynamoStore::builder().client(store.client().clone()).table(store.table_name());
        let store = store.build().expect("a valid name");
        let read = FeedRead::new(Slice::new(0), Position::new(after));
        let page = store.read_feed(&read).await.expect("reads");
        let first = page.entries.first().map(|entry| entry.position.get());
        let ends = [1, 4, 6, 7, 8, 9, 10];
        let place = ends.iter().position(|end| *end > after);
        assert_eq!(first, place.map(|place| FEED[place].0), "after {after}");
        assert!(page.is_last);
    }
    for after in [11, 12] {
        let read = FeedRead::new(Slice::new(0), Position::new(after));
        let error = store.read_feed(&read).await.expect_err("there are ten events").to_string();
        assert!(error.contains(&format!("position {after}")) && error.contains("position 10"), "{error}");
    }
}

#[tokio::test]
async fn a_filter_leaves_out_what_it_does_not_take() {
    let (store, _) = told().await;
    let filter = EventFilter::none().with_events("account", ["Withdrawn"]);
    let read = FeedRead::new(Slice::new(0), Position::NONE).filter(filter);
    let page = store.read_feed(&read).await.expect("reads");
    assert_eq!(page.entries.iter().map(|entry| entry.position.get()).collect::<Vec<_>>(), [9, 10]);
    assert_eq!((page.through.get(), page.is_last, page.cost.requests), (10, true, 2));
    let none = read.clone().filter(EventFilter::none());
    let page = store.read_feed(&none).await.expect("reads");
    assert_eq!((page.entries.len(), page.through.get(), page.cost.requests), (0, 10, 1));
}

#[tokio::test]
async fn how_far_a_stream_is_indexed_is_known_everywhere() {
    let (store, _) = told().await;
    let elsewhere = DynamoStore::builder().client(store.client().clone()).table(store.table_name());
    let elsewhere = elsewhere.build().expect("a valid name");
    assert_eq!(
        elsewhere.slices().await.expect("is known").count(),
        1,
        "as it was made, not as it is asked for"
    );
    for (id, version) in [("ann", 4), ("bob", 4), ("eve", 2), ("nobody", 0)] {
        let stream = StreamId::new("account", id).expect("valid");
        for store in [&store, &elsewhere] {
            assert_eq!(store.indexed(&stream).await.expect("is known"), Version::new(version), "{id}");
        }
    }
    assert!(matches!(store.feed_end(Slice::new(1)).await, Err(StoreError::Invalid { .. })));
    assert!(matches!(
        store.read_feed(&FeedRead::new(Slice::new(1), Position::NONE)).await,
        Err(StoreError::Invalid { .. })
    ));
}

#[tokio::test]
async fn a_commit_in_several_items_is_one_entry() {
    let (store, accounts) = told().await;
    let large = Deposit { cents: 1, notes: vec!["a".repeat(150_000); 5] };
    accounts.execute(&"ann".to_owned(), large).await.expect("accepted");
    tell(&store, "ann").await;
    let page = store.read_feed(&FeedRead::new(Slice::new(0), Position::new(10))).await.expect("reads");
    assert_eq!(page.entries.len(), 1);
    assert_eq!((page.entries[0].commit.events.len(), page.through.get()), (5, 15));
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

#[tokio::test]
async fn a_commit_that_is_gone_is_an_error_that_names_it() {
    let (store, _) = told().await;
    delete(&store, "account#bob", &commit_key(4)).await;
    let read = FeedRead::new(Slice::new(0), Position::NONE);
    let page = store.read_feed(&read).await.expect("reads");
    assert_eq!((page.entries.len(), page.through, page.is_last), (4, Position::new(7), false), "up to there");
    let on = FeedRead::new(Slice::new(0), page.through).anchored(page.anchor);
    let error = store.read_feed(&on).await.expect_err("is gone");
    assert!(matches!(error, StoreError::Feed(_)), "{error:?}");
    let text = "the commit of the events 4 to 4 of `account#bob`, at position 8 in slice 0 of the feed, cannot be read";
    assert!(error.to_string().starts_with(text), "{error}");
    // A reader that does not need the commit continues.
    let filter = EventFilter::none().with_events("account", ["Withdrawn"]);
    assert_eq!(store.read_feed(&read.filter(filter)).await.expect("reads").entries.len(), 2);
}

/// Returns the sort key of the page whose first event has `position`.
fn page_key(position: u64) -> String {
    format!("P#{position:020}")
}

async fn delete(store: &DynamoStore, partition: &str, sort: &str) {
    let delete = store.client().delete_item().table_name(store.table_name());
    let delete = delete.key(names::PARTITION_KEY, text(partition)).key(names::SORT_KEY, text(sort));
    delete.send().await.expect("deletes");
}

/// Records the handled events.
#[derive(Clone, Default, Projection)]
#[projection(name = "seen", events(Account(Deposited, Withdrawn)))]
struct Seen(Arc<Mutex<Vec<u64>>>);

impl Seen {
    fn add(&self, ctx: &EventContext) {
        self.0.lock().expect("no test panicked").push(ctx.position().get());
    }

    fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.0.lock().expect("no test panicked"))
    }
}

impl Project<Deposited> for Seen {
    async fn project(&mut self, _: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
        self.add(ctx);
        Ok(())
    }
}

impl Project<Withdrawn> for Seen {
    async fn project(&mut self, _: &Withdrawn, ctx: &EventContext) -> Result<(), BoxError> {
        self.add(ctx);
        Ok(())
    }
}

/// A projection with the name of [`Seen`].
#[derive(Clone, Projection)]
#[projection(name = "seen", events(Account(Deposited)))]
struct SeenToo;

impl Project<Deposited> for SeenToo {
    async fn project(&mut self, _: &Deposited, _: &EventContext) -> Result<(), BoxError> {
        Ok(())
    }
}

#[tokio::test]
async fn projections_with_one_name_are_an_error_on_two_handles_of_one_table() {
    let (store, _) = told().await;
    let seen = Seen::default();
    let worker = projector(&store, &seen);
    let running = tokio::spawn({
        let worker = worker.clone();
        async move { worker.run().await }
    });
    worker.caught_up().await.expect("works");
    let handle = DynamoStore::builder().client(store.client().clone()).table(store.table_name());
    let handle = handle.build().expect("a valid name");
    let other = Projector::builder(handle, SeenToo).build();
    let run = tokio::time::timeout(Duration::from_secs(120), other.run()).await.expect("does not work");
    let error = run.expect_err("share checkpoints").to_string();
    assert!(
        error.contains("SeenToo` have the name `seen`, so they would share their checkpoints"),
        "{error}"
    );

    // The name can be used on another table.
    let (elsewhere, _) = told().await;
    Projector::builder(elsewhere, SeenToo).build().run_until_caught_up().await.expect("works");
    worker.shutdown();
    running.await.expect("no panic").expect("ends");
}

fn projector(store: &DynamoStore, seen: &Seen) -> Projector<Seen> {
    let builder = Projector::builder(store.clone(), seen.clone()).retry(RetryPolicy::never());
    builder.on_failure(OnFailure::Park).build()
}

#[tokio::test]
async fn an_operator_can_get_past_a_commit_that_is_missing() {
    let other_id = json!({ "id": { "S": "00000000-0000-0000-0000-0000000000ff" } });
    for damage in [json!(null), other_id, json!({ "id": null })] {
        let (store, _) = told().await;
        let key = commit_key(2);
        let place = HashMap::from([
            (names::PARTITION_KEY.to_owned(), text("account#ann")),
            (names::SORT_KEY.to_owned(), text(&key)),
        ]);
        if damage.is_null() {
            delete(&store, "account#ann", &key).await;
        } else {
            let get = store.client().get_item().table_name(store.table_name()).set_key(Some(place));
            let mut item = get.send().await.expect("reads").item.expect("is there");
            match damage["id"]["S"].as_str() {
                Some(id) => item.insert("id".to_owned(), text(id)),
                None => item.remove("id"),
            };
            let put = store.client().put_item().table_name(store.table_name());
            put.set_item(Some(item)).send().await.expect("writes");
        }
        let (seen, slice) = (Seen::default(), Slice::new(0));
        let projector = projector(&store, &seen);
        let error = projector.run_until_caught_up().await.expect_err("stops").to_string();
        assert!(error.contains("the events 2 to 3 of `account#ann`, at position 5 in slice 0"), "{error}");
        assert_eq!(seen.take(), [1, 2, 3, 4]);
        let error = projector.park(slice).await.expect_err("is not there").to_string();
        assert!(error.contains("there is nothing to park"), "{error}");
        projector.skip(slice).await.expect("has stopped");
        projector.run_until_caught_up().await.expect("goes on");
        assert_eq!(seen.take(), [7, 8, 9, 10]);
        let progress = projector.progress().await.expect("is known");
        assert_eq!((progress.slices[0].skipped, progress.slices[0].parked, progress.lag()), (2, 0, 0));
        let report = Reconciler::builder(&store).build().audit().await.expect("audits");
        assert!(!report.is_sound(), "{report:?}");
    }
}

/// A commit that is gone stops every consumer until an operator decides once for all of them. It never stops the log.
#[tokio::test]
async fn an_operator_can_make_all_consumers_pass_over_what_is_gone() {
    let (store, accounts) = told().await;
    let ann = StreamId::new("account", "ann").expect("valid");
    delete(&store, "account#ann", &commit_key(2)).await;
    let seen = Seen::default();
    let projector = projector(&store, &seen);
    projector.run_until_caught_up().await.expect_err("stops");
    assert_eq!(seen.take(), [1, 2, 3, 4]);
    accounts.execute(&"bob".to_owned(), Deposit::one(1, "note")).await.expect("accepted");
    tell(&store, "bob").await;
    assert_eq!(store.feed_end(Slice::new(0)).await.expect("is known").position, Position::new(11));

    let reconciler = Reconciler::builder(&store).build();
    let error = reconciler.pass_over(&ann, Version::new(5)).await.expect_err("beyond the feed").to_string();
    assert!(error.contains("up to version 4: choose a version"), "{error}");
    reconciler.pass_over(&ann, Version::new(1)).await.expect("is in the feed");
    projector.run_until_caught_up().await.expect_err("the gone commit ends at version 3");
    reconciler.pass_over(&ann, Version::new(4)).await.expect("is in the feed");
    reconciler.pass_over(&ann, Version::new(2)).await.expect("does not withdraw the other decision");
    projector.retry(Slice::new(0)).await.expect("has stopped");
    for _ in 0..2 {
        projector.run_until_caught_up().await.expect("passes over it");
        let handled = seen.take();
        assert_eq!(handled[handled.len() - 5..], [7, 8, 9, 10, 11], "version 4 is there");
        let progress = projector.progress().await.expect("is known");
        assert_eq!((progress.slices[0].skipped, progress.lag()), (2, 0));
        // A consumer that starts later needs no decision.
        projector.reset().await.expect("is no process");
    }
}

/// All functions that report the progress of a projection report that its checkpoint is invalid.
async fn is_impossible(projector: &Projector<Seen>, expected: &[&str]) {
    let stream: StreamId = "account#ann".parse().expect("a stream");
    let is_told = |text: &str| assert!(expected.iter().all(|part| text.contains(part)), "{text}");
    let progress = projector.progress().await.expect("is known");
    let SliceStatus::Stopped(failure) = &progress.slices[0].status else { panic!("{progress:?}") };
    is_told(&failure.to_string());
    is_told(&projector.run_until_caught_up().await.expect_err("is impossible").to_string());
    is_told(&projector.caught_up().await.expect_err("is impossible").to_string());
    let wait = projector.wait_for(&stream, Version::new(1), Duration::from_secs(120)).await;
    is_told(&wait.expect_err("is impossible").to_string());
    // The worker reports it, too.
    let progress = projector.progress().await.expect("is known");
    assert!(matches!(progress.slices[0].status, SliceStatus::Stopped(_)), "{progress:?}");
}

#[tokio::test]
async fn a_feed_that_lost_its_end_stops_those_who_read_it() {
    let (store, accounts) = told().await;
    let seen = Seen::default();
    let projector = projector(&store, &seen);
    projector.run_until_caught_up().await.expect("runs");
    seen.take();
    for page in [9, 10] {
        delete(&store, "$feed#0", &page_key(page)).await;
    }
    let elsewhere = DynamoStore::builder().client(store.client().clone()).table(store.table_name());
    let elsewhere = elsewhere.build().expect("a valid name");
    let projector = self::projector(&elsewhere, &seen);
    is_impossible(&projector, &["ends at position 8", "checkpoint at position 10"]).await;

    // Other events take the positions of the lost ones.
    accounts.execute(&"bob".to_owned(), Deposit::one(1, "note")).await.expect("accepted");
    for id in ["bob", "eve", "ann"] {
        tell(&elsewhere, id).await;
    }
    assert_eq!(elsewhere.feed_end(Slice::new(0)).await.expect("is known").position, Position::new(11));
    is_impossible(&projector, &["up to position 10 in the page", "at position 10: the feed"]).await;
    assert_eq!(seen.take(), [0; 0], "nothing is handled on a wrong assumption");
    projector.reset().await.expect("is no process");
    projector.run_until_caught_up().await.expect("begins again");
    assert_eq!(seen.take().len(), 11);
}

#[tokio::test]
async fn the_number_of_slices_is_what_it_is() {
    let engine = Engine::in_memory().expect("starts");
    let open = |slices: Option<u32>| {
        let mut builder = DynamoStore::builder().engine(&engine);
        if let Some(slices) = slices {
            builder = builder.slices(Slices::new(slices).expect("in bounds"));
        }
        builder.build().expect("has a client")
    };
    let store = open(Some(1));
    store.create_table().await.expect("creates the table");
    let accounts: Repository<Account> = Repository::new(store.clone());
    accounts.execute(&"ann".to_owned(), Deposit::one(1, "note")).await.expect("accepted");
    tell(&store, "ann").await;
    open(None).verify_table().await.expect("is as it was made");
    open(Some(1)).verify_table().await.expect("is as it was made");
    let other = open(Some(5));
    for error in [other.verify_table().await.expect_err("5"), other.slices().await.map(drop).expect_err("5")]
    {
        let text = "sets `slices` to 5, and the feed of the table `events` began with 1";
        assert!(matches!(error, StoreError::Invalid { .. }) && error.to_string().contains(text), "{error}");
    }
    // The settings are changed manually.
    let get = store.client().get_item().table_name(store.table_name());
    let get = get.key(names::PARTITION_KEY, text("$feed")).key(names::SORT_KEY, text("C#"));
    let mut item = get.send().await.expect("reads").item.expect("is there");
    let put = async |item: HashMap<String, AttributeValue>| {
        let put = store.client().put_item().table_name(store.table_name());
        put.set_item(Some(item)).send().await.expect("writes");
    };
    item.insert("n".to_owned(), AttributeValue::N("4".to_owned()));
    put(item).await;
    for error in [store.verify_table().await, open(None).verify_table().await] {
        let error = error.expect_err("was changed");
        assert!(error.to_string().contains("changed manually"), "{error}");
    }
    // The settings are created again, by a process with another number of slices.
    delete(&store, "$feed", "C#").await;
    let other = open(Some(4));
    other.slices().await.expect("are made");
    let errors = [
        other.verify_table().await.expect_err("4"),
        other.read_feed(&FeedRead::new(Slice::new(0), Position::NONE)).await.map(drop).expect_err("4"),
    ];
    for error in errors {
        assert!(
            error.to_string().contains("with which the feed began was 1, and the settings now say 4"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_missing_or_damaged_page_is_an_error_and_no_gap() {
    for damage in [None, Some(json!({ "r": [] })), Some(json!({ "r": ["0 9 0 x"] }))] {
        let (store, _) = told().await;
        let page = page_key(5);
        let key = HashMap::from([
            (names::PARTITION_KEY.to_owned(), text("$feed#0")),
            (names::SORT_KEY.to_owned(), text(&page)),
        ]);
        match &damage {
            None => {
                let delete = store.client().delete_item().table_name(store.table_name());
                delete.set_key(Some(key)).send().await.expect("deletes");
            }
            Some(damage) => {
                let list = damage["r"].as_array().expect("a list").iter();
                let list = list.map(|value: &Value| text(value.as_str().expect("a text")));
                let mut item = key;
                item.insert("r".to_owned(), AttributeValue::L(list.collect()));
                let put = store.client().put_item().table_name(store.table_name());
                put.set_item(Some(item)).send().await.expect("writes");
            }
        }
        let error = store.read_feed(&FeedRead::new(Slice::new(0), Position::NONE)).await.expect_err("stops");
        assert!(error.to_string().contains("the page at position 5 of the feed's slice 0"), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_stream_stops_no_other() {
    let (store, accounts) = told().await;
    let delete = store.client().delete_item().table_name(store.table_name());
    let delete = delete.key(names::PARTITION_KEY, text("account#new"));
    for id in ["new", "new", "ann"] {
        accounts.execute(&id.to_owned(), Deposit::one(1, "note")).await.expect("accepted");
    }
    delete.key(names::SORT_KEY, text("E#000000000001")).send().await.expect("deletes");
    let record = |sequence: &str, stream: &str, sort: &str| {
        let keys = json!({ "pk": { "S": stream }, "sk": { "S": sort } });
        json!({ "eventName": "INSERT", "dynamodb": { "SequenceNumber": sequence, "Keys": keys } })
    };
    let records = [
        record("1", "account#new", "E#000000000002"),
        record("2", "account#ann", "E#000000000005"),
        record("3", "$feed#0", "P#00000000000000000011"),
        record("4", "nothing", "E#000000000001"),
        json!({ "dynamodb": { "SequenceNumber": "5", "Keys": { "pk": { "X": "1" } } } }),
        json!({ "eventName": "INSERT", "dynamodb": { "SequenceNumber": "6", "Keys": null } }),
    ];
    let answer = lambda::handle(&store, json!({ "Records": records })).await.expect("has records");
    let failures = json!([{ "itemIdentifier": "5" }, { "itemIdentifier": "1" }]);
    assert_eq!(answer["batchItemFailures"], failures);
    assert_eq!(store.feed_end(Slice::new(0)).await.expect("is known").position, Position::new(11));
}

/// Returns the stream record of a commit of one event.
fn record_of(stream: &str, first: u64) -> Value {
    let keys = json!({ "pk": { "S": stream }, "sk": { "S": commit_key(first) } });
    let event = json!({ "M": { "t": { "S": "Forged" }, "p": { "S": "{}" } } });
    let mut image = keys.clone();
    image["lv"] = json!({ "N": first.to_string() });
    image["id"] = json!({ "S": "00000000-0000-0000-0000-00000000000f" });
    image["at"] = json!({ "N": "1800000000123" });
    image["ev"] = json!({ "L": [event] });
    let change = json!({ "SequenceNumber": "1", "Keys": keys, "NewImage": image });
    json!({ "eventName": "INSERT", "dynamodb": change })
}

#[tokio::test]
async fn a_forged_record_never_enters_the_feed() {
    let (store, accounts) = told().await;
    let end = store.feed_end(Slice::new(0)).await.expect("is known").position;
    // Of a stream that does not exist, after the end of an existing one, and at the key of a commit.
    let records = [record_of("account#forged", 1), record_of("account#ann", 5), record_of("account#ann", 1)];
    let answer = lambda::handle(&store, json!({ "Records": records })).await.expect("has records");
    assert_eq!(answer, json!({ "batchItemFailures": [] }));
    assert_eq!(store.feed_end(Slice::new(0)).await.expect("is known").position, end);
    // The commit of the table is indexed, not the image of the record.
    accounts.execute(&"ann".to_owned(), Deposit::one(1, "note")).await.expect("accepted");
    let records = [record_of("account#ann", 5)];
    lambda::handle(&store, json!({ "Records": records })).await.expect("has records");
    let filter = EventFilter::none().with_events("account", ["Deposited"]);
    let read = FeedRead::new(Slice::new(0), end).filter(filter);
    assert_eq!(store.read_feed(&read).await.expect("reads").entries.len(), 1);
}

#[tokio::test]
async fn records_of_another_table_are_refused() {
    let (store, _) = told().await;
    let source =
        |table: &str| format!("arn:aws:dynamodb:local:000000000000:table/{table}/stream/2026-01-01T00:00:00");
    let mut record = record_of("account#ann", 1);
    record["eventSourceARN"] = source(store.table_name()).into();
    lambda::handle(&store, json!({ "Records": [record.clone()] })).await.expect("is its own table");
    record["eventSourceARN"] = source("another").into();
    let error = lambda::handle(&store, json!({ "Records": [record] })).await.expect_err("is another table");
    assert!(error.to_string().contains("from the stream of the table `another`"), "{error}");
}

/// Functions in two environments, of which one learns later of the splits, get overlapping batches of records in any
/// order.
#[tokio::test]
async fn functions_index_each_commit_once_across_splits() {
    for seed in 0..6 {
        let mut random = fastrand::Rng::with_seed(seed);
        let engine = Engine::in_memory().expect("starts");
        engine.store().await.expect("creates the table");
        let open = || DynamoStore::builder().engine(&engine).build().expect("is valid");
        let functions = [open(), open()];
        let accounts: Repository<Account> = Repository::new(open());
        let (mut records, mut splits) = (Vec::new(), 0);
        for _ in 0..20 {
            for _ in 0..random.usize(1..4) {
                let id = format!("account-{}", random.u8(..5));
                let done = accounts.execute(&id, Deposit::one(1, "note")).await.expect("accepted");
                records.push(record_of(&format!("account#{id}"), done.version.get()));
            }
            if random.u8(..4) == 0 {
                let store = &functions[random.usize(..2)];
                let open: Vec<_> = store.slice_tree().await.expect("reads").open().collect();
                store.split(open[random.usize(..open.len())]).await.expect("splits");
                splits += 1;
            }
            let mut batch = records[random.usize(..records.len())..].to_vec();
            random.shuffle(&mut batch);
            let store = &functions[random.usize(..2)];
            let answer = lambda::handle(store, json!({ "Records": batch })).await.expect("has records");
            assert_eq!(answer, json!({ "batchItemFailures": [] }), "seed {seed}");
        }
        for store in &functions {
            lambda::handle(store, json!({ "Records": records })).await.expect("has records");
        }
        let report = Reconciler::builder(&open()).build().audit().await.expect("audits");
        assert!(report.is_sound() && splits > 0, "seed {seed}, {splits} splits: {report:?}");
        assert_eq!(report.events, records.len() as u64, "seed {seed}");
    }
}

#[tokio::test]
async fn growth_is_told_in_the_process() {
    let (store, accounts) = told().await;
    let growth = store.growth();
    accounts.execute(&"ann".to_owned(), Deposit::one(1, "note")).await.expect("accepted");
    tell(&store, "ann").await;
    tokio::time::timeout(Duration::from_secs(120), growth).await.expect("is told");
}
