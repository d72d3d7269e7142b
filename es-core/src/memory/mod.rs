//! The in-memory store.

mod documents;
mod feed;
mod objects;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, stream};

use self::documents::DocumentContent;
use self::feed::FeedContent;
use self::objects::{Object, Objects};
use crate::cost::Cost;
use crate::event::CommitId;
use crate::payloads::Payloads;
use crate::snapshot::Snapshot;
use crate::store::{
    Append, AppendError, Appended, Claim, ClaimChange, Claimed, Commit, Conflict, Contiguity, EventStore,
    Head, Holder, IdempotencyKey, IdempotencyLookup, IdempotencyRecord, NewCommit, Page, Read, StoreError,
    StoreIdentity, StreamState, WriteError, WriteSet, Written, erased_event, limits,
};
use crate::stream_id::StreamId;
use crate::version::{ExpectedVersion, Version};

/// The number of commits per page. Small, so that tests on this store read several pages.
const COMMITS_A_PAGE: usize = 100;

/// An in-memory store, for tests and first steps. It implements the complete contract.
///
/// Clones share the same data.
///
/// ```
/// # use es_core::prelude::*;
/// # #[event]
/// # pub struct Deposited { pub cents: u64 }
/// # #[derive(Aggregate, Debug, Default)]
/// # #[aggregate(name = "account", id = String, events(Deposited))]
/// # pub struct Account { balance: u64 }
/// # pub struct Deposit { pub cents: u64 }
/// # #[handlers]
/// # impl Account {
/// #     #[apply]
/// #     fn deposited(&mut self, event: &Deposited) { self.balance += event.cents; }
/// #     #[handle]
/// #     fn deposit(&self, command: &Deposit) -> Deposited { Deposited { cents: command.cents } }
/// # }
/// use es_core::{MemoryStore, Repository};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = MemoryStore::new();
/// let accounts: Repository<Account> = Repository::new(store.clone());
/// accounts.execute("ann", Deposit { cents: 500 }).await?;
///
/// // Another repository, which has no state in memory, finds the same events.
/// let accounts: Repository<Account> = Repository::new(store);
/// assert_eq!(accounts.load("ann").await?.state.balance, 500);
/// # Ok::<_, BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct MemoryStore {
    content: Arc<Mutex<Content>>,
    payloads: Option<Payloads>,
}

/// The state of a paged read.
struct ReadState {
    read: Read,
    contiguity: Contiguity,
    started: bool,
}

/// A page, with the objects to which it refers.
struct FoundPage {
    page: Page,
    objects: Vec<Object>,
    /// The object of the snapshot.
    snapshot: Option<Object>,
}

impl MemoryStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the version of each stream.
    #[cfg(feature = "testing")]
    pub(crate) fn versions(&self) -> HashMap<StreamId, Version> {
        let streams = &self.content().streams;
        streams.iter().map(|(stream, stored)| (stream.clone(), stored.head())).collect()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next_page(&self, state: &mut ReadState) -> Result<Option<Page>, StoreError> {
        let Some(FoundPage { mut page, objects, snapshot }) = self.find_page(state)? else { return Ok(None) };
        self.check_objects(objects).await?;
        if snapshot.is_some() {
            self.check_snapshot_object(snapshot, &mut page).await?;
            if page.snapshot.is_none() {
                // Without the snapshot, the read starts with the first commit.
                let unusable = page.unusable_snapshot;
                state.contiguity = Contiguity::after(state.read.stream().clone(), Version::NONE);
                let Some(found) = self.find_page(state)? else { return Ok(Some(page)) };
                self.check_objects(found.objects).await?;
                return Ok(Some(Page { unusable_snapshot: unusable, ..found.page }));
            }
        }
        Ok(Some(page))
    }

    /// Returns the next page, with the objects to which it refers.
    fn find_page(&self, state: &mut ReadState) -> Result<Option<FoundPage>, StoreError> {
        let content = self.content();
        let empty = StoredStream::default();
        let stored = content.streams.get(state.read.stream()).unwrap_or(&empty);
        let mut page = Page::new(Vec::new(), Cost::read(0.0));
        let mut snapshot_object = None;

        let first_page = !std::mem::replace(&mut state.started, true);
        if first_page
            && let Some(request) = state.read.snapshot()
            && let Some(snapshot) = &stored.snapshot
        {
            if snapshot.fits(request.fingerprint) && stored.has_commit_of(snapshot) {
                state.contiguity = Contiguity::after(state.read.stream().clone(), snapshot.version());
                page.snapshot = Some(snapshot.clone());
                snapshot_object.clone_from(&stored.snapshot_object);
            } else {
                page.unusable_snapshot = Some(snapshot.version());
            }
        }

        let end = state.read.end().unwrap_or(Version::MAX);
        let commits = stored.commits[stored.index_after(state.contiguity.last())..]
            .iter()
            .take_while(|commit| commit.first <= end && end > state.read.start())
            .take(COMMITS_A_PAGE);
        for commit in commits {
            state.contiguity.check(commit)?;
            page.commits.push(commit.clone());
        }
        let objects = stored.objects_of(&page.commits);
        let found = FoundPage { page, objects, snapshot: snapshot_object };
        Ok((first_page || !found.page.commits.is_empty()).then_some(found))
    }
}

