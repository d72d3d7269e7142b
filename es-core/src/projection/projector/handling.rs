//! Handling events and timeouts: attempts, retries, and failures.

use super::OnFailure;
use super::consumer::Consumer;
use super::failure::{FailedEvent, Parked};
use super::guarded::Pending;
use super::held::{Ended, Outage};
use super::state::{Exception, Origin, encode};
use crate::documents::{DocumentChange, DocumentKey};
use crate::error_text::error_text;
use crate::event::{DecodeError, EventData};
use crate::measure;
use crate::projection::timeout::{self, Due, Timeout};
use crate::projection::{BoxError, EventContext, ProjectError, Projection, Tick};
use crate::version::Version;

/// The result of passing an event to the projection.
pub(super) enum Handled {
    /// It was handled.
    Done,
    /// Its changes do not fit into one transaction with those of earlier events.
    Crowded,
}

/// The result of all attempts at an event or timeout.
pub(super) enum Attempt {
    /// It was handled.
    Done,
    /// It has to wait for other workers.
    Waits(BoxError),
    /// It failed as often as the retry policy allows.
    Failed(ProjectError),
}

impl<P: Projection> Consumer<'_, '_, P> {
    /// Handles an event of the commit that begins at `first`, until it is done, skipped, or parked.
    pub(super) async fn handle(
        &mut self,
        event: &EventData,
        mut ctx: EventContext,
        first: Version,
    ) -> Result<(), Ended> {
        self.settle(event, &mut ctx, first).await?;
        if ctx.position() > self.singly_until {
            return Ok(());
        }
        match self.checkpoint().await {
            Err(Ended::Rejected(failure)) if self.parks_failures() && failure.is_at(ctx.position()) => {
                self.discard_pending()?;
                self.park(event, &ctx, first, &failure.error).await?;
                self.checkpoint().await
            }
            written => written,
        }
    }

    async fn settle(
        &mut self,
        event: &EventData,
        ctx: &mut EventContext,
        first: Version,
    ) -> Result<(), Ended> {
        let exception = self.held.state.exception.clone();
        if let Some(exception) = exception.filter(|exception| exception.is_at(ctx.position())) {
            return self.settle_by_decision(event, ctx, first, exception).await;
        }
        if self.is_parked(ctx.stream()).await? {
            return self.park(event, ctx, first, "an earlier event of its stream is parked").await;
        }
        let mut waits = 0;
        loop {
            match self.attempt(event, ctx).await? {
                Attempt::Done => return Ok(()),
                Attempt::Waits(reason) => {
                    if waits == 0 {
                        self.log(event, ctx, &error_text(&*reason), "an event waits");
                    }
                    waits += 1;
                    self.held.wait(self.held.inner.settings.retry.delay_after(waits)).await?;
                    // It may wait for the reaction to a timeout of this slice.
                    self.handle_due().await?;
                }
                Attempt::Failed(error) if self.may_park(&error) => {
                    return self.park(event, ctx, first, &error_text(&error)).await;
                }
                Attempt::Failed(error) => {
                    return Err(self.stopped(event, ctx, &error));
                }
            }
        }
    }

    /// Skips or parks an event by decision of an operator.
    async fn settle_by_decision(
        &mut self,
        event: &EventData,
        ctx: &EventContext,
        first: Version,
        exception: Exception,
    ) -> Result<(), Ended> {
        // A later failure of the batch must neither undo the decision nor replace it.
        if self.pending.events > 0 {
            self.checkpoint().await?;
        }
        if exception.park {
            self.park(event, ctx, first, &exception.error).await?;
        } else {
            self.log(event, ctx, "by decision of an operator", "an event is skipped");
            self.pending.skipped += 1;
            self.pending.events += 1;
            self.reach(ctx.position(), ctx.anchor());
        }
        self.checkpoint().await
    }

    /// Discards what is pending, after a broker has rejected it.
    pub(super) fn discard_pending(&mut self) -> Result<(), Ended> {
        self.pending = Pending::default();
        self.renew()
    }

