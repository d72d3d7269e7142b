//! The events that a projection receives, their order, and its changes.

use es_core::documents::Documents;
use es_core::{MemoryStore, StreamId, prelude::*};
use es_tests::domain::{Account, SetRate};

use super::support::{Journal, Line, append, deposit, projector, slice, withdraw};

#[tokio::test(start_paused = true)]
async fn each_stream_comes_in_its_order() {
    let store = MemoryStore::new();
    for round in 0..10 {
        for account in 0..5 {
            deposit(
                &store,
                &account.to_string(),
                &[&format!("{account}.{round}.a"), &format!("{account}.{round}.b")],
            )
            .await;
        }
    }
    let journal = Journal::new(&store);
    projector(store, journal.clone()).batch(7).build().run_until_caught_up().await.expect("works");
    for account in 0..5 {
        assert_eq!(journal.versions(&account.to_string()), (1..=20).collect::<Vec<_>>());
    }
    assert_eq!(journal.lines.all().await.expect("rows").len(), 100);
}

#[tokio::test(start_paused = true)]
async fn only_listed_events_of_listed_aggregates_come() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a"]).await;
    let accounts = Repository::<Account>::new(store.clone());
    accounts.execute(&"ada".to_owned(), SetRate { rate: 0.5 }).await.expect("accepted");
    withdraw(&store, "ada").await;
    // An event of another aggregate with the same stored name, which must not be decoded.
    append(&store, &StreamId::new("bet", "ada").expect("valid"), "Deposited", "{}").await;
    let journal = Journal::new(&store);
    let projector = projector(store, journal.clone()).build();
    projector.run_until_caught_up().await.expect("works");
    assert_eq!(journal.versions("ada"), [1, 3]);
    assert_eq!(projector.progress().await.expect("progress").lag(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_more_changes_than_a_transaction_takes_is_written_in_parts() {
    let store = MemoryStore::new();
    // Each event changes 21 rows of up to three documents: one event fits into a transaction, two do not.
    deposit(&store, "ada", &["many:20", "many:20", "many:20"]).await;
    for _ in 0..3 {
        deposit(&store, "ada", &["many:20"]).await;
    }
    let journal = Journal::new(&store);
    projector(store, journal.clone()).build().run_until_caught_up().await.expect("works");
    let rows = journal.lines.find(Line::BY_ACCOUNT, "ada").all().await.expect("rows");
    assert_eq!(rows.len(), 6 * 20 + 1, "the last row of each is the same one");
    assert_eq!(journal.lines.all().await.expect("rows").len(), rows.len());
}

#[tokio::test(start_paused = true)]
async fn an_event_with_too_many_changes_alone_says_so() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "many:50"]).await;
    let journal = Journal::new(&store);
    let projector = projector(store.clone(), journal.clone()).build();
    let error = projector.run_until_caught_up().await.expect_err("it cannot be written").to_string();
    assert!(error.contains("`Deposited` at version 2 of `account#ada`"), "{error}");
    assert!(
        error.contains("153 documents") && error.contains("is limited to 98: change fewer rows"),
        "{error}"
    );
    let row = journal.lines.get("a").await.expect("a row");
    assert!(row.is_some(), "what came before is finished");
    assert_eq!(journal.lines.all().await.expect("rows").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn changes_of_an_event_that_failed_are_undone() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "b", "c"]).await;
    let journal = Journal::new(&store);
    journal.fail("b", 99);
    let projector = projector(store.clone(), journal.clone()).build();
    projector.run_until_caught_up().await.expect_err("b fails");
    assert!(journal.lines.get("a").await.expect("a row").is_some());
    assert_eq!(journal.lines.get("b").await.expect("no row"), None);
    projector.skip(slice(&store, "ada").await).await.expect("skipped");
    projector.run_until_caught_up().await.expect("goes on");
    assert_eq!(journal.lines.get("b").await.expect("no row"), None);
    assert!(journal.lines.get("c").await.expect("a row").is_some());
}

#[tokio::test(start_paused = true)]
async fn checkpoints_are_written_once_for_a_batch() {
    let store = MemoryStore::new();
    for _ in 0..10 {
        deposit(&store, "ada", &["a"]).await;
    }
    let journal = Journal::new(&store);
    projector(store.clone(), journal.clone()).batch(100).build().run_until_caught_up().await.expect("works");
    // A row that was changed ten times was written with the checkpoint, in its last state.
    let key = es_core::documents::DocumentKey::new(
        "projection#journal",
        format!("slice#000001#{:06}", slice(&store, "ada").await.get()),
    );
    let checkpoint = store.document(&key).await.expect("readable").expect("there");
    assert!(checkpoint.body.contains("\"position\":10"), "{}", checkpoint.body);
    assert_eq!(journal.lines.get("a").await.expect("a row").expect("there").version, 10);
}

#[tokio::test(start_paused = true)]
async fn events_without_effect_count_as_finished() {
    let store = MemoryStore::new();
    let accounts = Repository::<Account>::new(store.clone());
    for _ in 0..30 {
        accounts.execute(&"ada".to_owned(), SetRate { rate: 0.5 }).await.expect("accepted");
    }
    let journal = Journal::new(&store);
    let projector = projector(store, journal.clone()).batch(4).build();
    projector.run_until_caught_up().await.expect("works");
    let progress = projector.progress().await.expect("progress");
    assert_eq!((progress.finished(), progress.total()), (30, 30));
}
