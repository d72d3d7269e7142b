//! Archiving and restoring a stream, interrupted between any two requests, and with delayed requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::payloads::{MemoryPayloads, PayloadName, PayloadPrefix, PayloadStore};
use es_core::repository::{Archives, StreamLifecycle};
use es_core::store::{Append, AppendError, Commit, Read, StreamState, is_erased};
use es_core::{EventStore, StoreError, Version};
use es_dynamo::{DynamoStore, Reconciler};
use tokio::sync::Notify;

use super::lifecycle::{fill_with_all, leftovers};
use super::support::*;

fn prefix() -> PayloadPrefix {
    PayloadPrefix::new("orders/archives").expect("valid")
}

/// Returns the state of the stream while its content is in an object with this content.
fn archived(content: &[u8]) -> StreamState {
    StreamState::archived(PayloadName::of(prefix(), content))
}

/// Returns the append that changes the state of the stream.
async fn change(store: &DynamoStore, state: &StreamState) -> Result<Append, StoreError> {
    let head = store.head(&stream()).await?;
    Append::state_change(stream(), &head, state, commit(1).id, time())
}

async fn become_state(store: &DynamoStore, state: &StreamState) {
    let append = change(store, state).await.expect("accepts the change");
    store.append(&append).await.expect("changes the state");
}

/// Fills the stream, and closes it. Returns its commits.
async fn closed(store: &DynamoStore) -> Vec<Commit> {
    fill_with_all(store).await;
    become_state(store, &StreamState::Closed).await;
    commits(store).await
}

async fn commits(store: &DynamoStore) -> Vec<Commit> {
    let pages = pages(store, Read::all(stream())).await.expect("reads");
    pages.into_iter().flat_map(|page| page.commits).collect()
}

/// Returns whether all events of the application are erased.
async fn has_no_content(store: &DynamoStore) -> bool {
    let all = commits(store).await;
    all.iter().all(|commit| commit.state().is_some() || commit.events.iter().all(is_erased))
}

async fn archive(store: &DynamoStore) -> Result<(), StoreError> {
    if store.head(&stream()).await?.state == StreamState::Closed {
        let appended = store.append(&change(store, &archived(b"content")).await?).await;
        appended.map_err(store_error)?;
    }
    store.erase(&stream()).await.map(|_| ())
}

async fn restore(store: &DynamoStore, commits: &[Commit]) -> Result<(), StoreError> {
    if store.head(&stream()).await?.state == StreamState::Closed {
        return Ok(());
    }
    let restored = store.restore(commits, &change(store, &StreamState::Closed).await?).await;
    restored.map(|_| ()).map_err(store_error)
}

fn store_error(error: AppendError) -> StoreError {
    match error {
        AppendError::Store(error) => error,
        conflict => StoreError::Backend(conflict.into()),
    }
}

/// Loses the request with this number and all later ones, or only the response to the first of them.
fn die_at(wire: &Wire, run: u32) {
    let requests = AtomicU32::new(0);
    wire.plan(move |_| match requests.fetch_add(1, Ordering::SeqCst) {
        request if request < run / 2 => Act::Pass,
        request if request == run / 2 && run % 2 == 1 => Act::LoseAnswer,
        _ => Act::LoseRequest,
    });
}

/// A process dies between any two requests of an archive or a restore. Another process completes it, and nothing is
/// lost, stored twice, or indexed twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_can_be_interrupted_between_any_two_requests() {
    let mut interrupted = 0;
    for run in 0.. {
        let Watched { store, wire, other, .. } = watched().await;
        let before = closed(&other).await;
        // In half of the runs, the events are indexed before.
        if run % 2 == 0 {
            Reconciler::builder(&other).build().run().await.expect("runs");
        }
        die_at(&wire, run);
        let is_archived = archive(&store).await.is_ok();
        if other.head(&stream()).await.expect("reads").state == StreamState::Closed {
            assert_eq!(commits(&other).await, before, "run {run}");
        }
        archive(&other).await.expect("completes");
        assert!(has_no_content(&other).await, "run {run}");

        die_at(&wire, run);
        let is_restored = restore(&store, &before).await.is_ok();
        restore(&other, &before).await.expect("completes");
        assert_eq!(commits(&other).await[..before.len()], before, "run {run}");
        let progress = Reconciler::builder(&other).build().run().await.expect("runs");
        assert!(progress.damaged.is_empty() && progress.contradicting.is_empty(), "run {run}: {progress:?}");
        let audit = Reconciler::builder(&other).build().audit().await.expect("audits");
        assert!(audit.is_sound(), "run {run}: {audit:?}");
        if is_archived && is_restored {
            break;
        }
        interrupted += 1;
    }
    assert!(interrupted > 20, "only {interrupted} runs were interrupted");
}

