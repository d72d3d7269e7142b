//! Filters of the feed.

use std::sync::Arc;

use es_core::event::EventData;
use es_core::feed::{EventFilter, Feed, FeedEntry, FeedRead, Position, Slice};

use super::{append, is_indexed, slice_of, told, told_from_start};
use crate::conformance::support::{new_commit, new_stream};

/// Returns a slice with commits that contain one, the other, both, and neither of two kinds of events.
async fn slice_of_kinds(feed: &dyn Feed) -> Slice {
    let stream = new_stream();
    for kinds in [&["A"][..], &["B"], &["C", "C"], &["C", "A", "C"], &["B", "A"], &["C"], &["A"], &["C"]] {
        let events = kinds.iter().map(|kind| EventData::new(*kind, 1, "{}")).collect();
        append(feed, &stream, new_commit(events)).await;
    }
    is_indexed(feed, &stream).await;
    slice_of(feed, &stream).await
}

/// Matching commits are returned in full, with unchanged positions.
pub async fn commits_of_other_events_are_left_out(feed: Arc<dyn Feed>) {
    let slice = slice_of_kinds(&*feed).await;
    let all = told_from_start(&*feed, slice).await;
    let none = EventFilter::none();
    for filter in [
        EventFilter::all(),
        none.clone().with_events("conformance", ["A"]),
        none.clone().with_events("conformance", ["A", "B"]),
        none.clone().with_events("conformance", ["C"]).with_events("another", ["A"]),
        none.clone().with_events("another", ["A", "B", "C"]),
        none,
    ] {
        let taken = |entry: &&FeedEntry| filter.takes_any(&entry.stream, &entry.commit);
        let expected: Vec<_> = all.iter().filter(taken).cloned().collect();
        for limit in [1, 3, 100] {
            let read = FeedRead::new(slice, Position::NONE).limit(limit).filter(filter.clone());
            assert!(told(&*feed, read).await == expected, "another feed with {filter:?}");
        }
    }
}

/// A filter that matches no event still reaches the end.
pub async fn a_page_goes_through_what_it_leaves_out(feed: Arc<dyn Feed>) {
    let slice = slice_of_kinds(&*feed).await;
    let end = feed.feed_end(slice).await.expect("is known").position;
    let mut read = FeedRead::new(slice, Position::NONE).limit(2).filter(EventFilter::none());
    loop {
        let page = feed.read_feed(&read).await.expect("can be read");
        assert!(page.entries.is_empty() && page.through > read.after, "no way on after {}", read.after);
        read.after = page.through;
        if page.is_last {
            break;
        }
    }
    assert_eq!(read.after, end);
}
