//! The writer of a slice. Its state is the fold of the log.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use es_core::feed::{Position, Slice};
use es_core::{StoreError, StreamId, Version, error_text};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::hint::Hint;
use super::marks::{Mark, StreamHash};
use super::page::{LogPage, damaged};
use super::reference::Reference;
use super::settings::Settings;
use super::storage::{PageQuery, PutPage, Storage, StoredRoot};
use super::summary::job::Unfinished;
use super::summary::node::Root;
use super::summary::part::Scope;
use super::summary::tree::Tree;
use super::summary::{Shape, Sharing};
use crate::table::{Consistency, item_size};

/// How many pages one request reads.
const PAGES_AT_ONCE: u32 = 500;

/// How many missing commits of a stream are read at once.
const GAP_AT_ONCE: usize = 1_000;

/// How often the summary may be replaced during a lookup.
const MAX_LOOKUPS: usize = 5;

/// How often a slice is closed at its new end after another writer has taken the position.
const MAX_CLOSES: usize = 100;

/// The maximum number of verified watermarks that are remembered.
const MAX_VERIFIED: usize = 50_000;

/// The result of indexing hints.
#[derive(Debug, Default)]
pub(crate) struct Indexed {
    /// The number of events that were added to the feed.
    pub(crate) events: u64,
    /// The number of pages that were written for them.
    pub(crate) pages: u64,
    /// The number of hints at commits that are not in the table.
    pub(crate) unfounded: u64,
    /// Streams that cannot be decoded, and are not indexed any further.
    pub(crate) damaged: Vec<(StreamId, StoreError)>,
    /// Streams whose commits in the table differ from those in the feed, and which are not indexed any further.
    pub(crate) contradicting: Vec<(StreamId, StoreError)>,
    /// Hints that were not indexed because the slice is closed. They belong to its children.
    pub(crate) moved: Vec<Hint>,
}

impl Indexed {
    pub(crate) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.pages += other.pages;
        self.unfounded += other.unfounded;
        self.damaged.extend(other.damaged);
        self.contradicting.extend(other.contradicting);
        self.moved.extend(other.moved);
    }

    /// Returns whether all commits of the hints are in the feed.
    #[cfg(feature = "indexer")]
    pub(crate) fn is_complete(&self) -> bool {
        self.unfounded == 0 && self.damaged.is_empty() && self.contradicting.is_empty()
    }

    /// Logs the streams that are no longer indexed, except for those that are known already.
    pub(crate) fn log(&self, is_known: impl Fn(&StreamId) -> bool) {
        let unknown = self.damaged.iter().chain(&self.contradicting).filter(|(stream, _)| !is_known(stream));
        for (stream, error) in unknown {
            tracing::error!(%stream, error = error_text(error), "a stream is no longer indexed");
        }
    }
}

/// The writer of one slice.
///
/// A writer that appends a page has folded all pages before it: the position of the page is the end of that fold, and
/// the write fails if the position is taken. Therefore, every event is indexed once and in order, regardless of the
/// number of writers and of the quality of their hints.
///
/// # Splits
///
/// A split is a page that closes the slice. It takes the next position, like any other page, so all writers agree on
/// the last event of the slice. The writer of a child starts only after it has folded the closing page of the parent,
/// whose watermarks can no longer change. It looks a stream up in the child first, and then in the parent.
#[derive(Debug)]
pub(crate) struct Writer {
    slice: Slice,
    settings: Settings,
    /// The writer of the slice that was split into this one and another one.
    parent: Option<SharedWriter>,
    end: Position,
    /// The id of the page that ends at `end`.
    last_page: Uuid,
    tree: Tree,
    /// Whether the fold has started, at the beginning of the log or at a summary.
    started: bool,
    /// Whether the log was read up to `end`.
    loaded: bool,
    /// Whether the log was read to the page that closes the slice.
    closed: bool,
    /// The size in bytes of the pages that were folded since the last summary.
    unsummarized: u64,
    /// The number of changed watermarks, and the size of the pages, at which the next summary is written.
    due: (usize, u64),
    /// The summary that was found to be damaged.
    damaged: Option<Uuid>,
    /// Watermarks whose commits were in the table when they were verified.
    verified: HashMap<StreamHash, Verified>,
}

