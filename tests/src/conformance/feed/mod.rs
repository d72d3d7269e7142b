//! Rules of the feed.
//!
//! A store may index events some time after storing them. The rules wait for it.

pub mod bounds;
pub mod filter;
pub mod groups;
pub mod order;
pub mod paging;
pub mod read_models;

use std::time::{Duration, Instant};

use es_core::feed::{EventFilter, Feed, FeedEntry, FeedRead, Position, Slice};
use es_core::store::{Append, Commit, NewCommit};
use es_core::{EventStore, ExpectedVersion, StreamId, Version};

use super::support::{commits, events, new_commit, new_stream};

/// The time limit for indexing.
const PATIENCE: Duration = Duration::from_secs(120);

/// Appends a commit.
async fn append(store: &dyn EventStore, stream: &StreamId, commit: NewCommit) -> Version {
    let append = Append::new(stream.clone(), ExpectedVersion::Any, commit);
    store.append(&append).await.expect("appends").last
}

/// Appends a commit of `count` small events.
pub(super) async fn grow(store: &dyn EventStore, stream: &StreamId, count: usize) -> Version {
    append(store, stream, new_commit(events(count))).await
}

/// Waits until all events of a stream are indexed: on PostgreSQL, until no older transaction holds back the feed. The
/// transactions of other tests on the same server do so, too.
///
/// # Panics
///
/// If that takes too long.
pub async fn is_indexed(feed: &dyn Feed, stream: &StreamId) {
    let head = feed.head(stream).await.expect("is known").version;
    let start = Instant::now();
    loop {
        let indexed = feed.indexed(stream).await.expect("is known");
        if indexed >= head {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "`{stream}` is indexed up to {indexed}, and not up to {head}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Returns a new, indexed stream with commits of these sizes, and its slice.
pub(super) async fn new_indexed(feed: &dyn Feed, sizes: &[usize]) -> (StreamId, Slice) {
    let stream = new_stream();
    for size in sizes {
        grow(feed, &stream, *size).await;
    }
    is_indexed(feed, &stream).await;
    let slice = slice_of(feed, &stream).await;
    (stream, slice)
}

pub(super) async fn slice_of(feed: &dyn Feed, stream: &StreamId) -> Slice {
    feed.slice_tree().await.expect("is known").of(stream)
}

/// Returns all entries that a read selects, page by page.
///
/// # Panics
///
/// If a page does not follow the previous one, or contradicts its own bounds.
pub(super) async fn told(feed: &dyn Feed, read: FeedRead) -> Vec<FeedEntry> {
    let (mut told, mut read) = (Vec::<FeedEntry>::new(), read);
    let takes_all = read.filter == EventFilter::all();
    for _ in 0..10_000 {
        let page = feed.read_feed(&read).await.expect("can be read");
        assert!(page.through >= read.after, "a page went back");
        for entry in page.entries {
            let after = told.last().map_or(Position::NONE, FeedEntry::last);
            assert!(entry.position > after, "{} is told after {after}", entry.position);
            if takes_all && !told.is_empty() {
                assert_eq!(entry.position, after.next(), "a gap after {after}");
            }
            assert!(entry.last() <= page.through, "a page tells more than it says");
            told.push(entry);
        }
        if takes_all && let Some(last) = told.last() {
            assert!(page.through <= last.last(), "positions without events before {}", page.through);
        }
        if page.is_last {
            return told;
        }
        (read.after, read.anchor) = (page.through, page.anchor);
    }
    panic!("slice {} has no end", read.slice);
}

/// Returns all entries of a slice from its start.
pub(super) async fn told_from_start(feed: &dyn Feed, slice: Slice) -> Vec<FeedEntry> {
    let told = told(feed, FeedRead::new(slice, Position::NONE)).await;
    if let Some(first) = told.first() {
        assert_eq!(first.position, Position::new(1), "the first event has another position");
    }
    told
}

/// Returns the commits of one stream.
pub(super) fn of_stream<'a>(told: &'a [FeedEntry], stream: &StreamId) -> Vec<&'a Commit> {
    told.iter().filter(|entry| entry.stream == *stream).map(|entry| &entry.commit).collect()
}

/// Expects a slice to contain a stream as it is stored.
pub(super) async fn tells(feed: &dyn Feed, told: &[FeedEntry], stream: &StreamId) {
    let stored = commits(feed, stream).await;
    assert!(!stored.is_empty(), "nothing was stored");
    assert!(of_stream(told, stream).into_iter().eq(&stored), "`{stream}` is told as it is not stored");
}