#[async_trait]
impl EventStore for MemoryStore {
    async fn append(&self, append: &Append) -> Result<Appended, AppendError> {
        let head = self.content().head(append.stream());
        append.last_version_after(head)?;
        let objects = self.put_objects(append, head).await?;
        self.content().append_checked(append, objects, self.max_bytes())
    }

    async fn write(&self, set: &WriteSet) -> Result<Written, WriteError> {
        let written = set.checked()?.at_cost(Cost::write(0.0));
        limits::check_set(set, self.max_bytes())?;
        let mut objects = Vec::with_capacity(set.appends().len());
        for append in set.appends() {
            objects.push(self.put_objects(append, append.start()?).await?);
        }
        let mut content = self.content();
        if content.has(set) {
            return Ok(written.repeated());
        }
        content.check(set)?;
        content.write(set, objects)?;
        Ok(written)
    }

    async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError> {
        Ok(Holder::new(self.content().claims.get(claim.checked()?).cloned(), Cost::read(0.0)))
    }

    async fn idempotency_record(&self, key: &IdempotencyKey) -> Result<IdempotencyLookup, StoreError> {
        Ok(IdempotencyLookup::new(self.content().markers.get(key).cloned(), Cost::read(0.0)))
    }

    fn identity(&self) -> StoreIdentity {
        StoreIdentity::of(&self.content)
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        let contiguity = Contiguity::of(&read);
        stream::try_unfold(ReadState { read, contiguity, started: false }, async |mut state| {
            Ok(self.next_page(&mut state).await?.map(|page| (page, state)))
        })
        .boxed()
    }

    async fn head(&self, stream: &StreamId) -> Result<Head, StoreError> {
        Ok(self.content().end(stream))
    }

    async fn write_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError> {
        limits::check_snapshot(stream, snapshot, self.max_bytes())?;
        let object = self.put_snapshot_object(stream, snapshot).await?;
        let mut content = self.content();
        let is_readable = content.end(stream).state.is_readable();
        let stored = content.streams.entry(stream.clone()).or_default();
        let writable = stored.snapshot.as_ref().is_none_or(|existing| {
            existing.version() < snapshot.version() || Some(existing.version()) == replaces
        });
        if writable && is_readable {
            stored.snapshot = Some(snapshot.clone());
            stored.snapshot_object = object;
        }
        Ok(Cost::write(0.0))
    }

    async fn erase(&self, stream: &StreamId) -> Result<Cost, StoreError> {
        let mut content = self.content();
        let end = content.end(stream);
        end.check_erasable(stream)?;
        let is_deleted = end.state == StreamState::Deleted;
        if let Some(stored) = content.streams.get_mut(stream) {
            stored.erase(is_deleted);
        }
        if is_deleted {
            content.claims.retain(|_, holder| holder != stream);
            content.markers.retain(|key, _| key.stream() != Some(stream));
        }
        Ok(Cost::write(0.0))
    }

    async fn restore(&self, commits: &[Commit], end: &Append) -> Result<Appended, AppendError> {
        let objects = self.put_commit_objects(end.stream(), commits).await?;
        let mut content = self.content();
        if !content.streams.get(end.stream()).is_some_and(|stored| stored.begins_with(commits)) {
            let reason = "its commits do not match those in the archive";
            return Err(StoreError::corrupt(end.stream(), reason).into());
        }
        let appended = content.append_checked(end, Objects::new(), self.max_bytes())?;
        if !appended.repeated
            && let Some(stored) = content.streams.get_mut(end.stream())
        {
            stored.commits[..commits.len()].clone_from_slice(commits);
            for (first, objects) in objects {
                stored.note_objects(first, objects);
            }
        }
        Ok(appended)
    }