/// A writer that the writers of its children use as well. A task that holds the lock of a child may take that of the
/// parent, never the reverse.
pub(crate) type SharedWriter = Arc<Mutex<Writer>>;

/// The commits of hints that are missing from the log.
#[derive(Default)]
struct Wanted {
    commits: VecDeque<Reference>,
    /// The version up to which `commits` contains those of each stream.
    ends: HashMap<StreamId, Version>,
}

/// What is known about the stream of a hint.
#[derive(Clone, Copy)]
struct Hinted {
    mark: Mark,
    /// The highest version in the hints of the stream.
    highest: Version,
}

/// The result of following a hint.
enum Followed {
    /// Its commits, or the next ones before them, are wanted. The hint is needed until they are in the log.
    Wanted,
    /// Its commits are in the log.
    Done,
    /// Its commit is not in the table.
    Unfounded,
    /// The stream differs from the log.
    Contradicting(StoreError),
}

/// A watermark whose commit was in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verified {
    /// When its page was written, after this process had read the log.
    Indexed(Mark),
    /// When it was read, after it had been indexed.
    Read(Mark),
}

impl Writer {
    /// Returns the writer of an initial slice, or of a child of the slice of `parent`.
    pub(crate) fn new(
        slice: Slice,
        settings: Settings,
        sharing: Sharing,
        parent: Option<SharedWriter>,
    ) -> Self {
        let mut writer = Self::with_shape(slice, settings, Shape::USED);
        writer.tree = Tree::new(*writer.tree.scope()).sharing(sharing).inherits(parent.is_some());
        Self { parent, ..writer }
    }

    /// Returns the writer of an initial slice that shares its memory with no other.
    pub(crate) fn with_shape(slice: Slice, settings: Settings, shape: Shape) -> Self {
        let scope = Scope { slice, key: settings.hash_key, shape };
        Self {
            slice,
            settings,
            parent: None,
            end: Position::NONE,
            last_page: Uuid::nil(),
            tree: Tree::new(scope),
            started: false,
            loaded: false,
            closed: false,
            unsummarized: 0,
            due: (shape.run, shape.run_bytes),
            damaged: None,
            verified: HashMap::new(),
        }
    }

    /// Uses the cache of another tree.
    #[cfg(test)]
    pub(crate) fn warm(&mut self, tree: Tree) {
        self.tree.take_cache(tree);
    }

    #[cfg(test)]
    pub(crate) fn into_tree(self) -> Tree {
        self.tree
    }

    fn hash(&self, stream: &StreamId) -> StreamHash {
        StreamHash::of(&self.settings.hash_key, stream)
    }

    /// Returns whether the writer has read the log, except for its latest pages.
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Returns whether the slice is closed, as far as the writer has read the log.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns the position of the last event that the writer has read or written.
    pub(crate) fn end(&self) -> Position {
        self.end
    }

    /// Returns the watermark of a stream.
    pub(crate) async fn mark(
        &mut self,
        storage: &dyn Storage,
        stream: &StreamId,
    ) -> Result<Mark, StoreError> {
        let hash = self.hash(stream);
        let marks = self.marks(storage, &[hash]).await?;
        Ok(marks.get(&hash).copied().unwrap_or_default())
    }

