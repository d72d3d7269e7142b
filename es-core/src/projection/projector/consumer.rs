//! Consumers: each reads one slice page by page, passes events to the projection, and writes checkpoints.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_core::future::BoxFuture;
use futures_util::future::FutureExt;
use tracing::Instrument;
use uuid::Uuid;

use super::Inner;
use super::failure::{FailedEvent, FailedKind, Failure};
use super::guarded::{Guarded, Pending, Staged};
use super::held::{Ended, Held, Open, Outage};
use super::parking::NextReplay;
use super::state::{Closed, Origin, SliceState, Slot};
use super::stop::{Stop, either};
use crate::feed::{FeedAnchor, FeedError, FeedPage, FeedRead, MissingCommit, Position};
use crate::measure;
use crate::projection::guard::{caught, panicked};
use crate::projection::{EventContext, Interrupted, ProjectError, Projection, ProjectorError};
use crate::spans::Operation;
use crate::store::StoreError;
use crate::stream_id::StreamId;

/// The number of positions without a matching event after which a checkpoint is written.
const MAX_GAP: u64 = 1000;

/// The worker's handle to a consumer.
#[derive(Debug, Default)]
pub(super) struct Running {
    pub(super) stop: Stop,
    /// Set to make the consumer end after the due timeouts.
    pub(super) finish: Stop,
    taken: AtomicBool,
    has_others: AtomicBool,
    /// The time of the oldest known event that is not handled.
    oldest: Mutex<Option<DateTime<Utc>>>,
    /// The monotonic time until which the slot does not count toward the worker's share.
    pub(super) extra_until: Duration,
}

impl Running {
    pub(super) fn new(extra_until: Duration) -> Self {
        Self { extra_until, ..Self::default() }
    }

    /// Returns whether there are other workers that could take the slot.
    pub(super) fn has_others(&self) -> bool {
        self.has_others.load(Ordering::SeqCst)
    }

    pub(super) fn set_has_others(&self, has_others: bool) {
        self.has_others.store(has_others, Ordering::SeqCst);
    }

    /// Returns the time of the oldest known event that is not handled.
    pub(super) fn oldest(&self) -> Option<DateTime<Utc>> {
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_oldest(&self, oldest: Option<DateTime<Utc>>) {
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner) = oldest;
    }

    /// Returns whether the stored state names this worker as the owner.
    pub(super) fn is_taken(&self) -> bool {
        self.taken.load(Ordering::SeqCst)
    }
}

/// Processes a slot until it is stopped, or finished after a split.
pub(super) fn run<P: Projection>(
    inner: Arc<Inner<P>>,
    worker: Uuid,
    open: Open,
    running: Arc<Running>,
) -> BoxFuture<'static, Ended> {
    Box::pin(async move {
        let consume = async {
            let mut held = match Held::take(&inner, worker, open, &running).await {
                Ok(held) => held,
                Err(ended) => return ended,
            };
            running.taken.store(true, Ordering::SeqCst);
            let mut consumer = Consumer::new(&mut held);
            let Err(ended) = consumer.work().await;
            // Dropping the projection may panic, which must not hide why the work ended.
            let _ = caught(|| drop(consumer));
            held.end(ended).await
        };
        // User code is guarded at the call. A panic elsewhere, such as in a store, must not end the worker either.
        let ended = AssertUnwindSafe(consume).catch_unwind().await;
        inner.progressed.notify(usize::MAX);
        ended.unwrap_or_else(|payload| Ended::Panicked(panicked(payload)))
    })
}

pub(super) enum Never {}

pub(super) struct Consumer<'h, 'a, P: Projection> {
    pub(super) held: &'h mut Held<'a, P>,
    pub(super) projection: Guarded<'a, P>,
    /// The position up to which all events are handled or filtered out.
    pub(super) handled: Position,
    /// The anchor of that position.
    anchor: Option<FeedAnchor>,
    pub(super) pending: Pending,
    /// The number of rewinds since the last checkpoint.
    rewinds: u32,
    /// The number of times that user code was interrupted between events since the last checkpoint.
    interruptions: u32,
    /// The event or timeout to handle with nothing pending, so that its failure is not attributed to earlier ones.
    pub(super) isolated: Option<Origin>,
    /// The position up to which each event has a checkpoint to itself, after a broker has rejected one of a batch.
    pub(super) singly_until: Position,
    /// The streams with parked events.
    pub(super) parked: HashSet<StreamId>,
    /// The streams with parked events in the ancestors of the slice, as last read.
    pub(super) parked_before: HashSet<StreamId>,
    pub(super) next_replay: NextReplay,
    /// Whether the slice was split and everything up to its end is handled.
    is_at_end: bool,
    /// Whether the events of the slice may be handled, as last checked.
    is_checked: bool,
    /// The next pause at the end of the feed.
    pub(super) pause: Duration,
    /// When the next timeout is due, if one is known.
    pub(super) next_due: Option<DateTime<Utc>>,
}

