//! A worker: takes shards, reads them, and orders a reconciliation where something may have been missed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use es_core::StoreError;
use es_core::documents::{Documents, ExpectedDocument, Revision};
use futures_util::future::{self, BoxFuture, Either, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::ledger::{self, Ledger, ShardState};
use super::plan::{Plan, View, plan};
use super::progress::Progress;
use super::shard::{Lease, ShardEnd};
use super::source::StreamSource;
use crate::backoff::Backoff;
use crate::feed::Ingest;
use crate::reconciler::scan::Scan;
use crate::reconciler::state::{self, ReconcileState};
use crate::reconciler::{Ended, ReconcileProgress, Reconciliation};

/// How long a checkpoint may stay as it is before its place in the stream counts as gone: the stream keeps 24
/// hours.
const LONGEST_ABSENCE: Duration = Duration::from_secs(20 * 60 * 60);

/// The name of the reconciliation that indexers order.
const RECONCILIATION: &str = "indexer";

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) poll: Duration,
    pub(crate) linger: Duration,
    pub(crate) refresh: Duration,
    pub(crate) lease: Duration,
    pub(crate) segments: u32,
}

/// A worker, and what it works on.
pub(crate) struct Worker {
    pub(crate) source: Arc<dyn StreamSource>,
    pub(crate) feed: Arc<dyn Ingest>,
    pub(crate) table: Arc<dyn Scan>,
    pub(crate) documents: Arc<dyn Documents>,
    pub(crate) settings: Settings,
    pub(crate) progress: Progress,
    pub(crate) stop: watch::Sender<bool>,
    /// Milliseconds since 1970. Only to tell a day from a moment.
    pub(crate) clock: Arc<dyn Fn() -> i64 + Send + Sync>,
}

/// What a run remembers between its rounds.
struct Run<'a> {
    me: Uuid,
    mine: HashSet<String>,
    /// When each checkpoint was first seen as it is, by this process' own clock.
    seen: HashMap<String, (Revision, Instant)>,
    /// Shards whose checkpoints turned out to be gone.
    trimmed: HashSet<String>,
    reading: FuturesUnordered<BoxFuture<'a, (String, ShardEnd)>>,
    reconciling: Option<BoxFuture<'a, Result<Ended, StoreError>>>,
    /// When the reconciliation of another one was first seen as it is.
    others: Option<(Revision, Instant)>,
}

