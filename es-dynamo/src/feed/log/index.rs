//! The writers of all slices in this process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use es_core::feed::{FeedEnd, Position, Slice, SliceTree, Slices};
use es_core::store::MAX_ITEM_BYTES;
use es_core::{StoreError, StreamId, Version};
use event_listener::Event;
use futures_util::future;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::hint::Hint;
use super::marks::StreamHash;
use super::page::{LogPage, MAX_COMMITS};
use super::settings::Settings;
use super::storage::{PageQuery, Storage, StoredRoot};
use super::summary::part::Scope;
use super::summary::tree::Tree;
use super::summary::{Shape, Sharing};
use super::writer::{Indexed, SharedWriter, Writer};
use crate::table::{Consistency, names};

/// The maximum number of pages that one read of the feed requests.
const MAX_PAGES: u64 = 500;

/// The number of pages that one request reads in search of a stream.
const PAGES_AT_ONCE: u32 = 100;

/// The number of slices that are examined concurrently.
const SLICES_AT_ONCE: usize = 16;

/// The feed of a table, as known to this process.
pub(crate) struct FeedIndex {
    pub(crate) settings: Settings,
    known: Mutex<Known>,
    sharing: Sharing,
    /// Notified when a writer of this process has added events to the feed, or when this process learns of a split.
    grown: Arc<Event>,
}

/// The slices that this process knows.
struct Known {
    /// The splits whose closing pages were read or written by this process. A split is not taken from anywhere else.
    tree: SliceTree,
    slices: HashMap<Slice, Arc<SliceIndex>>,
    /// The splits that are listed in the table, so that all processes find them.
    listed: BTreeSet<Slice>,
}

/// One slice.
pub(crate) struct SliceIndex {
    writer: SharedWriter,
    waiting: Mutex<Waiting>,
    /// The end of the slice as written by this process.
    written: AtomicU64,
    /// The end, once the slice is closed and its end was read.
    final_end: OnceLock<FeedEnd>,
    reading: Mutex<Reading>,
}

/// The hints that the next write indexes.
#[derive(Default)]
struct Waiting {
    tickets: u64,
    batches: Vec<(u64, Vec<Hint>)>,
}

/// The place of a slice on the path of a stream, from the initial slice through its splits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The last slice, as far as this process knows.
    Last,
    /// A closed slice, whose children were searched before.
    Ancestor,
}

/// The result of a search for a stream in a slice.
enum Searched {
    /// The last version of the stream in the slice.
    Found(Version),
    /// The slice has no event of the stream.
    Nothing,
    /// The slice was split, so the stream may continue in a child.
    Moved,
}

impl FeedIndex {
    pub(crate) fn new(settings: Settings, grown: Arc<Event>) -> Self {
        let (tree, sharing) =
            (SliceTree::new(settings.slices), Sharing::between(settings.slices.count().into()));
        let known = Known { tree, slices: HashMap::new(), listed: BTreeSet::new() };
        Self { settings, known: Mutex::new(known), sharing, grown }
    }

