//! Workers that were replaced but continue.

use std::time::Duration;

use es_core::MemoryStore;

use es_tests::chaos::processes::shop::Stock;

use super::support::{Scripted, Work, diary, load, paid, pass, projector, receive, tell};

/// A worker waits in the reaction to `script`. Another worker takes its slice, the event is skipped, and its reaction
/// is abandoned. Then the first worker continues. Returns the number of payments and the state of the instance.
async fn replaced(script: &str) -> (u64, Vec<String>) {
    let store = MemoryStore::new();
    receive(&store, "cup").await;
    let late = Scripted::new(store.clone());
    // Sends heartbeats rarely.
    let first = projector(store.clone(), late.clone()).lease(Duration::from_secs(60)).build();
    let _first = Work::on(&first);
    tell(&store, "a", &format!("ann: {script}")).await;
    pass(Duration::from_millis(200)).await;
    assert_eq!(late.begun(), [script]);

    let strict = Scripted::new(store.clone());
    strict.fail(script, 99);
    let second = projector(store.clone(), strict.clone()).lease(Duration::from_millis(30)).build();
    let second_work = Work::on(&second);
    second.caught_up().await.expect_err("it fails");
    let stopped: Vec<_> = second.progress().await.expect("progress").stopped().map(|(at, _)| at).collect();
    second.skip(stopped[0]).await.expect("it has stopped");
    second.abandon(&"ann".to_owned()).await.expect("abandoned");
    second.caught_up().await.expect("goes on");

    late.let_go(5);
    // Until a reminder would be due, if there were one.
    pass(Duration::from_secs(3)).await;
    drop(second_work);
    let stock: Stock = load(&store, "cup").await;
    assert_eq!(stock.free, 1, "nothing is reserved");
    (paid(&store).await, diary(&store).await)
}

#[tokio::test(start_paused = true)]
async fn one_that_was_replaced_begins_nothing() {
    assert_eq!(replaced("fail wait pay note").await, (0, vec![]));
    assert_eq!(replaced("fail wait remind note").await, (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn one_that_was_replaced_records_nothing() {
    assert_eq!(replaced("fail wait note").await, (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn one_that_was_replaced_stores_no_timeout() {
    assert_eq!(replaced("pay fail wait remind").await, (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn one_that_was_replaced_deletes_no_timeout() {
    let store = MemoryStore::new();
    tell(&store, "a", "ann: remind note then pay note").await;
    // An old version of the code, which does nothing for the reminder, waits in the reaction to it.
    let late = Scripted::new(store.clone()).with("pay note", "wait");
    let first = projector(store.clone(), late.clone()).lease(Duration::from_secs(60)).build();
    let _first = Work::on(&first);
    pass(Duration::from_millis(1_200)).await;
    assert_eq!(late.begun(), ["remind note then pay note", "wait"]);

    // A new version begins a command, and dies.
    let second = Scripted::new(store.clone()).with("pay note", "pay wait note");
    let work = Work::on(&projector(store.clone(), second).lease(Duration::from_millis(30)).build());
    pass(Duration::from_secs(1)).await;
    drop(work);
    assert_eq!(paid(&store).await, 1);
    late.let_go(1);
    pass(Duration::from_secs(1)).await;

    let _third = Work::on(&projector(store.clone(), Scripted::new(store.clone())).build());
    pass(Duration::from_secs(2)).await;
    assert_eq!(diary(&store).await, ["remind note then pay note", "pay note"]);
    assert_eq!(paid(&store).await, 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_replaced_issues_no_further_command() {
    assert_eq!(replaced("pay fail wait pay note").await, (1, vec![]));
    assert_eq!(replaced("pay fail wait ask note").await, (1, vec![]));
}
