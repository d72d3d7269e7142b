//! Slices that are split.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use es_core::documents::{ChangeSet, DocumentKey, DocumentQuery, Documents, ExpectedDocument};
use es_core::feed::{Feed, Position, Slice};
use es_core::projection::{OnFailure, SliceStatus, Start, WaitError};
use es_core::testing::{Faults, FaultyStore};
use es_core::{MemoryStore, Projector, Version};
use es_tests::chaos::divert::{Divert, Sent};
use es_tests::chaos::run_seeds;
use es_tests::chaos::slow::Slow;
use fastrand::Rng;
use futures_util::FutureExt;
use tokio::time::sleep;

use crate::restoring::{copy_documents, without_splits};

use super::support::{Journal, LEASE, deposit, neighbor, projector, slice, stream, work};

/// Splits the slice of an account. Returns it, and the child with the account's later events.
async fn split(store: &MemoryStore, account: &str) -> (Slice, Slice) {
    let parent = slice(store, account).await;
    store.split(parent).await.expect("splits");
    (parent, slice(store, account).await)
}

fn parking(store: &MemoryStore, journal: &Journal) -> Projector<Journal> {
    projector(store.clone(), journal.clone()).on_failure(OnFailure::Park).build()
}

/// Returns the position and the status of a slice.
async fn status(projector: &Projector<Journal>, slice: Slice) -> (Position, SliceStatus) {
    let progress = projector.progress().await.expect("progress");
    let found = progress.slices.into_iter().find(|progress| progress.slice == slice).expect("the slice");
    (found.position, found.status)
}

#[tokio::test(start_paused = true)]
async fn children_start_when_their_parent_is_finished() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "b"]).await;
    let (parent, child) = split(&store, "ada").await;
    deposit(&store, "ada", &["c"]).await;
    let journal = Journal::new(&store);
    journal.fail("b", 6);
    let projector = projector(store.clone(), journal.clone()).build();
    let worker = work(&projector);
    sleep(LEASE * 5).await;
    assert_eq!(journal.versions("ada"), [1], "a child was started before its parent's end");
    assert_eq!(status(&projector, child).await, (Position::NONE, SliceStatus::Waiting));
    let error =
        projector.wait_for(&stream("ada"), 3.into(), LEASE).await.expect_err("the parent has stopped");
    assert!(matches!(error, WaitError::Stopped { slice, .. } if slice == parent), "{error}");
    let progress = projector.progress().await.expect("progress");
    assert_eq!((progress.lag(), progress.total()), (2, 3));

    projector.retry(parent).await.expect("it has stopped");
    sleep(LEASE).await;
    projector.retry(parent).await.expect("it has stopped again, or goes on");
    projector.caught_up().await.expect("works");
    assert_eq!(journal.versions("ada"), [1, 2, 3]);
    sleep(LEASE).await;
    assert_eq!(status(&projector, parent).await, (Position::new(2), SliceStatus::Finished));
    let progress = projector.progress().await.expect("progress");
    let tree: Vec<_> = progress.slices.iter().map(|slice| (slice.parent, slice.is_closed)).collect();
    assert_eq!(tree.iter().filter(|slice| **slice == (Some(parent), false)).count(), 2, "{tree:?}");
    assert_eq!(progress.slices.iter().filter(|slice| slice.is_closed).count(), 1);
    projector.shutdown();
    worker.await.expect("no panic").expect("ends");
}

