//! Filters of the feed.

use std::sync::Arc;

use es_core::StreamId;
use es_core::event::EventData;
use es_core::feed::{EventFilter, Feed, FeedEntry, FeedRead, Position, Slice};
use es_core::payloads::{PayloadName, PayloadPrefix};
use es_core::store::{Append, StreamState};

use super::{append, is_indexed, slice_of, told, told_from_start};
use crate::conformance::support::{commits, new_commit, new_stream, time};

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

/// The events of a deleted stream are left out, whether they were indexed before or after the deletion. They keep their
/// positions. The event that deleted the stream is selected by its name.
pub async fn deleted_streams_are_passed_over(feed: Arc<dyn Feed>) {
    let feed = &*feed;
    let streams = [true, false].map(|is_indexed_before| (new_stream(), is_indexed_before));
    for (stream, is_indexed_before) in &streams {
        let slice = slice_of(feed, stream).await;
        let slices = feed.slices().await.expect("are known");
        let mut neighbors = std::iter::repeat_with(new_stream);
        let neighbor = neighbors.find(|neighbor| slices.of(neighbor) == slice).expect("is endless");
        let event = || EventData::new("A", 1, "{}");
        append(feed, &neighbor, new_commit(vec![event()])).await;
        append(feed, stream, new_commit(vec![event(); 3])).await;
        if *is_indexed_before {
            is_indexed(feed, stream).await;
            is_indexed(feed, &neighbor).await;
        }
        let head = feed.head(stream).await.expect("is known");
        let id = new_commit(Vec::new()).id;
        let delete = Append::state_change(stream.clone(), &head, &StreamState::Deleted, id, time(0));
        feed.append(&delete.expect("is open")).await.expect("deletes");
        feed.erase(stream).await.expect("erases");
        is_indexed(feed, stream).await;
        append(feed, &neighbor, new_commit(vec![event(); 2])).await;
        is_indexed(feed, &neighbor).await;

        let count = async |filter: EventFilter| {
            let mut read = FeedRead::new(slice, Position::NONE).filter(filter);
            let mut counts = (0, 0);
            loop {
                let page = feed.read_feed(&read).await.expect("can be read");
                let of =
                    |stream: &StreamId| page.entries.iter().filter(|entry| entry.stream == *stream).count();
                counts = (counts.0 + of(stream), counts.1 + of(&neighbor));
                (read.after, read.anchor) = (page.through, page.anchor);
                if page.is_last {
                    return (counts, page.through);
                }
            }
        };
        let end = feed.feed_end(slice).await.expect("is known").position;
        assert_eq!(count(EventFilter::all()).await, ((0, 2), end));
        assert_eq!(count(EventFilter::none().with_events("conformance", ["A"])).await, ((0, 2), end));
        assert_eq!(count(EventFilter::none().with_events("conformance", ["$deleted"])).await, ((1, 0), end));
        let erased = count(EventFilter::none().with_events("conformance", ["A", "$erased"])).await;
        assert_eq!(erased, ((1, 2), end), "the events keep their positions");
    }
}

/// The events of an archived stream are passed over, whether they were indexed before or after it was archived. Once it
/// is restored, a consumer that reads from the start receives them at their positions, once.
pub async fn archived_streams_come_back(feed: Arc<dyn Feed>) {
    let feed = &*feed;
    for is_indexed_before in [true, false] {
        let stream = new_stream();
        let slice = slice_of(feed, &stream).await;
        append(feed, &stream, new_commit(vec![EventData::new("A", 1, "{}"); 3])).await;
        append(feed, &stream, new_commit(vec![EventData::new("B", 1, "{}"); 2])).await;
        if is_indexed_before {
            is_indexed(feed, &stream).await;
        }
        let change = async |state: &StreamState| {
            let head = feed.head(&stream).await.expect("is known");
            let id = new_commit(Vec::new()).id;
            Append::state_change(stream.clone(), &head, state, id, time(0)).expect("accepts the change")
        };
        feed.append(&change(&StreamState::Closed).await).await.expect("closes");
        let before = commits(feed, &stream).await;
        let prefix = PayloadPrefix::new("conformance/archives").expect("valid");
        let archived = StreamState::archived(PayloadName::of(prefix, stream.as_str().as_bytes()));
        feed.append(&change(&archived).await).await.expect("archives");
        feed.erase(&stream).await.expect("erases");
        is_indexed(feed, &stream).await;

        let told = async |name: &'static str| {
            let filter = EventFilter::none().with_events("conformance", [name]);
            let mut read = FeedRead::new(slice, Position::NONE).filter(filter);
            let mut told = Vec::new();
            loop {
                let page = feed.read_feed(&read).await.expect("can be read");
                let of_stream = page.entries.into_iter().filter(|entry| entry.stream == stream);
                told.extend(of_stream.map(|entry| entry.commit));
                (read.after, read.anchor) = (page.through, page.anchor);
                if page.is_last {
                    return told;
                }
            }
        };
        assert_eq!((told("A").await, told("B").await), (Vec::new(), Vec::new()));
        feed.restore(&before, &change(&StreamState::Closed).await).await.expect("restores");
        is_indexed(feed, &stream).await;
        assert_eq!((told("A").await, told("B").await), (before[..1].to_vec(), before[1..2].to_vec()));
        assert_eq!(told("$restored").await.len(), 1);
    }
}
