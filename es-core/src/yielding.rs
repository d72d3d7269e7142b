//! Yielding to the executor, whichever it is.

use std::future::poll_fn;
use std::mem::replace;
use std::task::Poll;

/// Yields to the executor once.
pub(crate) async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
