//! A slot held by a worker: its stored state, its lease, and requests under that lease.

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use uuid::Uuid;

use super::Inner;
use super::Start;
use super::consumer::Running;
use super::failure::{FailedEvent, Failure};
use super::state::{Closed, Names, Revised, SliceState, Slot, encode};
use super::stop::pause;
use crate::clock::later;
use crate::documents::{ChangeError, ChangeSet, DocumentChange, DocumentCondition, ExpectedDocument};
use crate::error_text;
use crate::feed::{FeedRead, Position, Slice};
use crate::measure;
use crate::projection::{Interrupted, ProjectError, Projection, ProjectorError};
use crate::store::{AdditionalWrite, StoreError};

/// The reason why work on a slot ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was stopped.
    Released,
    /// The stored state of the slot was changed by another worker or an operator.
    Lost,
    /// A row was changed concurrently, or a transaction of the handlers was rolled back. The work does not end, but
    /// restarts at the last checkpoint.
    Contended,
    /// User code was interrupted within a batch. The work does not end, but restarts at the last checkpoint.
    /// `None` if an event was being handled, whose next attempt has a batch to itself.
    Interrupted(Option<Interrupted>),
    /// There was no progress for the duration of a lease. Other workers may try.
    Stalled(String),
    /// An event or a batch failed.
    Failed(Box<Failure>),
    /// A broker rejected this event, which is part of a batch, permanently.
    Rejected(Box<Failure>),
    /// A panic outside of user code.
    Panicked(Interrupted),
    /// The stored data cannot be processed.
    Error(ProjectorError),
    /// The slice was split, and nothing is left to do in it.
    Finished,
}

impl Ended {
    /// Returns the name of the reason for metrics and spans.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Lost => "lost",
            Self::Contended => "contended",
            Self::Interrupted(_) => "interrupted",
            Self::Stalled(_) => "stalled",
            Self::Failed(_) | Self::Rejected(_) => "stopped",
            Self::Panicked(_) => "panicked",
            Self::Error(_) => "error",
            Self::Finished => "finished",
        }
    }
}

impl From<ProjectorError> for Ended {
    fn from(error: ProjectorError) -> Self {
        Self::Error(error)
    }
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Error(error.into())
    }
}

/// A slot that this worker has taken.
pub(super) struct Held<'a, P> {
    pub(super) inner: &'a Inner<P>,
    pub(super) names: Names,
    pub(super) slot: Slot,
    pub(super) running: &'a Running,
    /// The stored state.
    pub(super) state: SliceState,
    /// The condition that the stored state is unchanged, so that this worker still owns the slot.
    pub(super) lease: Arc<DocumentCondition>,
    /// The slices of which the slot's slice is a descendant, its parent first, and their checkpoints when it was taken.
    pub(super) ancestors: Vec<(Slice, Position)>,
}

/// A slot to take.
pub(super) struct Open {
    pub(super) slot: Slot,
    pub(super) state: Revised<SliceState>,
    /// The parent's slot, if the slice is the child of one.
    pub(super) parent: Option<(Slot, Revised<SliceState>)>,
    /// The slices of which it is a descendant, its parent first, and their checkpoints.
    pub(super) ancestors: Vec<(Slice, Position)>,
}

/// A sequence of failed attempts.
#[derive(Debug, Default)]
pub(super) struct Outage {
    attempts: u32,
    since: Option<Duration>,
    /// The event concerned, if an operator may park or skip it.
    pub(super) event: Option<FailedEvent>,
}

impl Outage {
    pub(super) fn has_begun(&self) -> bool {
        self.attempts > 0
    }
}