/// Runs `delayed` until its request with the number `late`, then `meanwhile`, and then the rest. Returns `false` if it
/// has fewer requests.
async fn delayed(
    wire: &Wire,
    late: u32,
    delayed: impl Future<Output = ()> + Send + 'static,
    meanwhile: impl Future<Output = ()>,
) -> bool {
    let (reached, released) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (reach, release) = (Arc::clone(&reached), Arc::clone(&released));
    let requests = AtomicU32::new(0);
    wire.plan(move |_| match requests.fetch_add(1, Ordering::SeqCst) == late {
        true => {
            let (reach, release) = (Arc::clone(&reach), Arc::clone(&release));
            Act::After(Box::pin(async move {
                reach.notify_one();
                release.notified().await;
            }))
        }
        false => Act::Pass,
    });
    let mut running = tokio::spawn(delayed);
    tokio::select! {
        ended = &mut running => {
            ended.expect("does not panic");
            return false;
        }
        () = reached.notified() => {}
    }
    meanwhile.await;
    released.notify_one();
    running.await.expect("does not panic");
    true
}

/// A delayed erase request that arrives after the stream was restored leaves the restored commits in place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_erasure_does_not_reach_a_restored_stream() {
    for late in 0.. {
        let Watched { store, wire, other, .. } = watched().await;
        let before = closed(&other).await;
        become_state(&other, &archived(b"content")).await;
        let erase = async move { drop(store.erase(&stream()).await) };
        let meanwhile = async {
            // In half of the runs, the rest of the content was not erased before it is restored.
            if late % 2 == 0 {
                other.erase(&stream()).await.expect("erases");
            }
            restore(&other, &before).await.expect("restores");
        };
        if !delayed(&wire, late, erase, meanwhile).await {
            assert!(late > 8, "only {late} requests were delayed");
            break;
        }
        assert_eq!(commits(&other).await[..before.len()], before, "request {late}");
    }
}

/// A request of a restore that is delayed until the stream was deleted, or archived again, brings nothing back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_restore_brings_nothing_back() {
    for is_deleted in [true, false] {
        for late in 0.. {
            let Watched { store, wire, other, .. } = watched().await;
            let before = closed(&other).await;
            archive(&other).await.expect("archives");
            let kept = before.clone();
            let restoring = async move { drop(restore(&store, &kept).await) };
            let meanwhile = async {
                if !is_deleted {
                    restore(&other, &before).await.expect("restores");
                }
                let next = if is_deleted { StreamState::Deleted } else { archived(b"other") };
                become_state(&other, &next).await;
                other.erase(&stream()).await.expect("erases");
            };
            if !delayed(&wire, late, restoring, meanwhile).await {
                assert!(late > 8, "only {late} requests were delayed");
                break;
            }
            if is_deleted {
                assert_eq!(leftovers(&other).await, 0, "request {late}");
            }
            // Whatever was restored in time is erased for the other archive.
            let head = other.head(&stream()).await.expect("reads");
            if !head.state.is_readable() {
                assert!(has_no_content(&other).await, "request {late}");
            }
        }
    }
}

/// An erased item and a restored one contain the version of the commit that recorded the archive.
#[tokio::test]
async fn items_say_for_which_archive_they_were_changed() {
    let Watched { store, .. } = watched().await;
    let before = closed(&store).await;
    let first = get(&store, &commit_key(1)).await;
    archive(&store).await.expect("archives");
    let erased = get(&store, &commit_key(1)).await;
    assert_eq!((&erased["f"], &erased["ea"], &erased["tk"]), (&number("5"), &number("14"), &first["tk"]));
    assert_eq!(erased.len(), 8);
    assert_eq!(get(&store, "S#").await["ea"], number("14"));
    assert_eq!(get(&store, &commit_key(13)).await["f"], number("3"));

    restore(&store, &before).await.expect("restores");
    let mut expected = first;
    expected.insert("ra".to_owned(), number("14"));
    assert_eq!(get(&store, &commit_key(1)).await, expected);
    for (key, parts) in [(7, None), (10, Some("12"))] {
        let item = get(&store, &commit_key(key)).await;
        assert_eq!(item.get("cl"), parts.map(number).as_ref());
        assert_eq!(item.get("gc").is_some_and(AttributeValue::is_l), key == 7);
    }
    let head = store.head(&stream()).await.expect("reads");
    assert_eq!((head.version, head.state), (Version::new(15), StreamState::Closed));
}

/// An archive is only deleted after its commits were found in the stream.
#[tokio::test]
async fn an_archive_is_kept_until_its_commits_are_in_the_stream() {
    let Watched { store, .. } = watched().await;
    closed(&store).await;
    let payloads = MemoryPayloads::new();
    let archives = Archives::new(payloads.clone(), prefix());
    let lifecycle = StreamLifecycle::new(store.clone());
    let archived = lifecycle.archive(&stream(), &archives).await.expect("archives");
    let archive = archived.archive.expect("has a name");
    let content = payloads.get(&archive).await.expect("reads");
    lifecycle.restore(&stream(), &archives).await.expect("restores");

    // As after an interruption before the archive was deleted. Since then, an item was damaged.
    payloads.put(&archive, content).await.expect("stores");
    let restored = get(&store, &commit_key(1)).await;
    let mut damaged = restored.clone();
    damaged.insert("at".to_owned(), number("0"));
    put(&store, damaged).await;
    for result in
        [lifecycle.restore(&stream(), &archives).await, lifecycle.archive(&stream(), &archives).await]
    {
        let error = result.expect_err("the commits differ").to_string();
        assert!(error.contains("which is kept"), "{error}");
        payloads.get(&archive).await.expect("is kept");
    }
    put(&store, restored).await;
    lifecycle.restore(&stream(), &archives).await.expect("is restored");
    assert!(payloads.names().is_empty());
}