#[tokio::test(start_paused = true)]
async fn a_worker_follows_splits_while_it_runs() {
    let store = MemoryStore::new();
    let journal = Journal::new(&store);
    let projector = projector(store.clone(), journal.clone()).build();
    let worker = work(&projector);
    for round in 0..5 {
        let note = format!("n{round}");
        let version = deposit(&store, "ada", &[&note]).await;
        if round % 2 == 1 {
            projector.wait_for(&stream("ada"), version, LEASE * 10).await.expect("comes");
        }
        split(&store, "ada").await;
    }
    let version = deposit(&store, "ada", &["last"]).await;
    projector.wait_for(&stream("ada"), version, LEASE * 10).await.expect("comes");
    assert_eq!(journal.versions("ada"), [1, 2, 3, 4, 5, 6]);
    projector.caught_up().await.expect("works");
    projector.shutdown();
    worker.await.expect("no panic").expect("ends");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_parked_stays_parked_in_the_child() {
    let store = MemoryStore::new();
    let neighbor = neighbor(&store, "ada").await;
    deposit(&store, "ada", &["a", "b"]).await;
    deposit(&store, &neighbor, &["d"]).await;
    let journal = Journal::new(&store);
    journal.fail("b", 99);
    parking(&store, &journal).run_until_caught_up().await.expect("parks");
    let (parent, child) = split(&store, "ada").await;
    deposit(&store, "ada", &["c"]).await;
    deposit(&store, &neighbor, &["e"]).await;
    let projector = parking(&store, &journal);
    projector.run_until_caught_up().await.expect("parks");
    let parked = async || {
        let parked = projector.parked().await.expect("parked");
        parked.iter().map(|parked| (parked.slice, parked.event.version.get())).collect::<Vec<_>>()
    };
    assert_eq!(journal.versions("ada"), [1], "an event of a parked stream was handled");
    assert_eq!(journal.versions(&neighbor), [1, 2]);
    assert_eq!(parked().await, [(parent, 2), (child, 3)]);

    projector.replay_parked().await.expect("ordered");
    projector.run_until_caught_up().await.expect("tries");
    assert_eq!((journal.versions("ada"), parked().await.len()), (vec![1], 2), "b still fails");

    // The child must wait for its parent's replay.
    journal.fail("b", 0);
    projector.replay_parked().await.expect("ordered");
    projector.run_until_caught_up().await.expect("replays");
    assert_eq!((journal.versions("ada"), parked().await.len()), (vec![1, 2, 3], 0));
}

/// The child has read that the stream is parked, and parks no event of it when that is no longer so.
#[tokio::test(start_paused = true)]
async fn a_stream_that_was_replayed_in_the_parent_goes_on_in_the_child() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "b"]).await;
    let journal = Journal::new(&store);
    journal.fail("b", 99);
    let projector = parking(&store, &journal);
    let worker = work(&projector);
    projector.caught_up().await.expect("parks");
    split(&store, "ada").await;
    sleep(LEASE * 2).await;
    journal.fail("b", 0);
    projector.replay_parked().await.expect("ordered");
    projector.caught_up().await.expect("replays");
    deposit(&store, "ada", &["c"]).await;
    projector.caught_up().await.expect("works");
    assert_eq!(journal.versions("ada"), [1, 2, 3]);
    assert!(projector.parked().await.expect("parked").is_empty());
    projector.shutdown();
    worker.await.expect("no panic").expect("ends");
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_goes_through_the_tree() {
    let store = MemoryStore::new();
    let journal = Journal::new(&store);
    let projector = projector(store.clone(), journal.clone()).build();
    deposit(&store, "ada", &["a"]).await;
    let (_, child) = split(&store, "ada").await;
    deposit(&store, "ada", &["b"]).await;
    projector.run_until_caught_up().await.expect("works");
    projector.rebuild().await.expect("begins");
    projector.switch().await.expect_err("the new build is behind");
    split(&store, "ada").await;
    deposit(&store, "ada", &["c"]).await;
    projector.run_until_caught_up().await.expect("works");
    let progress = projector.rebuild_progress().await.expect("progress").expect("a new build");
    assert_eq!((progress.lag(), progress.finished()), (0, 3));
    projector.switch().await.expect("has caught up");
    projector.delete_replaced().await.expect("deletes");
    let checkpoint = async |build: u32, slice: Slice| {
        let key = DocumentKey::new("projection#journal", format!("slice#{build:06}#{:06}", slice.get()));
        store.document(&key).await.expect("reads").is_some()
    };
    assert!(!checkpoint(1, child).await && checkpoint(2, child).await);
    assert_eq!(journal.versions("ada").len(), 6, "each build handles each event once");
    assert_eq!(journal.lines.all().await.expect("rows").len(), 3);
}

