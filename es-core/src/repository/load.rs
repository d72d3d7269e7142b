//! Loading: from the store to a state.

use chrono::{DateTime, Utc};
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::aggregate::Aggregate;
use crate::cost::Cost;
use crate::error_text::error_text;
use crate::event::CommitId;
use crate::repository::fold::{Fold, decode};
use crate::repository::report::log_failure;
use crate::repository::retrying::{Deadline, Retrying, Sent};
use crate::repository::{Inner, Outcome};
use crate::snapshot::{SnapshotPolicy, Snapshots};
use crate::store::{Commit, EventStore, MarkerRead, OnceKey, Page, Place, Read, StoreError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// Where a load ends.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    End,
    /// The end, as a replica knows it that may be behind.
    Lately,
    Version(Version),
    Time(DateTime<Utc>),
}

/// Why a load stopped before its end.
enum Interrupted {
    /// The snapshot cannot be decoded.
    Undecodable(Version),
    /// The snapshot is of a later version than the load is for.
    TooLate,
    Failed(StoreError),
}

impl<A: Aggregate> Inner<A> {
    /// Loads the current state, from the cache or a snapshot where there is one.
    pub(crate) async fn load_current(
        &self,
        fold: &mut Fold<A>,
        stream: &StreamId,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        match self.cached(stream) {
            Some(cached) => {
                *fold = cached;
                self.catch_up(fold, stream, deadline).await?;
            }
            None => self.load_cold(fold, stream, deadline).await?,
        }
        self.remember(stream, fold);
        Ok(())
    }

    /// Loads the current state from the store alone, into a new fold.
    pub(crate) async fn load_cold(
        &self,
        fold: &mut Fold<A>,
        stream: &StreamId,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        self.advance(fold, stream, Until::End, self.usable_snapshots(), deadline).await
    }

    /// Loads a state to decide on from the store, into a new fold; it may be behind, if the repository allows that.
    pub(crate) async fn load_to_decide(
        &self,
        fold: &mut Fold<A>,
        stream: &StreamId,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        let until = if self.eventual { Until::Lately } else { Until::End };
        self.advance(fold, stream, until, self.usable_snapshots(), deadline).await
    }

    /// The state as it was last seen by this repository; it may be behind.
    pub(crate) fn cached(&self, stream: &StreamId) -> Option<Fold<A>> {
        self.cache.as_ref()?.get(stream)
    }

    /// Keeps a state for the commands to come.
    pub(crate) fn remember(&self, stream: &StreamId, fold: &mut Fold<A>) {
        if let Some(cache) = &self.cache
            && !fold.version.is_none()
        {
            // What it cost is this caller's, not the next one's.
            let cost = std::mem::take(&mut fold.cost);
            cache.put(stream, fold);
            fold.cost = cost;
        }
    }

    /// Loads a state of the past into a new fold, from the first event.
    pub(crate) async fn load_past(
        &self,
        fold: &mut Fold<A>,
        stream: &StreamId,
        until: Until,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        self.advance(fold, stream, until, None, deadline).await
    }

    /// Brings a state that was loaded earlier up to date: reads only what came after it.
    pub(crate) async fn catch_up(
        &self,
        fold: &mut Fold<A>,
        stream: &StreamId,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        self.advance(fold, stream, Until::End, None, deadline).await
    }

