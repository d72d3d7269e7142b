//! Events whose handlers fail.

use es_core::feed::{Feed, Slice};
use es_core::projection::{OnFailure, SliceStatus, WaitError};
use es_core::{MemoryStore, Projector};

use super::support::{Journal, append, deposit, neighbor, projector, slice, stream};

fn parking(store: &MemoryStore, journal: &Journal) -> Projector<Journal> {
    projector(store.clone(), journal.clone()).on_failure(OnFailure::Park).build()
}

#[tokio::test(start_paused = true)]
async fn an_event_is_tried_again() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "b", "c"]).await;
    let journal = Journal::new(&store);
    journal.fail("b", 2);
    projector(store, journal.clone()).build().run_until_caught_up().await.expect("the third attempt works");
    assert_eq!((journal.versions("ada"), journal.failed()), (vec![1, 2, 3], 2));
}

#[tokio::test(start_paused = true)]
async fn a_slice_stops_at_an_event_that_fails_until_it_is_to_try_again() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "b", "c"]).await;
    let journal = Journal::new(&store);
    journal.fail("b", 99);
    let projector = projector(store.clone(), journal.clone()).build();
    let slice = slice(&store, "ada").await;
    projector.retry(slice).await.expect("nothing has stopped yet, so it has no effect");
    let missing = Slice::new(store.slices().await.expect("slices").iter().count() as u32);
    let invalid = projector.retry(missing).await.expect_err("there is no such slice");
    assert_eq!(invalid.to_string(), format!("the feed has no slice {missing}"));

    let error = projector.run_until_caught_up().await.expect_err("b fails");
    assert!(matches!(&error, WaitError::Stopped { slice: at, .. } if *at == slice));
    let text = error.to_string();
    assert!(
        text.ends_with("`Deposited` at version 2 of `account#ada` (position 2): b is not welcome"),
        "{text}"
    );
    assert_eq!(journal.failed(), 3);
    let progress = projector.progress().await.expect("progress");
    let stopped: Vec<_> = progress.stopped().collect();
    assert_eq!(stopped.len(), 1);
    assert_eq!(stopped[0].1.event.as_ref().expect("an event").name(), Some("Deposited"));

    projector.run_until_caught_up().await.expect_err("b fails again");
    assert_eq!(journal.failed(), 6, "a worker that starts tries again");
    projector.retry(slice).await.expect("it may");
    // The first response may have been lost.
    projector.retry(slice).await.expect("it tries again already");
    assert_eq!(projector.progress().await.expect("progress").stopped().count(), 0);
    journal.fail("b", 0);
    projector.run_until_caught_up().await.expect("works");
    assert_eq!(journal.versions("ada"), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_parked_event_holds_back_its_stream_alone() {
    let store = MemoryStore::new();
    let neighbor = neighbor(&store, "ada").await;
    deposit(&store, "ada", &["a", "b", "c"]).await;
    deposit(&store, &neighbor, &["d"]).await;
    let journal = Journal::new(&store);
    journal.fail("b", 99);
    let projector = parking(&store, &journal);
    projector.run_until_caught_up().await.expect("parks");
    // Another worker sees it, too.
    deposit(&store, "ada", &["e"]).await;
    deposit(&store, &neighbor, &["f"]).await;
    let projector = parking(&store, &journal);
    projector.run_until_caught_up().await.expect("parks");
    assert_eq!(journal.versions("ada"), [1]);
    assert_eq!(journal.versions(&neighbor), [1, 2]);

    let parked = projector.parked().await.expect("parked");
    let what: Vec<_> = parked.iter().map(|event| (event.event.version.get(), event.error.as_str())).collect();
    let behind = "an earlier event of its stream is parked";
    assert_eq!(what, [(2, "b is not welcome"), (3, behind), (4, behind)]);
    let progress = projector.progress().await.expect("progress");
    assert_eq!(progress.slices.iter().map(|slice| slice.parked).sum::<u64>(), 3);

    projector.replay_parked().await.expect("ordered");
    projector.run_until_caught_up().await.expect("tries");
    assert_eq!(journal.versions("ada"), [1], "b still fails");
    assert_eq!(projector.parked().await.expect("parked").len(), 3);

    journal.fail("b", 0);
    projector.replay_parked().await.expect("ordered");
    projector.run_until_caught_up().await.expect("tries");
    assert_eq!(journal.versions("ada"), [1, 2, 3, 4]);
    assert!(projector.parked().await.expect("parked").is_empty());
    deposit(&store, "ada", &["g"]).await;
    projector.run_until_caught_up().await.expect("works");
    assert_eq!(journal.versions("ada"), [1, 2, 3, 4, 5]);
    assert_eq!(journal.lines.all().await.expect("rows").len(), 7);
}

#[tokio::test(start_paused = true)]
async fn more_events_are_parked_than_a_transaction_takes() {
    let store = MemoryStore::new();
    let notes: Vec<String> = (0..250).map(|number| format!("n{number}")).collect();
    for notes in notes.chunks(50) {
        deposit(&store, "ada", &notes.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    let journal = Journal::new(&store);
    journal.fail("n0", 99);
    let projector = parking(&store, &journal);
    projector.run_until_caught_up().await.expect("parks");
    assert_eq!(projector.parked().await.expect("parked").len(), 250);
    journal.fail("n0", 0);
    projector.replay_parked().await.expect("ordered");
    projector.run_until_caught_up().await.expect("works");
    assert_eq!(journal.versions("ada"), (1..=250).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_parked_event_may_change_as_much_as_any_other() {
    let store = MemoryStore::new();
    // 32 rows of three documents, and the event that is no longer parked.
    deposit(&store, "ada", &["many:31"]).await;
    let journal = Journal::new(&store);
    journal.fail("many:31", 3);
    let projector = parking(&store, &journal);
    projector.run_until_caught_up().await.expect("parks");
    projector.replay_parked().await.expect("ordered");
    projector.run_until_caught_up().await.expect("works");
    assert_eq!(journal.lines.all().await.expect("rows").len(), 32);
    assert!(projector.parked().await.expect("parked").is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_decoded_stops_the_slice_in_any_case() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a"]).await;
    append(&store, &stream("ada"), "Deposited", "{\"cents\":\"secret\"}").await;
    let journal = Journal::new(&store);
    let projector = parking(&store, &journal);
    let error = projector.run_until_caught_up().await.expect_err("it cannot be decoded").to_string();
    assert!(error.contains("`Deposited` at version 2 of `account#ada` (position 2)"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    let slice = slice(&store, "ada").await;
    projector.park(slice).await.expect("as an operator wants it");
    projector.run_until_caught_up().await.expect("goes on");
    let parked = projector.parked().await.expect("parked");
    assert!(error.ends_with(&parked[0].error), "{} is not in {error}", parked[0].error);
    assert_eq!(journal.versions("ada"), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_slice_can_skip_or_park_its_event() {
    for park in [true, false] {
        let store = MemoryStore::new();
        deposit(&store, "ada", &["a", "b", "c"]).await;
        let journal = Journal::new(&store);
        journal.fail("b", 99);
        let projector = projector(store.clone(), journal.clone()).build();
        projector.run_until_caught_up().await.expect_err("b fails");
        let slice = slice(&store, "ada").await;
        if park { projector.park(slice).await } else { projector.skip(slice).await }.expect("it has stopped");
        projector.retry(slice).await.expect("does not change the decision");
        // The first response may have been lost. Another decision is too late.
        let [again, other] = match park {
            true => [projector.park(slice).await, projector.skip(slice).await],
            false => [projector.skip(slice).await, projector.park(slice).await],
        };
        again.expect("has no effect");
        other.expect_err("has not stopped any more");
        projector.run_until_caught_up().await.expect("goes on");
        let (versions, parked) = if park { (vec![1], 2) } else { (vec![1, 3], 0) };
        assert_eq!(journal.versions("ada"), versions);
        assert_eq!(projector.parked().await.expect("parked").len(), parked);
        let progress = projector.progress().await.expect("progress");
        let status = &progress.slices[slice.get() as usize].status;
        assert_eq!(*status, SliceStatus::Waiting);
    }
}

#[tokio::test(start_paused = true)]
async fn a_decision_waits_for_what_is_tried_again_before() {
    let store = MemoryStore::new();
    let neighbor = neighbor(&store, "ada").await;
    let slice = slice(&store, "ada").await;
    deposit(&store, "ada", &["a"]).await;
    let journal = Journal::new(&store);
    journal.fail("a", 3);
    journal.fail("b", 99);
    let projector = projector(store.clone(), journal.clone()).build();
    projector.run_until_caught_up().await.expect_err("a fails");
    projector.park(slice).await.expect("parks");
    deposit(&store, &neighbor, &["b", "c"]).await;
    projector.run_until_caught_up().await.expect_err("b fails");
    projector.skip(slice).await.expect("skips");
    projector.replay_parked().await.expect("ordered");
    projector.run_until_caught_up().await.expect("works");
    assert_eq!((journal.versions("ada"), journal.versions(&neighbor)), (vec![1], vec![2]));
}

#[tokio::test(start_paused = true)]
async fn a_decision_counts_for_a_new_build_that_has_stopped() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "b"]).await;
    let journal = Journal::new(&store);
    let projector = projector(store.clone(), journal.clone()).build();
    projector.run_until_caught_up().await.expect("works");
    journal.fail("b", 99);
    projector.rebuild().await.expect("begins");
    projector.run_until_caught_up().await.expect_err("b fails in the new build");
    assert!(projector.switch().await.is_err(), "the new build is not complete");
    projector.skip(slice(&store, "ada").await).await.expect("skips");
    projector.run_until_caught_up().await.expect("goes on");
    projector.switch().await.expect("is complete");
    assert_eq!(Journal::new(&store).lines.all().await.expect("rows").len(), 1);
}