/// Even though its children have not begun.
#[tokio::test(start_paused = true)]
async fn a_new_build_that_has_stopped_in_the_parent_can_be_switched_to() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a"]).await;
    split(&store, "ada").await;
    deposit(&store, "ada", &["b"]).await;
    let journal = Journal::new(&store);
    let projector = projector(store.clone(), journal.clone()).build();
    projector.run_until_caught_up().await.expect("works");
    journal.fail("a", 99);
    projector.rebuild().await.expect("begins");
    projector.run_until_caught_up().await.expect_err("the new build stops");
    projector.switch().await.expect_err("it is incomplete");
    projector.switch_anyway().await.expect("an operator decides");
}

#[tokio::test(start_paused = true)]
async fn a_projection_that_starts_at_the_end_omits_the_tree_up_to_there() {
    let store = MemoryStore::new();
    let neighbor = neighbor(&store, "ada").await;
    deposit(&store, "ada", &["a"]).await;
    deposit(&store, &neighbor, &["b"]).await;
    split(&store, "ada").await;
    deposit(&store, "ada", &["c"]).await;
    split(&store, "ada").await;
    deposit(&store, "ada", &["d"]).await;
    let journal = Journal::new(&store);
    let projector = projector(store.clone(), journal.clone()).start(Start::End).build();
    projector.run_until_caught_up().await.expect("starts");
    assert_eq!(journal.handled(), []);
    deposit(&store, "ada", &["e"]).await;
    projector.run_until_caught_up().await.expect("works");
    assert_eq!(journal.versions("ada"), [4]);
    // A child of a slice that was not omitted starts at its beginning.
    for account in ["ada", &neighbor] {
        split(&store, account).await;
        deposit(&store, account, &["f"]).await;
    }
    projector.run_until_caught_up().await.expect("works");
    assert_eq!((journal.versions("ada"), journal.versions(&neighbor)), (vec![4, 5], vec![2]));
}

/// The parent is moved back between the moment in which a worker finds it finished and the child's first write.
#[tokio::test(start_paused = true)]
async fn the_first_checkpoint_of_a_child_is_fenced_by_its_parent() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "b"]).await;
    let (parent, child) = split(&store, "ada").await;
    deposit(&store, "ada", &["c"]).await;
    let key =
        |slice: Slice| DocumentKey::new("projection#journal", format!("slice#000001#{:06}", slice.get()));
    let has_moved = Arc::new(AtomicBool::new(false));
    let (truth, moved) = (store.clone(), Arc::clone(&has_moved));
    let is_diverted = move |sent: Sent<'_>| {
        if let Sent::Change(set) = sent
            && set.changes().iter().any(|change| change.key == key(child))
            && !moved.swap(true, Ordering::SeqCst)
        {
            let body = r#"{"position":0}"#.to_owned();
            let back = ChangeSet::new(uuid::Uuid::from_u128(7)).put(key(parent), ExpectedDocument::Any, body);
            truth.change(&back).now_or_never().expect("is immediate").expect("is stored");
        }
        false
    };
    let journal = Journal::new(&store);
    let diverted = Divert::to(store.clone(), store.clone(), is_diverted);
    let projector = projector(diverted, journal.clone()).build();
    let worker = work(&projector);
    sleep(LEASE * 10).await;
    assert!(has_moved.load(Ordering::SeqCst));
    assert_eq!(journal.versions("ada"), [1, 2, 1, 2, 3], "the child did not wait for its parent");
    projector.shutdown();
    worker.await.expect("no panic").expect("ends");
}

/// The end of a slice says whether it was split, so a wait does not request the tree.
#[tokio::test(start_paused = true)]
async fn waiting_takes_one_request_more_per_split() {
    let store = MemoryStore::new();
    let version = deposit(&store, "ada", &["a"]).await;
    let faults = Faults::seeded(0);
    let counted = FaultyStore::new(store.clone(), faults.clone());
    let projector = projector(counted, Journal::new(&store)).build();
    let requests = async |version: Version| {
        projector.run_until_caught_up().await.expect("works");
        let before = faults.requests();
        projector.wait_for(&stream("ada"), version, LEASE).await.expect("is handled");
        faults.requests() - before
    };
    let unsplit = requests(version).await;
    split(&store, "ada").await;
    assert_eq!(requests(version).await, unsplit + 1);
    split(&store, "ada").await;
    assert_eq!(requests(deposit(&store, "ada", &["b"]).await).await, unsplit + 2);
}

/// Returns the store as after a restore to a time before all splits, with the checkpoints from after them.
async fn restored(store: &MemoryStore) -> MemoryStore {
    without_splits(store, &["projection#journal".to_owned()]).await
}

