//! The writer of a slice, whose state is the fold of the log.

use std::collections::{HashMap, HashSet, VecDeque};

use es_core::feed::{Position, Slice};
use es_core::{StoreError, StreamId, Version, error_text};
use uuid::Uuid;

use super::hint::Hint;
use super::marks::{Mark, StreamHash, Watermarks};
use super::page::{LogPage, damaged};
use super::reference::Reference;
use super::settings::Settings;
use super::storage::{PageQuery, PutPage, Storage};
use super::summary;
use super::summary::{Manifest, estimated_bytes};
use crate::table::item_size;

/// How many pages are read at once.
const PAGES_AT_ONCE: u32 = 500;

/// How many commits of a gap are read at once.
const GAP_AT_ONCE: usize = 1_000;

/// How many bytes of pages there are at least before the watermarks are summed up. Few in tests, where logs are
/// short.
const SMALLEST_SUMMARY: u64 = if cfg!(test) { 1024 } else { 64 * 1024 };

/// How many marks are remembered whose commits were found in the table.
const MOST_VERIFIED: usize = 10_000;

/// The result of indexing hints.
#[derive(Debug, Default)]
pub(crate) struct Indexed {
    /// Events that are in the feed now and were not before.
    pub(crate) events: u64,
    /// Pages that were written for them.
    pub(crate) pages: u64,
    /// Hints at commits that are not in the table.
    pub(crate) unfounded: u64,
    /// Streams that cannot be read, and so are not indexed any further.
    pub(crate) damaged: Vec<(StreamId, StoreError)>,
    /// Streams of which the table has other commits than the feed, and so are not indexed any further.
    pub(crate) contradicting: Vec<(StreamId, StoreError)>,
}

impl Indexed {
    pub(crate) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.pages += other.pages;
        self.unfounded += other.unfounded;
        self.damaged.extend(other.damaged);
        self.contradicting.extend(other.contradicting);
    }

    /// Logs the streams that are not indexed any further.
    pub(crate) fn log(&self) {
        for (stream, error) in self.damaged.iter().chain(&self.contradicting) {
            tracing::error!(%stream, error = error_text(error), "a stream cannot be indexed any further");
        }
    }
}

/// The writer of one slice.
///
/// A writer that appends a page has folded all pages before it: the page's place is the end of that fold, and the write
/// fails if the place is taken. So every event is indexed once and in order, however many writers there are, and whatever
/// hints they have.
#[derive(Debug)]
pub(crate) struct Writer {
    slice: Slice,
    settings: Settings,
    end: Position,
    /// The id of the page that ends there.
    last_page: Uuid,
    marks: Watermarks,
    /// Whether the log was read up to `end`.
    loaded: bool,
    /// How many bytes of pages were folded since the last summary.
    unsummed: u64,
    /// Marks whose commits were found in the table, so that they need not be looked for again.
    verified: HashMap<StreamHash, Mark>,
}

impl Writer {
    pub(crate) fn new(slice: Slice, settings: Settings) -> Self {
        let (end, last_page, marks) = (Position::NONE, Uuid::nil(), Watermarks::default());
        Self { slice, settings, end, last_page, marks, loaded: false, unsummed: 0, verified: HashMap::new() }
    }

    fn hash(&self, stream: &StreamId) -> StreamHash {
        StreamHash::of(&self.settings.hash_key, stream)
    }

    /// Whether the writer knows the log, if not its latest pages.
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// The position of the last event that the writer knows of.
    pub(crate) fn end(&self) -> Position {
        self.end
    }

    /// How far a stream is in the log, so far as the writer knows.
    pub(crate) fn mark(&self, stream: &StreamId) -> Mark {
        self.marks.get(self.hash(stream))
    }

    #[cfg(test)]
    pub(crate) fn marks(&self) -> &Watermarks {
        &self.marks
    }

    /// Indexes the commits at which `hints` hint, and those before them in their streams.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the log cannot be read or written. What a stream has to do with it is told apart.
    pub(crate) async fn index(
        &mut self,
        storage: &dyn Storage,
        hints: Vec<Hint>,
    ) -> Result<Indexed, StoreError> {
        if !self.loaded {
            self.catch_up(storage).await?;
        }
        let mut indexed = Indexed::default();
        let mut open = in_order(hints);
        loop {
            let mut wanted = self.wanted(storage, &mut open, &mut indexed).await?;
            if wanted.is_empty() {
                return Ok(indexed);
            }
            while !wanted.is_empty() {
                let (slices, first) = (self.settings.slices, self.end.next());
                let page = LogPage::filled(self.slice, slices, first, wanted.make_contiguous());
                match storage.put_page(&page).await? {
                    PutPage::Written => {
                        wanted.drain(..page.references.len());
                        self.fold(&page)?;
                        indexed.pages += 1;
                        indexed.events += page.last().since(page.first) + 1;
                        self.sum_up(storage).await;
                    }
                    PutPage::Taken => {
                        // Another writer was faster, so the remaining work has changed.
                        self.catch_up(storage).await?;
                        break;
                    }
                }
            }
        }
    }

