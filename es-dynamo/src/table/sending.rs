//! A pool of request futures.
//!
//! The future of an SDK request has more than 6 KB. Allocating and freeing it for each request took about half of the
//! instructions that a command adds to its requests, and embedding it in another future would copy it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

/// The maximum number of idle entries. More are allocated while more requests are in flight.
const MAX_IDLE: usize = 64;

/// Sends requests `R` whose responses are `T`.
pub(crate) struct Sender<R, T> {
    idle: Mutex<Vec<Box<dyn Sending<R, T>>>>,
    new_place: Box<dyn Fn() -> Box<dyn Sending<R, T>> + Send + Sync>,
}

/// Memory for one request at a time.
trait Sending<R, T>: Send {
    fn start(&mut self, request: R);
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<T>;
}

struct Place<R, F> {
    send: fn(R) -> F,
    /// The last request. The next one reuses its memory.
    future: Pin<Box<Option<F>>>,
}

impl<R, F: Future + Send> Sending<R, F::Output> for Place<R, F> {
    fn start(&mut self, request: R) {
        self.future.set(Some((self.send)(request)));
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<F::Output> {
        self.future.as_mut().as_pin_mut().expect("a request was started").poll(context)
    }
}

impl<R: 'static, T: 'static> Sender<R, T> {
    /// Returns a sender of requests that `send` turns into futures.
    pub(crate) fn new<F: Future<Output = T> + Send + 'static>(send: fn(R) -> F) -> Self {
        let new_place = move || Box::new(Place { send, future: Box::pin(None) }) as Box<dyn Sending<R, T>>;
        Self { idle: Mutex::default(), new_place: Box::new(new_place) }
    }

    /// Sends `request`. Dropping the future drops the request.
    pub(crate) fn send(&self, request: R) -> impl Future<Output = T> + Send {
        let idle = self.idle().pop();
        let mut place = idle.unwrap_or_else(&self.new_place);
        place.start(request);
        async move {
            let answer = poll_fn(|context| place.poll(context)).await;
            let mut idle = self.idle();
            if idle.len() < MAX_IDLE {
                idle.push(place);
            }
            answer
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Box<dyn Sending<R, T>>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;

    use futures_util::FutureExt;

    use super::*;

    async fn echo(text: Arc<str>) -> Arc<str> {
        tokio::task::yield_now().await;
        text
    }

    async fn wait(_text: Arc<str>) {
        pending::<()>().await;
    }

    #[tokio::test]
    async fn consecutive_requests_reuse_one_place_and_leave_it_empty() {
        let sender = Sender::new(echo);
        for text in ["a", "b", "c"] {
            let text: Arc<str> = text.into();
            assert_eq!(sender.send(Arc::clone(&text)).await, text);
            assert_eq!((sender.idle().len(), Arc::strong_count(&text)), (1, 1));
        }
    }

    #[tokio::test]
    async fn concurrent_requests_have_separate_places() {
        let sender = Sender::new(echo);
        let (a, b) = tokio::join!(sender.send("a".into()), sender.send("b".into()));
        assert_eq!((&*a, &*b, sender.idle().len()), ("a", "b", 2));
    }

    #[tokio::test]
    async fn dropping_the_future_drops_the_request() {
        let sender = Sender::new(wait);
        let text: Arc<str> = "a".into();
        assert!(sender.send(Arc::clone(&text)).now_or_never().is_none());
        assert_eq!((sender.idle().len(), Arc::strong_count(&text)), (0, 1));
    }
}
