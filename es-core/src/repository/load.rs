//! Loading: from the store to a state.

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;

use crate::aggregate::Aggregate;
use crate::cost::Cost;
use crate::repository::fold::Fold;
use crate::repository::{Inner, RetryPolicy};
use crate::snapshot::{SnapshotPolicy, Snapshots};
use crate::store::{Commit, MarkerRead, OnceKey, Page, Place, Read, StoreError};
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

/// Why a load has to start again without the snapshot.
enum Interrupted {
    Snapshot(Version),
    Store(StoreError),
}

impl<A: Aggregate> Inner<A> {
    /// The current state, from the cache or a snapshot where there is one.
    pub(crate) async fn load_current(&self, stream: &StreamId) -> Result<Fold<A>, StoreError> {
        let mut fold = match self.cached(stream) {
            Some(mut fold) => {
                self.catch_up(&mut fold, stream).await?;
                fold
            }
            None => self.load_cold(stream).await?,
        };
        self.remember(stream, &mut fold);
        Ok(fold)
    }

    /// The current state, from the store alone.
    pub(crate) async fn load_cold(&self, stream: &StreamId) -> Result<Fold<A>, StoreError> {
        self.load(stream, Until::End, self.usable_snapshots()).await
    }

    /// A state to decide on, from the store; it may be behind, if the repository allows that.
    pub(crate) async fn load_to_decide(&self, stream: &StreamId) -> Result<Fold<A>, StoreError> {
        let until = if self.eventual { Until::Lately } else { Until::End };
        self.load(stream, until, self.usable_snapshots()).await
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

    /// A state of the past, from the first event.
    pub(crate) async fn load_past(&self, stream: &StreamId, until: Until) -> Result<Fold<A>, StoreError> {
        self.load(stream, until, None).await
    }

    async fn load(
        &self,
        stream: &StreamId,
        until: Until,
        snapshots: Option<(Snapshots<A>, SnapshotPolicy)>,
    ) -> Result<Fold<A>, StoreError> {
        let mut fold = Fold::new();
        self.advance(&mut fold, stream, until, snapshots).await?;
        Ok(fold)
    }

    /// Brings a state that was loaded earlier up to date: reads only what came after it.
    pub(crate) async fn catch_up(&self, fold: &mut Fold<A>, stream: &StreamId) -> Result<(), StoreError> {
        self.advance(fold, stream, Until::End, None).await
    }

    /// The commits at `place`, read again after an error that passes.
    pub(crate) async fn commits(
        &self,
        stream: &StreamId,
        place: &Place,
        cost: &mut Cost,
    ) -> Result<Vec<Commit>, StoreError> {
        let mut attempts = 1;
        loop {
            let read = Read::all(stream.clone()).after(place.first.previous()).until(place.last);
            let pages: Result<Vec<Page>, _> = self.store.read(read).try_collect().await;
            match pages {
                Ok(pages) => {
                    *cost += pages.iter().map(|page| page.cost).sum();
                    return Ok(pages.into_iter().flat_map(|page| page.commits).collect());
                }
                Err(error) => self.wait_after(error, &mut attempts).await?,
            }
        }
    }

    /// What is remembered under `key`, read again after an error that passes.
    pub(crate) async fn marker(&self, key: &OnceKey) -> Result<MarkerRead, StoreError> {
        let mut attempts = 1;
        loop {
            match self.store.marker(key).await {
                Ok(found) => return Ok(found),
                Err(error) => self.wait_after(error, &mut attempts).await?,
            }
        }
    }

    async fn wait_after(&self, error: StoreError, attempts: &mut u32) -> Result<(), StoreError> {
        if !error.is_retryable() || !self.retry.allows_another(*attempts) {
            return Err(error);
        }
        self.wait(&self.retry, *attempts).await;
        *attempts += 1;
        Ok(())
    }

    async fn advance(
        &self,
        fold: &mut Fold<A>,
        stream: &StreamId,
        until: Until,
        mut snapshots: Option<(Snapshots<A>, SnapshotPolicy)>,
    ) -> Result<(), StoreError> {
        let mut attempts = 1;
        loop {
            let error = match self.read_into(fold, stream, until, snapshots.as_ref()).await {
                Ok(()) => return Ok(()),
                Err(Interrupted::Snapshot(version)) => {
                    tracing::warn!(%stream, %version, "ignoring a snapshot that cannot be decoded");
                    fold.unusable_snapshot = Some(version);
                    snapshots = None;
                    fold.restart();
                    continue;
                }
                Err(Interrupted::Store(error)) => error,
            };
            if error.is_retryable() && self.retry.allows_another(attempts) {
                self.wait(&self.retry, attempts).await;
                attempts += 1;
            } else if !error.is_retryable() && snapshots.is_some() {
                // Whatever is wrong may be the snapshot's fault: the events alone decide.
                tracing::warn!(%stream, %error, "reading the stream again without its snapshot");
                snapshots = None;
                fold.restart();
            } else {
                return Err(error);
            }
        }
    }

    /// Reads on from where the fold is. After a page that could not be read, calling again continues.
    async fn read_into(
        &self,
        fold: &mut Fold<A>,
        stream: &StreamId,
        until: Until,
        snapshots: Option<&(Snapshots<A>, SnapshotPolicy)>,
    ) -> Result<(), Interrupted> {
        let mut read = Read::all(stream.clone()).after(fold.version);
        if let Until::Version(version) = until {
            if fold.version >= version {
                return Ok(());
            }
            read = read.until(version);
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
        loop {
            let page = match pages.try_next().await {
                Ok(Some(page)) => page,
                Ok(None) => return Ok(()),
                Err(error) => {
                    fold.cost += Cost::read(0.0);
                    return Err(Interrupted::Store(error));
                }
            };
            fold.cost += page.cost;
            if let Some(version) = page.unusable_snapshot {
                tracing::debug!(%stream, %version, "ignoring a snapshot that does not fit");
                fold.unusable_snapshot = Some(version);
            }
            restore(fold, &page, snapshots)?;
            let (bound, time) = match until {
                Until::End | Until::Lately => (None, None),
                Until::Version(version) => (Some(version), None),
                Until::Time(time) => (None, Some(time)),
            };
            for commit in &page.commits {
                if time.is_some_and(|time| commit.time > time) {
                    return Ok(());
                }
                fold.apply(stream, commit, bound).map_err(Interrupted::Store)?;
            }
        }
    }

    pub(crate) async fn wait(&self, retry: &RetryPolicy, attempts: u32) {
        self.clock.sleep(retry.delay_after(attempts)).await;
    }
}

fn restore<A: Aggregate>(
    fold: &mut Fold<A>,
    page: &Page,
    snapshots: Option<&(Snapshots<A>, SnapshotPolicy)>,
) -> Result<(), Interrupted> {
    let (Some(snapshot), Some((snapshots, _))) = (&page.snapshot, snapshots) else {
        return Ok(());
    };
    match snapshots.restore(snapshot) {
        Ok(state) => {
            fold.restore(state, snapshot);
            Ok(())
        }
        Err(_) => Err(Interrupted::Snapshot(snapshot.version())),
    }
}