    /// Returns the watermarks of streams, except those without any. Reads the log first, if it has not been read.
    async fn marks(
        &mut self,
        storage: &dyn Storage,
        hashes: &[StreamHash],
    ) -> Result<BTreeMap<StreamHash, Mark>, StoreError> {
        for _ in 0..MAX_LOOKUPS {
            if !self.loaded {
                self.catch_up(storage).await?;
            }
            if let Some(mut marks) = self.tree.marks(storage, hashes).await? {
                if let Some(parent) = &self.parent {
                    let unknown = |hash: &&StreamHash| !marks.contains_key(hash);
                    let others: Vec<_> = hashes.iter().filter(unknown).copied().collect();
                    if !others.is_empty() {
                        let inherited = Box::pin(parent.lock().await.marks(storage, &others)).await?;
                        self.tree.inherit(&inherited);
                        marks.extend(inherited);
                    }
                }
                return Ok(marks);
            }
            self.recover(storage).await?;
        }
        Err(StoreError::unavailable(
            "the summary of the feed was replaced repeatedly while it was being read",
        ))
    }

    /// Indexes the commits of hints, and all earlier commits of their streams, unless the slice is closed.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the log cannot be read or written. Errors of individual streams are part of the result.
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
        while !self.closed {
            let mut wanted = self.wanted(storage, &mut open, &mut indexed).await?;
            if wanted.is_empty() {
                return Ok(indexed);
            }
            while !wanted.is_empty() && !self.closed {
                let (slices, first) = (self.settings.slices, self.end.next());
                let page = LogPage::filled(self.slice, slices, first, wanted.make_contiguous());
                match storage.put_page(&page).await? {
                    PutPage::Written => {
                        wanted.drain(..page.references.len());
                        self.fold(&page)?;
                        indexed.pages += 1;
                        indexed.events += page.last().since(page.first) + 1;
                        self.summarize(storage).await?;
                        if !self.loaded {
                            break;
                        }
                    }
                    PutPage::Taken => {
                        // Another writer was faster, so the remaining work has changed.
                        self.catch_up(storage).await?;
                        break;
                    }
                }
            }
        }
        indexed.moved = open;
        Ok(indexed)
    }

    /// Closes the slice after its last event, unless it is closed already.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the log cannot be read or written, or if other writers are faster all the time. The slice may
    /// be closed nevertheless.
    pub(crate) async fn close(&mut self, storage: &dyn Storage) -> Result<(), StoreError> {
        for _ in 0..MAX_CLOSES {
            self.catch_up(storage).await?;
            if self.closed {
                return Ok(());
            }
            let page = LogPage::closing(self.slice, self.settings.slices, self.end.next());
            if let PutPage::Written = storage.put_page(&page).await? {
                self.fold(&page)?;
                return self.summarize(storage).await;
            }
        }
        let slice = self.slice;
        Err(StoreError::unavailable(format!(
            "the end of slice {slice} moved whenever it was about to be closed: repeat the split"
        )))
    }

    /// Returns the commits that are missing from the log, and removes hints that are done.
    async fn wanted(
        &mut self,
        storage: &dyn Storage,
        open: &mut Vec<Hint>,
        indexed: &mut Indexed,
    ) -> Result<VecDeque<Reference>, StoreError> {
        let mut wanted = Wanted::default();
        let mut kept = Vec::with_capacity(open.len());
        let highest = highest(open);
        let hashes: BTreeSet<_> = highest.keys().map(|stream| self.hash(stream)).collect();
        let marks = self.marks(storage, &hashes.into_iter().collect::<Vec<_>>()).await?;
        let mut given_up = HashSet::new();
        for hint in open.drain(..) {
            let stream = hint.stream();
            if given_up.contains(stream) {
                continue;
            }
            let hinted = Hinted {
                mark: marks.get(&self.hash(stream)).copied().unwrap_or_default(),
                highest: highest.get(stream).copied().unwrap_or_default(),
            };
            match self.follow_hint(storage, &hint, hinted, &mut wanted).await {
                Ok(Followed::Wanted) => kept.push(hint),
                Ok(Followed::Done) => {}
                Ok(Followed::Unfounded) => indexed.unfounded += 1,
                Ok(Followed::Contradicting(error)) => {
                    given_up.insert(stream.clone());
                    indexed.contradicting.push((stream.clone(), error));
                }
                Err(error @ StoreError::Corrupt { .. }) => {
                    given_up.insert(stream.clone());
                    indexed.damaged.push((stream.clone(), error));
                }
                Err(error) => return Err(error),
            }
        }
        *open = kept;
        Ok(wanted.commits)
    }

    /// Adds the commits of a stream up to a hint to `wanted`, as far as they are missing from the log.
    async fn follow_hint(
        &mut self,
        storage: &dyn Storage,
        hint: &Hint,
        hinted: Hinted,
        wanted: &mut Wanted,
    ) -> Result<Followed, StoreError> {
        let stream = hint.stream();
        let known = match wanted.ends.get(stream) {
            Some(&end) if hint.last() <= end => return Ok(Followed::Wanted),
            Some(&end) => end,
            None => {
                if let Some(error) = self.contradiction(storage, hint, hinted).await? {
                    return Ok(Followed::Contradicting(error));
                }
                if hint.last() <= hinted.mark.version {
                    return Ok(Followed::Done);
                }
                hinted.mark.version
            }
        };
        match hint {
            Hint::Commit(reference) if reference.first == known.next() => {
                wanted.ends.insert(stream.clone(), reference.last);
                wanted.commits.push_back(reference.clone());
            }
            // The hint is not at the next commit, so the next commits are read from the table.
            _ => {
                let commits = storage.commits(stream, known, hint.last(), GAP_AT_ONCE).await?;
                match commits.last() {
                    Some(last) => wanted.ends.insert(stream.clone(), last.last),
                    None if hint.last() < Version::MAX => return Ok(Followed::Unfounded),
                    None => return Ok(Followed::Done),
                };
                wanted.commits.extend(commits);
            }
        }
        Ok(Followed::Wanted)
    }

    /// Returns an error if a hint shows that the commits of a stream in the table differ from those in the log: the
    /// table was restored after the log was written, or the stream was deleted and created again.
    ///
    /// A hint at the last commit in the log must have the id of that commit. For the first hint at another commit, the
    /// last commit in the log is verified in the table once: an earlier commit is usually a repetition, and a later one
    /// may follow commits that replaced those in the log.
    async fn contradiction(
        &mut self,
        storage: &dyn Storage,
        hint: &Hint,
        Hinted { mark, highest }: Hinted,
    ) -> Result<Option<StoreError>, StoreError> {
        let Some(reference) = hint.commit() else { return Ok(None) };
        let stream = &reference.stream;
        let contradiction = |found: &str| {
            let reason = format!(
                "the feed contains it up to version {}, the last event of the commit whose id ends with {}, but the table \
                 has {found}: the stream was deleted or the table was restored, so restore the commits, or copy the stream \
                 to a new table",
                mark.version, mark.tag
            );
            Ok(Some(StoreError::corrupt(stream, reason)))
        };
        if mark.version.is_none() {
            return Ok(None);
        }
        let hash = self.hash(stream);
        if reference.first <= mark.version {
            if reference.last > mark.version || (reference.last == mark.version && reference.tag != mark.tag)
            {
                let Reference { first, last, tag, .. } = reference;
                self.verified.remove(&hash);
                return contradiction(&format!("another commit, {tag}, with the events {first} to {last}"));
            }
            if reference.last == mark.version || reference.last < highest {
                return Ok(None);
            }
        }
        let is_verified = match self.verified.get(&hash) {
            Some(Verified::Read(verified)) => *verified == mark,
            // The table may have been restored since.
            Some(Verified::Indexed(verified)) => *verified == mark && reference.first > mark.version,
            None => false,
        };
        if is_verified {
            return Ok(None);
        }
        match storage.commit_until(stream, mark.version).await? {
            Some(found) if found == mark => {
                self.remember_verified(hash, Verified::Read(mark));
                Ok(None)
            }
            Some(Mark { version, tag }) => {
                contradiction(&format!("the commit {tag}, which ends at version {version}"))
            }
            None => contradiction("no commit up to that version"),
        }
    }

    fn remember_verified(&mut self, stream: StreamHash, mark: Verified) {
        if self.verified.len() >= MAX_VERIFIED {
            self.verified.clear();
        }
        self.verified.insert(stream, mark);
    }

    /// Reads the pages of the log that the writer has not read.
    pub(crate) async fn catch_up(&mut self, storage: &dyn Storage) -> Result<(), StoreError> {
        while !(self.loaded && self.closed) {
            if !self.started {
                self.start(storage).await?;
            }
            let found = storage
                .pages(self.slice, PageQuery::After(self.end), PAGES_AT_ONCE, Consistency::Strong)
                .await?;
            for page in &found.pages {
                self.fold(page)?;
            }
            self.summarize(storage).await?;
            if self.started && (self.closed || !found.more) {
                self.loaded = true;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Starts the fold at the summary if it can be used, and otherwise at the beginning of the log.
    ///
    /// The fold of a child includes that of its parent, so it starts after the page that closes the parent.
    async fn start(&mut self, storage: &dyn Storage) -> Result<(), StoreError> {
        if let Some(parent) = &self.parent {
            let mut parent = parent.lock().await;
            Box::pin(parent.catch_up(storage)).await?;
            if !parent.closed {
                let reason = "the page that closes this slice was found before, and is missing";
                return Err(damaged(parent.slice, parent.end.next(), reason));
            }
        }
        let stored = storage.root(self.tree.scope()).await?;
        let root = match &stored {
            StoredRoot::Root(root) if self.can_use(storage, root).await? => Some(root.clone()),
            StoredRoot::None => None,
            StoredRoot::Root(_) | StoredRoot::Damaged => {
                tracing::warn!(slice = %self.slice, "the summary of the feed cannot be used, so the whole log is read");
                None
            }
        };
        (self.end, self.last_page) =
            root.as_ref().map_or((Position::NONE, Uuid::nil()), |root| (root.through, root.page));
        self.tree.reset(&stored, root);
        (self.started, self.loaded, self.closed) = (true, false, false);
        self.summarized();
        Ok(())
    }

    /// Returns whether a summary is sound, as far as known, and of this log: the log may end before it, or be another
    /// one, for example after a restore.
    async fn can_use(&self, storage: &dyn Storage, root: &Root) -> Result<bool, StoreError> {
        if self.damaged == Some(root.id) {
            return Ok(false);
        }
        if root.through == Position::NONE {
            return Ok(true);
        }
        let last = storage
            .pages(self.slice, PageQuery::Until(root.through), 1, Consistency::Strong)
            .await?
            .pages
            .pop();
        Ok(last.is_some_and(|page| (page.last(), page.id) == (root.through, root.page)))
    }

    /// Starts again with the next request.
    fn restart(&mut self) {
        (self.started, self.loaded) = (false, false);
    }

    /// Continues with the stored summary after a part of it could not be read.
    async fn recover(&mut self, storage: &dyn Storage) -> Result<(), StoreError> {
        let stored = storage.root(self.tree.scope()).await?;
        if stored.id() != self.tree.stored() {
            // A job of another writer may have replaced the part.
            return self.follow(storage, stored).await;
        }
        self.damaged = stored.id();
        self.restart();
        Ok(())
    }

    /// Continues with a summary that another writer has stored.
    async fn follow(&mut self, storage: &dyn Storage, stored: StoredRoot) -> Result<(), StoreError> {
        // A writer that could not use the summary has replaced it by one that includes less.
        let followed = self.tree.through()..=self.end;
        if let StoredRoot::Root(root) = stored
            && followed.contains(&root.through)
            && self.can_use(storage, &root).await?
        {
            self.tree.follow(root);
            self.summarized();
        } else {
            self.restart();
        }
        Ok(())
    }

    /// Adds the next page of the log to the fold.
    fn fold(&mut self, page: &LogPage) -> Result<(), StoreError> {
        if page.first != self.end.next() {
            let reason = format!("it does not follow the page before it, which ends at {}", self.end);
            return Err(damaged(self.slice, page.first, reason));
        }
        if page.closes() {
            self.closed = true;
            // The last watermarks are written as well, so that later lookups do not read the end of the log.
            self.due = (0, 0);
            return Ok(());
        }
        for reference in &page.references {
            let stream = self.hash(&reference.stream);
            if let Some(known) = self.tree.known(stream)
                && reference.first != known.version.next()
            {
                let reason = format!(
                    "of the stream `{}`, version {} follows version {}",
                    reference.stream, reference.first, known.version
                );
                // The page was folded partially, so the fold cannot be used.
                self.restart();
                return Err(damaged(self.slice, page.first, reason));
            }
            let mark = Mark { version: reference.last, tag: reference.tag };
            self.tree.set(stream, mark, page.last());
            if self.loaded {
                // The writer of the page has verified the previous watermark, and found this commit in the table.
                self.remember_verified(stream, Verified::Indexed(mark));
            }
        }
        (self.end, self.last_page) = (page.last(), page.id);
        self.unsummarized += item_size(&page.to_item());
        Ok(())
    }

    /// Adds the latest watermarks to the summary when it is due. A failure is harmless, because the summary is a cache.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it has failed so often that there are too many watermarks in memory, or if the log cannot be
    /// read.
    async fn summarize(&mut self, storage: &dyn Storage) -> Result<(), StoreError> {
        let changed = self.tree.changed();
        if changed == 0 || (changed < self.due.0 && self.unsummarized < self.due.1) {
            return Ok(());
        }
        let shape = self.tree.scope().shape;
        // Also after a failure, so that the next attempt is not immediate.
        self.due = (changed + shape.run / 4, self.unsummarized + shape.run_bytes / 4);
        let must = changed > shape.unwritten;
        let mut outcome = self.tree.write(storage, self.end, self.last_page).await;
        if must && matches!(outcome, Err(Unfinished::Postponed)) {
            // It does not wait for the other writer any longer.
            outcome = self.tree.write(storage, self.end, self.last_page).await;
        }
        let error = match outcome {
            Ok(()) => {
                self.summarized();
                return Ok(());
            }
            Err(Unfinished::Outdated(stored)) => return self.follow(storage, stored).await,
            Err(Unfinished::Lost) => return self.recover(storage).await,
            Err(Unfinished::Postponed) => {
                StoreError::unavailable("another writer is changing the summary of the feed")
            }
            Err(Unfinished::Store(error)) => error,
        };
        if must {
            return Err(error);
        }
        tracing::debug!(slice = %self.slice, %error, "could not write the summary of the feed yet");
        Ok(())
    }

    /// Records that the summary includes almost everything.
    fn summarized(&mut self) {
        let shape = self.tree.scope().shape;
        (self.unsummarized, self.due) = (0, (self.tree.changed() + shape.run, shape.run_bytes));
    }
}

/// Sorts the hints of each stream by version. The order of the streams is not changed.
fn in_order(hints: Vec<Hint>) -> Vec<Hint> {
    let mut streams: HashMap<StreamId, Vec<Hint>> = HashMap::new();
    let places: Vec<StreamId> = hints.iter().map(|hint| hint.stream().clone()).collect();
    for hint in hints {
        streams.entry(hint.stream().clone()).or_default().push(hint);
    }
    for hints in streams.values_mut() {
        // Descending, because hints are popped from the end.
        hints.sort_by_key(|hint| std::cmp::Reverse(hint.last()));
    }
    places.iter().filter_map(|stream| streams.get_mut(stream)?.pop()).collect()
}

/// Returns the highest version in the hints of each stream.
fn highest(hints: &[Hint]) -> HashMap<StreamId, Version> {
    let mut highest: HashMap<StreamId, Version> = HashMap::new();
    for hint in hints {
        let version = highest.entry(hint.stream().clone()).or_default();
        *version = hint.last().max(*version);
    }
    highest
}