    /// Passes an event or timeout to the projection, as often as the retry policy allows.
    pub(super) async fn attempt(
        &mut self,
        event: &EventData,
        ctx: &mut EventContext,
    ) -> Result<Attempt, Ended> {
        let is_isolated = self.isolated.take_if(|isolated| *isolated == Origin::of(ctx)).is_some();
        if is_isolated && self.pending.events > 0 {
            self.checkpoint().await?;
        }
        let (mut attempts, mut outage) = (0, Outage::default());
        loop {
            // Every checkpoint changes the lease.
            ctx.set_lease(&self.held.lease);
            let error = match self.try_handle(event, ctx).await {
                Ok(Handled::Done) => {
                    if outage.has_begun() {
                        self.held.passed();
                    }
                    return Ok(Attempt::Done);
                }
                Ok(Handled::Crowded) => {
                    if self.projection.is_lost() {
                        self.isolated = Some(Origin::of(ctx));
                        return Err(Ended::Interrupted(None));
                    }
                    self.checkpoint().await?;
                    continue;
                }
                Err(ProjectError::Lost) => return Err(Ended::Lost),
                Err(error) => error,
            };
            if matches!(error, ProjectError::Interrupted(_)) || self.projection.is_lost() {
                if self.pending.events > 0 {
                    // The changes of earlier events are lost. These are handled again, and committed first.
                    self.log(event, ctx, &error_text(&error), "an event failed");
                    self.isolated = Some(Origin::of(ctx));
                    return Err(Ended::Interrupted(None));
                }
                self.renew()?;
            } else if self.pending.events > 0 {
                // Commit the earlier events, independently of this one.
                self.checkpoint().await?;
            }
            if let ProjectError::Later(reason) = error {
                return Ok(Attempt::Waits(reason));
            }
            if error.is_transient() {
                outage.event = Some(FailedEvent::of(event, ctx));
                self.held.wait_out(&mut outage, error_text(&error)).await?;
                continue;
            }
            attempts += 1;
            let settings = &self.held.inner.settings;
            if matches!(error, ProjectError::Decode(_)) || !settings.retry.allows_another(attempts) {
                return Ok(Attempt::Failed(error));
            }
            measure::projection_retry(&self.held.inner.name, "handler");
            self.log(event, ctx, &error_text(&error), "an event failed");
            self.held.wait(settings.retry.delay_after(attempts)).await?;
        }
    }

    /// Returns the failure of the slice at an event.
    fn stopped(&self, event: &EventData, ctx: &EventContext, error: &ProjectError) -> Ended {
        let mut ended = self.held.failed(Some(FailedEvent::of(event, ctx)), error);
        let (aggregate, version) = (ctx.stream().aggregate(), event.version());
        if let (Ended::Failed(failure), ProjectError::Decode(DecodeError::UnknownVersion { .. })) =
            (&mut ended, error)
            && self.projection.filter().reads(aggregate, event.name(), version) == Some(false)
        {
            (failure.unknown_version, failure.retry_at) = (Some(version), None);
        }
        ended
    }

    /// Returns whether an event that failed with `error` is parked. Otherwise the slice stops.
    fn may_park(&self, error: &ProjectError) -> bool {
        !matches!(error, ProjectError::Decode(_)) && self.parks_failures()
    }

    pub(super) fn parks_failures(&self) -> bool {
        self.held.inner.settings.on_failure == OnFailure::Park
    }

    /// Passes an event to the projection. Its changes are undone if it fails.
    pub(super) async fn try_handle(
        &mut self,
        event: &EventData,
        ctx: &EventContext,
    ) -> Result<Handled, ProjectError> {
        if let Some(overload) = self.projection.handle(event, ctx, &self.pending).await? {
            return match self.pending.events {
                0 => Err(ProjectError::Handler(overload.into())),
                _ => Ok(Handled::Crowded),
            };
        }
        self.pending.events += 1;
        self.pending.handled += 1;
        // The event is part of the next checkpoint.
        self.reach(ctx.position(), ctx.anchor());
        Ok(Handled::Done)
    }

    /// Logs a warning about an event or timeout.
    fn log(&self, event: &EventData, ctx: &EventContext, reason: &str, message: &str) {
        tracing::warn!(
            projection = self.held.inner.name,
            build = self.held.slot.build,
            slice = self.held.slot.slice.get(),
            stream = %ctx.stream(),
            version = ctx.version().get(),
            event = event.name(),
            position = ctx.position().get(),
            reason,
            "{message}"
        );
    }
}

