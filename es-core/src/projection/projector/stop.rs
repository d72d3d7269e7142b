//! Stopping tasks.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use event_listener::Event;
use futures_core::future::BoxFuture;
use futures_util::future::{Either, select};

use crate::clock::Clock;

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
    turn().await;
    clock.sleep(duration).await;
}

/// Yields to the executor once.
async fn turn() {
    let mut is_over = false;
    poll_fn(|context| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Waits for either future. Yields even if one is ready.
pub(super) async fn either(left: BoxFuture<'_, ()>, right: BoxFuture<'_, ()>) {
    turn().await;
    match select(left, right).await {
        Either::Left(_) | Either::Right(_) => {}
    }
}
