//! Every event, once, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use es_core::feed::{Feed, FeedEntry, FeedRead, Position};
use es_core::store::{Append, WriteSet};
use es_core::{ExpectedVersion, Version};
use futures_util::future::{join, join_all};

use super::{append, grow, is_indexed, new_indexed, of_stream, slice_of, tells, told_from_start};
use crate::conformance::Pattern;
use crate::conformance::support::{events, new_commit, new_stream};

/// In the slice of its stream and in no other, in the order of versions.
pub async fn every_event_is_told_once(feed: Arc<dyn Feed>) {
    let streams: Vec<_> = (0..12).map(|_| new_stream()).collect();
    for round in 0..4 {
        for (index, stream) in streams.iter().enumerate() {
            grow(&*feed, stream, 1 + (index + round) % 3).await;
        }
    }
    for stream in &streams {
        is_indexed(&*feed, stream).await;
    }
    for slice in feed.slices().await.expect("are known").iter() {
        let told = told_from_start(&*feed, slice).await;
        for stream in &streams {
            if slice_of(&*feed, stream).await == slice {
                tells(&*feed, &told, stream).await;
            } else {
                assert!(of_stream(&told, stream).is_empty(), "`{stream}` is in two slices");
            }
        }
    }
}

/// Including commits of several items between small ones.
pub async fn large_commits_are_told_whole(feed: Arc<dyn Feed>) {
    let stream = new_stream();
    for seed in 0..2 {
        grow(&*feed, &stream, 2).await;
        let large = (0..6).map(|n| Pattern { seed: seed * 10 + n, bytes: 150_000 }.event()).collect();
        append(&*feed, &stream, new_commit(large)).await;
    }
    is_indexed(&*feed, &stream).await;
    let told = told_from_start(&*feed, slice_of(&*feed, &stream).await).await;
    tells(&*feed, &told, &stream).await;
}

/// Each commit of a set is in the slice of its stream.
pub async fn sets_are_told_as_commits(feed: Arc<dyn Feed>) {
    let streams: Vec<_> = (0..5).map(|_| new_stream()).collect();
    for version in [0, 2] {
        let set = streams.iter().fold(WriteSet::new(), |set, stream| {
            let commit = new_commit(events(2));
            set.append(Append::after_loaded(stream.clone(), Version::new(version), commit))
        });
        for _ in 0..2 {
            feed.write(&set).await.expect("writes");
        }
    }
    for stream in &streams {
        is_indexed(&*feed, stream).await;
        let told = told_from_start(&*feed, slice_of(&*feed, stream).await).await;
        assert_eq!(of_stream(&told, stream).len(), 2);
        tells(&*feed, &told, stream).await;
    }
}

/// A repeated commit occurs once, and a refused one not at all.
pub async fn repetitions_and_conflicts_are_not_told(feed: Arc<dyn Feed>) {
    let (stream, slice) = new_indexed(&*feed, &[2]).await;
    let again = Append::after_loaded(stream.clone(), Version::new(2), new_commit(events(1)));
    for _ in 0..3 {
        feed.append(&again).await.expect("is stored");
    }
    let late = Append::new(stream.clone(), ExpectedVersion::NoStream, new_commit(events(3)));
    feed.append(&late).await.expect_err("is too late");
    grow(&*feed, &stream, 1).await;
    is_indexed(&*feed, &stream).await;
    let told = told_from_start(&*feed, slice).await;
    assert_eq!(of_stream(&told, &stream).len(), 3);
    tells(&*feed, &told, &stream).await;
}

/// Reads during writes agree with later reads.
pub async fn what_was_told_stays(feed: Arc<dyn Feed>) {
    let streams: Vec<_> = (0..6).map(|_| new_stream()).collect();
    let done = AtomicBool::new(false);
    let write = async {
        join_all(streams.iter().map(|stream| async {
            for count in [1, 3, 2, 1, 1, 2, 4, 1] {
                grow(&*feed, stream, count).await;
                tokio::task::yield_now().await;
            }
        }))
        .await;
        for stream in &streams {
            is_indexed(&*feed, stream).await;
        }
        done.store(true, Ordering::SeqCst);
    };
    let slices: Vec<_> = feed.slices().await.expect("are known").iter().collect();
    let follow = join_all(slices.iter().map(|slice| async {
        let (mut seen, mut after): (Vec<FeedEntry>, _) = (Vec::new(), Position::NONE);
        loop {
            let is_over = done.load(Ordering::SeqCst);
            let page = feed.read_feed(&FeedRead::new(*slice, after).limit(3)).await.expect("can be read");
            seen.extend(page.entries);
            after = page.through;
            if page.is_last {
                if is_over {
                    return seen;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
    }));
    let ((), seen) = join(write, follow).await;
    for (slice, seen) in slices.into_iter().zip(seen) {
        assert!(told_from_start(&*feed, slice).await == seen, "slice {slice} has changed");
    }
}
