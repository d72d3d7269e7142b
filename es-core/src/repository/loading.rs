//! Loading: from the commits of a stream to the state of an aggregate.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use quick_cache::sync::Cache;

use crate::aggregate::Aggregate;
use crate::cost::Cost;
use crate::error_text::error_text;
use crate::event::{CommitId, DecodeError, Event, EventData};
use crate::measure;
use crate::personal::MAX_KEY_AGE;
use crate::projection::guard::caught;
use crate::repository::report::log_failure;
use crate::repository::retry::{Deadline, Failures, Retrying};
use crate::repository::snapshots::{FirstPage, SnapshotInfo, Unusable};
use crate::repository::{Inner, Loaded, Outcome};
use crate::snapshot::{Snapshot, Snapshots};
use crate::store::{
    ClosedStream, Commit, EventRange, EventStore, Page, Read, StoreError, StreamState, is_erased,
};
use crate::stream_id::StreamId;
use crate::version::Version;

/// The end of a load.
#[derive(Clone, Copy)]
pub(super) enum Until {
    End,
    /// The end of the stream in an eventually consistent read.
    EventualEnd,
    Version(Version),
    Time(DateTime<Utc>),
}

/// The start of a load into a new fold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// The snapshot, if the aggregate has one that can be used.
    Snapshot(FirstPage),
    FirstEvent,
}

/// Why a load stopped before its end.
enum Interrupted {
    Snapshot(Unusable),
    Failed(StoreError),
}

impl From<Unusable> for Interrupted {
    fn from(unusable: Unusable) -> Self {
        Self::Snapshot(unusable)
    }
}

impl From<StoreError> for Interrupted {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// A state while the events of its stream are applied to it.
#[derive(Clone)]
pub(super) struct Fold<A> {
    pub(super) state: A,
    pub(super) version: Version,
    pub(super) time: Option<DateTime<Utc>>,
    /// Whether the stream accepts commits.
    pub(super) stream: StreamState,
    pub(super) snapshot: SnapshotInfo,
    pub(super) cost: Cost,
}

impl<A: Aggregate> Fold<A> {
    pub(super) fn new() -> Self {
        Self {
            state: A::default(),
            version: Version::NONE,
            time: None,
            stream: StreamState::Open,
            snapshot: SnapshotInfo::default(),
            cost: Cost::ZERO,
        }
    }

    /// Resets the state to before the first event, and keeps the cost of the reads.
    pub(super) fn restart(&mut self) {
        let (cost, unusable) = (self.cost, self.snapshot.unusable);
        *self = Self { cost, snapshot: SnapshotInfo { unusable, ..SnapshotInfo::default() }, ..Self::new() };
    }

    /// Fails if the stream does not accept commits.
    pub(super) fn check_open(&self, stream: &StreamId) -> Result<(), StoreError> {
        match self.stream.is_open() {
            true => Ok(()),
            false => Err(self.closed(stream).into()),
        }
    }

    /// Fails if the events that were read are those of a stream that is deleted or archived, but not erased yet.
    fn check_readable(&self, stream: &StreamId, until: Until) -> Result<(), StoreError> {
        let is_archived = || !self.stream.is_readable() && matches!(until, Until::End | Until::EventualEnd);
        match self.stream == StreamState::Deleted || is_archived() {
            true => Err(self.closed(stream).into()),
            false => Ok(()),
        }
    }

    fn closed(&self, stream: &StreamId) -> ClosedStream {
        ClosedStream::new(stream.clone(), self.version, self.stream.clone())
    }

    /// Returns whether a snapshot may have caused a load to fail. Errors of requests have other causes, and an event
    /// that cannot be decoded is an error of the stream unless the state came from a snapshot.
    fn may_be_caused_by_snapshot(&self, error: &StoreError) -> bool {
        match error {
            StoreError::Corrupt { .. } => true,
            StoreError::Decode { .. } => !self.snapshot.version.is_none(),
            _ => false,
        }
    }

    /// Records the number of events that were applied since the version `known`.
    fn measure(&self, known: Version) {
        let snapshot = self.snapshot.version;
        let (source, first) = match (known.is_none(), snapshot.is_none()) {
            (false, _) => ("cache", known),
            (true, false) => ("snapshot", snapshot),
            (true, true) => ("start", Version::NONE),
        };
        measure::loaded(A::NAME, source, self.version.since(first));
    }

