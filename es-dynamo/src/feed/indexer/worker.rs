//! A worker: acquires shards, reads them, and requests a reconciliation if records may have been missed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use es_core::documents::{Documents, ExpectedDocument, ObservedLeases};
use es_core::{StoreError, error_text};
use futures_util::future;
use futures_util::future::{BoxFuture, Either, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::outages::{Outages, bounded};
use super::plan;
use super::plan::{Ledger, Plan, ShardState, View, plan};
use super::progress::Progress;
use super::shard::{Lease, ShardEnd};
use super::source::StreamSource;
use crate::feed::Ingest;
use crate::feed::committed::Committed;
use crate::feed::reconciler::scan::Scan;
use crate::feed::reconciler::state::ReconcileState;
use crate::feed::reconciler::{Ended, ReconcileProgress, Reconciliation, state};

/// The age from which a checkpoint counts as stale: its position in the stream, which keeps records for 24 hours, may
/// have expired.
const MAX_CHECKPOINT_AGE: Duration = Duration::from_secs(20 * 60 * 60);

/// The name of the reconciliation that indexers request.
const RECONCILIATION: &str = "indexer";

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) poll: Duration,
    /// The maximum wait before an idle shard is polled again; `None` is a multiple of `poll`.
    pub(crate) idle_poll: Option<Duration>,
    pub(crate) linger: Duration,
    pub(crate) refresh: Duration,
    pub(crate) lease: Duration,
    /// `None` if the application has not set one.
    pub(crate) shutdown: Option<Duration>,
    pub(crate) segments: u32,
}

/// The minimum interval between two reads of a shard: AWS allows five per second.
const MIN_READ_INTERVAL: Duration = Duration::from_millis(200);

impl Settings {
    /// Returns the maximum wait before an idle shard is polled again. It leaves enough time to renew the lease.
    pub(crate) fn longest_pause(&self) -> Duration {
        self.idle_poll.unwrap_or(self.poll.saturating_mul(10)).min(self.lease / 3).max(self.poll)
    }

    /// Returns the minimum interval between two reads of a shard.
    pub(crate) fn read_interval(&self) -> Duration {
        self.poll.min(MIN_READ_INTERVAL)
    }
}

/// A worker, with its access to the stream, the feed, and the table.
pub(crate) struct Worker {
    pub(crate) source: Arc<dyn StreamSource>,
    pub(crate) feed: Arc<dyn Ingest>,
    pub(crate) table: Arc<dyn Scan>,
    pub(crate) documents: Arc<dyn Documents>,
    pub(crate) settings: Settings,
    pub(crate) progress: Progress,
    pub(crate) outages: Outages,
    pub(crate) stop: CancellationToken,
    /// The commits of this process.
    pub(crate) committed: Arc<Committed>,
    /// Returns milliseconds since 1970. Used for ages of hours only.
    pub(crate) clock: Arc<dyn Fn() -> i64 + Send + Sync>,
}

/// The shards that are being read.
type Reading<'a> = FuturesUnordered<BoxFuture<'a, (String, ShardEnd)>>;

/// The state of a run between its rounds.
struct Run<'a> {
    me: Uuid,
    mine: HashSet<String>,
    /// The start of the run. Monotonic times are relative to it.
    started: Instant,
    /// The leases of all shards. Checkpoints renew them.
    leases: ObservedLeases<String>,
    /// Shards whose checkpoints have expired.
    trimmed: HashSet<String>,
    /// Shards that were acquired, and are not being read yet.
    acquired: Vec<Lease>,
    reconciling: Option<BoxFuture<'a, Result<Ended, StoreError>>>,
    /// The pending reconciliation of another worker. Its progress renews the lease.
    others: ObservedLeases<()>,
}

