//! Running a projection: workers that share the slices of the feed.

mod accepted;
mod builder;
mod consumer;
mod control;
mod delays;
mod failure;
mod fate;
mod guarded;
mod handling;
mod held;
mod names;
mod parking;
mod pending;
mod progress;
mod recovery;
mod state;
mod stop;
mod timeouts;
mod waiting;
mod worker;

use std::fmt;
use std::sync::Arc;

use event_listener::Event;
use futures_util::future::{Either, select};

pub use accepted::PassedOver;
pub use builder::{OnFailure, ProjectorBuilder, Start};
pub use delays::Delay;
pub use failure::{FailedEvent, FailedKind, Failure, Parked};
pub(crate) use fate::{Fate, Origin, fate};
pub use progress::{Progress, SliceProgress, SliceStatus};
pub use recovery::SeekTo;
pub(crate) use state::active_build;

use self::builder::Settings;
use self::delays::Delays;
use self::state::Names;
use self::stop::Stop;
use super::{Projection, ProjectorError, WaitError};
use crate::feed::Feed;

/// Runs a projection, and says how far it is.
///
/// Each [`run`](Self::run) is a worker. Workers of one projection, in one process or in many, share the
/// slices of the feed among themselves; when one dies, the others take its slices after the
/// [lease](ProjectorBuilder::lease) is over. A worker that lost a slice without noticing cannot write its
/// checkpoint any more, nor change a read model.
///
/// A clone is a handle on the same projection.
///
/// ```
/// use es_core::prelude::*;
/// use es_core::MemoryStore;
/// # #[event]
/// # pub struct OrderPlaced;
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "order", id = String, events(OrderPlaced))]
/// # pub struct Order;
/// # impl Apply<OrderPlaced> for Order { fn apply(&mut self, _: &OrderPlaced) {} }
/// # #[derive(Clone, Projection)]
/// # #[projection(name = "mails", events(Order(OrderPlaced)))]
/// # struct Mails;
/// # impl Project<OrderPlaced> for Mails {
/// #     async fn project(&mut self, _: &OrderPlaced, _: &EventContext) -> Result<(), BoxError> { Ok(()) }
/// # }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let projector = Projector::new(MemoryStore::new(), Mails);
/// let worker = tokio::spawn({ let projector = projector.clone(); async move { projector.run().await } });
///
/// projector.caught_up().await?;
/// println!("{} events behind", projector.progress().await?.lag());
///
/// projector.shutdown();
/// worker.await??;
/// # Ok::<_, BoxError>(())
/// # }).unwrap();
/// ```
pub struct Projector<P> {
    inner: Arc<Inner<P>>,
}

struct Inner<P> {
    /// The projection's name.
    name: String,
    store: Arc<dyn Feed>,
    projection: P,
    settings: Settings,
    delays: Delays,
    stop: Stop,
    /// A checkpoint was written, or a slice has stopped.
    progressed: Event,
    /// An operator wants something.
    ordered: Event,
}

impl<P: Projection> Inner<P> {
    fn names(&self) -> Result<Names, ProjectorError> {
        Names::new(&self.name)
    }
}

impl<P: Projection> Projector<P> {
    /// Runs `projection` on `store`, with the default settings.
    #[must_use]
    pub fn new(store: impl Feed, projection: P) -> Self {
        Self::builder(store, projection).build()
    }

    /// Settings for running `projection` on `store`.
    pub fn builder(store: impl Feed, projection: P) -> ProjectorBuilder<P> {
        ProjectorBuilder::new(Arc::new(store), projection)
    }

    pub(crate) fn projection(&self) -> &P {
        &self.inner.projection
    }

    /// Works on the projection until [`shutdown`](Self::shutdown). Dropped, it leaves its slices to others as
    /// if the process had died, which is safe.
    ///
    /// An event that fails, panics or does not return affects itself and what has to wait for it, but neither this
    /// worker nor other slices. [Transient](crate::StoreError::is_transient) errors of the store are retried
    /// indefinitely, and logged as warnings.
    ///
    /// # Errors
    ///
    /// [`ProjectorError`] when the name of the projection cannot be one, or what is stored of it cannot be read.
    pub async fn run(&self) -> Result<(), ProjectorError> {
        worker::run(&self.inner, &self.inner.stop).await
    }

    /// Works on the projection, and on a new build of it, until they have reached what is the end of the feed now:
    /// in tests, and in jobs. Slices that have stopped try again first.
    ///
    /// # Errors
    ///
    /// [`WaitError::Stopped`] when an event cannot be handled; others as [`run`](Self::run) and
    /// [`caught_up`](Self::caught_up).
    pub async fn run_until_caught_up(&self) -> Result<(), WaitError> {
        self.retry_stopped().await?;
        let stop = Stop::default();
        let work = Box::pin(worker::run(&self.inner, &stop));
        let wait = Box::pin(self.all_caught_up());
        match select(work, wait).await {
            // Nobody else may be there to work.
            Either::Left((worked, wait)) => {
                worked?;
                wait.await
            }
            Either::Right((caught_up, work)) => {
                stop.set();
                work.await?;
                caught_up
            }
        }
    }

    /// Asks every [`run`](Self::run) of this handle and its clones to end. They finish the event at hand and write a
    /// checkpoint, within the [timeout](ProjectorBuilder::shutdown_timeout).
    pub fn shutdown(&self) {
        self.inner.stop.set();
    }
}

impl<P: Projection> Clone for Projector<P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<P: Projection> fmt::Debug for Projector<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projector")
            .field("projection", &self.inner.name)
            .field("store", &self.inner.store)
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}
