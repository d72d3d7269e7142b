//! Deleting a stream, interrupted between any two requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use es_core::event::EventData;
use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::store::{
    Append, Claim, ClaimChange, EventRange, IdempotencyKey, NewIdempotencyRecord, StreamState, WriteSet,
};
use es_core::{EventStore, ExpectedVersion, StoreError, Version};
use es_dynamo::{DynamoStore, Reconciler, names};
use uuid::Uuid;

use super::support::*;

/// A text that is part of all data of the stream.
const PLANTED: &str = "planted";

fn claim(number: u64) -> Claim {
    Claim::new("handle", format!("{PLANTED}-{number}")).expect("valid")
}

fn key(number: u64) -> IdempotencyKey {
    IdempotencyKey::new(Some(stream()), format!("{PLANTED}-{number}")).expect("valid")
}

fn planted(count: usize) -> Vec<EventData> {
    vec![EventData::new("Counted", 1, format!("\"{PLANTED}\"")); count]
}

/// Fills the stream with commits, claims, idempotency records, a commit of several items, several commits in one item,
/// and a snapshot.
pub(super) async fn fill_with_all(store: &DynamoStore) {
    for number in 0..3 {
        let version = Version::new(number * 2);
        let range = EventRange::new(stream(), version.next(), version.plus(2));
        let expires = time() + chrono::TimeDelta::days(7);
        let record = NewIdempotencyRecord::new(
            key(number),
            Uuid::from_u128(number.into()),
            time(),
            expires,
            vec![range],
        );
        let take = ClaimChange::Take { stream: stream(), claim: claim(number) };
        let append = Append::after_loaded(stream(), version, commit_of(planted(2)));
        let set = WriteSet::new().append(append).claims([take]).idempotent(record);
        store.write(&set).await.expect("writes");
    }
    let group = Append::after_loaded(stream(), Version::new(6), commit_of(planted(1)));
    store.append(&group.with_following([commit_of(planted(2))])).await.expect("appends");
    let large = commit_of(vec![EventData::new("Counted", 1, format!("\"{}\"", PLANTED.repeat(30_000))); 3]);
    store.append(&Append::after_loaded(stream(), Version::new(9), large)).await.expect("appends");
    let snapshot = Snapshot::new(Version::new(12), time(), Fingerprint::new(7), format!("\"{PLANTED}\""));
    store.write_snapshot(&stream(), &snapshot, None).await.expect("writes");
}

/// Returns the number of items, other than pages of the feed, that contain the planted text.
pub(super) async fn leftovers(store: &DynamoStore) -> usize {
    let scan = store.client().scan().table_name(store.table_name()).consistent_read(true);
    let items = scan.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await.expect("scans");
    items.iter().filter(|item| format!("{item:?}").contains(PLANTED)).count()
}

async fn delete_stream(store: &DynamoStore) -> Result<(), StoreError> {
    let head = store.head(&stream()).await?;
    if head.state.is_open() {
        let id = commit(1).id;
        let append = Append::state_change(stream(), &head, &StreamState::Deleted, id, time())?;
        match store.append(&append).await {
            Ok(_) => {}
            Err(es_core::store::AppendError::Store(error)) => return Err(error),
            Err(error) => panic!("{error:?}"),
        }
    }
    store.erase(&stream()).await.map(|_| ())
}

/// Whatever request is the last one of a process, with or without effect: until the stream is deleted, everything is
/// there, and afterwards another process completes the deletion. Nothing comes back in the feed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_can_be_interrupted_between_any_two_requests() {
    let mut interrupted = 0;
    for last in 0.. {
        let Watched { store, wire, other, .. } = watched().await;
        fill_with_all(&other).await;
        // In half of the runs, the events are indexed before.
        if last % 2 == 0 {
            Reconciler::builder(&other).build().run().await.expect("runs");
        }
        let before = leftovers(&other).await;
        let requests = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&requests);
        wire.plan(move |_| match counted.fetch_add(1, Ordering::SeqCst) {
            request if request < last / 2 => Act::Pass,
            request if request == last / 2 && last % 2 == 1 => Act::LoseAnswer,
            _ => Act::LoseRequest,
        });
        let is_done = delete_stream(&store).await.is_ok();
        let head = other.head(&stream()).await.expect("reads");
        if head.state.is_open() {
            assert_eq!((leftovers(&other).await, head.version), (before, Version::new(12)), "run {last}");
        } else {
            assert_eq!((head.state, head.version), (StreamState::Deleted, Version::new(13)), "run {last}");
        }
        if is_done {
            assert_eq!(leftovers(&other).await, 0, "run {last}: acknowledged, but not complete");
            break;
        }
        interrupted += 1;

        delete_stream(&other).await.expect("completes");
        assert_eq!(leftovers(&other).await, 0, "run {last}");
        for number in 0..3 {
            assert_eq!(other.claim_holder(&claim(number)).await.expect("reads").stream, None, "run {last}");
        }
        for version in [0, 2, 4, 6, 9, 12] {
            let stale = Append::after_loaded(stream(), Version::new(version), commit(1));
            assert!(other.append(&stale).await.expect_err("is deleted").is_conflict(), "run {last}");
        }
        let progress = Reconciler::builder(&other).build().run().await.expect("runs");
        assert!(progress.damaged.is_empty() && progress.contradicting.is_empty(), "run {last}: {progress:?}");
        let audit = Reconciler::builder(&other).build().audit().await.expect("audits");
        assert!(audit.is_sound(), "run {last}: {audit:?}");
        assert_eq!(leftovers(&other).await, 0, "run {last}: the feed brought something back");
    }
    assert!(interrupted > 20, "only {interrupted} runs were interrupted");
}

/// An erased item has its key, the versions, the id, and the time of its commit.
#[tokio::test]
async fn an_erased_item_has_no_content() {
    let Watched { store, .. } = watched().await;
    fill_with_all(&store).await;
    let first = get(&store, &commit_key(1)).await;
    assert!(first.contains_key("tk"), "the claims of the commit are listed");
    delete_stream(&store).await.expect("deletes");
    let item = get(&store, &commit_key(1)).await;
    assert_eq!(
        (&item["f"], &item["lv"], &item["id"], &item["at"]),
        (&number("5"), &number("2"), &first["id"], &first["at"])
    );
    assert_eq!(item.len(), 6);
    let part = get(&store, &commit_key(10)).await;
    assert_eq!((&part["cf"], &part["cl"]), (&number("10"), &number("12")));
    let group = get(&store, &commit_key(7)).await;
    assert_eq!((&group["f"], &group["lv"], group.len()), (&number("5"), &number("9"), 6));
    let fence = get(&store, "S#").await;
    assert_eq!(
        (&fence[names::SORT_KEY], &fence["v"], fence.len()),
        (&text("S#"), &number("999999999999"), 3)
    );
    assert_eq!(ends(&store).await, [(1, 2), (3, 4), (5, 6), (7, 9), (10, 12), (13, 13)]);
    let error = store.append(&append(ExpectedVersion::Any, 1)).await.expect_err("is deleted");
    assert!(error.to_string().contains("is deleted"), "{error}");
}