impl Worker {
    /// Runs until it is stopped. Its end takes at most `shutdown_timeout`, if there is one.
    pub(crate) async fn run(&self, shutdown_timeout: Option<Duration>) -> Result<(), StoreError> {
        let stream = std::pin::pin!(self.read_stream(shutdown_timeout));
        let commits = std::pin::pin!(self.index_commits(shutdown_timeout));
        future::try_join(stream, commits).await.map(drop)
    }

    /// Reads the shards of the table's stream.
    async fn read_stream(&self, shutdown_timeout: Option<Duration>) -> Result<(), StoreError> {
        let mut run = Run {
            me: Uuid::new_v4(),
            mine: HashSet::new(),
            started: Instant::now(),
            leases: ObservedLeases::new(self.settings.lease),
            trimmed: HashSet::new(),
            acquired: Vec::new(),
            reconciling: None,
            others: ObservedLeases::new(self.settings.lease),
        };
        let mut reading = Reading::new();
        let mut outage = self.outages.of("managing the shards of the table's stream");
        while !self.stop.is_cancelled() {
            self.progress.measure();
            let (outcome, ended) = self.round_while_reading(&mut run, &mut reading).await;
            for ended in ended {
                self.end(&mut run, ended)?;
            }
            for lease in std::mem::take(&mut run.acquired) {
                let shard = lease.shard.clone();
                reading.push(async move { (shard, self.follow(lease).await) }.boxed());
            }
            let pause = match outcome {
                Ok(()) => {
                    outage.is_over();
                    self.settings.refresh
                }
                Err(error) if error.is_transient() => outage.failed(&error),
                Err(error) => return Err(error),
            };
            if !self.stop.is_cancelled() {
                self.wait(&mut run, &mut reading, pause).await?;
            }
        }
        // Each reader writes its checkpoint.
        let all = async { while reading.next().await.is_some() {} };
        match shutdown_timeout {
            None => all.await,
            Some(timeout) => {
                if tokio::time::timeout(timeout, all).await.is_err() {
                    tracing::warn!(
                        "some shards were not released within the shutdown timeout: their leases have to expire"
                    );
                }
            }
        }
        Ok(())
    }

