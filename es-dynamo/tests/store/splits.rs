//! Splits of slices: their requests, their items, and versions that do not know them.

use aws_sdk_dynamodb::config::retry::RetryConfig;
use es_core::feed::{Feed, FeedRead, Position, Slice};
use es_core::{EventStore, ExpectedVersion};
use es_dynamo::{DynamoStore, Reconciler};

use super::support::*;

const PARENT: Slice = Slice::new(0);
const CHILDREN: [Slice; 2] = [Slice::new(1), Slice::new(2)];

async fn index(store: &DynamoStore) {
    Reconciler::builder(store).segments(1).build().run().await.expect("indexes");
}

/// Reads a slice after a position, and returns the number of commits, and whether the slice is closed there.
async fn read(store: &DynamoStore, slice: Slice, after: u64) -> (usize, bool) {
    let page = store.read_feed(&FeedRead::new(slice, Position::new(after))).await.expect("reads");
    assert!(page.is_last);
    (page.entries.len(), page.is_closed)
}

#[tokio::test]
async fn a_split_takes_few_requests() {
    let Watched { store, wire, other, .. } = watched().await;
    grow(&store, &[1, 2]).await;
    index(&store).await;
    wire.seen();
    store.split(PARENT).await.expect("splits");
    let split = wire.seen();
    // The pages of the future children, the new pages, the closing page, the last watermarks (a claim, a chunk, a filter, and the root), and the entry in
    // the list of splits.
    let summary = ["GetItem", "PutItem", "PutItem", "PutItem", "PutItem"];
    let expected = [&["Query", "Query", "Query", "PutItem"][..], &summary, &["Query", "PutItem"]].concat();
    println!(
        "a split: {} requests, {} of them writes",
        split.len(),
        split.iter().filter(|one| *one == "PutItem").count()
    );
    assert_eq!(split, expected);
    store.split(PARENT).await.expect("is repeated");
    assert!(wire.seen().is_empty(), "a repetition in the same process");

    // The next commit of the stream is in a child, which has no summary yet.
    grow(&store, &[1]).await;
    wire.seen();
    index(&store).await;
    println!("the first page of a child: {:?}", wire.seen());
    grow(&store, &[1]).await;
    wire.seen();
    index(&store).await;
    assert_eq!(wire.seen(), ["Scan", "PutItem"], "the next pages cost as much as before the split");

    // A process that knows the split reads nothing but the list.
    assert_eq!(other.slice_tree().await.expect("reads").iter().count(), 3);
    store.slice_tree().await.expect("reads");
    assert_eq!(wire.seen(), ["Query"]);
}

#[tokio::test]
async fn readers_learn_of_a_split_from_the_log() {
    let Watched { store, other, .. } = watched().await;
    grow(&store, &[1, 2]).await;
    index(&store).await;
    assert_eq!(read(&other, PARENT, 0).await, (2, false));
    store.split(PARENT).await.expect("splits");
    for store in [&store, &other] {
        assert_eq!(read(store, PARENT, 0).await, (2, true));
        assert_eq!(read(store, PARENT, 1).await, (1, true));
        assert_eq!(read(store, PARENT, 3).await, (0, true), "at the end");
        let end = store.feed_end(PARENT).await.expect("reads");
        assert_eq!(end.position, Position::new(3));
        let at_end = FeedRead::new(PARENT, end.position).anchored(end.anchor);
        assert!(store.read_feed(&at_end).await.expect("the anchor is valid").is_closed);
    }
    grow(&store, &[1]).await;
    index(&other).await;
    let child = other.slice_tree().await.expect("reads").of(&stream());
    assert!(CHILDREN.contains(&child));
    assert_eq!(read(&store, child, 0).await, (1, false));
    assert!(Reconciler::builder(&store).build().audit().await.expect("reads").is_sound());
    store.create_table().await.expect("verifies the feed");
}

/// The end of a closed slice is final.
#[tokio::test]
async fn the_end_of_a_closed_slice_is_read_once() {
    let Watched { store, wire, engine, .. } = watched().await;
    let (reader, reader_wire) = watch(&engine, RetryConfig::disabled());
    grow(&store, &[1, 2]).await;
    index(&store).await;
    store.split(PARENT).await.expect("splits");
    for (store, wire) in [(&store, &wire), (&reader, &reader_wire)] {
        store.slices().await.expect("reads");
        wire.seen();
        let end = store.feed_end(PARENT).await.expect("reads");
        assert!(end.is_closed && end.position == Position::new(3), "{end:?}");
        assert_eq!(wire.seen(), ["Query", "Query"]);
        assert_eq!(store.feed_end(PARENT).await.expect("reads"), end);
        assert!(wire.seen().is_empty());
        assert!(!store.feed_end(CHILDREN[0]).await.expect("reads").is_closed);
        assert_eq!(wire.seen(), ["Query"], "an open slice");
    }
}

#[tokio::test]
async fn pages_of_an_unknown_format_end_the_slice_for_writers() {
    let Watched { store, other, .. } = watched().await;
    grow(&store, &[1]).await;
    index(&store).await;
    store.split(PARENT).await.expect("splits");
    // As a later version might: another kind of closing page.
    let key =
        Item::from([("pk".to_owned(), text("$feed#0")), ("sk".to_owned(), text("P#00000000000000000002"))]);
    let request = store.client().get_item().table_name(store.table_name()).set_key(Some(key));
    let mut page = request.send().await.expect("answers").item.expect("is there");
    page.insert("f".to_owned(), number("3"));
    put(&store, page.clone()).await;
    grow(&store, &[1]).await;
    let expected = "it has the format 3, which this version does not support: update es-dynamo";
    let reconciler = Reconciler::builder(&other).segments(1).build();
    let failures = [
        reconciler.run().await.expect_err("stops").to_string(),
        other.split(PARENT).await.expect_err("stops").to_string(),
        other.read_feed(&FeedRead::new(PARENT, Position::NONE)).await.expect_err("stops").to_string(),
        other.feed_end(PARENT).await.expect_err("stops").to_string(),
        other.indexed(&stream()).await.expect_err("stops").to_string(),
    ];
    for failure in failures {
        assert!(failure.contains(expected), "{failure}");
    }
    // Nothing is lost.
    page.insert("f".to_owned(), number("2"));
    put(&store, page).await;
    index(&other).await;
    assert!(Reconciler::builder(&other).build().audit().await.expect("reads").is_sound());
}

#[tokio::test]
async fn copies_of_commits_are_in_the_pages_of_children() {
    let engine = es_dynamo::embedded::Engine::in_memory().expect("starts");
    engine.store().await.expect("creates the table");
    let store = DynamoStore::builder().engine(&engine).copy_commits(1_000).build().expect("is valid");
    for _ in 0..2 {
        store.append(&append(ExpectedVersion::Any, 1)).await.expect("appends");
        index(&store).await;
        let slice = store.slice_tree().await.expect("reads").of(&stream());
        assert_eq!(read(&store, slice, 0).await, (1, false));
        store.split(slice).await.expect("splits");
    }
    assert!(Reconciler::builder(&store).build().audit().await.expect("reads").is_sound());
}
