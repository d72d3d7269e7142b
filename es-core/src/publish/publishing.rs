//! Publishing as a projection.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{BatchLimits, CloudEvents, Envelope, Envelopes, Outbox, PublishError, Publisher};
use crate::clock::{Clock, SystemClock};
use crate::event::EventData;
use crate::feed::EventFilter;
use crate::projection::guard::{caught, guarded};
use crate::projection::{BoxError, EventContext, Interrupted, ProjectError, Projection};
use crate::repository::RetryPolicy;

/// A projection that publishes events: all of them, or those that [`only`](Self::only) lets through.
///
/// A [`Projector`](crate::Projector) runs it, and keeps under its name how far it is; several may run beside each
/// other. Events are collected, and sent before each checkpoint: at least once, in order within each stream. The
/// module says [what is guaranteed](super#what-is-guaranteed).
///
/// ```
/// use es_core::feed::EventFilter;
/// use es_core::publish::{CloudEvents, Publisher, Publishing};
/// use es_core::{BoxError, MemoryStore, Projector};
///
/// # async fn example(store: MemoryStore, publisher: impl Publisher) -> Result<(), BoxError> {
/// let publishing = Publishing::new("to_shipping", publisher, CloudEvents::source("https://shop.example/orders")?)
///     .only(EventFilter::none().with("order", ["OrderPlaced", "OrderCancelled"]));
/// Projector::new(store, publishing).run().await?;
/// # Ok(())
/// # }
/// ```
///
/// # When the broker fails
///
/// What was not accepted is sent again, as [`retry`](Self::retry) has it; then the projector tries, as its own
/// policy has it, and in the end stops the slice, with an error that names the event. An event that cannot be
/// put into an envelope, or is larger than the broker takes, fails as in any other projection: it can be parked.
pub struct Publishing<P, E = CloudEvents> {
    name: Arc<str>,
    publisher: Arc<P>,
    envelopes: Arc<E>,
    filter: EventFilter,
    retry: RetryPolicy,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    outbox: Outbox,
    /// Whether sending has failed since the last checkpoint.
    stuck: bool,
}

impl<P: Publisher, E: Envelopes> Publishing<P, E> {
    /// Publishes all events through `publisher`, in `envelopes`. How far it is, is stored under `name`: never
    /// change it.
    #[must_use]
    pub fn new(name: &str, publisher: P, envelopes: E) -> Self {
        Self {
            name: name.into(),
            publisher: Arc::new(publisher),
            envelopes: Arc::new(envelopes),
            filter: EventFilter::all(),
            retry: RetryPolicy::default(),
            timeout: Duration::from_secs(60),
            clock: Arc::new(SystemClock),
            outbox: Outbox::new(),
            stuck: false,
        }
    }

    /// Publishes those events only that `filter` takes.
    #[must_use]
    pub fn only(mut self, filter: EventFilter) -> Self {
        self.filter = filter;
        self
    }

    /// How often and how fast to send again what was not accepted, before the projector is told.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Sets how long the publisher may take for one batch (default: 60 s). A batch that takes longer is sent again.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn guarded(&self) -> GuardedPublisher<P> {
        let (publisher, clock) = (Arc::clone(&self.publisher), Arc::clone(&self.clock));
        GuardedPublisher { publisher, clock, timeout: self.timeout }
    }

    /// What was handled and is not published.
    #[must_use]
    pub fn unpublished(&self) -> &[Envelope] {
        self.outbox.envelopes()
    }

    /// How to wait between attempts.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }
}

#[diagnostic::do_not_recommend]
impl<P: Publisher, E: Envelopes> Projection for Publishing<P, E> {
    const NAME: &'static str = "publishing";

    fn name(&self) -> &str {
        &self.name
    }

    fn filter(&self) -> EventFilter {
        self.filter.clone()
    }

    async fn handle(&mut self, event: &EventData, ctx: &EventContext) -> Result<(), ProjectError> {
        let envelope = caught(|| self.envelopes.envelope(event, ctx))?;
        let envelope = envelope.map_err(|error| match error.downcast() {
            Ok(error) => ProjectError::Decode(*error),
            Err(error) => ProjectError::Handler(error),
        })?;
        let publisher = self.guarded();
        if !self.stuck && self.outbox.is_full(&publisher) {
            // So that no more is in memory than has to be. What fails is no fault of this event: `flush` tells.
            self.stuck = self.outbox.send_once(&publisher).await.is_err();
        }
        self.outbox.push(envelope, &publisher).map_err(|error| ProjectError::Handler(error.into()))
    }

    async fn flush(&mut self) -> Result<(), BoxError> {
        let publisher = self.guarded();
        self.outbox.send(&publisher, self.retry, &*self.clock).await?;
        self.stuck = false;
        Ok(())
    }
}

/// A publisher whose panics and hangs are errors of what it was to send.
#[derive(Debug)]
struct GuardedPublisher<P> {
    publisher: Arc<P>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: Publisher> Publisher for GuardedPublisher<P> {
    fn limits(&self) -> BatchLimits {
        self.publisher.limits()
    }

    fn size(&self, envelope: &Envelope) -> usize {
        self.publisher.size(envelope)
    }

    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Result<(), PublishError>>, PublishError> {
        match guarded(&*self.clock, self.timeout, self.publisher.publish(batch)).await {
            Ok(outcomes) => outcomes,
            // Whether it was sent is unknown.
            Err(error @ Interrupted::TimedOut(_)) => Err(PublishError::transient(error)),
            Err(error) => Err(PublishError::permanent(error)),
        }
    }
}

/// The settings, and nothing of what waits: each slice has its own outbox.
impl<P, E> Clone for Publishing<P, E> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            publisher: Arc::clone(&self.publisher),
            envelopes: Arc::clone(&self.envelopes),
            filter: self.filter.clone(),
            retry: self.retry,
            timeout: self.timeout,
            clock: Arc::clone(&self.clock),
            outbox: Outbox::new(),
            stuck: false,
        }
    }
}

impl<P: fmt::Debug, E> fmt::Debug for Publishing<P, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publishing")
            .field("name", &self.name)
            .field("publisher", &self.publisher)
            .field("filter", &self.filter)
            .field("outbox", &self.outbox)
            .finish_non_exhaustive()
    }
}