    /// Runs a round while shards are being read. Also returns the shards whose reading has ended in the meantime.
    ///
    /// A timeout, or a stop, may interrupt the round: a shard that was acquired but is not being read is acquired
    /// again.
    async fn round_while_reading<'a>(
        &'a self,
        run: &mut Run<'a>,
        reading: &mut Reading<'a>,
    ) -> (Result<(), StoreError>, Vec<(String, ShardEnd)>) {
        let round = self.stop.run_until_cancelled(bounded(self.settings.lease, self.round(run)));
        let mut round = std::pin::pin!(round.map(|outcome| outcome.unwrap_or(Ok(()))));
        let mut ended = Vec::new();
        while !reading.is_empty() {
            match future::select(round.as_mut(), reading.next()).await {
                Either::Left((outcome, _)) => return (outcome, ended),
                Either::Right((end, _)) => ended.extend(end),
            }
        }
        (round.await, ended)
    }

    /// Waits for `pause`, or until a shard or the reconciliation has ended.
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
                        // It is still pending, and continues where it was.
                        let error = error_text(&error);
                        tracing::warn!(error, "the reconciliation was interrupted and will be continued");
                        Ok(())
                    }
                    ended => ended.map(drop),
                }
            }
        }
    }

    /// Records that a shard is no longer being read.
    fn end(&self, run: &mut Run<'_>, (shard, end): (String, ShardEnd)) -> Result<(), StoreError> {
        run.mine.remove(&shard);
        self.progress.update(|progress| progress.forget_shard(&shard));
        tracing::debug!(shard, ?end, "stopped reading a shard");
        match end {
            ShardEnd::Trimmed => {
                run.trimmed.insert(shard);
            }
            ShardEnd::Failed(error) if !error.is_transient() => return Err(error),
            ShardEnd::Failed(error) => {
                tracing::info!(shard, error = error_text(&error), "released a shard after an error");
            }
            ShardEnd::Finished | ShardEnd::Lost | ShardEnd::Stopped => {}
        }
        Ok(())
    }

    /// Acquires shards once, after it has requested or continued a reconciliation if one is needed.
    async fn round<'a>(&'a self, run: &mut Run<'a>) -> Result<(), StoreError> {
        // The ledger is read first: a shard that is created in between does not need an entry yet.
        let mut ledger = plan::read_ledger(&*self.documents).await?;
        let shards = self.source.shards().await?;
        let now = run.started.elapsed();
        let revisions = ledger.shards.iter().map(|(shard, (_, revision))| (shard.clone(), *revision));
        run.leases.observe(revisions, now);
        let plan = {
            let is_stale = |state: &ShardState| {
                let age = (self.clock)().saturating_sub(state.at).unsigned_abs();
                u128::from(age) > MAX_CHECKPOINT_AGE.as_millis()
            };
            let (me, mine, leases) = (run.me, &run.mine, &run.leases);
            let view = View { me, mine, leases, now, is_stale: &is_stale };
            plan(&ledger, &shards, &view)
        };

        let missed = plan.has_missed() || !run.trimmed.is_empty();
        if !self.ensure_reconciliation(run, missed).await? {
            // No shard is acquired until it is certain that the missed records will be found.
            return Ok(());
        }
        self.carry_out(run, &mut ledger, plan).await
    }

    /// Requests a reconciliation if records were `missed`, and runs a pending one that no other worker runs. Returns
    /// `false` if it could not be requested because another worker has changed its state.
    async fn ensure_reconciliation<'a>(
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
            // A running reconciliation starts again, because it may have passed the missed records.
            if found.is_some() {
                tracing::info!(
                    "reconciling the table with its feed, because the stream may have lost records"
                );
            } else {
                tracing::debug!("the first indexer of the table reconciles it with its feed");
            }
            let expected = ExpectedDocument::from(revision);
            let requested = ReconcileState::new(segments);
            match state::write(&*self.documents, &key, &requested, expected).await? {
                Some(written) => (revision, pending) = (Some(written), true),
                None => return Ok(false),
            }
            run.reconciling = None;
        }
        let now = run.started.elapsed();
        let pending = revision.filter(|_| pending && run.reconciling.is_none());
        run.others.observe(pending.map(|revision| ((), revision)), now);
        if pending.is_some() && (missed || run.others.is_expired(&(), now)) {
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
        for shard in &plan.expired {
            self.change_state(ledger, shard, |state| (state.done, state.owner) = (true, None)).await?;
        }
        // The reconciliation finds the records that were missed, so these shards are now known.
        for shard in plan.unknown.iter().chain(&plan.stale) {
            self.change_state(ledger, shard, |_| {}).await?;
        }
        for shard in std::mem::take(&mut run.trimmed) {
            self.change_state(ledger, &shard, |state| (state.after, state.owner) = (None, None)).await?;
        }
        for (shard, revision) in &plan.forget {
            plan::forget_shard(&*self.documents, shard, *revision).await?;
        }
        for shard in plan.acquire {
            if !self.change_state(ledger, &shard, |state| state.owner = Some(run.me)).await? {
                continue;
            }
            let Some((state, revision)) = ledger.shards.get(&shard).cloned() else { continue };
            tracing::debug!(shard, "acquired a shard");
            run.mine.insert(shard.clone());
            let Settings { poll, linger, .. } = self.settings;
            let usual =
                self.settings.longest_pause().saturating_add(poll.saturating_mul(4)).saturating_add(linger);
            let patience = usual.max(Duration::from_secs(2));
            self.progress.update(|progress| progress.begin_shard(&shard, patience));
            run.acquired.push(Lease { shard, state, revision });
        }
        Ok(())
    }

    /// Changes the stored state of a shard unless another worker has changed it. Returns whether it was changed.
    async fn change_state(
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
