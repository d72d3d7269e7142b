//! Calls user code, and converts its panics and hangs to errors.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, FutureExt, OptionFuture, poll_immediate, select};

use super::Interrupted;
use crate::clock::Clock;
use crate::error_text::truncated;

/// Calls a user function. After a panic, discard the values that it was working on: they may be inconsistent.
pub(crate) fn caught<T>(code: impl FnOnce() -> T) -> Result<T, Interrupted> {
    catch_unwind(AssertUnwindSafe(code)).map_err(panicked)
}

/// Awaits a user future for at most `timeout`. A hang can only be interrupted at an `.await`. The future is dropped under
/// the guard, too, because its `Drop` may panic. After an error, the same applies as for [`caught`].
pub(crate) async fn guarded<T>(
    clock: &dyn Clock,
    timeout: Duration,
    code: impl Future<Output = T>,
) -> Result<T, Interrupted> {
    let mut code = pin!(OptionFuture::from(Some(AssertUnwindSafe(code).catch_unwind())));
    // Most code completes immediately and needs no timer.
    let outcome = match poll_immediate(code.as_mut()).await {
        Some(outcome) => outcome,
        None => match select(code.as_mut(), clock.timeout(timeout)).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => None,
        },
    };
    let dropped = caught(|| code.set(None.into()));
    match outcome {
        Some(outcome) => outcome.map_err(panicked).and_then(|outcome| dropped.map(|()| outcome)),
        None => Err(Interrupted::TimedOut(timeout)),
    }
}

/// Returns the error for a panic, with its message.
pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Interrupted {
    let message = match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => {
            let message = payload.downcast_ref::<&str>().copied().unwrap_or("without a message").to_owned();
            // Dropping a value of another type may panic again, with another such value.
            std::mem::forget(payload);
            message
        }
    };
    Interrupted::Panicked(truncated(message))
}
