//! The slice that was split.

use es_core::StoreError;
use es_core::feed::FeedError;
use futures_util::future::join_all;

use super::*;

/// Its events, their positions and anchors, and its end.
pub async fn keeps_its_events(feed: Arc<dyn Feed>) {
    let (stream, slice) = new_indexed(&*feed, &[1, 3, 2]).await;
    let before = told_from_start(&*feed, slice).await;
    let end = feed.feed_end(slice).await.expect("is known");
    feed.split(slice).await.expect("splits");
    for _ in 0..3 {
        grow(&*feed, &stream, 2).await;
    }
    is_indexed(&*feed, &stream).await;
    assert_eq!(told_from_start(&*feed, slice).await, before);
    assert!(!end.is_closed, "an open slice ends closed");
    assert_eq!(feed.feed_end(slice).await.expect("is known"), end.with_closed(true));
    assert_eq!(tree(&*feed).await.end(slice), Some(end.position));
    let last = before.last().expect("has events");
    let read = FeedRead::new(slice, last.position.previous()).anchored(None);
    assert_eq!(told(&*feed, read).await.last(), Some(last));
}

/// With the page that reaches its end, and with every read after that.
pub async fn is_reported_at_its_end(feed: Arc<dyn Feed>) {
    let (_, slice) = new_indexed(&*feed, &[2, 2]).await;
    let end = feed.feed_end(slice).await.expect("is known").position;
    let positions = [Position::NONE, end.previous(), end];
    for after in positions {
        assert!(!ends_closed(&*feed, slice, after).await, "an open slice ends closed after {after}");
    }
    for child in feed.split(slice).await.expect("splits") {
        assert!(!ends_closed(&*feed, child, Position::NONE).await, "child {child} is closed");
    }
    for after in positions {
        assert!(ends_closed(&*feed, slice, after).await, "a closed slice ends open after {after}");
    }
}

/// A slice without events is closed at its start.
pub async fn may_be_empty(feed: Arc<dyn Feed>) {
    let (_, parent) = new_indexed(&*feed, &[1]).await;
    let [empty, _] = feed.split(parent).await.expect("splits");
    let [_, grandchild] = feed.split(empty).await.expect("splits");
    assert_eq!(tree(&*feed).await.end(empty), Some(Position::NONE));
    assert!(ends_closed(&*feed, empty, Position::NONE).await);
    let stream = new_in(&*feed, grandchild, &[1, 2]).await;
    assert_eq!(told_from_start(&*feed, empty).await, []);
    tells(&*feed, &told_from_start(&*feed, grandchild).await, &stream).await;
}

/// A call may be repeated after a lost response, and several callers get one answer.
pub async fn is_split_once(feed: Arc<dyn Feed>) {
    let (stream, slice) = new_indexed(&*feed, &[1]).await;
    let calls = join_all((0..4).map(|_| feed.split(slice))).await;
    let children = tree(&*feed).await.children(slice).expect("is closed");
    for call in calls {
        assert_eq!(call.expect("splits"), children);
    }
    grow(&*feed, &stream, 1).await;
    is_indexed(&*feed, &stream).await;
    let before = tree(&*feed).await;
    assert_eq!(feed.split(slice).await.expect("was split"), children);
    assert_eq!(tree(&*feed).await, before);
}

/// Its positions end where it was split.
pub async fn has_no_position_beyond_its_end(feed: Arc<dyn Feed>) {
    let (stream, slice) = new_indexed(&*feed, &[2]).await;
    let end = feed.feed_end(slice).await.expect("is known").position;
    feed.split(slice).await.expect("splits");
    for _ in 0..3 {
        grow(&*feed, &stream, 2).await;
    }
    is_indexed(&*feed, &stream).await;
    let read = feed.read_feed(&FeedRead::new(slice, end.next())).await;
    let Err(StoreError::Feed(error)) = read else { panic!("{read:?}") };
    assert!(matches!(*error, FeedError::BeyondEnd { end: reported, .. } if reported == end), "{error}");
}

/// A slice that the feed does not have, such as a child of an open slice, is refused by name.
pub async fn must_exist(feed: Arc<dyn Feed>) {
    let (_, slice) = new_indexed(&*feed, &[1]).await;
    let before = tree(&*feed).await;
    let [child, _] = before.initial().children(slice).expect("in bounds");
    for missing in [child, Slice::new(u32::MAX)] {
        let split = feed.split(missing).await;
        let Err(error @ StoreError::Invalid { .. }) = split else { panic!("{split:?}") };
        assert!(error.to_string().contains(&missing.to_string()), "{error}");
        assert!(matches!(feed.feed_end(missing).await, Err(StoreError::Invalid { .. })));
    }
    assert_eq!(tree(&*feed).await, before);
}