    /// Continues from `state`, which was decoded from `snapshot`.
    pub(super) fn restore(&mut self, state: A, snapshot: &Snapshot) {
        self.state = state;
        self.version = snapshot.version();
        self.time = Some(snapshot.time());
        self.snapshot.note(snapshot);
    }

    /// Returns a copy without the cost, if states can be copied. Copies are made after commands are recorded, so a panic
    /// must not look like a failure of one.
    pub(super) fn try_clone(&self) -> Option<Self> {
        let Self { version, time, snapshot, .. } = *self;
        let (state, stream) = (caught(|| self.state.try_clone()).ok()??, self.stream.clone());
        Some(Self { state, version, time, stream, snapshot, cost: Cost::ZERO })
    }

    /// Applies the events of `commit` up to the version `until`.
    fn apply(
        &mut self,
        stream: &StreamId,
        commit: &Commit,
        until: Option<Version>,
    ) -> Result<(), StoreError> {
        for (version, _, data) in commit.numbered() {
            if until.is_some_and(|until| version > until) {
                break;
            }
            match decode::<A>(data) {
                Ok(Some(event)) => self.state.apply_event(&event),
                Ok(None) if is_erased(data) => {
                    let closed = ClosedStream::new(stream.clone(), version, StreamState::Deleted);
                    return Err(closed.into());
                }
                Ok(None) => self.note_state(data),
                Err(error) => return Err(StoreError::decode(stream, version, error)),
            }
            self.version = version;
        }
        self.time = Some(commit.time);
        self.snapshot.add(&commit.events);
        Ok(())
    }

    /// Applies the commits of one append, which another writer has recorded. Returns `false` and leaves the state
    /// unchanged if there are none, or they do not follow the last event or cannot be decoded.
    ///
    /// All of them are applied, because no append can follow between two of them.
    pub(super) fn follow(&mut self, commits: &[Commit]) -> bool {
        let mut version = self.version;
        for commit in commits {
            // The reason for which events were erased is at the end of the stream, which is read then.
            if commit.first != version.next()
                || commit.events.is_empty()
                || commit.events.iter().any(is_erased)
            {
                return false;
            }
            version = commit.last();
        }
        let events = commits.iter().flat_map(|commit| &commit.events);
        let events = events.filter_map(|data| decode::<A>(data).transpose());
        let Ok(events) = events.collect::<Result<Vec<_>, _>>() else { return false };
        events.iter().for_each(|event| self.state.apply_event(event));
        for commit in commits {
            commit.events.iter().for_each(|event| self.note_state(event));
            self.time = Some(commit.time);
            self.snapshot.add(&commit.events);
        }
        self.version = version;
        !commits.is_empty()
    }

    /// Records the state of the stream after an event, if that is one of the framework.
    fn note_state(&mut self, event: &EventData) {
        if let Some(state) = StreamState::after(event) {
            self.stream = state;
        }
    }
}

impl<A: Aggregate> From<Fold<A>> for Loaded<A> {
    fn from(fold: Fold<A>) -> Self {
        Self {
            state: fold.state,
            version: fold.version,
            time: fold.time,
            snapshot: (!fold.snapshot.version.is_none()).then_some(fold.snapshot.version),
            cost: fold.cost,
        }
    }
}

/// Decodes a stored event; `None` if it is retired, or an event of the framework, and must be skipped.
pub(super) fn decode<A: Aggregate>(data: &EventData) -> Result<Option<A::Event>, DecodeError> {
    if A::RETIRED.contains(&data.name()) || StreamState::after(data).is_some() || is_erased(data) {
        return Ok(None);
    }
    A::Event::decode(data).map(Some)
}

/// A bounded cache of states by stream. A cached state may be outdated.
pub(super) struct StateCache<A> {
    states: Cache<StreamId, Arc<Fold<A>>>,
    /// A function pointer, so that only a repository with a cache requires states that implement `Clone`.
    clone: fn(&Fold<A>) -> Fold<A>,
}

impl<A: Clone> StateCache<A> {
    pub(super) fn with_capacity(entries: usize) -> Self {
        Self { states: Cache::new(entries), clone: Fold::clone }
    }
}

impl<A> StateCache<A> {
    fn get(&self, stream: &StreamId) -> Option<Fold<A>> {
        self.states.get(stream).and_then(|fold| self.copy(&fold))
    }