impl Worker {
    /// Works until it is told to stop.
    pub(crate) async fn run(&self) -> Result<(), StoreError> {
        let mut run = Run {
            me: Uuid::new_v4(),
            mine: HashSet::new(),
            seen: HashMap::new(),
            trimmed: HashSet::new(),
            reading: FuturesUnordered::new(),
            reconciling: None,
            others: None,
        };
        let mut backoff = Backoff::default();
        loop {
            let pause = match self.round(&mut run).await {
                _ if self.is_stopping() => break,
                Ok(()) => {
                    backoff.reset();
                    self.settings.refresh
                }
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, "the shards of the table's stream could not be looked after");
                    backoff.next()
                }
                Err(error) => return Err(error),
            };
            self.wait(&mut run, pause).await?;
            if self.is_stopping() {
                break;
            }
        }
        // Each of them writes its checkpoint.
        while run.reading.next().await.is_some() {}
        Ok(())
    }

    /// Waits until something has happened, or it is time for the next round.
    async fn wait(&self, run: &mut Run<'_>, pause: Duration) -> Result<(), StoreError> {
        let timer = std::pin::pin!(self.pause(pause));
        let reading = async {
            match run.reading.next().await {
                Some(ended) => ended,
                None => future::pending().await,
            }
        };
        let reconciling = async {
            match &mut run.reconciling {
                Some(reconciling) => reconciling.await,
                None => future::pending().await,
            }
        };
        let (reading, reconciling) = (std::pin::pin!(reading), std::pin::pin!(reconciling));
        let work = future::select(reading, reconciling);
        let (shard, end) = match future::select(work, timer).await {
            Either::Right(_) => return Ok(()),
            Either::Left((Either::Right((ended, _)), _)) => {
                run.reconciling = None;
                self.progress.update(|progress| progress.reconciling = false);
                return match ended {
                    Ok(_) => Ok(()),
                    Err(error) if error.is_retryable() => {
                        tracing::warn!(%error, "the table could not be reconciled to its end");
                        Ok(())
                    }
                    Err(error) => Err(error),
                };
            }
            Either::Left((Either::Left((ended, _)), _)) => ended,
        };
        run.mine.remove(&shard);
        self.progress.update(|progress| progress.forget_shard(&shard));
        tracing::debug!(shard, ?end, "a shard is no longer read");
        match end {
            ShardEnd::Trimmed => {
                run.trimmed.insert(shard);
            }
            ShardEnd::Failed(error) if !error.is_retryable() => return Err(error),
            ShardEnd::Failed(error) => {
                tracing::warn!(%error, "a shard could not be read");
                self.pause(self.settings.poll).await;
            }
            ShardEnd::Finished | ShardEnd::Lost | ShardEnd::Stopped => {}
        }
        Ok(())
    }

    /// Looks after everything once.
    async fn round<'a>(&'a self, run: &mut Run<'a>) -> Result<(), StoreError> {
        // The ledger first: a shard that comes up in between has no place in it yet, and needs none.
        let mut ledger = ledger::read(&*self.documents).await?;
        let shards = self.source.shards().await?;
        let now = Instant::now();
        run.seen.retain(|shard, _| ledger.shards.contains_key(shard));
        for (shard, (_, revision)) in &ledger.shards {
            let seen = run.seen.entry(shard.clone()).or_insert((*revision, now));
            if seen.0 != *revision {
                *seen = (*revision, now);
            }
        }
        let plan = {
            let alive = |shard: &str, revision| {
                let seen = run.seen.get(shard).filter(|(same, _)| *same == revision);
                seen.is_none_or(|(_, since)| since.elapsed() < self.settings.lease)
            };
            let was_absent = |state: &ShardState| {
                let age = (self.clock)().saturating_sub(state.at).unsigned_abs();
                u128::from(age) > LONGEST_ABSENCE.as_millis()
            };
            let view = View { me: run.me, mine: &run.mine, alive: &alive, was_absent: &was_absent };
            plan(&ledger, &shards, &view)
        };

        let missed = plan.has_missed() || !run.trimmed.is_empty();
        if !self.look_after_reconciliation(run, missed).await? {
            // Nothing is taken before it is known that what was missed will be found.
            return Ok(());
        }
        self.carry_out(run, &mut ledger, plan).await
    }

    /// Orders a reconciliation where one is needed, and runs one that was ordered; whether all is in order.
    async fn look_after_reconciliation<'a>(
        &'a self,
        run: &mut Run<'a>,
        missed: bool,
    ) -> Result<bool, StoreError> {
        let key = state::key(RECONCILIATION);
        let segments = self.settings.segments;
        let found = state::read(&*self.documents, &key, segments).await?;
        let mut revision = found.as_ref().map(|(_, revision)| *revision);
        let mut pending = found.as_ref().is_some_and(|(state, _)| state.pending);
        if missed {
            // From its beginning, also when one is under way: it may be past the place already.
            tracing::info!("the table is reconciled with its feed: the stream may have lost records");
            let expected = ExpectedDocument::from(revision);
            let ordered = ReconcileState::new(segments);
            match state::write(&*self.documents, &key, &ordered, expected).await? {
                Some(written) => (revision, pending) = (Some(written), true),
                None => return Ok(false),
            }
            run.reconciling = None;
            run.others = None;
        }
        let Some(revision) = revision.filter(|_| pending) else {
            run.others = None;
            return Ok(true);
        };
        if run.reconciling.is_some() {
            return Ok(true);
        }
        // One that another worker runs changes all the time.
        let since = match run.others {
            Some((same, since)) if same == revision => since,
            _ => {
                run.others = Some((revision, Instant::now()));
                Instant::now()
            }
        };
        if missed || since.elapsed() >= self.settings.lease {
            self.progress.update(|progress| progress.reconciling = true);
            run.reconciling = Some(self.reconcile().boxed());
        }
        Ok(true)
    }

    async fn reconcile(&self) -> Result<Ended, StoreError> {
        let kept = Some((&*self.documents, state::key(RECONCILIATION)));
        let on_progress = |found: &ReconcileProgress| {
            self.progress.update(|progress| progress.reconciliation = Some(found.clone()));
        };
        let (table, feed) = (&*self.table, &*self.feed);
        Reconciliation { table, feed, kept, on_progress: &on_progress }.run(self.settings.segments).await
    }

    async fn carry_out<'a>(
        &'a self,
        run: &mut Run<'a>,
        ledger: &mut Ledger,
        plan: Plan,
    ) -> Result<(), StoreError> {
        for shard in &plan.gone {
            self.note(ledger, shard, |state| (state.done, state.owner) = (true, None)).await?;
        }
        // What these have missed is found by now, so they count as known.
        for shard in plan.unknown.iter().chain(&plan.absent) {
            self.note(ledger, shard, |_| {}).await?;
        }
        for shard in std::mem::take(&mut run.trimmed) {
            self.note(ledger, &shard, |state| (state.after, state.owner) = (None, None)).await?;
        }
        for (shard, revision) in &plan.forget {
            ledger::forget(&*self.documents, shard, *revision).await?;
        }
        for shard in plan.take {
            if !self.note(ledger, &shard, |state| state.owner = Some(run.me)).await? {
                continue;
            }
            let Some((state, revision)) = ledger.shards.get(&shard).cloned() else { continue };
            tracing::debug!(shard, "a shard is read");
            run.mine.insert(shard.clone());
            self.progress.update(|progress| progress.note_shard(&shard, false));
            let lease = Lease { shard: shard.clone(), state, revision };
            run.reading.push(async move { (shard, self.follow(lease).await) }.boxed());
        }
        Ok(())
    }

    /// Changes what is known of a shard, unless another one has; whether it did.
    async fn note(
        &self,
        ledger: &mut Ledger,
        shard: &str,
        change: impl FnOnce(&mut ShardState) + Send,
    ) -> Result<bool, StoreError> {
        let known = ledger.shards.get(shard);
        let seen = known.map(|(_, revision)| *revision);
        let mut state = known.map(|(state, _)| state.clone()).unwrap_or_default();
        change(&mut state);
        state.at = (self.clock)();
        let written = ledger::write(&*self.documents, shard, &state, seen).await?;
        if let Some(revision) = written {
            ledger.shards.insert(shard.to_owned(), (state, revision));
        }
        Ok(written.is_some())
    }
}
