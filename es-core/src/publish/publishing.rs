//! Publishing as a projection.

use std::fmt;
use std::sync::Arc;

use super::{CloudEvents, Envelope, Envelopes, Outbox, Publisher};
use crate::clock::{Clock, SystemClock};
use crate::event::EventData;
use crate::feed::EventFilter;
use crate::projection::{BoxError, EventContext, ProjectError, Projection};
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
        let envelope = self.envelopes.envelope(event, ctx).map_err(|error| match error.downcast() {
            Ok(error) => ProjectError::Decode(*error),
            Err(error) => ProjectError::Handler(error),
        })?;
        if !self.stuck && self.outbox.is_full(&*self.publisher) {
            // So that no more is in memory than has to be. What fails is no fault of this event: `flush` tells.
            self.stuck = self.outbox.send_once(&*self.publisher).await.is_err();
        }
        self.outbox.push(envelope, &*self.publisher).map_err(|error| ProjectError::Handler(error.into()))
    }

    async fn flush(&mut self) -> Result<(), BoxError> {
        self.outbox.send(&*self.publisher, self.retry, &*self.clock).await?;
        self.stuck = false;
        Ok(())
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
