//! The writers of all slices in this process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use es_core::feed::{FeedEnd, Position, Slice, Slices};
use es_core::store::MAX_ITEM_BYTES;
use es_core::{StoreError, StreamId, Version};
use event_listener::Event;
use futures_util::future;

use super::hint::Hint;
use super::marks::StreamHash;
use super::page::{LogPage, MAX_COMMITS};
use super::settings::Settings;
use super::storage::{PageQuery, Storage, StoredRoot};
use super::summary::Shape;
use super::summary::part::Scope;
use super::summary::tree::Tree;
use super::writer::{Indexed, Writer};

/// The maximum number of pages that one read of the feed requests.
const MAX_PAGES: u64 = 500;

/// The number of pages that one request reads in search of a stream.
const PAGES_AT_ONCE: u32 = 100;

/// The feed of a table, as known to this process.
pub(crate) struct FeedIndex {
    pub(crate) settings: Settings,
    slices: Vec<SliceIndex>,
    /// Notified when a writer of this process has added events to the feed.
    grown: Arc<Event>,
}

/// One slice.
pub(crate) struct SliceIndex {
    writer: tokio::sync::Mutex<Writer>,
    waiting: Mutex<Waiting>,
    /// The end of the slice as written by this process.
    written: AtomicU64,
    reading: Mutex<Reading>,
}

/// The hints that the next write indexes.
#[derive(Default)]
struct Waiting {
    tickets: u64,
    batches: Vec<(u64, Vec<Hint>)>,
}

impl FeedIndex {
    pub(crate) fn new(settings: Settings, grown: Arc<Event>) -> Self {
        let slice = |slice| SliceIndex {
            writer: tokio::sync::Mutex::new(Writer::new(slice, settings)),
            waiting: Mutex::default(),
            written: AtomicU64::new(0),
            reading: Mutex::default(),
        };
        Self { settings, slices: settings.slices.iter().map(slice).collect(), grown }
    }

    pub(crate) fn slices(&self) -> Slices {
        self.settings.slices
    }

    pub(crate) fn slice(&self, slice: Slice) -> Result<&SliceIndex, StoreError> {
        self.slices.get(slice.get() as usize).ok_or_else(|| {
            let count = self.slices().count();
            StoreError::invalid(format!("the feed has {count} slices, and no slice {slice}"))
        })
    }

