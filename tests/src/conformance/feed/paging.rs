//! Pages of the feed.

use std::sync::Arc;

use es_core::ExpectedVersion;
use es_core::StoreError;
use es_core::feed::{Feed, FeedAnchor, FeedEntry, FeedError, FeedRead, Position};
use es_core::store::{Append, MAX_ITEM_BYTES};

use super::{grow, is_indexed, new_indexed, of_stream, slice_of, told, told_from_start};
use crate::conformance::support::{Pattern, new_commit, new_stream};

/// With every limit, and from positions within a commit, which is then returned in full.
pub async fn pages_follow_each_other_from_every_position(feed: Arc<dyn Feed>) {
    let (_, slice) = new_indexed(&*feed, &[1, 3, 2, 5, 1]).await;
    let all = told_from_start(&*feed, slice).await;
    let end = all.last().expect("something was stored").last();
    for after in 0..=end.get() {
        let after = Position::new(after);
        let expected: Vec<_> = all.iter().filter(|entry| entry.last() > after).cloned().collect();
        for limit in [1, 2, 4, 1_000] {
            let from = told(&*feed, FeedRead::new(slice, after).limit(limit)).await;
            assert!(from == expected, "another feed after {after} with the limit {limit}");
        }
    }
}

/// A page ends with the commit that reaches the limit.
pub async fn a_page_is_about_as_long_as_asked(feed: Arc<dyn Feed>) {
    let (_, slice) = new_indexed(&*feed, &[1, 3, 2, 5, 1, 1, 1]).await;
    for limit in 1..8 {
        let mut read = FeedRead::new(slice, Position::NONE).limit(limit);
        loop {
            let page = feed.read_feed(&read).await.expect("can be read");
            let before_last = page.entries.last().map_or(read.after, |entry| entry.position.previous());
            assert!(before_last.since(read.after) < u64::from(limit), "a page over the limit {limit}");
            if page.is_last {
                break;
            }
            read.after = page.through;
        }
    }
}

/// Each page continues where the last one ended, and exceeds the limit by at most one item.
pub async fn a_page_is_about_as_large_as_asked(feed: Arc<dyn Feed>) {
    const BYTES: usize = 100 * 1024;
    let stream = new_stream();
    let mut expected = Vec::new();
    for seed in 0..12 {
        let commit = new_commit(vec![Pattern { seed, bytes: BYTES }.event()]);
        expected.push(commit.id);
        feed.append(&Append::new(stream.clone(), ExpectedVersion::Any, commit)).await.expect("appends");
    }
    is_indexed(&*feed, &stream).await;
    let slice = slice_of(&*feed, &stream).await;
    for max_bytes in [1, BYTES as u64, 3 * BYTES as u64] {
        let mut read = FeedRead::new(slice, Position::NONE).max_bytes(max_bytes);
        let mut told = Vec::new();
        loop {
            let page = feed.read_feed(&read).await.expect("can be read");
            let bytes: u64 = page.entries.iter().map(|entry| entry.commit.bytes()).sum();
            // The size of commits is estimated from the first ones.
            let most = if told.is_empty() { MAX_ITEM_BYTES } else { 0 } + max_bytes + 2 * BYTES as u64;
            assert!(bytes <= most, "{bytes} bytes, asked were {max_bytes}");
            told.extend(page.entries.into_iter().filter(|of| of.stream == stream).map(|of| of.commit.id));
            if page.is_last {
                break;
            }
            assert!(page.through > read.after, "a page without progress");
            read.after = page.through;
        }
        assert_eq!(told, expected);
    }
}

/// Only the last page is marked as the last. Later events are read from its end.
pub async fn the_last_page_ends_where_the_slice_ends(feed: Arc<dyn Feed>) {
    let (stream, slice) = new_indexed(&*feed, &[2, 1, 3]).await;
    let end = feed.feed_end(slice).await.expect("is known").position;
    for after in 0..end.get() {
        let read = FeedRead::new(slice, Position::new(after)).limit(1);
        let page = feed.read_feed(&read).await.expect("can be read");
        assert_eq!(page.is_last, page.through == end, "after {after}");
        assert!(page.through <= end);
    }
    let page = feed.read_feed(&FeedRead::new(slice, end)).await.expect("can be read");
    assert_eq!((page.entries, page.through, page.is_last), (vec![], end, true));
    grow(&*feed, &stream, 2).await;
    is_indexed(&*feed, &stream).await;
    let more: Vec<FeedEntry> = told(&*feed, FeedRead::new(slice, end)).await;
    assert_eq!((more[0].position, of_stream(&more, &stream).len()), (end.next(), 1));
}