impl<'a, P: Projection> Held<'a, P> {
    /// Takes the slot, unless its state has changed.
    pub(super) async fn take(
        inner: &'a Inner<P>,
        worker: Uuid,
        Open { slot, state, parent, ancestors }: Open,
        running: &'a Running,
    ) -> Result<Self, Ended> {
        let names = inner.names()?;
        let lease = Arc::new(DocumentCondition::new(names.slice(slot), state.revision.into()));
        let mut held = Self { inner, names, slot, running, state: state.value, lease, ancestors };
        let mut owned = SliceState { owner: Some(worker), ..held.state.clone() };
        if owned.closed.is_some() {
            // If this worker dies, another one must continue.
            owned.closed = Some(Closed::Draining);
        }
        let is_new = held.lease.expected == ExpectedDocument::Absent;
        // A child starts at its end only if its parent was omitted: otherwise, its events are later than the start.
        let is_omitted = parent.as_ref().is_none_or(|(_, parent)| parent.value.is_omitted);
        if is_new && slot.build == 1 && inner.settings.start == Start::End && is_omitted {
            let end = held.persistently(|| inner.store.feed_end(slot.slice)).await?;
            (owned.position, owned.anchor) = (end.position, end.anchor);
            let rest = FeedRead::new(slot.slice, end.position).anchored(end.anchor).limit(1);
            owned.is_omitted = held.persistently(|| inner.store.read_feed(&rest)).await?.is_closed;
        }
        // Before its parent has reached its end, or if that is no longer so, the first checkpoint of a child is
        // refused.
        let fence = parent.filter(|_| is_new).map(|(parent, state)| {
            AdditionalWrite::new(DocumentCondition::new(held.names.slice(parent), state.revision.into()))
        });
        match held.write_within(owned, Vec::new(), fence.into_iter().collect()).await {
            Err(Ended::Contended) => Err(Ended::Lost),
            taken => taken.map(|()| held),
        }
    }

