//! Going through the table, in segments at once.

use std::time::Duration;

use es_core::StoreError;
use es_core::documents::{DocumentKey, Documents, ExpectedDocument, Revision};
use futures_util::future;
use tokio::sync::Mutex;

use super::ReconcileProgress;
use super::scan::Scan;
use super::state::{self, ReconcileState};
use crate::backoff::Backoff;
use crate::feed::{Ingest, Noted};

/// After how many failures in a row of one request it is given up.
const MOST_FAILURES: u32 = 10;

/// What a reconciliation works on.
pub(crate) struct Reconciliation<'a> {
    pub(crate) table: &'a dyn Scan,
    pub(crate) feed: &'a dyn Ingest,
    /// Where its state is kept, if it is.
    pub(crate) kept: Option<(&'a dyn Documents, DocumentKey)>,
    pub(crate) on_progress: &'a (dyn Fn(&ReconcileProgress) + Send + Sync),
}

/// How a reconciliation ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Done(ReconcileProgress),
    /// Another process goes on with it, or it was ordered once more.
    Superseded,
}

/// What all segments share.
struct Shared {
    state: ReconcileState,
    revision: Option<Revision>,
    superseded: bool,
    progress: ReconcileProgress,
}

impl Reconciliation<'_> {
    /// Goes on where the state ends, or starts with `segments`.
    pub(crate) async fn run(&self, segments: u32) -> Result<Ended, StoreError> {
        let mut found = None;
        if let Some((documents, key)) = &self.kept {
            found = state::read(*documents, key, segments).await?;
        }
        let (state, revision) = match found {
            Some((state, revision)) if state.pending => (state, Some(revision)),
            Some((_, revision)) => (ReconcileState::new(segments), Some(revision)),
            None => (ReconcileState::new(segments), None),
        };
        let count = state.segments.len() as u32;
        let progress = ReconcileProgress { segments: count, ..ReconcileProgress::default() };
        let shared = Mutex::new(Shared { state, revision, superseded: false, progress });
        let all = (0..count).map(|segment| self.segment(segment, count, &shared));
        future::try_join_all(all).await?;
        let mut shared = shared.lock().await;
        shared.state.pending = false;
        self.keep(&mut shared).await?;
        Ok(match shared.superseded {
            true => Ended::Superseded,
            false => Ended::Done(shared.progress.clone()),
        })
    }

    async fn segment(&self, segment: u32, segments: u32, shared: &Mutex<Shared>) -> Result<(), StoreError> {
        let index = segment as usize;
        let mut at = shared.lock().await.state.segments[index].clone();
        while !at.done {
            let page = retrying(|| self.table.scan(segment, segments, at.after.as_ref())).await?;
            let mut hints = Vec::with_capacity(page.noted.len());
            let mut foreign = 0;
            for noted in page.noted {
                match noted {
                    Noted::Hint(hint) => hints.push(hint),
                    Noted::Nothing | Noted::Keyless => {}
                    Noted::Foreign => foreign += 1,
                }
            }
            let commits = hints.len() as u64;
            let indexed = retrying(|| self.feed.ingest(hints.clone(), Duration::ZERO)).await?;
            (at.done, at.after) = (page.next.is_none(), page.next);

            let mut shared = shared.lock().await;
            let progress = &mut shared.progress;
            progress.pages += 1;
            progress.commits += commits;
            progress.events_indexed += indexed.events;
            progress.foreign_items += foreign;
            progress.segments_done += u32::from(at.done);
            progress.cost += page.cost;
            indexed.log();
            progress.damaged.extend(indexed.damaged.into_iter().map(|(stream, _)| stream));
            progress.contradicting.extend(indexed.contradicting.into_iter().map(|(stream, _)| stream));
            (self.on_progress)(progress);
            shared.state.segments[index] = at.clone();
            self.keep(&mut shared).await?;
            if shared.superseded {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn keep(&self, shared: &mut Shared) -> Result<(), StoreError> {
        let Some((documents, key)) = &self.kept else { return Ok(()) };
        if shared.superseded {
            return Ok(());
        }
        let expected = ExpectedDocument::from(shared.revision);
        let written = retrying(|| state::write(*documents, key, &shared.state, expected)).await?;
        match written {
            Some(revision) => shared.revision = Some(revision),
            None => shared.superseded = true,
        }
        Ok(())
    }
}

/// Tries again what may succeed later.
pub(crate) async fn retrying<T, F>(request: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut backoff = Backoff::default();
    loop {
        match request().await {
            Err(error) if error.is_retryable() && backoff.failures() < MOST_FAILURES => {
                tokio::time::sleep(backoff.next()).await;
            }
            other => return other,
        }
    }
}
