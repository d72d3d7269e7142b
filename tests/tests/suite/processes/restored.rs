//! A process after data was lost: the feed was restored to an earlier state, or a stream was deleted manually.

use std::time::Duration;

use es_core::documents::{ChangeSet, DocumentKey, DocumentQuery, Documents, ExpectedDocument};
use es_core::feed::{Feed, Position, Slice};
use es_core::process::Reacting;
use es_core::projection::{OnFailure, SeekTo, SliceStatus};
use es_core::{MemoryStore, Projector};
use serde_json::json;
use tokio::time::timeout;

use crate::restoring::without_splits;

use super::failures::slice;
use super::support::{Scripted, Work, diary, diary_of, edit, elsewhere, paid, pass, projector, tell};

/// The name of the document with the checkpoint of a slice.
fn checkpoint(slice: Slice) -> String {
    format!("slice#000001#{:06}", slice.get())
}

/// Returns a process whose checkpoint is after the first event, at the returned position, followed by two more events.
/// The feed is not the one that it has read.
async fn restored(is_replaced: bool) -> (MemoryStore, Projector<Reacting<Scripted>>, Slice, Position) {
    let store = MemoryStore::new();
    let projector = projector(store.clone(), Scripted::new(store.clone())).build();
    tell(&store, "a", "ann: pay note").await;
    projector.run_until_caught_up().await.expect("works");
    let slice = slice(&store, "a").await;
    projector.seek(slice, SeekTo::End).await.expect("it is there");
    let start = SeekTo::After(Position::NONE);
    let error = projector.seek(slice, start).await.expect_err("there is no need to").to_string();
    assert!(error.contains("fits the feed, and the slice goes on from there"), "{error}");
    let end = store.feed_end(slice).await.expect("is known").position;
    edit(&store, "projection#script", &checkpoint(slice), |state| match is_replaced {
        true => state["anchor"]["id"] = json!(uuid::Uuid::nil()),
        false => state["position"] = json!(100),
    })
    .await;
    tell(&store, "a", "ann: pay note").await;
    tell(&store, "a", "bob: pay note").await;
    (store, projector, slice, end)
}

