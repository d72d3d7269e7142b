//! Settings of a projector.

use std::sync::Arc;
use std::time::Duration;

use event_listener::Event;

use super::delays::Delays;
use super::stop::Stop;
use super::{Inner, Projector};
use crate::clock::{Clock, SystemClock};
use crate::feed::{Feed, FeedRead};
use crate::ids::{IdSource, RandomIds};
use crate::projection::Projection;
use crate::repository::RetryPolicy;

/// What becomes of an event whose handler fails again and again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// The slice stops there. It [tries again](ProjectorBuilder::restart) now and then, until the event works or an
    /// operator decides.
    #[default]
    Stop,
    /// The event is set aside with its error, and those of its stream after it; the others go on. One that
    /// cannot be decoded stops the slice all the same.
    Park,
}

/// Where a projection begins that has never run before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// At the first event.
    #[default]
    Beginning,
    /// After the events that are in the feed already: of a table that has never been indexed, that is none of
    /// them, so let the indexer finish first.
    End,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) start: Start,
    pub(super) batch: u32,
    pub(super) batch_bytes: u64,
    pub(super) poll: Duration,
    pub(super) lease: Duration,
    pub(super) retry: RetryPolicy,
    pub(super) restart: RetryPolicy,
    pub(super) handler_timeout: Duration,
    pub(super) shutdown_timeout: Duration,
    pub(super) on_failure: OnFailure,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn IdSource>,
}

/// Settings of a [`Projector`]: made by [`Projector::builder`].
#[must_use = "a builder does nothing until `build` is called"]
#[derive(Debug)]
pub struct ProjectorBuilder<P> {
    store: Arc<dyn Feed>,
    projection: P,
    settings: Settings,
}

impl<P: Projection> ProjectorBuilder<P> {
    pub(crate) fn new(store: Arc<dyn Feed>, projection: P) -> Self {
        let settings = Settings {
            start: Start::default(),
            batch: 100,
            batch_bytes: FeedRead::DEFAULT_MAX_BYTES,
            poll: Duration::from_millis(500),
            lease: Duration::from_secs(30),
            retry: RetryPolicy::default(),
            restart: RetryPolicy::default()
                .with_max_attempts(u32::MAX)
                .with_base_delay(Duration::from_secs(10))
                .with_max_delay(Duration::from_secs(300)),
            handler_timeout: Duration::from_secs(300),
            shutdown_timeout: Duration::from_secs(30),
            on_failure: OnFailure::default(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
        };
        Self { store, projection, settings }
    }

    /// Where to begin when the projection has never run before; at the first event if nothing is said. A new
    /// process in an old system begins at the end.
    pub fn start(mut self, start: Start) -> Self {
        self.settings.start = start;
        self
    }

    /// About how many events to read, and to handle between two checkpoints; 100 if nothing is said. What
    /// changes more documents than one transaction takes is written in between.
    pub fn batch(mut self, events: u32) -> Self {
        self.settings.batch = events.max(1);
        self
    }

    /// Sets about how many bytes of events to read at once (default: 4 MB). A slice has at most about twice as
    /// much in memory: batches of large events are cut to this size, whatever [`batch`](Self::batch) says.
    pub fn batch_bytes(mut self, bytes: u64) -> Self {
        self.settings.batch_bytes = bytes.max(1);
        self
    }

    /// How long to wait at the end of the feed before looking again, unless the store tells earlier; half a
    /// second if nothing is said.
    pub fn poll(mut self, interval: Duration) -> Self {
        self.settings.poll = interval;
        self
    }

    /// Sets the lease duration (default: 30 s). The slices of a worker that has given no sign of life for this long
    /// are taken over, which is safe even if that worker still runs. A worker gives a sign, one small write, three
    /// times in each lease. A slice for which the store has not responded for a lease is left to other workers.
    pub fn lease(mut self, duration: Duration) -> Self {
        self.settings.lease = duration;
        self
    }

    /// How often and how fast a handler that fails is called again, and a store is asked again by who waits for
    /// the projection. Workers ask a store again for as long as it takes, as fast.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.settings.retry = policy;
        self
    }

    /// Sets how fast a slice that has stopped tries again without being asked to (default: after 5 to 10 s at first,
    /// and every 2.5 to 5 min in the end, without a limit). Each wait is between a half and the whole of the policy's
    /// delay. A worker that starts tries at once, because it may run other code. With [`RetryPolicy::never`] it stays
    /// stopped until a worker starts or an operator decides.
    pub fn restart(mut self, policy: RetryPolicy) -> Self {
        self.settings.restart = policy;
        self
    }

    /// Sets how long user code may take for one event, one batch to send, or one look at what is due by time
    /// (default: 5 min). What takes longer is dropped at its next `.await`, and counts as a failure. Code that blocks
    /// its thread cannot be interrupted.
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.settings.handler_timeout = timeout;
        self
    }

    /// Sets how long [`run`](Projector::run) goes on after [`shutdown`](Projector::shutdown) at most (default: 30 s):
    /// so long for the event at hand, and for the last checkpoint. What is not in a checkpoint then is handled again
    /// by the next worker.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.settings.shutdown_timeout = timeout;
        self
    }

    /// What becomes of an event whose handler fails as often as the retry policy has it.
    pub fn on_failure(mut self, what: OnFailure) -> Self {
        self.settings.on_failure = what;
        self
    }

    /// Where the time is taken from.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.settings.clock = Arc::new(clock);
        self
    }

    /// Where the ids of workers and revisions come from, and those of the commits of a process's state.
    pub fn ids(mut self, ids: impl IdSource) -> Self {
        self.settings.ids = Arc::new(ids);
        self
    }

    /// The projector.
    #[must_use]
    pub fn build(self) -> Projector<P> {
        let Self { store, mut projection, settings } = self;
        projection.equip(Arc::clone(&settings.clock), Arc::clone(&settings.ids));
        let inner = Inner {
            name: projection.name().to_owned(),
            store,
            projection,
            settings,
            delays: Delays::default(),
            stop: Stop::default(),
            progressed: Event::new(),
            ordered: Event::new(),
        };
        Projector { inner: Arc::new(inner) }
    }
}