    /// Returns the number of initial slices.
    pub(crate) fn slices(&self) -> Slices {
        self.settings.slices
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether this process knows that a slice was split.
    pub(crate) fn is_closed(&self, slice: Slice) -> bool {
        self.known().tree.is_closed(slice)
    }

    /// Returns a slice. Reads the list of splits if this process does not know it.
    pub(crate) async fn slice(
        &self,
        storage: &dyn Storage,
        slice: Slice,
    ) -> Result<Arc<SliceIndex>, StoreError> {
        if !self.known().tree.contains(slice) {
            self.tree(storage).await?.check(slice)?;
        }
        Ok(self.known_slice(slice))
    }

    /// Returns a slice of the known tree.
    fn known_slice(&self, slice: Slice) -> Arc<SliceIndex> {
        self.known().slice(slice, self.settings, &self.sharing)
    }

    /// Returns the slices of the feed: those that are listed in the table and were split according to their logs, and
    /// those that this process knows.
    pub(crate) async fn tree(&self, storage: &dyn Storage) -> Result<SliceTree, StoreError> {
        let listed = storage.splits().await?;
        self.known().listed.clone_from(&listed);
        // A list without one of the parents is incomplete.
        let parents =
            |slice: &Slice| std::iter::successors(Some(*slice), |slice| self.slices().parent(*slice));
        let all: BTreeSet<Slice> = listed.iter().flat_map(parents).collect();
        let unknown: Vec<Slice> = all.into_iter().filter(|slice| !self.is_closed(*slice)).collect();
        let ends = unknown.into_iter().map(|slice| async move {
            let newest = storage
                .pages(slice, PageQuery::Until(names::LAST_POSITION), 1, Consistency::Strong)
                .await?
                .pages
                .pop();
            Ok::<_, StoreError>((slice, newest.filter(LogPage::closes)))
        });
        // In ascending order, so that parents are first.
        let mut ends = stream::iter(ends).buffered(SLICES_AT_ONCE);
        while let Some((slice, closing)) = ends.try_next().await? {
            match closing {
                Some(page) if self.known().tree.contains(slice) => self.note_closed(slice, page.last())?,
                _ => {
                    tracing::warn!(%slice, "a slice is listed as split, but its log continues, so the entry is ignored");
                }
            }
        }
        Ok(self.known().tree.clone())
    }

    /// Records that a slice was split after the event at `end`, according to its log.
    pub(crate) fn note_closed(&self, slice: Slice, end: Position) -> Result<(), StoreError> {
        let mut known = self.known();
        if !known.tree.is_closed(slice) {
            known.tree.close(slice, end)?;
            self.sharing.set(known.tree.iter().count() as u64);
            drop(known);
            self.grown.notify(usize::MAX);
        }
        Ok(())
    }

    /// Lists the splits from which a slice results. They must be listed before its first page is written, so that every
    /// process finds all slices with events.
    async fn list_ancestors(&self, storage: &dyn Storage, slice: Slice) -> Result<(), StoreError> {
        let parent = |slice: &Slice| self.slices().parent(*slice);
        for ancestor in std::iter::successors(parent(&slice), parent) {
            self.list(storage, ancestor).await?;
        }
        Ok(())
    }

    /// Lists a split in the table, unless it is there.
    async fn list(&self, storage: &dyn Storage, slice: Slice) -> Result<(), StoreError> {
        if self.known().listed.contains(&slice) {
            return Ok(());
        }
        let mut listed = storage.splits().await?;
        if listed.insert(slice) {
            storage.put_split(slice).await?;
        }
        self.known().listed.extend(listed);
        Ok(())
    }

    /// Splits a slice, and returns its children. Does nothing if it is split already.
    pub(crate) async fn split(&self, storage: &dyn Storage, slice: Slice) -> Result<[Slice; 2], StoreError> {
        let index = self.slice(storage, slice).await?;
        let children = self.known().tree.checked_children(slice)?;
        self.list_ancestors(storage, slice).await?;
        let end = {
            let mut writer = index.writer.lock().await;
            if !writer.is_closed()
                && let Some(child) = find_pages(storage, children).await?
            {
                // Another process may have split the slice in the meantime.
                writer.catch_up(storage).await?;
                if !writer.is_closed() {
                    return Err(StoreError::invalid(format!(
                        "slice {slice} cannot be split: its future child {child} already has pages, from before the \
                         table was restored; delete the feed and rebuild it with the reconciler, as the book's chapter \
                         \"Backup and restore\" describes"
                    )));
                }
            }
            writer.close(storage).await?;
            writer.end()
        };
        self.note_closed(slice, end)?;
        self.list(storage, slice).await?;
        Ok(children)
    }

    /// Indexes the commits of hints. On success, all of them are in the feed.
    ///
    /// Waits for `linger` before it writes, unless a page is full. Hints that arrive in the meantime, from any task,
    /// are written together.
    pub(crate) async fn submit(
        &self,
        storage: &dyn Storage,
        hints: Vec<Hint>,
        linger: Duration,
    ) -> Result<Indexed, StoreError> {
        let mut indexed = Indexed::default();
        let (mut open, mut linger) = (hints, linger);
        // Each round ends at the open slices that this process knows. If one of them was split, the next round
        // continues in its children.
        while !open.is_empty() {
            let mut slices: BTreeMap<Slice, Vec<Hint>> = BTreeMap::new();
            {
                let known = self.known();
                for hint in open.drain(..) {
                    slices.entry(known.tree.of(hint.stream())).or_default().push(hint);
                }
            }
            let done = slices.into_iter().map(|(slice, hints)| self.submit_to(slice, storage, hints, linger));
            let mut failed = None;
            for outcome in future::join_all(done).await {
                match outcome {
                    Ok(mut found) => {
                        open.append(&mut found.moved);
                        indexed.add(found);
                    }
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
            linger = Duration::ZERO;
        }
        Ok(indexed)
    }

    async fn submit_to(
        &self,
        slice: Slice,
        storage: &dyn Storage,
        hints: Vec<Hint>,
        linger: Duration,
    ) -> Result<Indexed, StoreError> {
        self.list_ancestors(storage, slice).await?;
        let index = self.known_slice(slice);
        let (ticket, waiting) = {
            let mut waiting = index.waiting();
            waiting.tickets += 1;
            let ticket = waiting.tickets;
            waiting.batches.push((ticket, hints.clone()));
            (ticket, waiting.batches.iter().map(|(_, hints)| hints.len()).sum::<usize>())
        };
        if !linger.is_zero() && waiting < MAX_COMMITS {
            tokio::time::sleep(linger).await;
        }
        let mut writer = index.writer.lock().await;
        let batches = std::mem::take(&mut index.waiting().batches);
        // Another task may have taken these hints, and have failed.
        let taken = !batches.iter().any(|(other, _)| *other == ticket);
        let mut all: Vec<Hint> = batches.into_iter().flat_map(|(_, hints)| hints).collect();
        if taken {
            all.extend(hints);
        }
        let before = writer.end();
        let outcome = writer.index(storage, all).await;
        let (end, is_closed) = (writer.end(), writer.is_closed());
        drop(writer);
        if end > before {
            index.written.fetch_max(end.get(), Ordering::Relaxed);
            self.grown.notify(usize::MAX);
        }
        if is_closed {
            self.note_closed(slice, end)?;
        }
        outcome
    }

    /// Returns the position of the last event of a slice.
    pub(crate) async fn end(&self, storage: &dyn Storage, slice: Slice) -> Result<FeedEnd, StoreError> {
        let index = self.slice(storage, slice).await?;
        if let Some(end) = index.final_end.get() {
            return Ok(*end);
        }
        let newest = async |until| {
            let mut found = storage.pages(slice, PageQuery::Until(until), 1, Consistency::Strong).await?;
            Ok::<_, StoreError>(found.pages.pop())
        };
        let end_of = |last: Option<LogPage>| {
            last.map_or_else(FeedEnd::default, |page| FeedEnd::new(page.last(), Some(page.anchor())))
        };
        let mut last = newest(names::LAST_POSITION).await?;
        let Some(closing) = last.take_if(|page| page.closes()) else { return Ok(end_of(last)) };
        self.note_closed(slice, closing.last())?;
        let end = end_of(newest(closing.last()).await?).with_closed(true);
        Ok(*index.final_end.get_or_init(|| end))
    }

    /// Returns the version up to which a stream is in the feed.
    pub(crate) async fn indexed(
        &self,
        storage: &dyn Storage,
        stream: &StreamId,
    ) -> Result<Version, StoreError> {
        loop {
            let path: Vec<Slice> = self.known().tree.path(stream).collect();
            let slice = path.last().copied().unwrap_or_else(|| self.slices().of(stream));
            {
                let index = self.known_slice(slice);
                let mut writer = index.writer.lock().await;
                if writer.is_loaded() {
                    writer.catch_up(storage).await?;
                    if !writer.is_closed() {
                        return Ok(writer.mark(storage, stream).await?.version);
                    }
                    self.note_closed(slice, writer.end())?;
                    continue;
                }
            }
            match self.search(storage, slice, stream, Place::Last).await? {
                Searched::Found(version) => return Ok(version),
                Searched::Moved => continue,
                Searched::Nothing => {}
            }
            // The closed slices of the path, from the last one.
            for slice in path.into_iter().rev().skip(1) {
                if let Searched::Found(version) = self.search(storage, slice, stream, Place::Ancestor).await?
                {
                    return Ok(version);
                }
            }
            return Ok(Version::NONE);
        }
    }

    /// Searches for a stream in the newest pages of a slice, and then in the summary of all earlier pages.
    async fn search(
        &self,
        storage: &dyn Storage,
        slice: Slice,
        stream: &StreamId,
        place: Place,
    ) -> Result<Searched, StoreError> {
        let scope = Scope { slice, key: self.settings.hash_key, shape: Shape::USED };
        let mut root = match storage.root(&scope).await? {
            StoredRoot::Root(root) => Some(root),
            StoredRoot::None | StoredRoot::Damaged => None,
        };
        let mut until = names::LAST_POSITION;
        let mut limit = 1;
        loop {
            let found = storage.pages(slice, PageQuery::Until(until), limit, Consistency::Strong).await?;
            for page in &found.pages {
                if page.closes() && place == Place::Last {
                    self.note_closed(slice, page.last())?;
                    return Ok(Searched::Moved);
                }
                if let Some(root) = root.take_if(|root| (root.through, root.page) == (page.last(), page.id)) {
                    let hash = StreamHash::of(&self.settings.hash_key, stream);
                    let marks = Tree::at(scope, root).marks(storage, &[hash]).await?;
                    if let Some(marks) = marks {
                        return Ok(marks
                            .get(&hash)
                            .map_or(Searched::Nothing, |mark| Searched::found(mark.version)));
                    }
                    // A part was replaced in the meantime, or is damaged, so the search continues in the pages.
                }
                let last = page.references.iter().rev().find(|reference| reference.stream == *stream);
                if let Some(last) = last {
                    return Ok(Searched::Found(last.last));
                }
                until = page.first.previous();
            }
            if !found.more || until == Position::NONE {
                return Ok(Searched::Nothing);
            }
            limit = (limit * 4).min(PAGES_AT_ONCE);
        }
    }
}

/// Returns the first of these slices that has pages.
pub(crate) async fn find_pages(
    storage: &dyn Storage,
    slices: impl IntoIterator<Item = Slice>,
) -> Result<Option<Slice>, StoreError> {
    for slice in slices {
        let query = PageQuery::After(Position::NONE);
        if !storage.pages(slice, query, 1, Consistency::Strong).await?.pages.is_empty() {
            return Ok(Some(slice));
        }
    }
    Ok(None)
}

impl Searched {
    fn found(version: Version) -> Self {
        if version.is_none() { Self::Nothing } else { Self::Found(version) }
    }
}

impl Known {
    fn slice(&mut self, slice: Slice, settings: Settings, sharing: &Sharing) -> Arc<SliceIndex> {
        if let Some(found) = self.slices.get(&slice) {
            return Arc::clone(found);
        }
        let parent = self.tree.parent(slice);
        let parent = parent.map(|parent| Arc::clone(&self.slice(parent, settings, sharing).writer));
        let writer = Writer::new(slice, settings, sharing.clone(), parent);
        let index = Arc::new(SliceIndex {
            writer: Arc::new(tokio::sync::Mutex::new(writer)),
            waiting: Mutex::default(),
            written: AtomicU64::new(0),
            final_end: OnceLock::new(),
            reading: Mutex::default(),
        });
        self.slices.insert(slice, Arc::clone(&index));
        index
    }
}

impl SliceIndex {
    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
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