    /// Reads the outcome of a command that was carried out before, from where its events are: the state after them,
    /// the events, and what reading them cost.
    ///
    /// `known` is what was loaded to decide the command now. Its state is taken if it is that outcome's state, and
    /// otherwise its snapshot tells whether one can be used.
    pub(crate) async fn first_outcome(
        &self,
        stream: &StreamId,
        place: &Place,
        known: &mut Fold<A>,
        deadline: Deadline,
    ) -> Result<Outcome<A>, StoreError> {
        let mut fold = Fold::new();
        let is_known = known.version == place.last;
        if is_known {
            std::mem::swap(&mut fold, known);
            fold.cost = Cost::ZERO;
        } else {
            let has_snapshot = !known.snapshot.is_none() && known.snapshot < place.first;
            let snapshots = self.usable_snapshots().filter(|_| has_snapshot);
            let until = Until::Version(place.first.previous());
            self.advance(&mut fold, stream, until, snapshots, deadline).await?;
        }
        let mut events = Vec::new();
        let mut commit: Option<CommitId> = None;
        if !place.is_empty() {
            for stored in self.commits(stream, place, &mut fold.cost, deadline).await? {
                commit = Some(stored.id);
                for (version, _, data) in stored.numbered() {
                    let event =
                        decode::<A>(data).map_err(|error| StoreError::decode(stream, version, error))?;
                    events.extend(event);
                }
                if !is_known {
                    fold.apply(stream, &stored, None)?;
                }
            }
        }
        if fold.version != place.last || commit.is_some() == place.is_empty() {
            let reason = format!("a marker tells of version {}, which is not there", place.last);
            return Err(StoreError::corrupt(stream, reason));
        }
        Ok(Outcome {
            state: fold.state,
            version: fold.version,
            events,
            commit,
            repeated: true,
            attempts: 1,
            cost: fold.cost,
        })
    }

    /// Reads the commits at `place`.
    async fn commits(
        &self,
        stream: &StreamId,
        place: &Place,
        cost: &mut Cost,
        deadline: Deadline,
    ) -> Result<Vec<Commit>, StoreError> {
        let read = Read::all(stream.clone()).after(place.first.previous()).until(place.last);
        let (mut pages, mut commits) = (Pages::new(&*self.store, read), Vec::new());
        while let Some(page) = pages.next(&self.retrying(deadline)).await? {
            *cost += page.cost;
            commits.extend(page.commits);
        }
        Ok(commits)
    }

    /// Reads a part of a stream page by page. Each page has the retries and the deadline of a load.
    pub(crate) fn pages(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        let pages = Pages::new(&*self.store, read);
        stream::try_unfold(pages, async move |mut pages| {
            let deadline = Deadline::after(self.deadline, &*self.clock);
            let page = pages.next(&self.retrying(deadline)).await.inspect_err(|error| {
                log_failure(error, pages.read.stream(), "history");
            })?;
            Ok(page.map(|page| (page, pages)))
        })
        .boxed()
    }

    /// Reads what is remembered under `key`.
    pub(crate) async fn marker(&self, key: &OnceKey, deadline: Deadline) -> Result<MarkerRead, StoreError> {
        self.retrying(deadline).read(|| self.store.marker(key)).await
    }

    async fn advance(
        &self,
        fold: &mut Fold<A>,
        stream: &StreamId,
        until: Until,
        mut snapshots: Option<(Snapshots<A>, SnapshotPolicy)>,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        let (retrying, mut sent) = (self.retrying(deadline), Sent::read());
        let mut suspected: Option<StoreError> = None;
        loop {
            match self.read_into(fold, stream, until, snapshots.as_ref(), &retrying).await {
                Ok(()) => {
                    retrying.tokens.refill();
                    if let Some(error) = suspected {
                        // The events alone are sound, so the snapshot is not.
                        let error = error_text(&error);
                        tracing::warn!(%stream, %error, "ignored a snapshot that made the load fail");
                    }
                    return Ok(());
                }
                Err(Interrupted::Undecodable(version)) => {
                    tracing::warn!(%stream, %version, "ignored a snapshot that cannot be decoded");
                    fold.unusable_snapshot = Some(version);
                }
                Err(Interrupted::TooLate) => {}
                // An event that cannot be decoded is no fault of a snapshot that was not there.
                Err(Interrupted::Failed(error))
                    if error.is_retryable()
                        || snapshots.is_none()
                        || (matches!(error, StoreError::Decode { .. }) && fold.snapshot.is_none()) =>
                {
                    retrying.wait(error, &mut sent).await?;
                    continue;
                }
                Err(Interrupted::Failed(error)) => suspected = Some(error),
            }
            snapshots = None;
            fold.restart();
        }
    }

