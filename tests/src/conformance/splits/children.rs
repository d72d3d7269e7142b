//! The slices that continue after a split.

use std::sync::atomic::{AtomicBool, Ordering};

use es_core::Version;
use futures_util::future::{join, join_all};

use super::*;

/// Later events of a stream are in the child of its route, from position 1.
pub async fn continue_the_streams_of_their_parent(feed: Arc<dyn Feed>) {
    let (_, slice) = new_indexed(&*feed, &[1]).await;
    let mut streams = Vec::new();
    for sizes in [[1, 2], [3, 1], [2, 2], [1, 1], [4, 1], [1, 5]] {
        streams.push(new_in(&*feed, slice, &sizes).await);
    }
    let children = feed.split(slice).await.expect("splits");
    for stream in &streams {
        assert_eq!(
            feed.indexed(stream).await.expect("is known"),
            feed.head(stream).await.expect("is known").version
        );
        for count in [2, 1] {
            grow(&*feed, stream, count).await;
        }
        is_indexed(&*feed, stream).await;
    }
    for stream in &streams {
        let own = slice_of(&*feed, stream).await;
        assert!(children.contains(&own), "`{stream}` is in slice {own}");
        for slice in tree(&*feed).await.iter() {
            let told = told_from_start(&*feed, slice).await;
            let is_on_path = tree(&*feed).await.path(stream).any(|part| part == slice);
            assert_eq!(of_stream(&told, stream).is_empty(), !is_on_path, "`{stream}` in slice {slice}");
        }
        let told = told_from_start(&*feed, own).await;
        assert_eq!(of_stream(&told, stream).len(), 2);
        tells(&*feed, &told_on_path(&*feed, stream).await, stream).await;
    }
}

/// A stream that begins after the split is in one child only.
pub async fn receive_new_streams(feed: Arc<dyn Feed>) {
    let (_, slice) = new_indexed(&*feed, &[1]).await;
    for child in feed.split(slice).await.expect("splits") {
        let stream = new_in(&*feed, child, &[1, 3]).await;
        tells(&*feed, &told_from_start(&*feed, child).await, &stream).await;
        assert!(of_stream(&told_from_start(&*feed, slice).await, &stream).is_empty());
        assert_eq!(feed.indexed(&stream).await.expect("is known"), Version::new(4));
    }
}

/// To several levels, with events of a stream on each.
pub async fn can_be_split(feed: Arc<dyn Feed>) {
    let (stream, _) = new_indexed(&*feed, &[2]).await;
    for level in 1..=3 {
        let slice = slice_of(&*feed, &stream).await;
        feed.split(slice).await.expect("splits");
        grow(&*feed, &stream, level).await;
        is_indexed(&*feed, &stream).await;
        assert_eq!(tree(&*feed).await.path(&stream).count(), level + 1);
        tells(&*feed, &told_on_path(&*feed, &stream).await, &stream).await;
    }
}

/// The streams of the others stay where they are.
pub async fn leave_other_slices_alone(feed: Arc<dyn Feed>) {
    let (_, parent) = new_indexed(&*feed, &[1]).await;
    let [first, second] = feed.split(parent).await.expect("splits");
    let stream = new_in(&*feed, first, &[1]).await;
    feed.split(second).await.expect("splits");
    grow(&*feed, &stream, 2).await;
    is_indexed(&*feed, &stream).await;
    assert_eq!(slice_of(&*feed, &stream).await, first);
    tells(&*feed, &told_from_start(&*feed, first).await, &stream).await;
    assert!(!ends_closed(&*feed, first, Position::NONE).await);
}

/// While several callers split slices, every event is in the feed once, in the order of its stream.
pub async fn have_every_event_once(feed: Arc<dyn Feed>) {
    let streams: Vec<_> = (0..8).map(|_| new_stream()).collect();
    let is_done = AtomicBool::new(false);
    let write = async {
        join_all(streams.iter().map(|stream| async {
            for count in [1, 3, 2, 1, 1, 2, 4, 1] {
                grow(&*feed, stream, count).await;
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            is_indexed(&*feed, stream).await;
        }))
        .await;
        is_done.store(true, Ordering::SeqCst);
    };
    let split = join_all((0..2).map(|caller| {
        let (feed, streams, is_done) = (&feed, &streams, &is_done);
        async move {
            for round in 0..3 {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                if is_done.load(Ordering::SeqCst) && round > 0 {
                    break;
                }
                let slice = slice_of(&**feed, &streams[(caller + round) % streams.len()]).await;
                feed.split(slice).await.expect("splits");
            }
        }
    }));
    join(write, split).await;
    let tree = tree(&*feed).await;
    assert!(tree.iter().any(|slice| tree.is_closed(slice)), "no slice was split");
    let mut all = Vec::new();
    for slice in tree.iter() {
        all.extend(told_from_start(&*feed, slice).await);
    }
    for stream in &streams {
        tells(&*feed, &told_on_path(&*feed, stream).await, stream).await;
        assert_eq!(of_stream(&all, stream).len(), commits(&*feed, stream).await.len());
    }
}
