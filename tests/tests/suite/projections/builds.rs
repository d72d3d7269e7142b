//! Rebuilds of a projection while the old build is being read.

use es_core::MemoryStore;
use es_core::documents::{ChangeSet, DocumentChange, DocumentKey, DocumentQuery, Documents};
use es_core::projection::OnFailure;

use super::support::{Journal, deposit, projector, slice};

async fn documents(store: &MemoryStore, collection: &str) -> usize {
    store.documents(&DocumentQuery::new(collection)).await.expect("a page").documents.len()
}

/// Returns the number of rows and index entries of a build.
async fn rows(store: &MemoryStore, build: u32) -> usize {
    let mut count = documents(store, &format!("read#journal#{build}#lines#i#by_account#ada")).await;
    for bucket in 0..16 {
        count += documents(store, &format!("read#journal#{build}#lines#r#{bucket}")).await;
    }
    count
}

#[tokio::test(start_paused = true)]
async fn a_new_build_takes_the_place_of_the_old_one() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a", "b"]).await;
    let journal = Journal::new(&store);
    let projector = projector(store.clone(), journal.clone()).build();
    projector.run_until_caught_up().await.expect("works");
    assert!(projector.switch().await.expect_err("no new build").to_string().contains("`rebuild` begins"));

    projector.rebuild().await.expect("begins");
    projector.rebuild().await.expect("the new build has not begun, so this has no effect");
    assert_eq!(projector.rebuild_progress().await.expect("progress").expect("a new build").lag(), 2);
    let error = projector.switch().await.expect_err("it is behind").to_string();
    assert!(error.contains("is at position 0") && error.contains("wait until it has caught up"), "{error}");
    deposit(&store, "ada", &["c"]).await;
    projector.run_until_caught_up().await.expect("works on both");
    assert!(projector.rebuild().await.is_err(), "one is enough");
    assert_eq!(journal.handled().len(), 6);
    assert_eq!((rows(&store, 1).await, rows(&store, 2).await), (6, 6));

    projector.switch().await.expect("switched");
    assert_eq!(projector.rebuild_progress().await.expect("progress"), None);
    deposit(&store, "ada", &["d"]).await;
    projector.run_until_caught_up().await.expect("works");
    assert_eq!((rows(&store, 1).await, rows(&store, 2).await), (6, 8));
    projector.delete_replaced().await.expect("deleted");
    projector.delete_replaced().await.expect("nothing left to delete");
    assert_eq!((rows(&store, 1).await, rows(&store, 2).await), (0, 8));
    // The control document, and a checkpoint for each slice of the only build.
    assert_eq!(documents(&store, "projection#journal").await, 5);
    assert_eq!(Journal::new(&store).lines.all().await.expect("rows").len(), 4);
}

#[tokio::test(start_paused = true)]
async fn no_build_gets_the_number_of_one_that_was_deleted() {
    let store = MemoryStore::new();
    deposit(&store, "ada", &["a"]).await;
    let projector = projector(store.clone(), Journal::new(&store)).build();
    assert!(projector.cancel_rebuild().await.is_err());
    projector.rebuild().await.expect("begins");
    projector.run_until_caught_up().await.expect("works");
    projector.cancel_rebuild().await.expect("cancelled");
    projector.delete_replaced().await.expect("deleted");
    projector.rebuild().await.expect("begins");
    projector.run_until_caught_up().await.expect("works");
    assert_eq!((rows(&store, 1).await, rows(&store, 2).await, rows(&store, 3).await), (2, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_new_build_that_misses_events_takes_the_place_of_the_old_one_on_demand_only() {
    for (on_failure, anyway) in
        [(OnFailure::Park, false), (OnFailure::Stop, false), (OnFailure::Park, true), (OnFailure::Stop, true)]
    {
        let store = MemoryStore::new();
        deposit(&store, "ada", &["a", "b"]).await;
        let journal = Journal::new(&store);
        let projector = projector(store.clone(), journal.clone()).on_failure(on_failure).build();
        projector.run_until_caught_up().await.expect("works");
        assert!(projector.switch_anyway().await.is_err(), "there is no new build");
        journal.fail("b", 99);
        projector.rebuild().await.expect("begins");
        assert!(projector.switch_anyway().await.is_err(), "the new build has not begun");
        let built = projector.run_until_caught_up().await;
        let error = projector.switch().await.expect_err("an event is missing").to_string();
        let parked = projector.parked().await.expect("parked");
        if on_failure == OnFailure::Park {
            built.expect("parks");
            assert!(error.contains("(parked events: 1; stopped slices: none)"), "{error}");
            assert_eq!((parked.len(), parked[0].build), (1, 2));
        } else {
            built.expect_err("stops");
            let expected = format!("(parked events: 0; stopped slices: {})", slice(&store, "ada").await);
            assert!(error.contains(&expected), "{error}");
            assert!(parked.is_empty());
        }
        if anyway {
            projector.switch_anyway().await.expect("as the operator wants it");
            assert_eq!(Journal::new(&store).lines.all().await.expect("rows").len(), 1);
        }
        journal.fail("b", 0);
        projector.replay_parked().await.expect("ordered");
        projector.run_until_caught_up().await.expect("works");
        if !anyway {
            projector.switch().await.expect("nothing is missing");
        }
        assert_eq!(Journal::new(&store).lines.all().await.expect("rows").len(), 2);
        assert_eq!(projector.progress().await.expect("progress").build, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn there_is_no_build_after_the_largest_number() {
    let store = MemoryStore::new();
    let projector = projector(store.clone(), Journal::new(&store)).build();
    let stored = async |control: &str, id| {
        let key = DocumentKey::new("projection#journal", "control");
        let set = ChangeSet::new(uuid::Uuid::from_u128(id)).with_changes([DocumentChange::put(key, control)]);
        store.change(&set).await.expect("stores");
    };
    for (control, id) in [
        (r#"{"active":1,"last":4294967295}"#, 1),
        (r#"{"active":4294967295}"#, 2),
        (r#"{"active":1,"replaced":[4294967295]}"#, 3),
    ] {
        stored(control, id).await;
        for result in [projector.reset().await, projector.rebuild().await] {
            let error = result.expect_err("there is no such build").to_string();
            assert!(error.contains("has a build numbered 4294967295, after which there is none"), "{error}");
        }
    }
    stored(r#"{"active":1,"last":4294967294}"#, 4).await;
    projector.rebuild().await.expect("the last build");
    projector.run_until_caught_up().await.expect("works on both");
}
