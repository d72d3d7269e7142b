//! Handling one event, with all that may go wrong.

use chrono::{DateTime, Utc};

use super::builder::OnFailure;
use super::consumer::{Consumer, Ended};
use super::state::{FailedEvent, Failure};
use crate::event::EventData;
use crate::projection::{EventContext, ProjectError, Projection, Stage};
use crate::version::Version;

/// What happened to an event.
pub(super) enum Handled {
    /// It is done.
    Done,
    /// Its changes do not fit into one transaction with those of the events before it.
    Crowded,
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
        if let Some(exception) = exception.filter(|exception| exception.position == ctx.position()) {
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
        let (mut attempts, mut waits) = (0, 0);
        // Since when others have to be waited for.
        let mut since = None;
        loop {
            // A checkpoint renews it.
            ctx = ctx.leased(&self.lease);
            match self.try_handle(event, &ctx).await {
                Ok(Handled::Done) => return Ok(()),
                Ok(Handled::Crowded) => self.checkpoint().await?,
                Err(ProjectError::Lost) => return Err(Ended::Lost),
                Err(error) => {
                    // What came before is finished, whatever becomes of this one.
                    if self.pending > 0 {
                        self.checkpoint().await?;
                    }
                    if error.is_retryable() {
                        waits += 1;
                        self.wait(waits).await?;
                        continue;
                    }
                    attempts += 1;
                    let decodable = !matches!(error, ProjectError::Decode(_));
                    let may_retry = match error {
                        ProjectError::Decode(_) | ProjectError::Lost => false,
                        ProjectError::Handler(_) => self.may_retry(attempts),
                        ProjectError::Later(_) => {
                            let now = self.inner.settings.clock.now();
                            self.is_within_leases(*since.get_or_insert(now), now)
                        }
                    };
                    if may_retry {
                        tracing::warn!(stream = %ctx.stream(), version = %ctx.version(), %error, "an event failed");
                        self.wait(attempts).await?;
                    } else if decodable && self.inner.settings.on_failure == OnFailure::Park {
                        return self.park(event, &ctx, first, &error.to_string()).await;
                    } else {
                        let event = Some(failed(event, &ctx));
                        return Err(Ended::Failed(Failure { event, error: error.to_string() }));
                    }
                }
            }
        }
    }

    /// Whether it is not so long ago that whoever had begun something then must have been replaced since.
    fn is_within_leases(&self, since: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        let passed = now.signed_duration_since(since);
        passed.to_std().is_ok_and(|passed| passed < self.inner.settings.lease * 3)
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
    }
}