    /// Returns a copy, unless copying panics: states are cached after commands are recorded.
    fn copy(&self, fold: &Fold<A>) -> Option<Fold<A>> {
        caught(|| (self.clone)(fold)).ok()
    }

    /// Caches a state, unless the cache contains a later one.
    fn put(&self, stream: &StreamId, fold: &Fold<A>, snapshot: SnapshotInfo) {
        if self.states.peek(stream).is_none_or(|kept| kept.version < fold.version)
            && let Some(copy) = self.copy(fold)
        {
            // The cost belongs to the caller, not to the next command.
            let kept = Fold { snapshot, cost: Cost::ZERO, ..copy };
            self.states.insert(stream.clone(), Arc::new(kept));
        }
    }
}

impl<A: Aggregate> Inner<A> {
    /// Loads a state into a new fold.
    pub(super) async fn load_until(
        &self,
        fold: &mut Fold<A>,
        stream: &StreamId,
        until: Until,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        if !matches!(until, Until::End) {
            return self.advance(fold, stream, until, Start::FirstEvent, deadline).await;
        }
        match self.cached(stream) {
            Some(cached) => {
                *fold = cached;
                self.catch_up(fold, stream, deadline).await?;
            }
            None => self.load_cold(fold, stream, deadline).await?,
        }
        self.remember(stream, fold, fold.snapshot);
        Ok(())
    }

    /// Loads the current state into a new fold, without the cache. Reads few commits first, so a state that is far
    /// ahead of its snapshot may take one more request.
    pub(super) async fn load_cold(
        &self,
        fold: &mut Fold<A>,
        stream: &StreamId,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        self.advance(fold, stream, Until::End, Start::Snapshot(FirstPage::Short), deadline).await
    }

    /// Loads the state for a decision into a new fold, without the cache, with one request if possible. With eventual
    /// reads, it may be outdated.
    pub(super) async fn load_to_decide(
        &self,
        fold: &mut Fold<A>,
        stream: &StreamId,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        let until = if self.eventual { Until::EventualEnd } else { Until::End };
        self.advance(fold, stream, until, Start::Snapshot(FirstPage::Whole), deadline).await
    }

    /// Reads the events since a state was loaded.
    pub(super) async fn catch_up(
        &self,
        fold: &mut Fold<A>,
        stream: &StreamId,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        self.advance(fold, stream, Until::End, Start::FirstEvent, deadline).await
    }

    /// Returns the cached state of a stream, which may be outdated. A state with personal data is dropped when it is as
    /// old as a key may be, because its subject may have been forgotten.
    pub(super) fn cached(&self, stream: &StreamId) -> Option<Fold<A>> {
        let cache = self.cache.as_ref()?;
        let fold = cache.get(stream)?;
        let is_too_old = |read_at| self.clock.monotonic().saturating_sub(read_at) >= MAX_KEY_AGE;
        if fold.snapshot.is_personal && fold.snapshot.read_at.is_none_or(is_too_old) {
            cache.states.remove(stream);
            return None;
        }
        Some(fold)
    }

    /// Puts a state into the cache, if there is one.
    pub(super) fn remember(&self, stream: &StreamId, fold: &Fold<A>, mut snapshot: SnapshotInfo) {
        if let Some(cache) = &self.cache
            && !fold.version.is_none()
        {
            snapshot.read_at.get_or_insert_with(|| self.clock.monotonic());
            cache.put(stream, fold, snapshot);
        }
    }

