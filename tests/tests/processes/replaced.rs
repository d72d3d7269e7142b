//! Workers that were replaced, and go on all the same.

use std::time::Duration;

use es_core::MemoryStore;

use es_tests::chaos::processes::shop::Stock;

use crate::support::{Scripted, Work, diary, load, paid, pass, projector, receive, tell};

/// A worker waits in the reaction to `script`; another one takes its slice, and the event is skipped and its reaction
/// abandoned; then the first one goes on. What is left: how often it paid, and what the instance remembers.
async fn replaced(script: &str) -> (u64, Vec<String>) {
    let store = MemoryStore::new();
    receive(&store, "cup").await;
    let late = Scripted::new(store.clone());
    // Gives signs seldom.
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
    drop(second_work);

    late.let_go(5);
    pass(Duration::from_secs(1)).await;
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
async fn one_that_was_replaced_issues_no_further_command() {
    assert_eq!(replaced("pay fail wait pay note").await, (1, vec![]));
    assert_eq!(replaced("pay fail wait ask note").await, (1, vec![]));
}
