//! Timeouts of a process: their share of the work on a slice, and what becomes of those that fail.

use super::consumer::Consumer;
use super::failure::{FailedEvent, Parked};
use super::handling::Attempt;
use super::held::{Ended, Outage};
use super::state::encode;
use crate::documents::{DocumentChange, DocumentKey};
use crate::error_text::error_text;
use crate::projection::timeout::{self, Due, Timeout};
use crate::projection::{ProjectError, Projection, Tick};
use crate::version::Version;

impl<P: Projection> Consumer<'_, '_, P> {
    /// Handles the next timeouts that are due; returns whether there may be more.
    pub(super) async fn handle_due(&mut self) -> Result<bool, Ended> {
        let due = self.due().await?;
        for timeout in &due.timeouts {
            self.handle_timeout(timeout).await?;
        }
        // What is deleted or parked is part of the checkpoint, and so only while the slice is this worker's: a
        // timeout that is gone is not reacted to again, by a worker that goes on with a reaction that has begun.
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
                Err(ProjectError::Later(_)) => return Ok(Due::default()),
                Err(error) => self.held.wait_after(&mut attempts, &mut outage, error).await?,
            }
        }
    }

    async fn handle_timeout(&mut self, timeout: &Timeout) -> Result<(), Ended> {
        let (event, mut ctx) = timeout.event(self.held.slot.slice);
        match self.attempt(&event, &mut ctx).await? {
            Attempt::Done => {
                self.pending.changes.push(DocumentChange::delete(timeout.document().clone()));
                Ok(())
            }
            // It is read again later; others do not wait for it.
            Attempt::Waits(_) => Ok(()),
            Attempt::Failed(error) if self.may_park(&error) => {
                self.park_timeout(timeout, error_text(&error)).await
            }
            Attempt::Failed(error) => Err(self.held.failed(Some(FailedEvent::of(&event, &ctx)), &error)),
        }
    }

    /// Sets a timeout aside.
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

    /// Parks or skips the timeout at which the slice had stopped, if an operator decided so.
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
                "a timeout is skipped on purpose"
            );
            self.pending.changes.push(DocumentChange::delete(key));
        }
        self.checkpoint().await
    }
}
