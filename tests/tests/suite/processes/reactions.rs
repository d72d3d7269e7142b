//! Reactions that take effect once.

use std::time::Duration;

use es_core::event::EventId;
use es_core::feed::Feed;
use es_core::prelude::*;
use es_core::projection::Start;
use es_core::testing::{Faults, FaultyStore};
use es_core::{EventStore, MemoryStore, StreamId};
use es_tests::chaos::processes::shop::{Fulfillment, Order, Stock};
use futures_util::TryStreamExt;

use super::support::{
    Diary, Scripted, Work, diary, elsewhere, load, paid, pass, place, projector, receive, shop, tell,
};

#[tokio::test(start_paused = true)]
async fn a_reaction_that_runs_again_issues_nothing_twice() {
    let store = MemoryStore::new();
    let process = Scripted::new(store.clone());
    process.fail("pay fail pay note", 2);
    tell(&store, "a", "ann: pay fail pay note").await;
    projector(store.clone(), process.clone()).build().run_until_caught_up().await.expect("works at last");
    assert_eq!((process.begun().len(), paid(&store).await), (3, 2));
    assert_eq!(diary(&store).await, ["pay fail pay note"]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_may_die_at_any_request() {
    for requests in 1..120 {
        let store = MemoryStore::new();
        receive(&store, "cup").await;
        place(&store, "1", &["cup", "pot"]).await;
        let mortal = FaultyStore::new(store.clone(), Faults::seeded(requests).crash_after(requests));
        let process = es_tests::chaos::processes::shop::Fulfill {
            orders: Repository::new(mortal.clone()),
            stock: Repository::new(mortal.clone()),
            wallets: Repository::new(mortal.clone()),
            misbehavior: es_tests::chaos::user_code::Misbehavior::default(),
        };
        let work = Work::on(&projector(mortal, process).build());
        pass(Duration::from_millis(400)).await;
        drop(work);
        // A rejected command stays rejected, although it would be accepted now.
        receive(&store, "pot").await;
        let finished = projector(store.clone(), shop(&store)).poll(Duration::from_millis(500)).build();
        let work = Work::on(&finished);
        finished.caught_up().await.expect("works");
        // Until the money is overdue.
        pass(Duration::from_secs(9)).await;
        drop(work);
        let order: Order = load(&store, "1").await;
        assert_eq!((order.shipped, order.called_off), (0, 1), "after {requests} requests");
        assert_eq!(load::<Fulfillment>(&store, "1").await.finished, 1, "after {requests} requests");
        for article in ["cup", "pot"] {
            let stock: Stock = load(&store, article).await;
            let (reserved, released) = stock.orders.get("1").copied().unwrap_or_default();
            assert!(reserved == released && reserved <= 1, "after {requests} requests: {stock:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn events_of_one_instance_come_one_after_the_other() {
    let store = MemoryStore::new();
    let process = Scripted::new(store.clone());
    let _work = Work::on(&projector(store.clone(), process.clone()).build());
    tell(&store, "a", "ann: pay wait note").await;
    pass(Duration::from_millis(100)).await;
    tell(&store, &elsewhere(&store, "a").await, "ann: note").await;
    pass(Duration::from_millis(300)).await;
    assert_eq!((paid(&store).await, diary(&store).await), (1, vec![]));
    process.let_go(1);
    pass(Duration::from_millis(500)).await;
    assert_eq!(diary(&store).await, ["pay wait note", "note"]);
    assert_eq!(process.begun(), ["pay wait note", "note"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_recorded_while_it_is_the_turn_of_another() {
    let store = MemoryStore::new();
    let process = Scripted::new(store.clone());
    let _work = Work::on(&projector(store.clone(), process.clone()).build());
    tell(&store, "a", "ann: wait note").await;
    pass(Duration::from_millis(100)).await;
    tell(&store, &elsewhere(&store, "a").await, "ann: pay wait note").await;
    pass(Duration::from_millis(100)).await;
    // The reaction that waits longer and has not begun.
    process.let_go(1);
    pass(Duration::from_millis(200)).await;
    assert_eq!(diary(&store).await, [""; 0]);
    process.let_go(2);
    pass(Duration::from_millis(500)).await;
    assert_eq!(diary(&store).await, ["pay wait note", "wait note"]);
}

#[tokio::test(start_paused = true)]
async fn a_reaction_whose_instance_has_changed_before_it_began_runs_again() {
    for script in ["wait once pay note", "wait once remind note", "wait once note"] {
        let store = MemoryStore::new();
        let process = Scripted::new(store.clone());
        let _work = Work::on(&projector(store.clone(), process.clone()).build());
        tell(&store, "a", &format!("ann: {script}")).await;
        pass(Duration::from_millis(100)).await;
        tell(&store, &elsewhere(&store, "a").await, "ann: note").await;
        pass(Duration::from_millis(100)).await;
        process.let_go(2);
        pass(Duration::from_secs(3)).await;
        assert_eq!(process.begun(), [script, "note", script]);
        assert_eq!((paid(&store).await, diary(&store).await), (0, vec!["note".to_owned()]), "{script}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_may_concern_no_instance() {
    let store = MemoryStore::new();
    tell(&store, "a", "no instance").await;
    let process = Scripted::new(store.clone());
    let projector = projector(store.clone(), process.clone()).build();
    projector.run_until_caught_up().await.expect("works");
    assert!(process.begun().is_empty());
    assert_eq!(projector.progress().await.expect("progress").lag(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_it_leads_to_says_what_led_to_it() {
    let store = MemoryStore::new();
    let accounts = Repository::<es_tests::domain::Account>::new(store.clone());
    let metadata = Metadata::new().with_actor("ada").with_correlation("c-1");
    let deposit = es_tests::domain::Deposit { cents: 1, notes: vec!["ann: pay note".to_owned()] };
    accounts.with_metadata(metadata).execute(&"a".to_owned(), deposit).await.expect("accepted");
    let process = projector(store.clone(), Scripted::new(store.clone())).build();
    process.run_until_caught_up().await.expect("works");
    let commit = async |aggregate: &str, id: &str| {
        let stream = StreamId::new(aggregate, id).expect("valid");
        let pages: Vec<_> = store.read(es_core::store::Read::all(stream)).try_collect().await.expect("reads");
        pages.into_iter().flat_map(|page| page.commits).next().expect("one commit")
    };
    let cause = commit("account", "a").await;
    let cause = EventId::new(cause.id, cause.first).to_string();
    for commit in [commit("account", "payee").await, commit("diary", "ann").await] {
        assert_eq!(commit.metadata.causation(), Some(cause.as_str()));
        assert_eq!(commit.metadata.correlation(), Some("c-1"));
        assert_eq!(commit.metadata.actor(), Some("ada"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_process_may_begin_at_the_end() {
    let store = MemoryStore::new();
    tell(&store, "a", "ann: note").await;
    let process = projector(store.clone(), Scripted::new(store.clone())).start(Start::End).build();
    process.run_until_caught_up().await.expect("works");
    tell(&store, "a", "ann: pay note").await;
    process.run_until_caught_up().await.expect("works");
    assert_eq!(diary(&store).await, ["pay note"]);
}

#[tokio::test(start_paused = true)]
async fn a_process_does_not_start_again() {
    let store = MemoryStore::new();
    let process = projector(store.clone(), Scripted::new(store.clone())).build();
    for error in [process.reset().await, process.rebuild().await] {
        let error = error.expect_err("it would pay again").to_string();
        assert!(error.contains("process"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn its_clock_and_ids_are_the_projectors() {
    let commit = async || {
        let store = MemoryStore::new();
        tell(&store, "a", "ann: note").await;
        let process = projector(store.clone(), Scripted::new(store.clone()))
            .ids(es_core::ids::SequentialIds::default())
            .build();
        process.run_until_caught_up().await.expect("works");
        let read = es_core::store::Read::all(StreamId::new(Diary::NAME, "ann").expect("valid"));
        let pages: Vec<_> = store.read(read).try_collect().await.expect("reads");
        let commit = pages.into_iter().flat_map(|page| page.commits).next().expect("one commit");
        assert!(commit.time.timestamp() < 10_000_000, "{}", commit.time);
        assert!(store.slices().await.is_ok());
        commit.id
    };
    assert_eq!(commit().await, commit().await);
}
