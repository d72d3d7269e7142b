//! Several commits in one append are several entries of the feed.

use std::sync::Arc;

use es_core::ExpectedVersion;
use es_core::event::EventData;
use es_core::feed::{EventFilter, Feed, FeedEntry, FeedRead, Position, Slice};
use es_core::store::Append;

use super::{grow, is_indexed, slice_of, tells, told, told_from_start};
use crate::conformance::contract::group::grow_by;
use crate::conformance::support::{new_commit, new_stream};

/// Returns a slice with appends of several commits and single commits, whose entries it checks.
async fn slice_of_groups(feed: &dyn Feed) -> (Slice, Vec<FeedEntry>) {
    let stream = new_stream();
    grow(feed, &stream, 1).await;
    grow_by(feed, &stream, &[1, 3, 2]).await;
    grow(feed, &stream, 2).await;
    grow_by(feed, &stream, &[2, 1]).await;
    grow_by(feed, &stream, &[1; 30]).await;
    is_indexed(feed, &stream).await;
    let slice = slice_of(feed, &stream).await;
    let all = told_from_start(feed, slice).await;
    tells(feed, &all, &stream).await;
    (slice, all)
}

/// Each with its own id, time, metadata, and position.
pub async fn every_commit_is_an_entry(feed: Arc<dyn Feed>) {
    let (_, all) = slice_of_groups(&*feed).await;
    assert_eq!(all.len(), 1 + 3 + 1 + 2 + 30);
    let mut next = Position::new(1);
    for entry in &all {
        assert_eq!(entry.position, next);
        next = entry.last().next();
    }
}

/// From every position, also between two commits of an append, with and without an anchor.
pub async fn pages_follow_each_other_from_every_position(feed: Arc<dyn Feed>) {
    let (slice, all) = slice_of_groups(&*feed).await;
    let end = all.last().expect("something was stored").last();
    for after in (0..=end.get()).map(Position::new) {
        let expected: Vec<_> = all.iter().filter(|entry| entry.last() > after).cloned().collect();
        for limit in [1, 2, 5, 1_000] {
            let read = FeedRead::new(slice, after).limit(limit);
            assert!(told(&*feed, read).await == expected, "another feed after {after}, {limit}");
            let read = FeedRead::new(slice, after).limit(limit).max_bytes(1);
            assert!(told(&*feed, read).await == expected, "another feed after {after}, {limit}, 1 byte");
        }
    }
    for entry in &all {
        let expected: Vec<_> = all.iter().filter(|other| other.position > entry.position).cloned().collect();
        let read = FeedRead::new(slice, entry.last()).anchored(Some(entry.anchor));
        assert!(told(&*feed, read).await == expected, "another feed after {}", entry.last());
    }
}

/// A commit without a matching event is left out, even if another commit of its append has one.
pub async fn commits_of_other_events_are_left_out(feed: Arc<dyn Feed>) {
    let stream = new_stream();
    let commit = |kinds: &[&'static str]| {
        new_commit(kinds.iter().map(|kind| EventData::new(*kind, 1, "{}")).collect())
    };
    let append = Append::new(stream.clone(), ExpectedVersion::NoStream, commit(&["A"])).with_following([
        commit(&["B"]),
        commit(&["B", "A"]),
        commit(&["C"]),
    ]);
    feed.append(&append).await.expect("appends");
    grow(&*feed, &stream, 1).await;
    is_indexed(&*feed, &stream).await;
    let slice = slice_of(&*feed, &stream).await;
    let all = told_from_start(&*feed, slice).await;
    for (kinds, places) in [(&["A"][..], &[0, 2][..]), (&["B"], &[1, 2]), (&["C"], &[3]), (&["D"], &[])] {
        let filter = EventFilter::none().with_events("conformance", kinds.iter().copied());
        let expected: Vec<_> = places.iter().map(|place: &usize| all[*place].clone()).collect();
        for limit in [1, 2, 100] {
            let read = FeedRead::new(slice, Position::NONE).limit(limit).filter(filter.clone());
            assert_eq!(told(&*feed, read).await, expected, "{kinds:?}");
        }
    }
}
