//! Handling one event, with all that may go wrong.

use super::builder::OnFailure;
use super::consumer::Consumer;
use super::failure::FailedEvent;
use super::fate::Origin;
use super::held::{Ended, Outage};
use crate::error_text::error_text;
use crate::event::{DecodeError, EventData};
use crate::projection::{BoxError, EventContext, ProjectError, Projection};
use crate::version::Version;

/// What happened to an event.
pub(super) enum Handled {
    /// It is done.
    Done,
    /// Its changes do not fit into one transaction with those of the events before it.
    Crowded,
}

/// How the attempts at an event or a timeout ended.
pub(super) enum Attempt {
    /// It is done.
    Done,
    /// It has to wait for what others are doing.
    Waits(BoxError),
    /// It failed as often as the retry policy allows.
    Failed(ProjectError),
}

impl<P: Projection> Consumer<'_, '_, P> {
    /// Handles an event of the commit that begins at `first`: in the end it is done, skipped or parked.
    pub(super) async fn handle(
        &mut self,
        event: &EventData,
        mut ctx: EventContext,
        first: Version,
    ) -> Result<(), Ended> {
        let exception = self.held.state.exception.as_ref();
        if let Some(exception) = exception.filter(|exception| exception.is_at(ctx.position())) {
            if exception.park {
                let error = exception.error.clone();
                self.park(event, &ctx, first, &error).await?;
            } else {
                self.log(event, &ctx, "as an operator decided", "an event is skipped");
                self.pending.skipped += 1;
                self.pending.events += 1;
            }
            return Ok(());
        }
        if self.parked.contains(ctx.stream()) {
            return self.park(event, &ctx, first, "an earlier event of its stream is parked").await;
        }
        let mut waits = 0;
        loop {
            match self.attempt(event, &mut ctx).await? {
                Attempt::Done => return Ok(()),
                Attempt::Waits(reason) => {
                    if waits == 0 {
                        self.log(event, &ctx, &error_text(&*reason), "an event waits");
                    }
                    waits += 1;
                    self.held.wait(self.held.inner.settings.retry.delay_after(waits)).await?;
                    // Perhaps it waits for the reaction to a timeout of this slice.
                    self.handle_due().await?;
                }
                Attempt::Failed(error) if self.may_park(&error) => {
                    return self.park(event, &ctx, first, &error_text(&error)).await;
                }
                Attempt::Failed(error) => {
                    return Err(self.stopped(event, &ctx, &error));
                }
            }
        }
    }

    /// Hands an event or a timeout to the projection, as often as the retry policy allows.
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
            // A checkpoint renews it.
            ctx.set_lease(&self.held.lease);
            let error = match self.try_handle(event, ctx).await {
                Ok(Handled::Done) => {
                    if outage.has_begun() {
                        self.held.passed();
                    }
                    return Ok(Attempt::Done);
                }
                Ok(Handled::Crowded) => {
                    self.checkpoint().await?;
                    continue;
                }
                Err(ProjectError::Lost) => return Err(Ended::Lost),
                Err(error) => error,
            };
            if matches!(error, ProjectError::Interrupted(_)) {
                if self.pending.events > 0 {
                    // What came before is lost with the projection: it is handled again, and finished first.
                    self.log(event, ctx, &error_text(&error), "an event failed");
                    self.isolated = Some(Origin::of(ctx));
                    return Err(Ended::Interrupted(None));
                }
                self.renew()?;
            } else if self.pending.events > 0 {
                // What came before is finished, whatever becomes of this one.
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
            self.log(event, ctx, &error_text(&error), "an event failed");
            self.held.wait(settings.retry.delay_after(attempts)).await?;
        }
    }

    /// The slice stops at an event.
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

    /// Whether what failed with `error` is parked; otherwise the slice stops.
    pub(super) fn may_park(&self, error: &ProjectError) -> bool {
        let is_decodable = !matches!(error, ProjectError::Decode(_));
        is_decodable && self.held.inner.settings.on_failure == OnFailure::Park
    }

    /// Hands an event to the projection; what it changed before it failed is undone.
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
        // The event is part of the next checkpoint, whenever that is written.
        self.reach(ctx.position(), ctx.anchor());
        Ok(Handled::Done)
    }

    /// Logs a warning about an event or a timeout.
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
