//! Slices and their ends.

use std::sync::Arc;
use std::time::Duration;

use es_core::feed::{Feed, FeedEntry, FeedRead, Position, Slice};
use es_core::{StoreError, Version};
use futures_util::future::BoxFuture;

use super::{PATIENCE, grow, is_indexed, new_indexed, of_stream, slice_of, told_from_start};
use crate::conformance::support::new_stream;

/// Appends do not change the number of slices.
pub async fn slices_stay_as_they_are(feed: Arc<dyn Feed>) {
    let slices = feed.slices().await.expect("are known");
    new_indexed(&*feed, &[1, 2]).await;
    assert_eq!(feed.slices().await.expect("are known"), slices);
}

/// Both directly after the last slice and far beyond it.
pub async fn a_slice_that_there_is_not_is_an_error(feed: Arc<dyn Feed>) {
    let count = feed.slices().await.expect("are known").count();
    for slice in [count, u32::MAX].map(Slice::new) {
        let read = feed.read_feed(&FeedRead::new(slice, Position::NONE)).await.map(drop);
        let end = feed.feed_end(slice).await.map(drop);
        for result in [read, end] {
            assert!(matches!(result, Err(StoreError::Invalid { .. })), "{result:?}");
        }
    }
}

/// For every slice, including empty ones. Its anchor is that of the last entry.
pub async fn the_end_is_the_last_position(feed: Arc<dyn Feed>) {
    for round in 0..2 {
        for slice in feed.slices().await.expect("are known").iter() {
            let told = told_from_start(&*feed, slice).await;
            let last = told.last().map_or(Position::NONE, FeedEntry::last);
            let end = feed.feed_end(slice).await.expect("is known");
            assert_eq!(end.position, last, "round {round}");
            assert_eq!(end.anchor, told.last().map(|entry| entry.anchor), "round {round}");
        }
        new_indexed(&*feed, &[2, 3]).await;
    }
}

/// Events up to the indexed version are returned immediately.
pub async fn what_is_indexed_is_told(feed: Arc<dyn Feed>) {
    let stream = new_stream();
    let slice = slice_of(&*feed, &stream).await;
    assert_eq!(feed.indexed(&stream).await.expect("is known"), Version::NONE);
    for count in [1, 3, 2] {
        let head = grow(&*feed, &stream, count).await;
        is_indexed(&*feed, &stream).await;
        let told = told_from_start(&*feed, slice).await;
        let last = of_stream(&told, &stream).last().map(|commit| commit.last());
        assert_eq!((last, feed.indexed(&stream).await.expect("is known")), (Some(head), head));
    }
    assert_eq!(feed.indexed(&new_stream()).await.expect("is known"), Version::NONE);
}

/// Waits until the feed stops growing, and returns the future of its next growth.
async fn at_rest(feed: &dyn Feed) -> BoxFuture<'static, ()> {
    for _ in 0..20 {
        let mut growth = feed.growth();
        if tokio::time::timeout(Duration::from_millis(200), &mut growth).await.is_err() {
            return growth;
        }
    }
    panic!("the feed is told to grow all the time");
}

/// Waiters are woken even if their futures are first polled after the growth.
pub async fn growth_wakes_who_waits(feed: Arc<dyn Feed>) {
    let (stream, _) = new_indexed(&*feed, &[1]).await;
    let [first, second] = [at_rest(&*feed).await, feed.growth()];
    grow(&*feed, &stream, 1).await;
    for growth in [first, second] {
        tokio::time::timeout(PATIENCE, growth).await.expect("the feed has grown");
    }
    is_indexed(&*feed, &stream).await;
}