impl<'h, 'a, P: Projection> Consumer<'h, 'a, P> {
    fn new(held: &'h mut Held<'a, P>) -> Self {
        Self {
            projection: Guarded::new(held.inner, held.slot),
            handled: held.state.position,
            anchor: held.state.anchor,
            pending: Pending::default(),
            rewinds: 0,
            interruptions: 0,
            isolated: None,
            singly_until: Position::NONE,
            parked: HashSet::new(),
            parked_before: HashSet::new(),
            next_replay: NextReplay::default(),
            is_at_end: false,
            is_checked: false,
            pause: held.inner.settings.poll,
            next_due: None,
            held,
        }
    }

    async fn work(&mut self) -> Result<Never, Ended> {
        self.renew()?;
        self.record_accepted().await?;
        self.settle_timeout().await?;
        self.parked = self.parked_streams().await?;
        self.parked_before = self.streams_parked_before().await?;
        loop {
            if self.held.running.stop.is_set() {
                return Err(Ended::Released);
            }
            let is_finishing = self.held.running.finish.is_set();
            match self.step().await {
                Ok(()) => {
                    self.progressed().await?;
                    if is_finishing {
                        return self.finish().await;
                    }
                }
                Err(Ended::Contended | Ended::Interrupted(None)) => self.rewind().await?,
                Err(Ended::Interrupted(Some(interrupted))) => self.interrupted(&interrupted).await?,
                Err(Ended::Rejected(failure))
                    if self.parks_failures() && self.handled > self.singly_until =>
                {
                    self.isolate_rejected(&failure).await?;
                }
                Err(ended) => return Err(ended),
            }
        }
    }

    /// Handles the timeouts that are due, then ends.
    async fn finish(&mut self) -> Result<Never, Ended> {
        while self.handle_due().await? && !self.held.running.stop.is_set() {}
        Err(Ended::Released)
    }

    /// Handles one page, or waits.
    async fn step(&mut self) -> Result<(), Ended> {
        if self.may_replay() && !self.ancestors_replay().await? {
            self.replay_parked().await?;
        }
        let inner = self.held.inner;
        let growth = inner.store.growth();
        let is_checking = self.check_gap().await?;
        let mut more_due = self.handle_due().await?;
        let Some(is_idle) = self.handle_next_page().await? else { return Ok(()) };
        if is_idle {
            // No events are left.
            while more_due && !self.held.running.stop.is_set() {
                more_due = self.handle_due().await?;
            }
            if self.handled > self.held.state.position {
                self.checkpoint().await?;
            }
            self.held.passed();
            if is_checking {
                return Ok(());
            }
            let has_only_timeouts = self.is_at_end || (!self.is_checked && self.held.state.closed.is_some());
            if has_only_timeouts && !self.held.state.replay && !more_due && self.has_no_timeouts() {
                return Err(if self.is_at_end { Ended::Finished } else { self.forget_split().await? });
            }
            let running = self.held.running;
            let until_due =
                self.next_due.map(|due| (due - inner.settings.clock.now()).to_std().unwrap_or_default());
            let pause = until_due.map_or(self.pause, |until_due| until_due.min(self.pause));
            let pause = Box::pin(running.stop.sleep(&*inner.settings.clock, pause));
            either(growth, Box::pin(either(pause, Box::pin(running.finish.wait())))).await;
            self.pause = self.pause.saturating_mul(2).min(inner.settings.longest_pause());
        } else {
            self.pause = inner.settings.poll;
        }
        Ok(())
    }

    /// Handles the next page, if the slice has not ended. Returns whether there were no events, or `None` if a missing
    /// commit was skipped.
    async fn handle_next_page(&mut self) -> Result<Option<bool>, Ended> {
        if self.is_at_end {
            return Ok(Some(true));
        }
        if !self.is_checked {
            self.is_checked = self.is_ready().await?;
            if !self.is_checked {
                return Ok(Some(true));
            }
        }
        let Some(page) = self.page().await? else { return Ok(None) };
        let is_idle = page.is_last && page.through == self.handled;
        let is_closed = page.is_closed;
        self.handle_page(page).await?;
        if is_closed {
            self.is_at_end = true;
            if self.held.state.closed.is_none() {
                self.checkpoint().await?;
                // The children may start.
                self.held.inner.ordered.notify(usize::MAX);
            }
        }
        Ok(Some(is_idle))
    }