/// The error names the impossible checkpoint and the end of the slice.
pub async fn a_position_beyond_the_end_is_an_error(feed: Arc<dyn Feed>) {
    let (_, slice) = new_indexed(&*feed, &[2, 1]).await;
    let end = feed.feed_end(slice).await.expect("is known").position;
    for after in [end.plus(1), end.plus(1_000), Position::new(u64::MAX)] {
        // Regardless of the anchor.
        let anchors =
            [end, after, Position::NONE].map(|first| Some(FeedAnchor::new(first, uuid::Uuid::from_u128(7))));
        for anchor in anchors.into_iter().chain([None]) {
            let read = FeedRead::new(slice, after).anchored(anchor);
            let error = feed.read_feed(&read).await.expect_err("is beyond the end");
            let StoreError::Feed(found) = &error else { panic!("{error:?}") };
            assert!(
                matches!(**found, FeedError::BeyondEnd { position, end: last, .. } if (position, last) == (after, end)),
                "{found:?}"
            );
        }
    }
}

/// From every position, the anchor of a page is accepted by the feed that returned it.
pub async fn anchors_lead_on(feed: Arc<dyn Feed>) {
    let (stream, slice) = new_indexed(&*feed, &[1, 3, 2]).await;
    let all = told_from_start(&*feed, slice).await;
    let page = feed.read_feed(&FeedRead::new(slice, Position::NONE)).await.expect("can be read");
    assert_eq!(page.anchor.is_some(), page.through > Position::NONE);
    for entry in &all {
        for after in entry.position.get()..=entry.last().get() {
            let after = Position::new(after);
            let expected: Vec<_> = all.iter().filter(|entry| entry.last() > after).cloned().collect();
            let read = FeedRead::new(slice, after).anchored(Some(entry.anchor));
            assert!(told(&*feed, read.clone()).await == expected, "another feed after {after}");
            // An empty page has the anchor of its starting position.
            let none = read.limit(1).filter(es_core::feed::EventFilter::none()).anchored(None);
            let page = feed.read_feed(&none).await.expect("can be read");
            let on = FeedRead::new(slice, page.through).anchored(page.anchor);
            feed.read_feed(&on).await.expect("can be read on");
        }
    }
    let end = all.last().expect("something was stored");
    grow(&*feed, &stream, 2).await;
    is_indexed(&*feed, &stream).await;
    let more = told(&*feed, FeedRead::new(slice, end.last()).anchored(Some(end.anchor))).await;
    assert_eq!(of_stream(&more, &stream).len(), 1);
}

/// The error names both anchors, and says that the feed has changed.
pub async fn another_anchor_is_an_error(feed: Arc<dyn Feed>) {
    let (_, slice) = new_indexed(&*feed, &[2, 1]).await;
    let all = told_from_start(&*feed, slice).await;
    let FeedEntry { position, anchor: found, .. } = all.last().expect("something was stored");
    for expected in [
        FeedAnchor::new(found.first(), uuid::Uuid::from_u128(7)),
        FeedAnchor::new(found.first().plus(1), found.id()),
        FeedAnchor::new(Position::NONE, found.id()),
        FeedAnchor::new(Position::new(u64::MAX), found.id()),
    ] {
        let read = FeedRead::new(slice, *position).anchored(Some(expected));
        let error = feed.read_feed(&read).await.expect_err("is another feed");
        let StoreError::Feed(error) = &error else { panic!("{error:?}") };
        assert!(
            matches!(**error, FeedError::Replaced { expected: wanted, found: now, .. } if (wanted, now) == (expected, *found)),
            "{error:?}"
        );
        let text = error.to_string();
        assert!(text.contains(&expected.to_string()) && text.contains(&found.to_string()), "{text}");
    }
}