/// The checkpoint of the parent is valid, but the events of its former children are in the parent now.
#[tokio::test(start_paused = true)]
async fn a_projection_stops_if_the_feed_has_lost_a_split_after_which_it_has_read() {
    for is_split_again in [false, true] {
        let store = MemoryStore::new();
        deposit(&store, "ada", &["a", "b"]).await;
        let (parent, child) = split(&store, "ada").await;
        deposit(&store, "ada", &["c"]).await;
        projector(store.clone(), Journal::new(&store)).build().run_until_caught_up().await.expect("works");

        let store = restored(&store).await;
        if is_split_again {
            // After the event that was in the child.
            assert_eq!(split(&store, "ada").await, (parent, child));
        }
        let journal = Journal::new(&store);
        let projector = projector(store.clone(), journal.clone()).build();
        let expected = format!(
            "slice {parent} of the feed no longer has its split at position 2, after which slice {child} was read up to \
             position 1: "
        );
        for attempt in 0..2 {
            let error = projector.run_until_caught_up().await.expect_err("stops").to_string();
            assert!(error.contains(&expected), "{attempt}: {error}");
        }
        let (position, status) = status(&projector, parent).await;
        let SliceStatus::Stopped(failure) = status else { panic!("{status:?}") };
        assert!(position == Position::new(2) && failure.error.starts_with(&expected), "{failure}");
        let error = projector.wait_for(&stream("ada"), 3.into(), LEASE).await.expect_err("stopped");
        assert!(matches!(error, WaitError::Stopped { slice, .. } if slice == parent), "{error}");
        assert_eq!(journal.handled(), [], "an event was handled again");

        projector.reset().await.expect("is no process");
        projector.run_until_caught_up().await.expect("works");
        assert_eq!(journal.versions("ada"), [1, 2, 3]);
        assert_eq!(projector.progress().await.expect("progress").stopped().count(), 0);
        projector.delete_replaced().await.expect("deletes");
        let query = DocumentQuery::new("projection#journal").prefix("slice#000001");
        let left = store.documents(&query).await.expect("lists").documents;
        assert!(left.is_empty(), "checkpoints of lost slices are left: {left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_split_is_forgotten_if_nothing_after_it_was_read() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a"]).await;
    let (parent, child) = split(&store, "ada").await;
    // Its children are split as well, and empty.
    split(&store, "ada").await;
    projector(store.clone(), Journal::new(&store)).build().run_until_caught_up().await.expect("works");

    let store = restored(&store).await;
    let journal = Journal::new(&store);
    let projector = projector(store.clone(), journal.clone()).build();
    let worker = work(&projector);
    deposit(&store, "ada", &["b"]).await;
    sleep(LEASE * 3).await;
    assert_eq!(journal.versions("ada"), [2]);
    let key = DocumentKey::new("projection#journal", format!("slice#000001#{:06}", parent.get()));
    let state = store.document(&key).await.expect("reads").expect("is stored").body;
    assert!(!state.contains("closed"), "the mark of the split is left: {state}");
    assert_eq!(split(&store, "ada").await.1, child);
    deposit(&store, "ada", &["c"]).await;
    projector.caught_up().await.expect("works");
    assert_eq!(journal.versions("ada"), [2, 3]);
    sleep(LEASE * 3).await;
    let progress = projector.progress().await.expect("progress");
    assert_eq!((progress.lag(), progress.stopped().count()), (0, 0));
    projector.shutdown();
    worker.await.expect("no panic").expect("ends");
}

/// The slice is split again, later, before any worker has seen that it lost its split.
#[tokio::test(start_paused = true)]
async fn children_wait_for_the_new_end_of_a_slice_that_lost_its_split() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a"]).await;
    let (_, child) = split(&store, "ada").await;
    projector(store.clone(), Journal::new(&store)).build().run_until_caught_up().await.expect("works");

    let store = restored(&store).await;
    for note in ["b", "c", "d"] {
        deposit(&store, "ada", &[note]).await;
    }
    assert_eq!(split(&store, "ada").await.1, child);
    deposit(&store, "ada", &["e"]).await;
    let journal = Journal::new(&store);
    let projector = projector(store.clone(), journal.clone()).batch(1).build();
    projector.run_until_caught_up().await.expect("works");
    assert_eq!(journal.versions("ada"), [2, 3, 4, 5]);
    let progress = projector.progress().await.expect("progress");
    assert_eq!((progress.lag(), progress.stopped().count()), (0, 0));
}