    /// Returns whether no timeout is left in the slice.
    fn has_no_timeouts(&self) -> bool {
        // A process knows of none after it has read all that there are.
        P::IS_REPLAYABLE || self.next_due == Some(DateTime::<Utc>::MAX_UTC)
    }

    /// Records a completed step, which ends earlier failures.
    async fn progressed(&mut self) -> Result<(), Ended> {
        self.held.passed();
        self.interruptions = 0;
        if self.held.state.failure.is_some() {
            let next = SliceState { failure: None, ..self.held.state.clone() };
            self.held.write(next, Vec::new()).await?;
        }
        Ok(())
    }

    /// Returns the next page, or `None` if a missing commit was skipped by decision of an operator.
    async fn page(&mut self) -> Result<Option<FeedPage>, Ended> {
        let read = FeedRead::new(self.held.slot.slice, self.handled)
            .anchored(self.anchor)
            .limit(self.held.inner.settings.batch)
            .max_bytes(self.held.inner.settings.batch_bytes)
            .filter(self.projection.filter().clone());
        match self.held.persistently(|| self.held.inner.store.read_feed(&read)).await {
            Ok(page) => Ok(Some(page)),
            Err(Ended::Error(ProjectorError::Store(StoreError::Feed(error)))) => match *error {
                FeedError::Missing(missing) => self.pass_over(missing).await.map(|()| None),
                error => Err(StoreError::from(error).into()),
            },
            Err(ended) => Err(ended),
        }
    }

    /// Skips a missing commit if an operator has decided so. Otherwise the slice stops.
    async fn pass_over(&mut self, missing: MissingCommit) -> Result<(), Ended> {
        // Some of its events may have been handled before it was lost.
        let position = missing.position.max(self.handled.next());
        let exception = self.held.state.exception.as_ref().filter(|exception| exception.is_at(position));
        if exception.is_none_or(|exception| exception.park) {
            let event = FailedEvent {
                stream: missing.stream.to_string(),
                version: missing.first.plus(position.since(missing.position)),
                position,
                kind: FailedKind::Missing,
            };
            return Err(self.held.failed(Some(event), &missing));
        }
        let last = missing.last_position();
        tracing::warn!(
            projection = self.held.inner.name,
            build = self.held.slot.build,
            slice = self.held.slot.slice.get(),
            stream = %missing.stream,
            first = missing.first.get(),
            last = missing.last.get(),
            position = missing.position.get(),
            "skipping a missing commit by decision of an operator"
        );
        self.pending.skipped += last.next().since(position);
        self.reach(last, Some(missing.anchor));
        self.checkpoint().await
    }

    /// Records that all events up to a position are handled or filtered out.
    pub(super) fn reach(&mut self, position: Position, anchor: Option<FeedAnchor>) {
        // Parked events are replayed later, at earlier positions.
        if position > self.handled {
            (self.handled, self.anchor) = (position, anchor);
        }
    }

    /// Handles the events of a page in a span, and writes a checkpoint if any matched.
    async fn handle_page(&mut self, page: FeedPage) -> Result<(), Ended> {
        let mut events = 0;
        if page.entries.is_empty() {
            return self.handle_entries(page, &mut events).await;
        }
        let Slot { build, slice } = self.held.slot;
        let span = Operation::page(&self.held.inner.name, build, slice.get());
        let outcome = self.handle_entries(page, &mut events).instrument(span.span()).await;
        span.record("events", events);
        span.record("position", self.handled.get());
        span.end(outcome.as_ref().map_or_else(Ended::name, |()| "handled"));
        outcome
    }

    /// Counts the events that were passed to the projection in `events`.
    async fn handle_entries(&mut self, page: FeedPage, events: &mut u64) -> Result<(), Ended> {
        for entry in &page.entries {
            self.held.running.set_oldest(Some(entry.commit.time));
            for (index, event) in entry.commit.events.iter().enumerate() {
                let position = entry.position.plus(index as u64);
                if position <= self.handled {
                    continue;
                }
                if !P::IS_REPLAYABLE {
                    // A long page must not delay the timeouts of a process.
                    self.handle_due().await?;
                }
                if self.projection.filter().takes(&entry.stream, event.name()) {
                    if self.held.running.stop.is_set() {
                        return self.release().await;
                    }
                    *events += 1;
                    let ctx = EventContext::of(entry, index, self.held.slot.slice);
                    self.handle(event, ctx, entry.commit.first).await?;
                }
                self.reach(position, Some(entry.anchor));
            }
        }
        self.reach(page.through, page.anchor);
        if page.is_last {
            self.held.running.set_oldest(None);
        }
        self.pending.skipped += page.passed_over;
        self.pending.erased += page.erased;
        let is_due = self.pending.events > 0 || page.passed_over > 0;
        if is_due || self.handled.since(self.held.state.position) >= MAX_GAP {
            self.checkpoint().await?;
        }
        Ok(())
    }