    /// Returns the commits that the log lacks, and removes hints that are done.
    async fn wanted(
        &mut self,
        storage: &dyn Storage,
        open: &mut Vec<Hint>,
        indexed: &mut Indexed,
    ) -> Result<VecDeque<Reference>, StoreError> {
        let mut wanted = VecDeque::new();
        let mut ahead: HashMap<StreamId, Version> = HashMap::new();
        let mut kept = Vec::with_capacity(open.len());
        let highest = highest(open);
        let mut given_up = HashSet::new();
        for hint in open.drain(..) {
            let stream = hint.stream();
            if given_up.contains(stream) {
                continue;
            }
            let known = self.mark(stream);
            let mark = ahead.get(stream).copied().unwrap_or(known.version);
            if hint.last() <= mark && ahead.contains_key(stream) {
                kept.push(hint);
                continue;
            }
            if !ahead.contains_key(stream) {
                let is_highest = highest.get(stream) == Some(&hint.last());
                match self.contradiction(storage, &hint, known, is_highest).await {
                    Ok(None) => {}
                    Ok(Some(error)) => {
                        given_up.insert(stream.clone());
                        indexed.contradicting.push((stream.clone(), error));
                        continue;
                    }
                    Err(error @ StoreError::Corrupt { .. }) => {
                        given_up.insert(stream.clone());
                        indexed.damaged.push((stream.clone(), error));
                        continue;
                    }
                    Err(error) => return Err(error),
                }
                if hint.last() <= mark {
                    continue;
                }
            }
            match &hint {
                Hint::Commit(reference) if reference.first == mark.next() => {
                    ahead.insert(stream.clone(), reference.last);
                    wanted.push_back(reference.clone());
                }
                // The hint is not at what comes next: the table tells what does.
                _ => match storage.commits(stream, mark, hint.last(), GAP_AT_ONCE).await {
                    Ok(commits) if commits.is_empty() => {
                        if hint.last() < Version::MAX {
                            indexed.unfounded += 1;
                        }
                        continue;
                    }
                    Ok(commits) => {
                        if let Some(last) = commits.last() {
                            ahead.insert(stream.clone(), last.last);
                        }
                        wanted.extend(commits);
                    }
                    Err(error @ StoreError::Corrupt { .. }) => {
                        given_up.insert(stream.clone());
                        indexed.damaged.push((stream.clone(), error));
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            }
            kept.push(hint);
        }
        *open = kept;
        Ok(wanted)
    }

    /// In what the table contradicts the log about a stream, so far as a hint tells: the log has been written by a
    /// table that was restored since, or the stream was deleted and begins again.
    ///
    /// A hint at the last commit in the log has to have its id. One at an earlier commit is as a rule a repetition, for
    /// which the last commit is looked for in the table once.
    async fn contradiction(
        &mut self,
        storage: &dyn Storage,
        hint: &Hint,
        mark: Mark,
        is_highest: bool,
    ) -> Result<Option<StoreError>, StoreError> {
        let Some(reference) = hint.commit() else { return Ok(None) };
        let stream = &reference.stream;
        let contradiction = |found: &str| {
            let reason = format!(
                "the feed has it up to version {}, the last event of the commit whose id ends with {}, but the table has \
                 {found}: the stream was deleted, or the table restored; restore the commits, or index the stream in a \
                 new table",
                mark.version, mark.tag
            );
            Ok(Some(StoreError::corrupt(stream, reason)))
        };
        if reference.first > mark.version {
            return Ok(None);
        }
        if reference.last > mark.version || (reference.last == mark.version && reference.tag != mark.tag) {
            let Reference { first, last, tag, .. } = reference;
            return contradiction(&format!("another commit there, {tag} of the events {first} to {last}"));
        }
        let hash = self.hash(stream);
        if reference.last == mark.version || !is_highest || self.verified.get(&hash) == Some(&mark) {
            return Ok(None);
        }
        match storage.commit_until(stream, mark.version).await? {
            Some(found) if found == mark => {
                if self.verified.len() >= MOST_VERIFIED {
                    self.verified.clear();
                }
                self.verified.insert(hash, mark);
                Ok(None)
            }
            Some(Mark { version, tag }) => {
                contradiction(&format!("there the commit {tag} that ends at version {version}"))
            }
            None => contradiction("no event of it there"),
        }
    }

    /// Reads what the log has that the writer does not know.
    pub(crate) async fn catch_up(&mut self, storage: &dyn Storage) -> Result<(), StoreError> {
        if !self.loaded
            && let Some((manifest, marks)) = self.summary(storage).await?
        {
            (self.end, self.last_page, self.marks) = (manifest.through, manifest.page, marks);
        }
        loop {
            let found = storage.pages(self.slice, PageQuery::After(self.end), PAGES_AT_ONCE, false).await?;
            for page in &found.pages {
                self.fold(page)?;
            }
            if !found.more {
                self.loaded = true;
                return Ok(());
            }
        }
    }

    /// Takes the next page of the log.
    fn fold(&mut self, page: &LogPage) -> Result<(), StoreError> {
        if page.first != self.end.next() {
            let reason = format!("it does not follow the page before it, which ends at {}", self.end);
            return Err(damaged(self.slice, page.first, reason));
        }
        for reference in &page.references {
            let stream = self.hash(&reference.stream);
            if reference.first != self.marks.get(stream).version.next() {
                let reason = format!(
                    "of the stream `{}`, version {} follows version {}",
                    reference.stream,
                    reference.first,
                    self.marks.get(stream).version
                );
                // The page was folded in part, so the fold cannot be used.
                (self.end, self.marks, self.loaded) = (Position::NONE, Watermarks::default(), false);
                return Err(damaged(self.slice, page.first, reason));
            }
            self.marks.set(stream, Mark { version: reference.last, tag: reference.tag });
        }
        (self.end, self.last_page) = (page.last(), page.id);
        self.unsummed += item_size(&page.to_item());
        Ok(())
    }

    /// The newest summary, if there is one that can be used.
    async fn summary(&self, storage: &dyn Storage) -> Result<Option<(Manifest, Watermarks)>, StoreError> {
        let Some(manifest) = storage.manifest(self.slice).await? else { return Ok(None) };
        let mut marks = Watermarks::default();
        for index in 0..manifest.chunks {
            let bytes = storage.chunk(self.slice, manifest, index).await?;
            let key = &self.settings.hash_key;
            let entries = bytes.and_then(|bytes| summary::decode(self.slice, key, manifest, index, &bytes));
            let Some(entries) = entries else {
                tracing::warn!(slice = %self.slice, "the summary of the feed is damaged: the log is read");
                return Ok(None);
            };
            marks.extend(entries);
        }
        // A summary of a log that does not reach so far, or of another one, in a table that was restored perhaps, is of
        // no use.
        let last = storage.pages(self.slice, PageQuery::Until(manifest.through), 1, false).await?.pages.pop();
        let reaches = last.is_some_and(|page| (page.last(), page.id) == (manifest.through, manifest.page));
        Ok(reaches.then_some((manifest, marks)))
    }

    /// Writes a summary when it is due. A failure is harmless, because the summary is a cache.
    async fn sum_up(&mut self, storage: &dyn Storage) {
        if self.unsummed < SMALLEST_SUMMARY.max(2 * estimated_bytes(&self.marks)) {
            return;
        }
        // In any case, not again immediately.
        self.unsummed = 0;
        if let Err(error) = self.write_summary(storage).await {
            tracing::warn!(slice = %self.slice, %error, "the watermarks of the feed could not be summed up");
        }
    }

    async fn write_summary(&self, storage: &dyn Storage) -> Result<(), StoreError> {
        let manifest = Manifest::of(self.end, self.last_page, &self.marks);
        let chunks = summary::encode(self.slice, &self.settings.hash_key, manifest, &self.marks);
        for (index, chunk) in (0..).zip(chunks) {
            storage.put_chunk(self.slice, manifest, index, chunk).await?;
        }
        storage.publish(self.slice, manifest).await
    }
}

/// The hints, with those of each stream in the order of their versions, in the places that they have together.
fn in_order(hints: Vec<Hint>) -> Vec<Hint> {
    let mut streams: HashMap<StreamId, Vec<Hint>> = HashMap::new();
    let places: Vec<StreamId> = hints.iter().map(|hint| hint.stream().clone()).collect();
    for hint in hints {
        streams.entry(hint.stream().clone()).or_default().push(hint);
    }
    for hints in streams.values_mut() {
        // The first one is taken from the end.
        hints.sort_by_key(|hint| std::cmp::Reverse(hint.last()));
    }
    places.iter().filter_map(|stream| streams.get_mut(stream)?.pop()).collect()
}

/// The highest version at which the hints of each stream hint.
fn highest(hints: &[Hint]) -> HashMap<StreamId, Version> {
    let mut highest: HashMap<StreamId, Version> = HashMap::new();
    for hint in hints {
        let version = highest.entry(hint.stream().clone()).or_default();
        *version = hint.last().max(*version);
    }
    highest
}
