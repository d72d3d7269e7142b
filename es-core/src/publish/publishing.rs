//! The projection that publishes events.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{BatchLimits, CloudEvents, Envelope, Envelopes, Outbox, PublishError, Publisher};
use crate::clock::{Clock, SystemClock};
use crate::event::EventData;
use crate::feed::EventFilter;
use crate::personal::{Outside, for_outside};
use crate::projection::guard::{caught, guarded};
use crate::projection::{BoxError, EventContext, Interrupted, ProjectError, Projection};
use crate::repository::RetryPolicy;

/// A projection that publishes events: all of them, or those that match [`only`](Self::only).
///
/// Run it with a [`Projector`](crate::Projector), which stores its checkpoint under its name. Several publishings with
/// different names can run at the same time. Events are collected and sent before each checkpoint: at least once, and
/// in order within each stream. See the [guarantees](super#guarantees).
///
/// ```
/// use es_core::feed::EventFilter;
/// use es_core::publish::{CloudEvents, Publisher, Publishing};
/// use es_core::{BoxError, MemoryStore, Projector};
///
/// # async fn example(store: MemoryStore, publisher: impl Publisher) -> Result<(), BoxError> {
/// let publishing = Publishing::new("to_shipping", publisher, CloudEvents::source("https://shop.example/orders")?)
///     .only(EventFilter::none().with_events("order", ["OrderPlaced", "OrderCancelled"]));
/// Projector::new(store, publishing).run().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Failures of the broker
///
/// Envelopes that were not accepted are sent again according to [`retry`](Self::retry). After that, the retry
/// policy of the projector applies. An event that the broker rejects
/// [permanently](super::PublishError::permanent), that cannot be encoded, or that is larger than the broker accepts
/// then fails as in any other projection: it stops its slice, or is parked with [`OnFailure::Park`]. To find the
/// rejected events of a batch, its other events are sent once more, one by one.
///
/// [`OnFailure::Park`]: crate::projection::OnFailure::Park
pub struct Publishing<P, E = CloudEvents> {
    name: Arc<str>,
    publisher: Arc<P>,
    envelopes: Arc<E>,
    filter: EventFilter,
    retry: RetryPolicy,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    personal: Outside,
    outbox: Outbox,
    /// Whether sending failed since the last checkpoint.
    stuck: bool,
}

impl<P: Publisher, E: Envelopes> Publishing<P, E> {
    /// Publishes all events through `publisher`, encoded by `envelopes`. The checkpoint is stored under `name`:
    /// never change it.
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
            personal: Outside::Absent,
            outbox: Outbox::new(),
            stuck: false,
        }
    }

    /// Publishes only the events that match `filter` (default: all).
    #[must_use]
    pub fn only(mut self, filter: EventFilter) -> Self {
        self.filter = filter;
        self
    }

    /// Sets how often and how quickly failed envelopes are sent again before the projector reports the failure
    /// (default: [`RetryPolicy::default`]).
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

    /// Publishes [personal data](crate::personal) in plain text (default: its fields are absent). The projector must
    /// use a [`SealedStore`](crate::personal::SealedStore).
    ///
    /// What a broker and its consumers have received is not forgotten with the subject.
    #[must_use]
    pub fn reveal_personal_data(mut self) -> Self {
        self.personal = Outside::Revealed;
        self
    }

    fn guarded(&self) -> GuardedPublisher<P> {
        let (publisher, clock) = (Arc::clone(&self.publisher), Arc::clone(&self.clock));
        GuardedPublisher { publisher, clock, timeout: self.timeout }
    }

    /// Returns the envelopes that have not been published yet.
    #[must_use]
    pub fn unpublished(&self) -> &[Envelope] {
        self.outbox.envelopes()
    }

    /// Sets the clock that measures delays and timeouts (default: [`SystemClock`]).
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
        let payload = for_outside(event.payload(), self.personal).map_err(|reason| {
            let event = event.name();
            ProjectError::Handler(format!("the event `{event}` cannot be published: {reason}").into())
        })?;
        let changed = match payload {
            Cow::Borrowed(_) => None,
            Cow::Owned(payload) => Some(event.with_payload(payload)),
        };
        let event = changed.as_ref().unwrap_or(event);
        let envelope = caught(|| self.envelopes.envelope(event, ctx))?;
        let envelope = envelope.map_err(|error| match error.downcast() {
            Ok(error) => ProjectError::Decode(*error),
            Err(error) => ProjectError::Handler(error),
        })?;
        let publisher = self.guarded();
        if !self.stuck && self.outbox.is_full(&publisher) {
            // Limits memory use. A failure does not concern this event, so `flush` reports it.
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

/// Reports panics and hangs of a publisher as errors.
#[derive(Debug)]
struct GuardedPublisher<P> {
    publisher: Arc<P>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: Publisher> Publisher for GuardedPublisher<P> {
    fn system(&self) -> &str {
        self.publisher.system()
    }

    fn limits(&self) -> BatchLimits {
        self.publisher.limits()
    }

    fn size(&self, envelope: &Envelope) -> usize {
        self.publisher.size(envelope)
    }

    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Result<(), PublishError>>, PublishError> {
        match guarded(&*self.clock, self.timeout, self.publisher.publish(batch)).await {
            Ok(outcomes) => outcomes,
            // The outcome is unknown.
            Err(error @ Interrupted::TimedOut(_)) => Err(PublishError::transient(error)),
            Err(error) => Err(PublishError::permanent(error)),
        }
    }
}

/// Clones the settings without the waiting envelopes: each slice has its own outbox.
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
            personal: self.personal,
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
