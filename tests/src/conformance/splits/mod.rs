//! Rules of slices that are split.
//!
//! They are for stores that support it: see [`Feed::split`].

pub mod children;
pub mod closed;

use std::sync::Arc;

use es_core::StreamId;
use es_core::feed::{Feed, FeedEntry, FeedRead, Position, Slice, SliceTree};

use super::feed::{grow, is_indexed, new_indexed, of_stream, slice_of, tells, told, told_from_start};
use super::support::{commits, new_stream};

async fn tree(feed: &dyn Feed) -> SliceTree {
    feed.slice_tree().await.expect("is known")
}

/// Returns the entries of the slices of a stream, from its initial slice to the open one.
async fn told_on_path(feed: &dyn Feed, stream: &StreamId) -> Vec<FeedEntry> {
    let tree = tree(feed).await;
    let mut all = Vec::new();
    for slice in tree.path(stream) {
        all.extend(told_from_start(feed, slice).await);
    }
    all
}

/// Returns whether a read from `slice` after `after` reports at its end that the slice is closed.
async fn ends_closed(feed: &dyn Feed, slice: Slice, after: Position) -> bool {
    let mut read = FeedRead::new(slice, after);
    loop {
        let page = feed.read_feed(&read).await.expect("can be read");
        assert!(page.is_last || !page.is_closed, "a page in the middle is closed");
        if page.is_last {
            return page.is_closed;
        }
        (read.after, read.anchor) = (page.through, page.anchor);
    }
}

/// Creates a stream that is in `slice`, with an indexed commit of each of these sizes.
async fn new_in(feed: &dyn Feed, slice: Slice, sizes: &[usize]) -> StreamId {
    let tree = tree(feed).await;
    let stream = std::iter::repeat_with(new_stream).find(|stream| tree.of(stream) == slice);
    let stream = stream.expect("some stream is in the slice");
    for size in sizes {
        grow(feed, &stream, *size).await;
    }
    is_indexed(feed, &stream).await;
    stream
}
