//! Waiting for a projection.

use std::time::Duration;

use futures_util::future::{Either, select};

use super::Projector;
use super::state::{Overview, Slot};
use super::stop::either;
use crate::feed::{Position, Slice};
use crate::projection::{Projection, WaitError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// How long to wait before looking again at what other processes do.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl<P: Projection> Projector<P> {
    /// Waits until everything is handled that is in the feed when this is called. Others have to
    /// [`run`](Self::run) the projection meanwhile.
    ///
    /// # Errors
    ///
    /// [`WaitError::Stopped`] when an event cannot be handled, [`WaitError::Projector`] when the store cannot
    /// tell how far it is.
    pub async fn caught_up(&self) -> Result<(), WaitError> {
        let mut ends = Vec::new();
        for slice in self.inner.store.slices().await?.iter() {
            ends.push((slice, self.inner.store.feed_end(slice).await?));
        }
        self.reached(&ends).await
    }

    /// Waits until the event at `version` of `stream` is handled, so that what one has just written can be
    /// read in the read model.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] when `timeout` is over, [`WaitError::Stopped`] when the projection has stopped
    /// before it.
    pub async fn wait_for(
        &self,
        stream: &StreamId,
        version: Version,
        timeout: Duration,
    ) -> Result<(), WaitError> {
        let wait = Box::pin(async {
            let slice = self.inner.store.slices().await?.of(stream);
            loop {
                let growth = self.inner.store.growth();
                if self.inner.store.indexed(stream).await? >= version {
                    break;
                }
                either(growth, self.inner.settings.clock.sleep(LOOK_AGAIN)).await;
            }
            // Whatever its position is, it is not behind the end.
            let end = self.inner.store.feed_end(slice).await?;
            self.reached(&[(slice, end)]).await
        });
        match select(wait, self.inner.settings.clock.sleep(timeout)).await {
            Either::Left((reached, _)) => reached,
            Either::Right(_) => Err(WaitError::TimedOut { stream: stream.clone(), version }),
        }
    }

    /// Waits until the checkpoints are there.
    async fn reached(&self, ends: &[(Slice, Position)]) -> Result<(), WaitError> {
        let names = self.inner.names()?;
        loop {
            let progressed = self.inner.progressed.listen();
            let overview = Overview::read(&*self.inner.store, &names).await?;
            let mut is_there = true;
            for (slice, end) in ends {
                let state = overview.slice(Slot { build: overview.control.active, slice: *slice }).value;
                if state.position >= *end {
                    continue;
                }
                is_there = false;
                if let Some(failure) = state.failure {
                    return Err(WaitError::Stopped { slice: *slice, reason: failure.to_string() });
                }
            }
            if is_there {
                return Ok(());
            }
            either(Box::pin(progressed), self.inner.settings.clock.sleep(LOOK_AGAIN)).await;
        }
    }
}