    /// Reads on from where the fold is. After a page that could not be read, calling again continues.
    async fn read_into(
        &self,
        fold: &mut Fold<A>,
        stream: &StreamId,
        until: Until,
        snapshots: Option<&(Snapshots<A>, SnapshotPolicy)>,
        retrying: &Retrying<'_>,
    ) -> Result<(), Interrupted> {
        let mut read = Read::all(stream.clone()).after(fold.version);
        if let Until::Version(version) = until {
            if fold.version >= version {
                return Ok(());
            }
            // A store starts from a snapshot only in reads to the end.
            if snapshots.is_none() {
                read = read.until(version);
            }
        }
        if matches!(until, Until::Lately) {
            read = read.eventually();
        }
        if let Some((snapshots, policy)) = snapshots
            && fold.version.is_none()
            && let Some(longest_tail) = self.snapshotting.longest_tail(*policy)
        {
            read = read.from_snapshot(snapshots.fingerprint(), longest_tail);
        }

        let mut pages = self.store.read(read);
        let mut is_first = true;
        loop {
            if !std::mem::take(&mut is_first) {
                retrying.check().map_err(Interrupted::Failed)?;
            }
            let page = match pages.try_next().await {
                Ok(Some(page)) => page,
                Ok(None) => return Ok(()),
                Err(error) => {
                    fold.cost += Cost::read(0.0);
                    return Err(Interrupted::Failed(error));
                }
            };
            fold.cost += page.cost;
            if let Some(version) = page.unusable_snapshot {
                tracing::debug!(%stream, %version, "ignoring a snapshot that does not fit");
                fold.unusable_snapshot = Some(version);
            }
            restore(fold, &page, snapshots, until)?;
            let (bound, time) = match until {
                Until::End | Until::Lately => (None, None),
                Until::Version(version) => (Some(version), None),
                Until::Time(time) => (None, Some(time)),
            };
            for commit in &page.commits {
                if time.is_some_and(|time| commit.time > time) {
                    return Ok(());
                }
                if bound.is_some_and(|bound| fold.version >= bound) {
                    return Ok(());
                }
                fold.apply(stream, commit, bound).map_err(Interrupted::Failed)?;
            }
        }
    }
}

/// The pages of a read, each requested until it is there or may not be retried.
struct Pages<'a> {
    store: &'a dyn EventStore,
    /// What is left to read.
    read: Read,
    /// The pages from there on; `None` before the first request, and after one that failed.
    open: Option<BoxStream<'a, Result<Page, StoreError>>>,
}

impl<'a> Pages<'a> {
    fn new(store: &'a dyn EventStore, read: Read) -> Self {
        Self { store, read, open: None }
    }

    async fn next(&mut self, retrying: &Retrying<'_>) -> Result<Option<Page>, StoreError> {
        let mut sent = Sent::read();
        retrying.check()?;
        loop {
            let pages = self.open.get_or_insert_with(|| self.store.read(self.read.clone()));
            match pages.try_next().await {
                Ok(page) => {
                    retrying.tokens.refill();
                    if let Some(last) = page.as_ref().and_then(|page| page.commits.last()) {
                        self.read = self.read.clone().after(last.last());
                    }
                    return Ok(page);
                }
                Err(error) => {
                    self.open = None;
                    retrying.wait(error, &mut sent).await?;
                    if self.read.end().is_some_and(|end| self.read.start() >= end) {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

fn restore<A: Aggregate>(
    fold: &mut Fold<A>,
    page: &Page,
    snapshots: Option<&(Snapshots<A>, SnapshotPolicy)>,
    until: Until,
) -> Result<(), Interrupted> {
    let (Some(snapshot), Some((snapshots, _))) = (&page.snapshot, snapshots) else {
        return Ok(());
    };
    if matches!(until, Until::Version(version) if snapshot.version() > version) {
        return Err(Interrupted::TooLate);
    }
    match snapshots.restore(snapshot) {
        Ok(state) => {
            fold.restore(state, snapshot);
            Ok(())
        }
        Err(_) => Err(Interrupted::Undecodable(snapshot.version())),
    }
}