    fn spawn(&self, mut task: BoxFuture<'static, ()>) {
        // Tasks on this store complete immediately. Only tasks on a wrapper may have to wait.
        if (&mut task).now_or_never().is_none() {
            std::thread::spawn(move || futures_executor::block_on(task));
        }
    }
}

/// Prints the number of streams, not their data.
impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("streams", &self.content().streams.len()).finish()
    }
}

/// The data of a store.
#[derive(Default)]
struct Content {
    streams: HashMap<StreamId, StoredStream>,
    claims: HashMap<Claim, StreamId>,
    markers: HashMap<IdempotencyKey, IdempotencyRecord>,
    feed: FeedContent,
    documents: DocumentContent,
}

/// A stream.
#[derive(Default)]
struct StoredStream {
    commits: Vec<Commit>,
    /// The indexes of each append's commits, by the id of the first one.
    appends: HashMap<CommitId, Range<usize>>,
    snapshot: Option<Snapshot>,
    /// The objects of events with large payloads, by their versions.
    objects: BTreeMap<Version, Object>,
    /// The object of a large snapshot.
    snapshot_object: Option<Object>,
}

impl StoredStream {
    fn head(&self) -> Version {
        self.commits.last().map_or(Version::NONE, Commit::last)
    }

    /// Returns the index of the first commit with an event after `version`.
    fn index_after(&self, version: Version) -> usize {
        self.commits.partition_point(|commit| commit.last() <= version)
    }

    /// Returns the commits of the append whose first commit has this id.
    fn appended(&self, id: CommitId) -> Option<&[Commit]> {
        self.appends.get(&id).map(|range| &self.commits[range.clone()])
    }

    /// Returns the commits of the append whose first event follows `version`; none if that is inside an append.
    fn appended_after(&self, version: Version) -> &[Commit] {
        let next = self.commits.get(self.index_after(version));
        let next = next.filter(|commit| commit.first == version.next());
        next.and_then(|commit| self.appended(commit.id)).unwrap_or_default()
    }

    /// Returns whether the commit at which the snapshot was taken exists.
    fn has_commit_of(&self, snapshot: &Snapshot) -> bool {
        let end = |commit: &Commit| (commit.last(), commit.time) == (snapshot.version(), snapshot.time());
        self.commits.iter().rev().take_while(|commit| commit.last() >= snapshot.version()).any(end)
    }

    /// Erases the snapshot, and the content of all commits but the last, or but those that changed the state of the
    /// stream.
    fn erase(&mut self, is_deleted: bool) {
        self.snapshot = None;
        self.snapshot_object = None;
        self.objects.clear();
        let Some((_, commits)) = self.commits.split_last_mut() else { return };
        for commit in commits.iter_mut().filter(|commit| is_deleted || commit.state().is_none()) {
            commit.events.fill(erased_event());
            commit.metadata = Arc::default();
        }
    }

    /// Returns whether the first commits have the ids and the versions of `commits`.
    fn begins_with(&self, commits: &[Commit]) -> bool {
        let place = |commit: &Commit| (commit.id, commit.first, commit.last());
        let stored = self.commits.iter().take(commits.len());
        stored.map(place).eq(commits.iter().map(place))
    }

    /// Appends the commits of one append.
    fn append(&mut self, id: CommitId, commits: &[NewCommit]) {
        let start = self.commits.len();
        self.appends.insert(id, start..start + commits.len());
        for commit in commits {
            let stored = Commit::new(commit.id, self.head().next(), commit.time, commit.events.clone());
            self.commits.push(stored.with_metadata(commit.metadata.clone()));
        }
    }
}

impl Content {
    /// Appends commits to a stream if it is at the expected version, unless they were appended before.
    fn append_checked(
        &mut self,
        append: &Append,
        objects: Objects,
        max_bytes: Option<u64>,
    ) -> Result<Appended, AppendError> {
        if let Some(stored) = self.streams.get(append.stream())
            && let Some(earlier) = stored.appended(append.id())
        {
            let first = earlier.first().map_or(Version::NONE, |commit| commit.first);
            let stored = earlier.iter().map(|commit| (commit.id, commit.last()));
            return Ok(append.repeated(first, stored, Cost::write(0.0))?);
        }
        let head = self.head(append.stream());
        let last = append.last_version_after(head)?;
        limits::check_append(append, head, max_bytes)?;
        if !append.expected().allows(head) {
            return Err(self.conflict(append.stream(), append.expected()).into());
        }
        self.end(append.stream()).check_accepts(append)?;
        self.append(append, objects);
        Ok(Appended::new(head.next(), last, Cost::write(0.0)))
    }

