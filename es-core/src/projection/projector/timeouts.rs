//! Timeouts of a process: their share of the work on a slice, and what becomes of those that fail.

use super::consumer::{Consumer, Ended};
use super::handling::Attempt;
use super::state::{FailedEvent, FailedTimeout, Parked, encode};
use crate::documents::{DocumentChange, DocumentKey};
use crate::projection::timeout::{self, Due, Timeout};
use crate::projection::{ProjectError, Projection, Tick};
use crate::version::Version;

impl<P: Projection> Consumer<'_, P> {
    /// Handles the next timeouts that are due; returns whether there may be more.
    pub(super) async fn handle_due(&mut self) -> Result<bool, Ended> {
        let due = self.due().await?;
        for timeout in &due.timeouts {
            self.handle_timeout(timeout).await?;
        }
        // What is deleted or parked is part of the checkpoint, and so only while the slice is this worker's: a
        // timeout that is gone is not reacted to again, by a worker that goes on with a reaction that has begun.
        if !self.commit.changes.is_empty() {
            self.checkpoint().await?;
        }
        Ok(due.more)
    }

    async fn due(&mut self) -> Result<Due, Ended> {
        let (mut attempts, mut waits) = (0, 0);
        loop {
            let tick = Tick::new(self.slot.slice, &*self.inner.settings.clock);
            match self.projection.tick(tick).await {
                Ok(due) => return Ok(due),
                Err(ProjectError::Later(_)) => return Ok(Due::default()),
                Err(ProjectError::Lost) => return Err(Ended::Lost),
                Err(error) if error.is_retryable() => {
                    waits += 1;
                    self.wait(waits).await?;
                }
                Err(error) => self.wait_after(&mut attempts, error.into()).await?,
            }
        }
    }

    async fn handle_timeout(&mut self, timeout: &Timeout) -> Result<(), Ended> {
        let (event, mut ctx) = timeout.event(self.slot.slice);
        match self.attempt(&event, &mut ctx).await? {
            Attempt::Done => {
                self.commit.changes.push(DocumentChange::delete(timeout.document().clone()));
                Ok(())
            }
            // It is read again later; others do not wait for it.
            Attempt::Waits(_) => Ok(()),
            Attempt::Failed(error) if self.may_park(&error) => {
                self.park_timeout(timeout, error.to_string()).await
            }
            Attempt::Failed(error) => Err(self.stopped_at(failed_timeout(timeout), &error)),
        }
    }

    /// Sets a timeout aside.
    async fn park_timeout(&mut self, timeout: &Timeout, error: String) -> Result<(), Ended> {
        let scheduled = timeout.scheduled().clone();
        let key = self.names.parked_timeout(self.slot, &scheduled.document());
        tracing::error!(stream = %timeout.stream(), timeout = scheduled.name, reason = error, "a timeout is parked");
        let parked = Parked {
            slice: self.slot.slice,
            event: failed_timeout(timeout),
            first: Version::NONE,
            error,
            scheduled: Some(Box::new(scheduled)),
        };
        self.commit.changes.push(DocumentChange::delete(timeout.document().clone()));
        self.commit.changes.push(DocumentChange::put(key, encode(&parked)?));
        self.commit.parked += 1;
        self.checkpoint().await
    }

    /// Parks or skips the timeout at which the slice had stopped, if an operator decided so.
    pub(super) async fn settle_timeout(&mut self) -> Result<(), Ended> {
        let exception = self.state.exception.clone();
        let Some((exception, name)) = exception.and_then(|it| it.timeout.clone().map(|name| (it, name)))
        else {
            return Ok(());
        };
        let collection = timeout::collection(self.inner.projection.name(), self.slot.slice);
        let key = DocumentKey::new(collection, name);
        let store = &self.inner.store;
        if let Some(document) = self.persistently(|| store.document(&key)).await? {
            if exception.park {
                let timeout = Timeout::decode(key, &document)?;
                return self.park_timeout(&timeout, exception.error).await;
            }
            tracing::warn!(timeout = key.name(), "a timeout is skipped on purpose");
            self.commit.changes.push(DocumentChange::delete(key));
        }
        self.checkpoint().await
    }
}

fn failed_timeout(timeout: &Timeout) -> FailedEvent {
    let scheduled = timeout.scheduled();
    FailedEvent {
        stream: scheduled.stream.clone(),
        version: Version::NONE,
        name: scheduled.name.clone(),
        position: crate::feed::Position::NONE,
        timeout: Some(FailedTimeout { key: scheduled.key.clone(), due: scheduled.due }),
    }
}
