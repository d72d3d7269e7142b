//! The feed of the in-memory store. Events get their positions when they are stored.

use std::collections::HashMap;

use async_trait::async_trait;
use event_listener::Event;
use futures_core::future::BoxFuture;
use futures_util::FutureExt;

use super::objects::Object;
use super::{Content, MemoryStore};
use crate::cost::Cost;
use crate::feed::{
    Feed, FeedAnchor, FeedEnd, FeedEntry, FeedError, FeedPage, FeedRead, Position, Slice, SliceTree, Slices,
};
use crate::store::StoreError;
use crate::stream_id::StreamId;
use crate::version::Version;

/// The number of initial slices, more than one, so that tests on this store cover several slices.
const SLICES: Slices = Slices::new(4).expect("not zero");

/// The slices with their commits, in order.
pub(super) struct FeedContent {
    tree: SliceTree,
    /// The slices with events.
    slices: HashMap<Slice, Vec<FeedCommit>>,
    grown: Event,
}

/// A reference to a commit in the feed.
struct FeedCommit {
    /// The position of its last event.
    last: Position,
    stream: StreamId,
    /// Its index among the commits of the stream.
    commit: usize,
}

impl Default for FeedContent {
    fn default() -> Self {
        Self { tree: SliceTree::new(SLICES), slices: HashMap::new(), grown: Event::new() }
    }
}

impl FeedContent {
    /// Appends a commit to its slice.
    pub(super) fn push(&mut self, stream: &StreamId, commit: usize, events: usize) {
        let slice = self.slices.entry(self.tree.of(stream)).or_default();
        let last = end(slice).plus(events as u64);
        slice.push(FeedCommit { last, stream: stream.clone(), commit });
        self.grown.notify(usize::MAX);
    }

    fn slice(&self, slice: Slice) -> Result<&[FeedCommit], StoreError> {
        self.tree.check(slice)?;
        Ok(self.slices.get(&slice).map_or(&[], Vec::as_slice))
    }

    fn split(&mut self, slice: Slice) -> Result<[Slice; 2], StoreError> {
        let end = end(self.slice(slice)?);
        let children = self.tree.checked_children(slice)?;
        self.tree.close(slice, end)?;
        self.grown.notify(usize::MAX);
        Ok(children)
    }
}

/// Returns the position of the last event of a slice.
fn end(slice: &[FeedCommit]) -> Position {
    slice.last().map_or(Position::NONE, |commit| commit.last)
}

impl Content {
    fn entry(&self, place: &FeedCommit) -> FeedEntry {
        let commit = &self.streams[&place.stream].commits[place.commit];
        let first = Position::new(place.last.get() + 1 - commit.events.len() as u64);
        FeedEntry::new(first, place.stream.clone(), commit.clone())
    }
}

/// Returns the anchor of the position after which to read, if it matches the expected one.
fn verified(
    read: &FeedRead,
    places: &[FeedCommit],
    holding: Option<FeedEntry>,
) -> Result<FeedAnchor, FeedError> {
    let (slice, position) = (read.slice, read.after);
    let Some(FeedEntry { anchor: found, .. }) = holding else {
        let end = end(places);
        return Err(FeedError::BeyondEnd { slice, position, end });
    };
    match read.anchor.filter(|expected| *expected != found) {
        Some(expected) => Err(FeedError::Replaced { slice, position, expected, found }),
        None => Ok(found),
    }
}

#[async_trait]
impl Feed for MemoryStore {
    async fn slices(&self) -> Result<Slices, StoreError> {
        Ok(SLICES)
    }

    async fn slice_tree(&self) -> Result<SliceTree, StoreError> {
        Ok(self.content().feed.tree.clone())
    }

    async fn split(&self, slice: Slice) -> Result<[Slice; 2], StoreError> {
        self.content().feed.split(slice)
    }

    async fn read_feed(&self, read: &FeedRead) -> Result<FeedPage, StoreError> {
        let (page, objects) = self.find_feed_page(read)?;
        self.check_objects(objects).await?;
        Ok(page)
    }

    async fn feed_end(&self, slice: Slice) -> Result<FeedEnd, StoreError> {
        let content = self.content();
        let last = content.feed.slice(slice)?.last().map(|place| content.entry(place));
        let end = last.map_or_else(FeedEnd::default, |last| FeedEnd::new(last.last(), Some(last.anchor)));
        Ok(end.with_closed(content.feed.tree.is_closed(slice)))
    }

    async fn indexed(&self, stream: &StreamId) -> Result<Version, StoreError> {
        Ok(self.content().head(stream))
    }

    fn growth(&self) -> BoxFuture<'static, ()> {
        self.content().feed.grown.listen().boxed()
    }
}

impl MemoryStore {
    /// Returns a page of the feed, with the objects to which it refers.
    fn find_feed_page(&self, read: &FeedRead) -> Result<(FeedPage, Vec<Object>), StoreError> {
        let content = self.content();
        let places = content.feed.slice(read.slice)?;
        let entry = |place| content.entry(place);
        let (mut through, mut anchor, mut entries) = (read.after, None, Vec::new());
        let (mut bytes, mut erased) = (0, 0);
        if read.after > Position::NONE {
            let at = places.partition_point(|place| place.last < read.after);
            anchor = Some(verified(read, places, places.get(at).map(entry))?);
        }
        let start = places.partition_point(|place| place.last <= read.after);
        let mut end = start;
        for place in &places[start..] {
            if through.since(read.after) >= u64::from(read.limit) || bytes >= read.max_bytes {
                break;
            }
            let entry = entry(place);
            (through, anchor) = (place.last, Some(entry.anchor));
            erased += read.filter.erased(&entry.stream, &entry.commit);
            if read.filter.takes_any(&entry.stream, &entry.commit) {
                bytes += entry.commit.bytes();
                entries.push(entry);
            }
            end += 1;
        }
        let objects = |entry: &FeedEntry| {
            content.streams[&entry.stream].objects_of(std::slice::from_ref(&entry.commit))
        };
        let objects = entries.iter().flat_map(objects).collect();
        let is_last = end == places.len();
        let is_closed = is_last && content.feed.tree.is_closed(read.slice);
        let page = FeedPage::new(entries, through, anchor, is_last, Cost::read(0.0));
        Ok((page.with_closed(is_closed).with_erased(erased), objects))
    }
}