    /// Indexes the commits of hints. On success, all of them are in the feed.
    ///
    /// Waits for `linger` before it writes, unless a page is full. Hints that arrive in the meantime, from any task, are
    /// written together.
    pub(crate) async fn submit(
        &self,
        storage: &dyn Storage,
        hints: Vec<Hint>,
        linger: Duration,
    ) -> Result<Indexed, StoreError> {
        let mut slices: Vec<Vec<Hint>> = self.slices.iter().map(|_| Vec::new()).collect();
        for hint in hints {
            slices[self.slices().of(hint.stream()).get() as usize].push(hint);
        }
        let busy = self.slices.iter().zip(slices).filter(|(_, hints)| !hints.is_empty());
        let done = future::join_all(busy.map(|(slice, hints)| self.submit_to(slice, storage, hints, linger)));
        let mut indexed = Indexed::default();
        let mut failed = None;
        for outcome in done.await {
            match outcome {
                Ok(found) => indexed.add(found),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(indexed), Err)
    }

    async fn submit_to(
        &self,
        slice: &SliceIndex,
        storage: &dyn Storage,
        hints: Vec<Hint>,
        linger: Duration,
    ) -> Result<Indexed, StoreError> {
        let (ticket, waiting) = {
            let mut waiting = slice.waiting();
            waiting.tickets += 1;
            let ticket = waiting.tickets;
            waiting.batches.push((ticket, hints.clone()));
            (ticket, waiting.batches.iter().map(|(_, hints)| hints.len()).sum::<usize>())
        };
        if !linger.is_zero() && waiting < MAX_COMMITS {
            tokio::time::sleep(linger).await;
        }
        let mut writer = slice.writer.lock().await;
        let batches = std::mem::take(&mut slice.waiting().batches);
        // Another task may have taken these hints, and have failed.
        let taken = !batches.iter().any(|(other, _)| *other == ticket);
        let mut all: Vec<Hint> = batches.into_iter().flat_map(|(_, hints)| hints).collect();
        if taken {
            all.extend(hints);
        }
        let before = writer.end();
        let outcome = writer.index(storage, all).await;
        let end = writer.end();
        drop(writer);
        if end > before {
            slice.written.fetch_max(end.get(), Ordering::Relaxed);
            self.grown.notify(usize::MAX);
        }
        outcome
    }

    /// Returns the position of the last event of a slice.
    pub(crate) async fn end(&self, storage: &dyn Storage, slice: Slice) -> Result<FeedEnd, StoreError> {
        self.slice(slice)?;
        let last = PageQuery::Until(crate::table::names::LAST_POSITION);
        let newest = storage.pages(slice, last, 1, false).await?.pages.pop();
        Ok(newest.map_or_else(FeedEnd::default, |page| FeedEnd::new(page.last(), Some(page.anchor()))))
    }

    /// Returns the version up to which a stream is in the feed.
    pub(crate) async fn indexed(
        &self,
        storage: &dyn Storage,
        stream: &StreamId,
    ) -> Result<Version, StoreError> {
        let slice = self.slices().of(stream);
        {
            let mut writer = self.slice(slice)?.writer.lock().await;
            if writer.is_loaded() {
                writer.catch_up(storage).await?;
                return Ok(writer.mark(storage, stream).await?.version);
            }
        }
        self.search(storage, slice, stream).await
    }

    /// Searches for a stream in the newest pages, and then in the summary of all earlier pages.
    async fn search(
        &self,
        storage: &dyn Storage,
        slice: Slice,
        stream: &StreamId,
    ) -> Result<Version, StoreError> {
        let scope = Scope { slice, key: self.settings.hash_key, shape: Shape::USED };
        let mut root = match storage.root(&scope).await? {
            StoredRoot::Root(root) => Some(root),
            StoredRoot::None | StoredRoot::Damaged => None,
        };
        let mut until = crate::table::names::LAST_POSITION;
        let mut limit = 1;
        loop {
            let found = storage.pages(slice, PageQuery::Until(until), limit, false).await?;
            for page in &found.pages {
                if let Some(root) = root.take_if(|root| (root.through, root.page) == (page.last(), page.id)) {
                    let hash = StreamHash::of(&self.settings.hash_key, stream);
                    let marks = Tree::at(scope, root).marks(storage, &[hash]).await?;
                    if let Some(marks) = marks {
                        return Ok(marks.get(&hash).copied().unwrap_or_default().version);
                    }
                    // A part was replaced in the meantime, or is damaged, so the search continues in the pages.
                }
                let last = page.references.iter().rev().find(|reference| reference.stream == *stream);
                if let Some(last) = last {
                    return Ok(last.last);
                }
                until = page.first.previous();
            }
            if !found.more || until == Position::NONE {
                return Ok(Version::NONE);
            }
            limit = (limit * 4).min(PAGES_AT_ONCE);
        }
    }
}

impl SliceIndex {
    fn reading(&self) -> std::sync::MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SliceIndex {
    /// Returns whether the slice has events after `position`, as far as this process has written them.
    pub(crate) fn has_after(&self, position: Position) -> bool {
        self.written.load(Ordering::Relaxed) > position.get()
    }

    /// Estimates how many pages contain `limit` events, from the pages that were read last.
    pub(crate) fn pages_for(&self, limit: u32) -> u32 {
        let events = self.reading().events_a_page.max(1);
        (u64::from(limit) / events + 1).min(MAX_PAGES) as u32
    }

    /// Estimates how many commits have `bytes` bytes, from the commits that were read last.
    pub(crate) fn commits_for(&self, bytes: u64) -> usize {
        let commits = bytes / self.reading().bytes_a_commit.max(1);
        usize::try_from(commits).unwrap_or(usize::MAX).max(1)
    }

    pub(crate) fn note_commits(&self, commits: usize, bytes: u64) {
        self.reading().bytes_a_commit = bytes / commits as u64;
    }

    pub(crate) fn note_pages(&self, pages: &[LogPage]) {
        if let (Some(first), Some(last)) = (pages.first(), pages.last()) {
            let events = last.last().since(first.first) + 1;
            self.reading().events_a_page = events / pages.len() as u64;
        }
    }
}

/// Averages of recent reads of a slice.
pub(crate) struct Reading {
    events_a_page: u64,
    /// The maximum size of an item until commits have been read.
    bytes_a_commit: u64,
}

impl Default for Reading {
    fn default() -> Self {
        Self { events_a_page: 0, bytes_a_commit: MAX_ITEM_BYTES }
    }
}
