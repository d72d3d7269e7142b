//! A slot as its worker holds it: its stored state, the lease on it, and requests on its behalf.

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use uuid::Uuid;

use super::Inner;
use super::builder::Start;
use super::consumer::Running;
use super::failure::{FailedEvent, Failure};
use super::state::{Names, Read, SliceState, Slot, encode};
use super::stop::pause;
use crate::documents::{ChangeError, ChangeSet, DocumentChange, DocumentCondition, ExpectedDocument};
use crate::error_text;
use crate::feed::{EventFilter, FeedRead};
use crate::projection::{Interrupted, ProjectError, Projection, ProjectorError};
use crate::store::StoreError;

/// How the work on a slot ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was asked to end.
    Released,
    /// Another one has changed the slot's state.
    Lost,
    /// Another one has changed a row: it has not ended, but has to begin again at the last checkpoint.
    Contended,
    /// User code was interrupted in the middle of a batch: it has not ended, but has to begin again at the last
    /// checkpoint. `None` when an event was handled, of which the next attempt has a batch to itself.
    Interrupted(Option<Interrupted>),
    /// There was no progress for as long as a lease: others may try.
    Stalled(String),
    /// An event or a batch failed.
    Failed(Box<Failure>),
    /// A panic outside of user code.
    Panicked(Interrupted),
    /// What is stored cannot be worked with.
    Error(ProjectorError),
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
    /// What is stored.
    pub(super) state: SliceState,
    /// That it is stored still: the slot is this worker's.
    pub(super) lease: Arc<DocumentCondition>,
}

/// Since when attempts fail.
#[derive(Debug, Default)]
pub(super) struct Outage {
    attempts: u32,
    since: Option<Duration>,
    /// The event that they are about, if it is one that an operator may park or skip.
    pub(super) event: Option<FailedEvent>,
}

impl Outage {
    pub(super) fn has_begun(&self) -> bool {
        self.attempts > 0
    }
}

impl<'a, P: Projection> Held<'a, P> {
    /// Makes the slot this worker's, unless its state is another one by now.
    pub(super) async fn take(
        inner: &'a Inner<P>,
        worker: Uuid,
        slot: Slot,
        state: Read<SliceState>,
        running: &'a Running,
    ) -> Result<Self, Ended> {
        let names = inner.names()?;
        let lease = Arc::new(DocumentCondition { key: names.slice(slot), expected: state.revision.into() });
        let mut held = Self { inner, names, slot, running, state: state.value, lease };
        let mut owned = SliceState { owner: Some(worker), ..held.state.clone() };
        let is_new = held.lease.expected == ExpectedDocument::Absent && slot.build == 1;
        if is_new && inner.settings.start == Start::End {
            let end = held.persistently(|| inner.store.feed_end(slot.slice)).await?;
            let read = FeedRead::new(slot.slice, end).limit(1).filter(EventFilter::none());
            let page = held.persistently(|| inner.store.read_feed(&read)).await?;
            (owned.position, owned.anchor) = (page.through, page.anchor);
        }
        held.write(owned, Vec::new()).await?;
        Ok(held)
    }

    /// Repeats a request until it succeeds, while its error is transient.
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

    /// Awaits the response to one request, for as long as a lease.
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

    /// Waits after a transient error, with exponential backoff and jitter. Gives the slot up when that has lasted
    /// for as long as a lease and there are other workers: one of them may get through.
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

    /// Notes that nothing is in the way any more.
    pub(super) fn passed(&self) {
        if self.inner.delays.passed(Some(self.slot)) {
            tracing::info!(projection = self.inner.name, "the transient error has passed");
        }
    }

    /// Makes `next` the slot's state, together with `changes`, unless somebody else has changed the state.
    pub(super) async fn write(
        &mut self,
        next: SliceState,
        changes: Vec<DocumentChange>,
    ) -> Result<(), Ended> {
        let set = ChangeSet::new(self.inner.settings.ids.new_id())
            .put(self.lease.key.clone(), self.lease.expected, encode(&next)?)
            .with_changes(changes);
        let mut outage = Outage::default();
        loop {
            let changed = self.answered(&mut outage, self.inner.store.change(&set)).await;
            match changed.unwrap_or_else(|error| Err(error.into())) {
                Ok(()) => {
                    let expected = ExpectedDocument::At(set.revision());
                    self.lease = Arc::new(DocumentCondition { key: self.lease.key.clone(), expected });
                    self.state = next;
                    return Ok(());
                }
                Err(ChangeError::Store(error)) if error.is_transient() => {
                    // Whether it was written is unknown: the same set again tells, so that this goes on even
                    // when the worker was asked to end.
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
                Err(_) => return Err(Ended::Lost),
            }
        }
    }

    /// Leaves the slot to others: stores why, if it has stopped.
    pub(super) async fn end(&mut self, ended: Ended) -> Ended {
        let ended = match ended {
            // Of the feed or of the documents: as bad as a failed event, and to be seen by an operator.
            Ended::Error(error) if !error.is_transient() => self.failed(None, &error),
            ended => ended,
        };
        let mut next = SliceState { owner: None, ..self.state.clone() };
        match &ended {
            Ended::Failed(failure) => next.failure = Some((**failure).clone()),
            Ended::Released | Ended::Stalled(_) => {}
            _ => return ended,
        }
        // What is not in a checkpoint will be handled again by the next worker.
        match self.write(next, Vec::new()).await {
            Err(worse) if !matches!(ended, Ended::Stalled(_)) => worse,
            _ => ended,
        }
    }

    /// The slot stops at an event, or for a reason that is no event's fault.
    pub(super) fn failed(&self, event: Option<FailedEvent>, error: &(dyn Error + 'static)) -> Ended {
        self.stopped(event, error_text(error))
    }

    fn stopped(&self, event: Option<FailedEvent>, error: String) -> Ended {
        let settings = &self.inner.settings;
        let before = self.state.failure.as_ref().filter(|failure| failure.event == event);
        let attempts = before.map_or(0, |failure| failure.attempts).saturating_add(1);
        let at = settings.clock.now();
        let retry_at = settings.restart.allows_another(attempts).then(|| {
            let longest = settings.restart.longest_delay_after(attempts);
            let delay = longest.mul_f64(0.5 + fastrand::f64() / 2.0);
            at + chrono::Duration::from_std(delay).unwrap_or_default()
        });
        Ended::Failed(Box::new(Failure { event, error, at, attempts, retry_at, unknown_version: None }))
    }

    /// Waits before another attempt at something that is no event, if there is one.
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
                    return Err(self.stopped(event, error));
                }
                self.wait(settings.retry.delay_after(*attempts)).await
            }
        }
    }
}
