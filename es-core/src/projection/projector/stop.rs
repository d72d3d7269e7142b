//! Stopping tasks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use event_listener::Event;
use futures_core::future::BoxFuture;
use futures_util::future::{Either, select};

use crate::clock::Clock;
use crate::yielding::yield_now;

/// A signal that tells a task to end after its current work.
#[derive(Debug, Default)]
pub(super) struct Stop {
    set: AtomicBool,
    changed: Event,
}

impl Stop {
    pub(super) fn set(&self) {
        self.set.store(true, Ordering::SeqCst);
        self.changed.notify(usize::MAX);
    }

    pub(super) fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    /// Waits until the signal is set.
    pub(super) async fn wait(&self) {
        while !self.is_set() {
            let listener = self.changed.listen();
            if self.is_set() {
                return;
            }
            listener.await;
        }
    }

    /// Waits for `duration`, or until the signal is set.
    pub(super) async fn sleep(&self, clock: &dyn Clock, duration: Duration) {
        either(clock.sleep(duration), Box::pin(self.wait())).await;
    }
}

/// The signals that end a worker.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Ends it after the current events.
    pub(super) stop: Stop,
    /// Ends it after it has taken its share of the slices and has handled their timeouts that are due.
    pub(super) finish: Stop,
}

/// Waits for `duration`. Yields even if the clock does not wait.
pub(super) async fn pause(clock: &dyn Clock, duration: Duration) {
    yield_now().await;
    clock.sleep(duration).await;
}

/// Waits for either future. Yields even if one is ready.
pub(super) async fn either(left: BoxFuture<'_, ()>, right: BoxFuture<'_, ()>) {
    yield_now().await;
    match select(left, right).await {
        Either::Left(_) | Either::Right(_) => {}
    }
}