    /// Reads the outcome of an earlier execution, whose events are in `range`.
    ///
    /// `known` is the state that was loaded for the current decision. It is returned if its version is the end of
    /// `range`. Otherwise, its snapshot is used if it is old enough.
    pub(super) async fn first_outcome(
        &self,
        stream: &StreamId,
        range: &EventRange,
        known: &mut Fold<A>,
        deadline: Deadline,
    ) -> Result<Outcome<A>, StoreError> {
        let mut fold = Fold::new();
        let is_known = known.version == range.last;
        if is_known {
            std::mem::swap(&mut fold, known);
            known.cost = std::mem::take(&mut fold.cost);
        } else {
            let has_snapshot = !known.snapshot.version.is_none() && known.snapshot.version < range.first;
            let start = if has_snapshot { Start::Snapshot(FirstPage::Short) } else { Start::FirstEvent };
            let until = Until::Version(range.first.previous());
            self.advance(&mut fold, stream, until, start, deadline).await?;
        }
        let mut events = Vec::new();
        let mut commit: Option<CommitId> = None;
        if !range.is_empty() {
            let read = Read::all(stream.clone()).after(range.first.previous()).until(range.last);
            let mut pages = Pages::new(&*self.store, read);
            while let Some(page) = pages.next(&self.retrying(deadline)).await? {
                fold.cost += page.cost;
                for stored in &page.commits {
                    if stored.first < range.first || stored.last() > range.last {
                        let reason = format!(
                            "an idempotency record refers to a part of the commit at version {}",
                            stored.first
                        );
                        return Err(StoreError::corrupt(stream, reason));
                    }
                    commit = Some(stored.id);
                    for (version, _, data) in stored.numbered() {
                        let event =
                            decode::<A>(data).map_err(|error| StoreError::decode(stream, version, error))?;
                        events.extend(event);
                    }
                    if !is_known {
                        fold.apply(stream, stored, None)?;
                    }
                }
            }
        }
        if fold.version != range.last || commit.is_some() == range.is_empty() {
            let reason = format!("an idempotency record refers to version {}, which is missing", range.last);
            return Err(StoreError::corrupt(stream, reason));
        }
        let (state, version, cost) = (fold.state, fold.version, fold.cost);
        Ok(Outcome { state, version, events, commit, repeated: true, attempts: 1, cost })
    }

    /// Reads a part of a stream page by page. Each page has the retries and the deadline of a load.
    pub(super) fn pages(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        let pages = Pages::new(&*self.store, read);
        stream::try_unfold(pages, async move |mut pages| {
            let deadline = Deadline::after(self.deadline, &*self.clock);
            let page = pages.next(&self.retrying(deadline)).await.inspect_err(|error| {
                log_failure(error, pages.read.stream(), "history");
            })?;
            self.tokens.refill();
            let Some(page) = page else { return Ok(None) };
            if page.commits.iter().flat_map(|commit| &commit.events).any(is_erased) {
                let stream = pages.read.stream();
                self.check_restored(stream, deadline).await?;
                return Err(StoreError::unreachable(format!(
                    "the stream `{stream}` was restored while it was read"
                )));
            }
            Ok(Some((page, pages)))
        })
        .boxed()
    }

    /// Reads the events after the version of the fold. If a snapshot cannot be used or makes the load fail, loads the
    /// state from the first event instead.
    async fn advance(
        &self,
        fold: &mut Fold<A>,
        stream: &StreamId,
        until: Until,
        start: Start,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        let known = fold.version;
        let mut snapshots = match start {
            Start::Snapshot(first) => self.usable_snapshots().map(|snapshots| (snapshots, first)),
            Start::FirstEvent => None,
        };
        let mut suspected: Option<StoreError> = None;
        let mut was_restored = false;
        loop {
            match self.read_into(fold, stream, until, snapshots.as_ref(), deadline).await {
                Ok(()) => {
                    self.tokens.refill();
                    fold.check_readable(stream, until)?;
                    fold.measure(known);
                    if let Some(error) = suspected {
                        // The events can be loaded without the snapshot, so the snapshot was the cause.
                        let error = error_text(&error);
                        tracing::warn!(%stream, %error, "ignored a snapshot that made the load fail");
                    }
                    return Ok(());
                }
                Err(Interrupted::Snapshot(Unusable)) => {}
                Err(Interrupted::Failed(StoreError::Closed(_))) if !was_restored => {
                    fold.cost += self.check_restored(stream, deadline).await?;
                    was_restored = true;
                }
                Err(Interrupted::Failed(error))
                    if snapshots.is_some() && fold.may_be_caused_by_snapshot(&error) =>
                {
                    suspected = Some(error);
                }
                Err(Interrupted::Failed(error)) => return Err(error),
            }
            snapshots = None;
            fold.restart();
        }
    }

