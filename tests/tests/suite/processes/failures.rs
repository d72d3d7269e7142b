//! Reactions that fail.

use std::time::Duration;

use es_core::MemoryStore;
use es_core::feed::{Feed, Slice};
use es_core::projection::OnFailure;
use es_core::testing::{Faults, FaultyStore};

use super::support::{
    LEASE, Scripted, Work, diary, diary_of, elsewhere, paid, pass, projector, receive, receive_payments, tell,
};

pub(crate) async fn slice(store: &MemoryStore, account: &str) -> Slice {
    let stream = es_core::StreamId::new("account", account).expect("valid");
    store.slice_tree().await.expect("slices").of(&stream)
}

/// An account whose events are in the same slice as those of `account`.
pub(crate) async fn neighbor(store: &MemoryStore, account: &str) -> String {
    for number in 0.. {
        let name = format!("neighbor-{number}");
        if slice(store, &name).await == slice(store, account).await {
            return name;
        }
    }
    unreachable!("there are few slices")
}

#[tokio::test(start_paused = true)]
async fn a_reaction_that_was_skipped_can_be_abandoned() {
    let store = MemoryStore::new();
    let process = Scripted::new(store.clone());
    process.fail("pay fail note", 99);
    tell(&store, "a", "ann: pay fail note").await;
    let projector = projector(store.clone(), process.clone()).build();
    let error = projector.run_until_caught_up().await.expect_err("it fails").to_string();
    assert!(error.contains("`Deposited` at version 1 of `account#a`"), "{error}");
    assert!(error.ends_with("`pay fail note` is not welcome"), "{error}");

    projector.skip(slice(&store, "a").await).await.expect("it has stopped");
    let other = elsewhere(&store, "a").await;
    tell(&store, &other, "ann: note").await;
    let error = projector.run_until_caught_up().await.expect_err("the turn is the other's").to_string();
    assert!(error.contains("of the instance `diary#ann` has begun but not finished"), "{error}");
    assert!(error.ends_with("it was skipped: call `abandon` for this instance"), "{error}");
    assert_eq!(diary(&store).await, [""; 0]);

    projector.abandon(&"ann".to_owned()).await.expect("abandoned");
    projector.retry(slice(&store, &other).await).await.expect("it has stopped");
    projector.run_until_caught_up().await.expect("goes on");
    assert_eq!((paid(&store).await, diary(&store).await), (1, vec!["note".to_owned()]));
}