#[tokio::test(start_paused = true)]
async fn a_process_goes_on_after_a_restore_where_an_operator_says() {
    for is_replaced in [false, true] {
        // Returns its payments at the end: earlier ones are not repeated, and those of skipped events are missing.
        for (number, expected) in [(0, 1), (1, 3), (2, 3)] {
            let (store, projector, slice, position) = restored(is_replaced).await;
            let to = [SeekTo::End, SeekTo::After(position), SeekTo::After(Position::NONE)][number];
            let error = projector.run_until_caught_up().await.expect_err("stops").to_string();
            assert!(error.contains("and `seek` for a process"), "{error}");
            projector.reset().await.expect_err("it would issue its commands again");
            let progress = projector.progress().await.expect("progress");
            assert!(matches!(progress.slices[slice.get() as usize].status, SliceStatus::Stopped(_)));

            let beyond = projector.seek(slice, SeekTo::After(position.plus(99))).await;
            let error = beyond.expect_err("there is no such position").to_string();
            assert!(error.contains("ends at position") && error.contains(": choose its end"), "{error}");
            projector.seek(slice, to).await.expect("the checkpoint is impossible");
            projector.seek(slice, to).await.expect("the first response may have been lost");
            projector.run_until_caught_up().await.expect("goes on");
            assert_eq!(paid(&store).await, expected, "{to:?}");
            tell(&store, "a", "eve: pay note").await;
            projector.run_until_caught_up().await.expect("goes on");
            assert_eq!(paid(&store).await, expected + 1, "{to:?}");
            assert_eq!(diary_of(&store, "eve").await, ["pay note"]);
            assert_eq!(diary(&store).await.len(), if expected == 1 { 1 } else { 2 });
            assert_eq!(projector.progress().await.expect("progress").stopped().count(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn positions_before_a_restore_say_nothing_of_events_after_it() {
    // The position now belongs to another event, or to none.
    for position in [5, 100] {
        let store = MemoryStore::new();
        let process = Scripted::new(store.clone());
        let work = Work::on(&projector(store.clone(), process).build());
        tell(&store, "a", "ann: pay note").await;
        pass(Duration::from_secs(1)).await;
        drop(work);
        // A turn has begun for an event that is lost.
        let reached = format!("process#script#reached#{}", slice(&store, "a").await);
        edit(&store, &reached, "", |reached| reached["position"] = json!(position)).await;
        for _ in 0..6 {
            tell(&store, "a", "ann: note").await;
        }
        let projector = projector(store.clone(), Scripted::new(store.clone())).build();
        projector.run_until_caught_up().await.expect("works");
        assert_eq!(diary(&store).await, ["pay note", "note", "note", "note", "note", "note", "note"]);
    }
}

#[tokio::test(start_paused = true)]
async fn seeking_back_forgets_how_far_turns_had_begun() {
    let (store, projector, slice, _) = restored(false).await;
    projector.seek(slice, SeekTo::After(Position::NONE)).await.expect("the checkpoint is impossible");
    let reached = store.documents(&DocumentQuery::new(format!("process#script#reached#{slice}"))).await;
    assert!(reached.expect("lists").documents.is_empty());
    projector.run_until_caught_up().await.expect("goes on");
}

#[tokio::test(start_paused = true)]
async fn a_reaction_whose_event_is_not_in_the_feed_any_more_can_be_abandoned() {
    let store = MemoryStore::new();
    let other = elsewhere(&store, "a").await;
    let work = Work::on(&projector(store.clone(), Scripted::new(store.clone())).build());
    tell(&store, &other, "ann: pay wait note").await;
    pass(Duration::from_millis(200)).await;
    drop(work);
    edit(&store, "process#script#turn#ann", "", |turn| {
        turn["origin"]["event"]["position"] = json!(100);
        turn["reaction"] = json!("script/lost");
    })
    .await;
    tell(&store, "a", "ann: note").await;
    let process = Scripted::new(store.clone());
    process.let_go(1);
    let projector = projector(store.clone(), process).build();
    let waits = timeout(Duration::from_secs(60), projector.run_until_caught_up()).await.expect("ends");
    let error = waits.expect_err("it waits").to_string();
    assert!(error.contains("its event is no longer in the feed, which was restored"), "{error}");
    assert!(error.ends_with("if it is lost, call `abandon` for this instance"), "{error}");
    projector.abandon(&"ann".to_owned()).await.expect("it will never be finished");
    projector.run_until_caught_up().await.expect("goes on");
    let mut notes = diary(&store).await;
    notes.sort();
    assert_eq!(notes, ["note", "pay wait note"]);
}

#[tokio::test(start_paused = true)]
async fn a_parked_event_whose_commit_is_gone_can_be_discarded() {
    for is_replaced in [false, true] {
        let store = MemoryStore::new();
        let process = Scripted::new(store.clone());
        process.fail("pay fail note", 99);
        process.fail("fail note", 99);
        tell(&store, "a", "ann: pay fail note").await;
        tell(&store, &super::failures::neighbor(&store, "a").await, "bob: fail note").await;
        let projector = projector(store.clone(), process.clone()).on_failure(OnFailure::Park).build();
        projector.run_until_caught_up().await.expect("parks");
        let slice = slice(&store, "a").await;
        let parked = format!("projection#script#parked#1#{slice}");
        edit(&store, &parked, &format!("{:020}", 1), |parked| match is_replaced {
            true => parked["commit"] = json!(uuid::Uuid::nil()),
            false => (parked["first"], parked["event"]["version"]) = (json!(9), json!(9)),
        })
        .await;
        process.fail("pay fail note", 0);
        process.fail("fail note", 0);
        projector.replay_parked().await.expect("ordered");
        projector.run_until_caught_up().await.expect("the other one is not held up");
        assert_eq!(diary_of(&store, "bob").await, ["fail note"]);
        let parked = projector.parked().await.expect("parked");
        assert_eq!(parked.len(), 1);
        let reason = if is_replaced { "another commit is in its place" } else { "its commit is gone" };
        let expected = format!(
            "the event cannot be read any more: {reason}; restore it, or discard it with `discard_parked`"
        );
        assert_eq!(parked[0].error, expected);
        // Its positions are invalid after a restore.
        edit(&store, "projection#script", &checkpoint(slice), |state| state["position"] = json!(100)).await;
        let error = projector.seek(slice, SeekTo::End).await.expect_err("one is parked").to_string();
        assert!(error.contains("parked events (1)"), "{error}");
        edit(&store, "projection#script", &checkpoint(slice), |state| state["position"] = json!(2)).await;

        projector.discard_parked(&parked[0]).await.expect("it is parked");
        projector.discard_parked(&parked[0]).await.expect("may be repeated after a lost response");
        let progress = projector.progress().await.expect("progress");
        let progress = &progress.slices[slice.get() as usize];
        assert_eq!((progress.parked, progress.skipped), (0, 1));
        projector.abandon(&"ann".to_owned()).await.expect("it will never be finished");
        tell(&store, "c", "ann: note").await;
        projector.run_until_caught_up().await.expect("goes on");
        assert_eq!((diary(&store).await, paid(&store).await), (vec!["note".to_owned()], 1));
    }
}

/// Returns the store as after a restore to a time before all splits, with the documents of the process from after them.
async fn without_split(store: &MemoryStore, slices: &[Slice]) -> MemoryStore {
    let mut collections = vec!["projection#script".to_owned(), "process#script#turn#bob".to_owned()];
    for slice in slices {
        collections.push(format!("process#script#timers#{slice}"));
        collections.push(format!("process#script#reached#{slice}"));
        collections.push(format!("projection#script#parked#1#{slice}"));
    }
    without_splits(store, &collections).await
}

/// The timeouts of the slices that are lost are handled, and the process follows the next split.
#[tokio::test(start_paused = true)]
async fn a_process_goes_on_after_the_feed_has_lost_a_split() {
    let store = MemoryStore::new();
    tell(&store, "a", "ann: pay note").await;
    let parent = slice(&store, "a").await;
    let children = store.split(parent).await.expect("splits");
    tell(&store, "a", "bob: pay remind note").await;
    let before = projector(store.clone(), Scripted::new(store.clone())).build();
    before.run_until_caught_up().await.expect("works");

    let store = without_split(&store, &[parent, children[0], children[1]]).await;
    let open = || projector(store.clone(), Scripted::new(store.clone())).build();
    let error = open().run_until_caught_up().await.expect_err("stops").to_string();
    let expected = format!("and `seek` on slice {parent} for a process");
    assert!(error.contains("no longer has its split at position 1") && error.contains(&expected), "{error}");
    let timeouts = open().pending_timeouts(10).await.expect("reads");
    assert_eq!(timeouts.iter().filter(|timeout| children.contains(&timeout.slice)).count(), 1);
    let operator = open();
    for child in children {
        operator.seek(child, SeekTo::End).await.expect_err("there is no such slice");
    }
    for _ in 0..2 {
        operator.seek(parent, SeekTo::End).await.expect("its split is lost");
    }
    let work = Work::on(&open());
    tell(&store, "a", "eve: pay note").await;
    pass(Duration::from_secs(3)).await;
    assert_eq!(paid(&store).await, 3, "each is paid once");
    assert_eq!(diary_of(&store, "bob").await, ["pay remind note", "reminded of pay remind note"]);
    // The children begin at their start.
    assert_eq!(store.split(parent).await.expect("splits"), children);
    tell(&store, "a", "fay: pay note").await;
    pass(Duration::from_secs(3)).await;
    assert_eq!(paid(&store).await, 4);
    drop(work);
    open().run_until_caught_up().await.expect("works");
    let progress = operator.progress().await.expect("progress");
    assert_eq!((paid(&store).await, progress.lag(), progress.stopped().count()), (4, 0, 0));
}

/// The children still have pending timeouts when their parent is split again.
#[tokio::test(start_paused = true)]
async fn lost_slices_continue_after_a_new_split_although_timeouts_are_left() {
    let store = MemoryStore::new();
    tell(&store, "a", "ann: note").await;
    let parent = slice(&store, "a").await;
    let children = store.split(parent).await.expect("splits");
    tell(&store, "a", "bob: remind note").await;
    projector(store.clone(), Scripted::new(store.clone()))
        .build()
        .run_until_caught_up()
        .await
        .expect("works");

    let store = without_split(&store, &[parent, children[0], children[1]]).await;
    let operator = projector(store.clone(), Scripted::new(store.clone())).build();
    operator.run_until_caught_up().await.expect_err("stops");
    operator.seek(parent, SeekTo::End).await.expect("its split is lost");
    let _work = Work::on(&operator);
    pass(Duration::from_millis(100)).await;
    tell(&store, "a", "ann: eve note").await;
    assert_eq!(store.split(parent).await.expect("splits"), children);
    tell(&store, "a", "ann: fay note").await;
    pass(Duration::from_millis(700)).await;
    assert_eq!(diary_of(&store, "ann").await, ["note", "eve note", "fay note"]);
    assert_eq!(diary_of(&store, "bob").await, ["remind note"], "its timeout is not due yet");
    pass(Duration::from_secs(3)).await;
    assert_eq!(diary_of(&store, "bob").await, ["remind note", "reminded of remind note"]);
}

#[tokio::test(start_paused = true)]
async fn parked_events_of_a_lost_slice_are_found_and_can_be_discarded() {
    let store = MemoryStore::new();
    tell(&store, "a", "ann: note").await;
    let parent = slice(&store, "a").await;
    let children = store.split(parent).await.expect("splits");
    tell(&store, "a", "bob: fail note").await;
    let parking = |store: &MemoryStore| {
        let process = Scripted::new(store.clone());
        process.fail("fail note", 99);
        projector(store.clone(), process).on_failure(OnFailure::Park).build()
    };
    parking(&store).run_until_caught_up().await.expect("parks");

    let store = without_split(&store, &[parent, children[0], children[1]]).await;
    let operator = parking(&store);
    operator.run_until_caught_up().await.expect_err("stops");
    let error = operator.seek(parent, SeekTo::End).await.expect_err("one is parked").to_string();
    assert!(
        error.contains("has parked events (1) at positions of the feed before it was restored"),
        "{error}"
    );
    let parked = operator.parked().await.expect("parked");
    assert!(matches!(&parked[..], [parked] if children.contains(&parked.slice)), "{parked:?}");
    operator.discard_parked(&parked[0]).await.expect("it is parked");
    operator.seek(parent, SeekTo::End).await.expect("none is parked");
    tell(&store, "a", "eve: note").await;
    operator.run_until_caught_up().await.expect("goes on");
    assert_eq!(diary_of(&store, "eve").await, ["note"]);
}

/// A turn has begun for an event in a slice that is lost.
#[tokio::test(start_paused = true)]
async fn a_reaction_whose_slice_is_lost_can_be_abandoned() {
    let store = MemoryStore::new();
    let parent = slice(&store, "a").await;
    let children = store.split(parent).await.expect("splits");
    tell(&store, "a", "bob: pay wait note").await;
    let work = Work::on(&projector(store.clone(), Scripted::new(store.clone())).build());
    pass(Duration::from_millis(500)).await;
    drop(work);

    let restored = MemoryStore::new();
    tell(&restored, "a", "bob: note").await;
    let turn = store.documents(&DocumentQuery::new("process#script#turn#bob")).await.expect("lists");
    let [(name, turn)] = &turn.documents[..] else { panic!("{turn:?}") };
    let key = DocumentKey::new("process#script#turn#bob", name);
    let set = ChangeSet::new(uuid::Uuid::from_u128(1)).put(key, ExpectedDocument::Absent, turn.body.clone());
    restored.change(&set).await.expect("stores");
    assert!(children.iter().any(|child| turn.body.contains(&format!("\"slice\":{child}"))), "{turn:?}");
    let projector = projector(restored.clone(), Scripted::new(restored.clone())).build();
    let waits = timeout(Duration::from_secs(60), projector.run_until_caught_up()).await.expect("ends");
    let error = waits.expect_err("it waits").to_string();
    assert!(error.contains("its event is no longer in the feed, which was restored"), "{error}");
    projector.abandon(&"bob".to_owned()).await.expect("it will never be finished");
    projector.run_until_caught_up().await.expect("goes on");
    assert_eq!(diary_of(&restored, "bob").await, ["note"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_with_a_malformed_instance_fails() {
    let store = MemoryStore::new();
    tell(&store, "a", "!: note").await;
    let stopping = projector(store.clone(), Scripted::new(store.clone())).build();
    let error = stopping.run_until_caught_up().await.expect_err("stops").to_string();
    assert!(error.ends_with("`!` is not the name of an instance"), "{error}");
    let parking = projector(store.clone(), Scripted::new(store.clone())).on_failure(OnFailure::Park).build();
    parking.run_until_caught_up().await.expect("parks");
    assert_eq!(parking.parked().await.expect("parked").len(), 1);
}