    /// Appends commits to a stream and to the feed.
    fn append(&mut self, append: &Append, objects: Objects) {
        let stored = self.streams.entry(append.stream().clone()).or_default();
        for (commit, index) in append.commits().iter().zip(stored.commits.len()..) {
            self.feed.push(append.stream(), index, commit.events.len());
        }
        stored.note_objects(stored.head().next(), objects);
        stored.append(append.id(), append.commits());
    }

    fn head(&self, stream: &StreamId) -> Version {
        self.streams.get(stream).map_or(Version::NONE, StoredStream::head)
    }

    /// Returns the end of a stream.
    fn end(&self, stream: &StreamId) -> Head {
        let last = self.streams.get(stream).and_then(|stored| stored.commits.last());
        let cost = Cost::read(0.0);
        last.map_or_else(|| Head::new(Version::NONE, cost), |last| Head::of(last, cost))
    }

    /// Returns whether the set was written before.
    fn has(&self, set: &WriteSet) -> bool {
        let by_commit = set.appends().iter().any(|append| {
            let stored = self.streams.get(append.stream());
            stored.is_some_and(|stored| stored.appends.contains_key(&append.id()))
        });
        let by_marker = set
            .idempotency()
            .is_some_and(|once| self.markers.get(&once.key).is_some_and(|marker| marker.id == once.id));
        by_commit || by_marker
    }

    /// Checks whether the set can be written now.
    fn check(&self, set: &WriteSet) -> Result<(), WriteError> {
        if let Some(once) = set.idempotency()
            && let Some(marker) = self.markers.get(&once.key)
            && marker.is_valid_at(once.now)
        {
            return Err(WriteError::AlreadyDone(marker.clone()));
        }
        for append in set.appends() {
            self.check_head(append.stream(), append.start()?)?;
            self.end(append.stream()).check_accepts(append)?;
        }
        for (stream, version) in set.unchanged_streams() {
            self.check_head(stream, *version)?;
        }
        for change in ClaimChange::net(set.claim_changes())? {
            let holder = self.claims.get(change.claim);
            if holder.is_some_and(|holder| holder != change.before) {
                let wanted_by = change.before.clone();
                return Err(Claimed::new(change.claim.clone(), holder.cloned(), wanted_by).into());
            }
        }
        self.documents.check(set.additional_writes())
    }

    fn check_head(&self, stream: &StreamId, expected: Version) -> Result<(), Conflict> {
        let head = self.head(stream);
        if head == expected {
            return Ok(());
        }
        Err(self.conflict(stream, ExpectedVersion::Exact(expected)))
    }

    /// Returns the conflict of an append with a stream that is not at the `expected` version.
    fn conflict(&self, stream: &StreamId, expected: ExpectedVersion) -> Conflict {
        let after = match expected {
            ExpectedVersion::NoStream => Some(Version::NONE),
            ExpectedVersion::Exact(version) => Some(version),
            ExpectedVersion::Any | ExpectedVersion::StreamExists => None,
        };
        let stored = self.streams.get(stream);
        let winner = after.zip(stored).map(|(version, stored)| stored.appended_after(version));
        Conflict::new(stream.clone(), expected, Some(self.head(stream)), Cost::write(0.0))
            .with_commits(winner.unwrap_or_default().to_vec())
    }

    fn write(&mut self, set: &WriteSet, objects: Vec<Objects>) -> Result<(), WriteError> {
        for (append, objects) in set.appends().iter().zip(objects) {
            self.append(append, objects);
        }
        for change in ClaimChange::net(set.claim_changes())? {
            match change.after {
                Some(holder) => self.claims.insert(change.claim.clone(), holder.clone()),
                None => self.claims.remove(change.claim),
            };
        }
        if let Some(once) = set.idempotency() {
            let marker = IdempotencyRecord::new(once.id, once.ranges.clone(), once.expires);
            let marker = marker.with_fingerprint(once.fingerprint.clone());
            self.markers.insert(once.key.clone(), marker);
        }
        Ok(())
    }
}