    /// Returns the cost of the check that a stream can be read, although erased events were found in it: it was
    /// restored at the same time. Otherwise, returns the error with its state.
    async fn check_restored(&self, stream: &StreamId, deadline: Deadline) -> Result<Cost, StoreError> {
        let head = self.retrying(deadline).read(|| self.store.head(stream)).await?;
        match head.state.is_readable() {
            true => Ok(head.cost),
            false => Err(head.closed(stream).into()),
        }
    }

    async fn read_into(
        &self,
        fold: &mut Fold<A>,
        stream: &StreamId,
        until: Until,
        snapshots: Option<&(Snapshots<A>, FirstPage)>,
        deadline: Deadline,
    ) -> Result<(), Interrupted> {
        // A state that is brought up to date is that of the last version at some time.
        let mut read = Read::all(stream.clone()).after_loaded(fold.version);
        let (mut bound, mut time) = (None, None);
        match until {
            Until::End => {}
            Until::EventualEnd => read = read.eventually(),
            Until::Version(version) if fold.version >= version => return Ok(()),
            Until::Version(version) => bound = Some(version),
            Until::Time(last) => time = Some(last),
        }
        match (snapshots, bound) {
            (Some((snapshots, first)), _) => {
                let known = self.snapshotting.known.get(stream);
                if let Some(longest_tail) = self.snapshotting.longest_tail(snapshots.policy(), *first, known)
                {
                    read = read.from_snapshot(snapshots.fingerprint(), longest_tail);
                    read = read.with_known_snapshot(known);
                }
            }
            // A store starts from a snapshot only in reads to the end.
            (None, Some(version)) => read = read.until(version),
            (None, None) => {}
        }

        fold.snapshot.read_at.get_or_insert_with(|| self.clock.monotonic());
        let (retrying, mut pages) = (self.retrying(deadline), Pages::new(&*self.store, read));
        loop {
            let page = pages.next(&retrying).await;
            fold.cost += std::mem::take(&mut pages.failed);
            let Some(page) = page? else { return Ok(()) };
            fold.cost += page.cost;
            if let Some((snapshots, _)) = snapshots {
                fold.start_from_snapshot(snapshots, stream, &page, bound)?;
                if let Some(snapshot) = &page.snapshot {
                    self.snapshotting.known.put(stream, snapshot.version());
                }
            }
            for commit in &page.commits {
                let is_past = time.is_some_and(|time| commit.time > time)
                    || bound.is_some_and(|bound| fold.version >= bound);
                if is_past {
                    return Ok(());
                }
                fold.apply(stream, commit, bound)?;
            }
        }
    }
}

/// The pages of a read. The request for each page is retried as the policy allows.
pub(super) struct Pages<'a> {
    store: &'a dyn EventStore,
    /// The rest of the read.
    read: Read,
    /// The pages of `read`; `None` before the first request and after a failed one.
    open: Option<BoxStream<'a, Result<Page, StoreError>>>,
    /// The cost of failed requests.
    failed: Cost,
}

impl<'a> Pages<'a> {
    pub(super) fn new(store: &'a dyn EventStore, read: Read) -> Self {
        Self { store, read, open: None, failed: Cost::ZERO }
    }

    pub(super) async fn next(&mut self, retrying: &Retrying<'_>) -> Result<Option<Page>, StoreError> {
        let mut failures = Failures::of_read();
        retrying.check()?;
        loop {
            let pages = self.open.get_or_insert_with(|| self.store.read(self.read.clone()));
            let error = match pages.try_next().await {
                Ok(None) => return Ok(None),
                Ok(Some(page)) => {
                    let snapshot = page.snapshot.as_ref().map(Snapshot::version);
                    if let Some(last) = page.commits.last().map(Commit::last).or(snapshot) {
                        self.read = self.read.clone().after(last);
                    }
                    return Ok(Some(page));
                }
                Err(error) => error,
            };
            self.open = None;
            self.failed += Cost::read(0.0); // the error does not say what it cost
            retrying.wait(error, &mut failures).await?;
            if self.read.end().is_some_and(|end| self.read.start() >= end) {
                return Ok(None);
            }
        }
    }
}
