//! A worker: takes shards, reads them, and orders a reconciliation where something may have been missed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use es_core::documents::{Documents, ExpectedDocument, Revision};
use es_core::{StoreError, error_text};
use futures_util::future;
use futures_util::future::{BoxFuture, Either, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::outages::{Outages, bounded};
use super::plan;
use super::plan::{Ledger, Plan, ShardState, View, plan};
use super::progress::Progress;
use super::shard::{Lease, ShardEnd};
use super::source::StreamSource;
use crate::feed::Ingest;
use crate::feed::reconciler::scan::Scan;
use crate::feed::reconciler::state::ReconcileState;
use crate::feed::reconciler::{Ended, ReconcileProgress, Reconciliation, state};

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
    pub(crate) shutdown: Duration,
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
    pub(crate) outages: Outages,
    pub(crate) stop: watch::Sender<bool>,
    /// Milliseconds since 1970. Only to tell a day from a moment.
    pub(crate) clock: Arc<dyn Fn() -> i64 + Send + Sync>,
}

/// The shards that are read.
type Reading<'a> = FuturesUnordered<BoxFuture<'a, (String, ShardEnd)>>;

/// What a run remembers between its rounds.
struct Run<'a> {
    me: Uuid,
    mine: HashSet<String>,
    /// When each checkpoint was first seen as it is, by this process' own clock.
    seen: HashMap<String, (Revision, Instant)>,
    /// Shards whose checkpoints turned out to be gone.
    trimmed: HashSet<String>,
    /// Shards that were taken, and are not read yet.
    taken: Vec<Lease>,
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
            taken: Vec::new(),
            reconciling: None,
            others: None,
        };
        let mut reading = Reading::new();
        let mut outage = self.outages.of("looking after the shards of the table's stream");
        while !self.is_stopping() {
            let (looked, ended) = self.look(&mut run, &mut reading).await;
            for ended in ended {
                self.end(&mut run, ended)?;
            }
            for lease in std::mem::take(&mut run.taken) {
                let shard = lease.shard.clone();
                reading.push(async move { (shard, self.follow(lease).await) }.boxed());
            }
            let pause = match looked {
                Ok(()) => {
                    outage.is_over();
                    self.settings.refresh
                }
                Err(error) if error.is_transient() => outage.failed(&error),
                Err(error) => return Err(error),
            };
            if !self.is_stopping() {
                self.wait(&mut run, &mut reading, pause).await?;
            }
        }
        // Each of them writes its checkpoint.
        let all = async { while reading.next().await.is_some() {} };
        if tokio::time::timeout(self.settings.shutdown, all).await.is_err() {
            tracing::warn!(
                "some shards were not released in time: others take them over when their leases expire"
            );
        }
        Ok(())
    }

    /// A round, while shards are read; with those whose reading has ended meanwhile.
    ///
    /// It may be broken off: a shard that was taken and is not read is taken again.
    async fn look<'a>(
        &'a self,
        run: &mut Run<'a>,
        reading: &mut Reading<'a>,
    ) -> (Result<(), StoreError>, Vec<(String, ShardEnd)>) {
        let round = bounded(self.settings.lease, self.round(run));
        let stopped = self.stopped().map(Ok);
        let mut round = std::pin::pin!(
            future::select(Box::pin(round), Box::pin(stopped)).map(|done| done.factor_first().0)
        );
        let mut ended = Vec::new();
        while !reading.is_empty() {
            match future::select(round.as_mut(), reading.next()).await {
                Either::Left((looked, _)) => return (looked, ended),
                Either::Right((end, _)) => ended.extend(end),
            }
        }
        (round.await, ended)
    }

    /// Waits until something has happened, or it is time for the next round.
    async fn wait<'a>(
        &'a self,
        run: &mut Run<'a>,
        reading: &mut Reading<'a>,
        pause: Duration,
    ) -> Result<(), StoreError> {
        let timer = std::pin::pin!(self.pause(pause));
        let reading = async {
            match reading.next().await {
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
        match future::select(work, timer).await {
            Either::Right(_) => Ok(()),
            Either::Left((Either::Left((ended, _)), _)) => self.end(run, ended),
            Either::Left((Either::Right((ended, _)), _)) => {
                run.reconciling = None;
                self.progress.update(|progress| progress.reconciling = false);
                match ended {
                    Err(error) if error.is_transient() => {
                        // It is pending still, and begins again where it was.
                        let error = error_text(&error);
                        tracing::warn!(
                            error,
                            "the table could not be reconciled to its end: it is tried again"
                        );
                        Ok(())
                    }
                    ended => ended.map(drop),
                }
            }
        }
    }

    /// Notes that a shard is no longer read.
    fn end(&self, run: &mut Run<'_>, (shard, end): (String, ShardEnd)) -> Result<(), StoreError> {
        run.mine.remove(&shard);
        self.progress.update(|progress| progress.forget_shard(&shard));
        tracing::debug!(shard, ?end, "a shard is no longer read");
        match end {
            ShardEnd::Trimmed => {
                run.trimmed.insert(shard);
            }
            ShardEnd::Failed(error) if !error.is_transient() => return Err(error),
            ShardEnd::Failed(error) => {
                tracing::info!(shard, error = error_text(&error), "gave up a shard: it is taken again");
            }
            ShardEnd::Finished | ShardEnd::Lost | ShardEnd::Stopped => {}
        }
        Ok(())
    }

    /// Looks after everything once.
    async fn round<'a>(&'a self, run: &mut Run<'a>) -> Result<(), StoreError> {
        // The ledger first: a shard that comes up in between has no place in it yet, and needs none.
        let mut ledger = plan::read_ledger(&*self.documents).await?;
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
            // No shard is taken until it is certain that the missed records will be found.
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
            if found.is_some() {
                tracing::info!("the table is reconciled with its feed: the stream may have lost records");
            } else {
                tracing::debug!("the first indexer of the table reconciles it with its feed");
            }
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
            plan::forget_shard(&*self.documents, shard, *revision).await?;
        }
        for shard in plan.take {
            if !self.note(ledger, &shard, |state| state.owner = Some(run.me)).await? {
                continue;
            }
            let Some((state, revision)) = ledger.shards.get(&shard).cloned() else { continue };
            tracing::debug!(shard, "a shard is read");
            run.mine.insert(shard.clone());
            let patience = (self.settings.poll * 4 + self.settings.linger).max(Duration::from_secs(2));
            self.progress.update(|progress| progress.begin_shard(&shard, patience));
            run.taken.push(Lease { shard, state, revision });
        }
        Ok(())
    }

    /// Changes the stored state of a shard unless another worker has changed it. Returns whether it did.
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
        let written = plan::write_shard(&*self.documents, shard, &state, seen).await?;
        if let Some(revision) = written {
            ledger.shards.insert(shard.to_owned(), (state, revision));
        }
        Ok(written.is_some())
    }
}