/// A new version of the code reordered the commands of a reaction that had begun.
#[tokio::test(start_paused = true)]
async fn a_reaction_that_takes_another_path_stops() {
    for (script, other, before) in [
        ("pay fail withdraw note", "withdraw pay fail note", "`Deposit`"),
        ("withdraw fail", "pay", "`Withdraw`"),
        ("ask fail", "restock", "`Reserve`"),
    ] {
        let store = MemoryStore::new();
        let process = Scripted::new(store.clone());
        process.fail(script, 99);
        receive_payments(&store, 10).await;
        receive(&store, "cup").await;
        tell(&store, "a", &format!("ann: {script}")).await;
        let first = projector(store.clone(), process.clone()).build();
        first.run_until_caught_up().await.expect_err("it fails");
        let balance = paid(&store).await;

        let second = projector(store.clone(), process.clone().with(script, other)).build();
        let error = second.run_until_caught_up().await.expect_err("it has changed").to_string();
        let expected = format!(
            "taken another path than when it ran before: its command 1 was {before}; deploy the code"
        );
        assert!(error.contains(&expected), "{error}");
        assert_eq!(
            (paid(&store).await, diary(&store).await),
            (balance, Vec::<String>::new()),
            "nothing was executed"
        );

        // The code that began it can finish it.
        process.fail(script, 0);
        first.run_until_caught_up().await.expect("goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_parked_event_is_reacted_to_later() {
    let store = MemoryStore::new();
    let process = Scripted::new(store.clone());
    process.fail("pay fail note", 99);
    tell(&store, "a", "ann: pay fail note").await;
    let projector = projector(store.clone(), process.clone()).on_failure(OnFailure::Park).build();
    projector.run_until_caught_up().await.expect("parks");
    assert_eq!(projector.parked().await.expect("parked").len(), 1);
    process.fail("pay fail note", 0);
    projector.replay_parked().await.expect("ordered");
    projector.run_until_caught_up().await.expect("works");
    assert_eq!((paid(&store).await, diary(&store).await), (1, vec!["pay fail note".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_parked_event_is_not_taken_for_finished() {
    let store = MemoryStore::new();
    let process = Scripted::new(store.clone());
    process.fail("fail note", 99);
    process.fail("pay fail note", 99);
    tell(&store, "a", "ann: fail note").await;
    tell(&store, &neighbor(&store, "a").await, "ann: pay fail note").await;
    let projector = projector(store.clone(), process.clone()).on_failure(OnFailure::Park).build();
    projector.run_until_caught_up().await.expect("parks");
    process.fail("fail note", 0);
    projector.replay_parked().await.expect("ordered");
    projector.run_until_caught_up().await.expect("works");
    let parked = projector.parked().await.expect("parked");
    assert_eq!(parked.len(), 2, "the one has its turn, and the other has to wait for it: {parked:?}");

    process.fail("pay fail note", 0);
    for _ in 0..2 {
        projector.replay_parked().await.expect("ordered");
        projector.run_until_caught_up().await.expect("works");
    }
    assert_eq!(diary(&store).await, ["pay fail note", "fail note"]);
    assert!(projector.parked().await.expect("parked").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_worker_may_die_after_it_has_parked_an_event() {
    let store = MemoryStore::new();
    let process = Scripted::new(store.clone());
    process.fail("fail note", 99);
    tell(&store, "a", "ann: fail note").await;
    tell(&store, &neighbor(&store, "a").await, "ann: pay wait note").await;
    let projector = projector(store.clone(), process.clone()).on_failure(OnFailure::Park).build();
    let work = Work::on(&projector);
    pass(Duration::from_millis(200)).await;
    assert_eq!(paid(&store).await, 1);
    drop(work);
    process.let_go(1);
    pass(Duration::from_secs(1)).await;
    projector.run_until_caught_up().await.expect("works");
    assert_eq!(diary(&store).await, ["pay wait note"]);
    assert_eq!(projector.parked().await.expect("parked").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_outage_during_a_command_is_no_failure() {
    for script in ["pay note", "ask note"] {
        let store = MemoryStore::new();
        let faulty = FaultyStore::new(store.clone(), Faults::seeded(3).throttling(0.9));
        let process = Scripted::new(store.clone()).with_commands_in(faulty);
        tell(&store, "a", &format!("ann: {script}")).await;
        let projector = projector(store.clone(), process.clone()).on_failure(OnFailure::Park).build();
        projector.run_until_caught_up().await.expect("gets through at last");
        assert!(process.begun().len() > 3, "more often than a reaction may fail: {:?}", process.begun());
        assert_eq!(projector.parked().await.expect("parked").len(), 0, "{script}");
        assert_eq!(diary(&store).await, [script]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reaction_waits_for_another_one_for_as_long_as_it_takes() {
    let store = MemoryStore::new();
    let process = Scripted::new(store.clone());
    tell(&store, "a", "ann: pay wait note").await;
    let projector = projector(store.clone(), process.clone()).build();
    let _work = Work::on(&projector);
    pass(Duration::from_millis(100)).await;
    let other = elsewhere(&store, "a").await;
    tell(&store, &other, "ann: note").await;
    pass(LEASE * 20).await;
    assert_eq!(projector.progress().await.expect("progress").stopped().count(), 0);
    process.let_go(1);
    pass(Duration::from_secs(1)).await;
    assert_eq!(diary(&store).await, ["pay wait note", "note"]);
}

#[tokio::test(start_paused = true)]
async fn reactions_that_did_nothing_do_not_wait_for_each_other_after_a_crash() {
    let store = MemoryStore::new();
    let other = elsewhere(&store, "a").await;
    // Each slice has an event without a reaction, and one whose reaction holds the turn.
    for (account, first, second) in [("a", "ann", "bob"), (other.as_str(), "bob", "ann")] {
        tell(&store, account, &format!("{first}: wait")).await;
        tell(&store, account, &format!("{second}: pay wait note")).await;
    }
    let process = Scripted::new(store.clone());
    let work = Work::on(&projector(store.clone(), process.clone()).build());
    pass(Duration::from_millis(200)).await;
    process.let_go(2);
    pass(Duration::from_millis(200)).await;
    assert_eq!(paid(&store).await, 2);
    drop(work);
    process.let_go(2);
    let worker = projector(store.clone(), process).build();
    let _work = Work::on(&worker);
    pass(LEASE * 10).await;
    assert_eq!(diary(&store).await, ["pay wait note"]);
    assert_eq!(diary_of(&store, "bob").await, ["pay wait note"]);
    assert_eq!(worker.progress().await.expect("progress").lag(), 0);
}