impl<P: Projection> Consumer<'_, '_, P> {
    /// Handles the next due timeouts. Returns whether there may be more.
    pub(super) async fn handle_due(&mut self) -> Result<bool, Ended> {
        let due = self.due().await?;
        self.next_due = due.next;
        if !due.timeouts.is_empty() {
            self.pause = self.held.inner.settings.poll;
        }
        for timeout in &due.timeouts {
            self.handle_timeout(timeout).await?;
        }
        // Deletions and parking are part of the checkpoint, so they require the lease: a worker that continues a
        // reaction must not find its timeout deleted by another.
        if !self.pending.changes.is_empty() {
            self.checkpoint().await?;
        }
        Ok(due.more)
    }

    async fn due(&mut self) -> Result<Due, Ended> {
        let (mut attempts, mut outage) = (0, Outage::default());
        loop {
            let tick = Tick::new(self.held.slot.slice, &*self.held.inner.settings.clock);
            match self.projection.tick(tick).await {
                Ok(due) => return Ok(due),
                Err(ProjectError::Later(_)) => {
                    self.pause = self.held.inner.settings.poll;
                    return Ok(Due::default());
                }
                Err(error) => self.held.wait_after(&mut attempts, &mut outage, error).await?,
            }
        }
    }

    async fn handle_timeout(&mut self, timeout: &Timeout) -> Result<(), Ended> {
        let (event, mut ctx) = timeout.event(self.held.slot.slice);
        match self.attempt(&event, &mut ctx).await? {
            Attempt::Done => {
                let inner = self.held.inner;
                measure::timeout(&inner.name, timeout.due(), inner.settings.clock.now());
                self.pending.changes.push(DocumentChange::delete(timeout.document().clone()));
                Ok(())
            }
            // It is read again later, without blocking others.
            Attempt::Waits(_) => Ok(()),
            Attempt::Failed(error) if self.may_park(&error) => {
                self.park_timeout(timeout, error_text(&error)).await
            }
            Attempt::Failed(error) => Err(self.held.failed(Some(FailedEvent::of(&event, &ctx)), &error)),
        }
    }

    /// Parks a timeout.
    async fn park_timeout(&mut self, timeout: &Timeout, error: String) -> Result<(), Ended> {
        let scheduled = timeout.scheduled().clone();
        let slot = self.held.slot;
        let key = self.held.names.parked_timeout(slot, &scheduled.document());
        tracing::error!(
            projection = self.held.inner.name,
            slice = slot.slice.get(),
            stream = %timeout.stream(),
            timeout = scheduled.name,
            reason = error,
            "a timeout is parked"
        );
        let (event, ctx) = timeout.event(slot.slice);
        let parked = Parked {
            build: slot.build,
            slice: slot.slice,
            event: FailedEvent::of(&event, &ctx),
            first: Version::NONE,
            error,
            commit: None,
            scheduled: Some(Box::new(scheduled)),
        };
        self.pending.changes.push(DocumentChange::delete(timeout.document().clone()));
        self.pending.changes.push(DocumentChange::put(key, encode(&parked)?));
        self.pending.parked += 1;
        self.checkpoint().await
    }

    /// Parks or skips the timeout at which the slice stopped, by decision of an operator.
    pub(super) async fn settle_timeout(&mut self) -> Result<(), Ended> {
        let exception = self.held.state.exception.clone();
        let Some((exception, name)) = exception.and_then(|it| it.timeout.clone().map(|name| (it, name)))
        else {
            return Ok(());
        };
        let collection = timeout::collection(&self.held.inner.name, self.held.slot.slice);
        let key = DocumentKey::new(collection, name);
        let store = &self.held.inner.store;
        if let Some(document) = self.held.persistently(|| store.document(&key)).await? {
            if exception.park {
                let timeout = Timeout::decode(key, &document)?;
                return self.park_timeout(&timeout, exception.error).await;
            }
            tracing::warn!(
                projection = self.held.inner.name,
                timeout = key.name(),
                "skipping a timeout by decision of an operator"
            );
            self.pending.changes.push(DocumentChange::delete(key));
        }
        self.checkpoint().await
    }
}
