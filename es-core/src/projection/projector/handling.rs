//! Handling one event, with all that may go wrong.

use super::builder::OnFailure;
use super::consumer::{Consumer, Ended};
use super::state::{FailedEvent, Failure};
use crate::event::EventData;
use crate::projection::{BoxError, EventContext, ProjectError, Projection, Stage};
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

impl<P: Projection> Consumer<'_, P> {
    /// Handles an event of the commit that begins at `first`: in the end it is done, skipped or parked.
    pub(super) async fn handle(
        &mut self,
        event: &EventData,
        mut ctx: EventContext,
        first: Version,
    ) -> Result<(), Ended> {
        let exception = self.state.exception.as_ref();
        if let Some(exception) = exception.filter(|exception| exception.is_at(ctx.position())) {
            if exception.park {
                let error = exception.error.clone();
                self.park(event, &ctx, first, &error).await?;
            } else {
                tracing::warn!(stream = %ctx.stream(), version = %ctx.version(), "an event is skipped on purpose");
                self.pending += 1;
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
                        tracing::warn!(stream = %ctx.stream(), version = %ctx.version(), %reason, "an event waits");
                    }
                    waits += 1;
                    self.wait(waits).await?;
                    // Perhaps it waits for the reaction to a timeout of this slice.
                    self.handle_due().await?;
                }
                Attempt::Failed(error) if self.may_park(&error) => {
                    return self.park(event, &ctx, first, &error.to_string()).await;
                }
                Attempt::Failed(error) => return Err(self.stopped_at(failed(event, &ctx), &error)),
            }
        }
    }

    /// Hands an event or a timeout to the projection, as often as the retry policy allows.
    pub(super) async fn attempt(
        &mut self,
        event: &EventData,
        ctx: &mut EventContext,
    ) -> Result<Attempt, Ended> {
        let (mut attempts, mut waits) = (0, 0);
        loop {
            // A checkpoint renews it.
            ctx.set_lease(&self.lease);
            match self.try_handle(event, ctx).await {
                Ok(Handled::Done) => return Ok(Attempt::Done),
                Ok(Handled::Crowded) => self.checkpoint().await?,
                Err(ProjectError::Lost) => return Err(Ended::Lost),
                Err(error) => {
                    // What came before is finished, whatever becomes of this one.
                    if self.pending > 0 {
                        self.checkpoint().await?;
                    }
                    if let ProjectError::Later(reason) = error {
                        return Ok(Attempt::Waits(reason));
                    }
                    if error.is_retryable() {
                        waits += 1;
                        self.wait(waits).await?;
                        continue;
                    }
                    attempts += 1;
                    if matches!(error, ProjectError::Decode(_)) || !self.may_retry(attempts) {
                        return Ok(Attempt::Failed(error));
                    }
                    tracing::warn!(stream = %ctx.stream(), version = %ctx.version(), %error, "an event failed");
                    self.wait(attempts).await?;
                }
            }
        }
    }

    /// Whether what failed with `error` is parked; otherwise the slice stops.
    pub(super) fn may_park(&self, error: &ProjectError) -> bool {
        let is_decodable = !matches!(error, ProjectError::Decode(_));
        is_decodable && self.inner.settings.on_failure == OnFailure::Park
    }

    /// How the work on the slice ends at an event or a timeout that failed.
    pub(super) fn stopped_at(&self, event: FailedEvent, error: &ProjectError) -> Ended {
        Ended::Failed(Failure { event: Some(event), error: error.to_string() })
    }

    /// Hands an event to the projection; what it changed before it failed is undone.
    pub(super) async fn try_handle(
        &mut self,
        event: &EventData,
        ctx: &EventContext,
    ) -> Result<Handled, ProjectError> {
        let handled = self.projection.handle(event, ctx).await;
        let overload = self.overload();
        if handled.is_err() || overload.is_some() {
            self.projection.stages().into_iter().for_each(Stage::undo);
        }
        handled?;
        if let Some(reason) = overload {
            return match self.pending {
                0 => Err(ProjectError::Handler(reason.into())),
                _ => Ok(Handled::Crowded),
            };
        }
        self.projection.stages().into_iter().for_each(Stage::keep);
        self.pending += 1;
        // The event is part of the next checkpoint, whenever that is written.
        self.handled = self.handled.max(ctx.position());
        Ok(Handled::Done)
    }
}

pub(super) fn failed(event: &EventData, ctx: &EventContext) -> FailedEvent {
    FailedEvent {
        stream: ctx.stream().to_string(),
        version: ctx.version(),
        name: event.name().to_owned(),
        position: ctx.position(),
        timeout: None,
    }
}