/// The children were split before anything was read in them.
#[tokio::test(start_paused = true)]
async fn a_lost_split_is_noticed_if_only_a_grandchild_was_read() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a"]).await;
    let (parent, _) = split(&store, "ada").await;
    let (_, grandchild) = split(&store, "ada").await;
    deposit(&store, "ada", &["b"]).await;
    projector(store.clone(), Journal::new(&store)).build().run_until_caught_up().await.expect("works");

    let store = restored(&store).await;
    let journal = Journal::new(&store);
    let projector = projector(store.clone(), journal.clone()).build();
    let error = projector.run_until_caught_up().await.expect_err("stops").to_string();
    let expected = format!(
        "slice {parent} of the feed no longer has its split at position 1, after which slice {grandchild} was read"
    );
    assert!(error.contains(&expected), "{error}");
    assert_eq!(journal.handled(), [], "an event was handled again");
}

/// The feed was restored to a time before the events of the children, and no worker runs.
#[tokio::test(start_paused = true)]
async fn a_lost_split_is_reported_without_a_worker() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a"]).await;
    let restored = without_splits(&store, &[]).await;
    let (parent, _) = split(&store, "ada").await;
    deposit(&store, "ada", &["b"]).await;
    projector(store.clone(), Journal::new(&store)).build().run_until_caught_up().await.expect("works");

    copy_documents(&store, &restored, "projection#journal").await;
    let projector = projector(restored.clone(), Journal::new(&restored)).build();
    let error = projector.wait_for(&stream("ada"), 1.into(), LEASE).await.expect_err("its split is lost");
    assert!(matches!(error, WaitError::Stopped { slice, .. } if slice == parent), "{error}");
    let (_, status) = status(&projector, parent).await;
    assert!(matches!(status, SliceStatus::Stopped(_)), "{status:?}");
}

/// Workers die, slices are split, and each event that is awaited is in the read model afterwards.
#[test]
fn waiting_never_ends_early() {
    let splits = run_seeds(100, async |seed| {
        let (store, mut random) = (MemoryStore::new(), Rng::with_seed(seed));
        let journal = Journal::new(&store);
        let slow = || {
            let random = Rng::with_seed(fastrand::u64(..));
            Slow::new(Arc::new(store.clone()), 0.05, LEASE, random)
        };
        let mut workers: Vec<_> = (0..3).map(|_| None).collect();
        let mut splits = 0_u64;
        for number in 0..20 {
            for worker in &mut workers {
                if random.u8(..6) == 0 || worker.is_none() {
                    let projector = projector(slow(), journal.clone()).batch(random.u32(1..5)).build();
                    let started = work(&projector);
                    // A worker that is replaced dies.
                    let before: Option<tokio::task::JoinHandle<_>> = worker.replace(started);
                    before.inspect(tokio::task::JoinHandle::abort);
                }
            }
            let (account, note) = (format!("account-{}", random.u8(..3)), format!("n{number}"));
            if random.bool() {
                store.split(slice(&store, &account).await).await.map_err(|error| error.to_string())?;
                splits += 1;
            }
            let version = deposit(&store, &account, &[&note]).await;
            if random.bool() {
                store.split(slice(&store, &account).await).await.map_err(|error| error.to_string())?;
                splits += 1;
            }
            if random.u8(..3) == 0 {
                continue;
            }
            let waiting = projector(slow(), journal.clone()).build();
            let waited = waiting.wait_for(&stream(&account), version, Duration::from_secs(60)).await;
            waited.map_err(|error| format!("event {number}: {error}"))?;
            if journal.lines.get(&note).await.map_err(|error| error.to_string())?.is_none() {
                return Err(format!("event {number} was awaited and is not in the read model"));
            }
        }
        workers.iter().flatten().for_each(tokio::task::JoinHandle::abort);
        Ok(splits)
    });
    println!("{} runs with {} splits", splits.len(), splits.iter().sum::<u64>());
}