    /// Ends in the middle of a page, after a checkpoint.
    async fn release(&mut self) -> Result<(), Ended> {
        if self.pending.events > 0 {
            self.checkpoint().await?;
        }
        Err(Ended::Released)
    }

    /// Returns an upper bound of the pending changes of the read models.
    pub(super) fn staged(&mut self) -> Result<Staged, Ended> {
        self.projection.staged().map_err(|error| self.held.failed(None, &error))
    }

    /// Writes a checkpoint at `handled`, together with the pending changes.
    pub(super) async fn checkpoint(&mut self) -> Result<(), Ended> {
        let (mut attempts, mut outage) = (0, Outage::default());
        while let Err(error) = self.projection.flush().await {
            self.held.wait_after(&mut attempts, &mut outage, error).await?;
        }
        let (mut attempts, mut outage) = (0, Outage::default());
        let (mut changes, transactions) = loop {
            let changes = self.held.answered(&mut outage, self.projection.changes()).await;
            match changes.unwrap_or_else(|error| Err(ProjectError::Handler(error.into()))) {
                Ok(changes) => break changes,
                Err(error) => self.held.wait_after(&mut attempts, &mut outage, error).await?,
            }
        };
        let pending = std::mem::take(&mut self.pending);
        changes.extend(pending.changes);
        let mut next = self.held.state.clone();
        if self.is_at_end {
            next.closed = Some(Closed::Draining);
        }
        (next.position, next.anchor) = (self.handled, self.anchor);
        next.parked = next.parked.saturating_add(pending.parked).saturating_sub(pending.resumed);
        next.skipped = next.skipped.saturating_add(pending.skipped);
        next.erased = next.erased.saturating_add(pending.erased);
        next.exception = next
            .exception
            .filter(|exception| exception.timeout.is_none() && exception.position > self.handled);
        // The event that stopped the slice is handled, unless it is after the checkpoint.
        next.failure = next.failure.filter(|failure| failure.is_after(self.handled));
        self.held.write_within(next, changes, transactions).await?;
        measure::checkpoint(&self.held.inner.name, pending.handled, pending.parked, pending.skipped);
        (self.rewinds, self.interruptions) = (0, 0);
        self.held.inner.progressed.notify(usize::MAX);
        if self.projection.forget().is_err() {
            self.renew()?;
        }
        Ok(())
    }

    /// Goes back to the last checkpoint, with a fresh clone of the projection.
    async fn rewind(&mut self) -> Result<(), Ended> {
        self.renew()?;
        self.pending = Pending::default();
        (self.handled, self.anchor) = (self.held.state.position, self.held.state.anchor);
        self.is_at_end = false;
        self.parked = self.parked_streams().await?;
        self.rewinds += 1;
        self.held.wait(self.held.inner.settings.retry.delay_after(self.rewinds)).await
    }

    /// Rewinds after a broker has rejected an event of a batch. The events of the batch are then published one by one,
    /// so that each rejected one is parked, and no other is sent more than twice.
    async fn isolate_rejected(&mut self, failure: &Failure) -> Result<(), Ended> {
        let Slot { build, slice } = self.held.slot;
        tracing::warn!(
            projection = self.held.inner.name,
            build,
            slice = slice.get(),
            error = %failure,
            "a broker has rejected an event; publishing the events of its batch one by one"
        );
        self.singly_until = self.handled;
        self.rewind().await
    }

    /// Rewinds after user code was interrupted between events, as often as the retry policy allows.
    async fn interrupted(&mut self, interrupted: &Interrupted) -> Result<(), Ended> {
        self.interruptions += 1;
        if !self.held.inner.settings.retry.allows_another(self.interruptions) {
            return Err(self.held.failed(None, interrupted));
        }
        let Slot { build, slice } = self.held.slot;
        tracing::warn!(
            projection = self.held.inner.name,
            build,
            slice = slice.get(),
            attempt = self.interruptions,
            error = %interrupted,
            "a projection was interrupted between events; retrying"
        );
        self.rewind().await
    }

    /// Replaces the projection by a new clone.
    pub(super) fn renew(&mut self) -> Result<(), Ended> {
        self.projection.renew().map_err(|interrupted| self.held.failed(None, &interrupted))
    }
}