    /// Sends a request, and retries it while its error is transient.
    pub(super) async fn persistently<T, E, F>(&self, request: impl Fn() -> F) -> Result<T, Ended>
    where
        E: Into<ProjectorError>,
        F: Future<Output = Result<T, E>>,
    {
        let mut outage = Outage::default();
        loop {
            let error = match self.answered(&mut outage, request()).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => error.into(),
                Err(error) => error.into(),
            };
            if !error.is_transient() {
                return Err(error.into());
            }
            self.wait_out(&mut outage, error_text(&error)).await?;
        }
    }

    /// Awaits the response to a request, for at most the lease duration.
    pub(super) async fn answered<T>(
        &self,
        outage: &mut Outage,
        request: impl Future<Output = T>,
    ) -> Result<T, StoreError> {
        let (lease, clock) = (self.inner.settings.lease, &self.inner.settings.clock);
        let began = clock.monotonic();
        match select(pin!(request), clock.timeout(lease)).await {
            Either::Left((response, _)) => Ok(response),
            Either::Right(_) => {
                outage.since.get_or_insert(began);
                Err(StoreError::unavailable(format!("a request has had no response for {lease:?}")))
            }
        }
    }

    /// Waits after a transient error, with exponential backoff and jitter. Releases the slot if the error has
    /// lasted for the duration of a lease and there are other workers, which may succeed.
    pub(super) async fn wait_out(&self, outage: &mut Outage, error: String) -> Result<(), Ended> {
        let delay = self.note_outage(outage, error)?;
        self.wait(delay).await
    }

    /// Waits between two attempts.
    pub(super) async fn wait(&self, delay: Duration) -> Result<(), Ended> {
        if self.running.stop.is_set() {
            return Err(Ended::Released);
        }
        self.running.stop.sleep(&*self.inner.settings.clock, delay.max(Duration::from_millis(1))).await;
        Ok(())
    }

    fn note_outage(&self, outage: &mut Outage, error: String) -> Result<Duration, Ended> {
        let (Inner { settings, delays, name, .. }, Slot { build, slice }) = (self.inner, self.slot);
        let slice = slice.get();
        let now = settings.clock.monotonic();
        let lasts = now.saturating_sub(*outage.since.get_or_insert(now));
        outage.attempts = outage.attempts.saturating_add(1);
        measure::projection_retry(name, "transient");
        let delay = settings.retry.delay_after(outage.attempts);
        let event = outage.event.as_ref();
        if delays.failed(Some(self.slot), event, &error, delay, &*settings.clock) {
            let event = event.map(tracing::field::display);
            tracing::warn!(
                projection = name,
                build,
                slice,
                event,
                error,
                "waiting for a transient error to pass"
            );
        }
        let is_stalled = lasts >= settings.lease && self.running.has_others();
        if is_stalled { Err(Ended::Stalled(error)) } else { Ok(delay) }
    }

    /// Records a success, which ends a delay.
    pub(super) fn passed(&self) {
        if self.inner.delays.passed(Some(self.slot)) {
            tracing::info!(projection = self.inner.name, "the transient error has passed");
        }
    }

    /// Writes `next` as the slot's state, together with `changes`, unless the state was changed concurrently.
    pub(super) async fn write(
        &mut self,
        next: SliceState,
        changes: Vec<DocumentChange>,
    ) -> Result<(), Ended> {
        self.write_within(next, changes, Vec::new()).await
    }

    /// Like [`write`](Self::write), as part of transactions that the handlers have used.
    pub(super) async fn write_within(
        &mut self,
        next: SliceState,
        changes: Vec<DocumentChange>,
        transactions: Vec<AdditionalWrite>,
    ) -> Result<(), Ended> {
        let set = ChangeSet::new(self.inner.settings.ids.new_id())
            .put(self.lease.key.clone(), self.lease.expected, encode(&next)?)
            .with_changes(changes)
            .with_additional(transactions);
        let mut outage = Outage::default();
        loop {
            let changed = self.answered(&mut outage, self.inner.store.change(&set)).await;
            match changed.unwrap_or_else(|error| Err(error.into())) {
                Ok(()) => {
                    let expected = ExpectedDocument::At(set.revision());
                    self.lease = Arc::new(DocumentCondition::new(self.lease.key.clone(), expected));
                    self.state = next;
                    return Ok(());
                }
                Err(ChangeError::Store(error)) if error.is_transient() => {
                    // The outcome is unknown. Repeating the same set resolves it, so continue even if the worker was
                    // stopped.
                    let delay = self.note_outage(&mut outage, error_text(&error))?;
                    if self.running.stop.is_set() && outage.attempts > 3 {
                        return Err(Ended::Lost);
                    }
                    pause(&*self.inner.settings.clock, delay).await;
                }
                Err(ChangeError::Store(error)) => return Err(error.into()),
                Err(ChangeError::Outdated { key }) if key != self.lease.key => {
                    return Err(Ended::Contended);
                }
                // A transaction of the handlers was rolled back.
                Err(ChangeError::Refused) => return Err(Ended::Contended),
                Err(_) => return Err(Ended::Lost),
            }
        }
    }

    /// Releases the slot, and stores the failure if it has stopped.
    pub(super) async fn end(&mut self, ended: Ended) -> Ended {
        let ended = match ended {
            // An error of the feed or of stored documents needs an operator, like a failed event.
            Ended::Error(error) if !error.is_transient() => {
                Ended::Failed(self.failure(None, error_text(&error)))
            }
            Ended::Rejected(failure) => Ended::Failed(failure),
            ended => ended,
        };
        let mut next = SliceState { owner: None, ..self.state.clone() };
        match &ended {
            Ended::Failed(failure) => next.failure = Some((**failure).clone()),
            Ended::Finished => (next.closed, next.failure) = (Some(Closed::Finished), None),
            Ended::Released | Ended::Stalled(_) => {}
            _ => return ended,
        }
        // Events after the checkpoint are handled again by the next worker.
        match self.write(next, Vec::new()).await {
            Err(worse) if !matches!(ended, Ended::Stalled(_)) => worse,
            _ => ended,
        }
    }

    /// Returns the failure of the slot at an event, or for a reason unrelated to an event.
    pub(super) fn failed(&self, event: Option<FailedEvent>, error: &(dyn Error + 'static)) -> Ended {
        Ended::Failed(self.failure(event, error_text(error)))
    }

    fn failure(&self, event: Option<FailedEvent>, error: String) -> Box<Failure> {
        let settings = &self.inner.settings;
        let before = self.state.failure.as_ref().filter(|failure| failure.event == event);
        let attempts = before.map_or(0, |failure| failure.attempts).saturating_add(1);
        let at = settings.clock.now();
        let retry_at = settings.restart.allows_another(attempts).then(|| {
            let delay = settings.restart.equal_jitter_delay_after(attempts);
            later(at, delay)
        });
        Box::new(Failure { event, error, at, attempts, retry_at, unknown_version: None })
    }

    /// Waits before another attempt at an operation other than an event, if the policy allows one.
    pub(super) async fn wait_after(
        &self,
        attempts: &mut u32,
        outage: &mut Outage,
        error: ProjectError,
    ) -> Result<(), Ended> {
        let settings = &self.inner.settings;
        match error {
            ProjectError::Lost => Err(Ended::Lost),
            ProjectError::Interrupted(interrupted) => Err(Ended::Interrupted(Some(interrupted))),
            error => {
                let is_transient = error.is_transient();
                let (event, error) = match FailedEvent::unpublished(&error) {
                    Some((event, error)) => (Some(event), error),
                    None => (None, error_text(&error)),
                };
                if is_transient {
                    outage.event = event;
                    return self.wait_out(outage, error).await;
                }
                *attempts += 1;
                if !settings.retry.allows_another(*attempts) {
                    let ended = if event.is_some() { Ended::Rejected } else { Ended::Failed };
                    return Err(ended(self.failure(event, error)));
                }
                self.wait(settings.retry.delay_after(*attempts)).await
            }
        }
    }
}
