//! Waiting for a projection.

use std::time::Duration;

use futures_util::future::{Either, select};

use super::Projector;
use super::state::{Overview, SliceState, Slot};
use super::stop::{either, pause};
use crate::feed::{Position, Slice};
use crate::projection::{Projection, ProjectorError, WaitError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// How long to wait before looking again at what other processes do.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl<P: Projection> Projector<P> {
    /// Waits until everything is handled that is in the feed when this is called, and parked events were tried
    /// again where that was asked for. Others have to [`run`](Self::run) the projection meanwhile.
    ///
    /// # Errors
    ///
    /// [`WaitError::Stopped`] when an event cannot be handled, [`WaitError::Projector`] when the store cannot
    /// tell how far it is.
    pub async fn caught_up(&self) -> Result<(), WaitError> {
        let ends = self.ends().await?;
        self.reached(&ends, false).await
    }

    /// Lets all slices that have stopped try again.
    pub(super) async fn retry_stopped(&self) -> Result<(), ProjectorError> {
        let names = self.inner.names()?;
        let overview = self.ask(|| Overview::read(&*self.inner.store, &names)).await?;
        for ((build, slice), state) in &overview.slices {
            if state.value.failure.is_some() && overview.control.builds().any(|worked_on| worked_on == *build)
            {
                let slot = Slot { build: *build, slice: Slice::new(*slice) };
                self.ask(|| {
                    self.change(slot, |state| {
                        state.failure = None;
                        Ok(())
                    })
                })
                .await?;
            }
        }
        Ok(())
    }

    /// Waits for a new build, too.
    pub(super) async fn all_caught_up(&self) -> Result<(), WaitError> {
        let ends = self.ends().await?;
        self.reached(&ends, true).await
    }

    /// What is the end of each slice now.
    async fn ends(&self) -> Result<Vec<(Slice, Position)>, WaitError> {
        let store = &self.inner.store;
        let mut ends = Vec::new();
        for slice in self.ask(|| async { Ok(store.slices().await?) }).await?.iter() {
            ends.push((slice, self.ask(|| async { Ok(store.feed_end(slice).await?) }).await?));
        }
        Ok(ends)
    }

    /// Repeats a request while another attempt may succeed, as often as the retry policy allows.
    ///
    /// Not an `AsyncFn`: the future of a caller that passes a closure which borrows would not be `Send`.
    async fn ask<T, F>(&self, ask: impl Fn() -> F) -> Result<T, ProjectorError>
    where
        F: Future<Output = Result<T, ProjectorError>>,
    {
        let settings = &self.inner.settings;
        let mut attempts = 0;
        loop {
            attempts += 1;
            match ask().await {
                Err(error) if error.is_transient() && settings.retry.allows_another(attempts) => {
                    pause(&*settings.clock, settings.retry.delay_after(attempts)).await;
                }
                answer => return answer,
            }
        }
    }

    /// Waits until the event at `version` of `stream` is handled, so that what one has just written can be
    /// read in the read model. An event that is parked, or skipped, does not keep anyone waiting.
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
            let store = &self.inner.store;
            let slice = self.ask(|| async { Ok(store.slices().await?) }).await?.of(stream);
            loop {
                let growth = store.growth();
                if self.ask(|| async { Ok(store.indexed(stream).await?) }).await? >= version {
                    break;
                }
                either(growth, self.inner.settings.clock.sleep(LOOK_AGAIN)).await;
            }
            // Whatever its position is, it is not behind the end.
            let end = self.ask(|| async { Ok(store.feed_end(slice).await?) }).await?;
            self.reached(&[(slice, end)], false).await
        });
        match select(wait, Box::pin(self.pass(timeout))).await {
            Either::Left((reached, _)) => reached,
            Either::Right(_) => Err(WaitError::TimedOut { stream: stream.clone(), version }),
        }
    }

    /// Waits for `duration`, in small parts: a clock that moves when one sleeps is not to jump to the end.
    async fn pass(&self, duration: Duration) {
        let mut left = duration;
        while !left.is_zero() {
            let part = left.min(LOOK_AGAIN);
            pause(&*self.inner.settings.clock, part).await;
            left -= part;
        }
    }

    /// Waits until the checkpoints are there, of the build that is read, and perhaps of the new one.
    async fn reached(&self, ends: &[(Slice, Position)], new: bool) -> Result<(), WaitError> {
        let names = self.inner.names()?;
        loop {
            let progressed = self.inner.progressed.listen();
            let overview = self.ask(|| Overview::read(&*self.inner.store, &names)).await?;
            let control = &overview.control;
            let builds = control.builds().filter(|build| new || *build == control.active);
            let awaited = builds.flat_map(|build| ends.iter().map(move |end| (build, end)));
            let mut is_there = true;
            let mut reached = Vec::new();
            for (build, (slice, end)) in awaited {
                let state = overview.slice(Slot { build, slice: *slice }).value;
                if state.position >= *end && !state.replay {
                    reached.push((*slice, state));
                    continue;
                }
                is_there = false;
                if let Some(failure) = state.failure {
                    return Err(WaitError::Stopped { slice: *slice, reason: failure.to_string() });
                }
            }
            if is_there {
                return self.possible(&reached).await;
            }
            either(Box::pin(progressed), self.inner.settings.clock.sleep(LOOK_AGAIN)).await;
        }
    }

    /// Checks that checkpoints fit the feed.
    async fn possible(&self, checkpoints: &[(Slice, SliceState)]) -> Result<(), WaitError> {
        for (slice, state) in checkpoints {
            let check = || async { Ok(self.inner.impossible(*slice, state).await?) };
            if let Some(error) = self.ask(check).await? {
                return Err(WaitError::Stopped { slice: *slice, reason: error.to_string() });
            }
        }
        Ok(())
    }
}
