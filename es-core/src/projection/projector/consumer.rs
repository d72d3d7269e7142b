//! Working on one slice: reads it page by page, and hands its events to the projection.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_core::future::BoxFuture;
use uuid::Uuid;

use super::Inner;
use super::builder::Start;
use super::commit::Commit;
use super::state::{Failure, Names, Read, SliceState, Slot};
use super::stop::{Stop, either};
use crate::documents::{DocumentCondition, ExpectedDocument};
use crate::feed::{EventFilter, FeedPage, FeedRead, Position};
use crate::projection::{BoxError, EventContext, Projection, ProjectorError, is_retryable};
use crate::store::StoreError;
use crate::stream_id::StreamId;

/// After how many positions without an event that the projection takes a checkpoint is written all the same.
const LONGEST_GAP: u64 = 1000;

/// A consumer, as its worker sees it.
#[derive(Debug, Default)]
pub(super) struct Running {
    pub(super) stop: Stop,
    taken: AtomicBool,
}

impl Running {
    /// Whether the slot is stored as its worker's.
    pub(super) fn is_taken(&self) -> bool {
        self.taken.load(Ordering::SeqCst)
    }
}

/// How the work on a slot ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was asked to end.
    Released,
    /// Another one has changed the slot's state.
    Lost,
    /// Another one has changed a row: it has not ended, but has to begin again at the last checkpoint.
    Contended,
    /// An event or a batch failed.
    Failed(Failure),
    /// The store refuses for good.
    Error(ProjectorError),
}

impl From<ProjectorError> for Ended {
    fn from(error: ProjectorError) -> Self {
        Self::Error(error)
    }
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Error(error.into())
    }
}

/// Works on `slot` until it is asked to end.
pub(super) fn run<P: Projection>(
    inner: Arc<Inner<P>>,
    worker: Uuid,
    slot: Slot,
    state: Read<SliceState>,
    running: Arc<Running>,
) -> BoxFuture<'static, Ended> {
    Box::pin(async move {
        let ended = match Consumer::take(&inner, worker, slot, state, &running).await {
            Ok(mut consumer) => match consumer.work().await {
                Ok(never) => match never {},
                Err(ended) => consumer.end(ended).await,
            },
            Err(ended) => ended,
        };
        inner.progressed.notify(usize::MAX);
        ended
    })
}

pub(super) enum Never {}

pub(super) struct Consumer<'a, P: Projection> {
    pub(super) inner: &'a Inner<P>,
    pub(super) names: Names,
    pub(super) slot: Slot,
    pub(super) stop: &'a Stop,
    pub(super) projection: P,
    pub(super) filter: EventFilter,
    /// What is stored.
    pub(super) state: SliceState,
    /// That it is stored still: the slot is this worker's.
    pub(super) lease: Arc<DocumentCondition>,
    /// The position up to which events were handled, or are not taken.
    pub(super) handled: Position,
    /// How many events were handled since the last checkpoint.
    pub(super) pending: usize,
    /// How often it had to go back since the last checkpoint.
    pub(super) rewinds: u32,
    /// What is to be written with the next checkpoint besides the read models.
    pub(super) commit: Commit,
    /// The streams that have events parked.
    pub(super) parked: HashSet<StreamId>,
}

impl<'a, P: Projection> Consumer<'a, P> {
    /// Makes the slot this worker's, unless its state is another one by now.
    async fn take(
        inner: &'a Inner<P>,
        worker: Uuid,
        slot: Slot,
        state: Read<SliceState>,
        running: &'a Running,
    ) -> Result<Self, Ended> {
        let names = inner.names()?;
        let mut projection = inner.projection.clone();
        for stage in projection.stages() {
            stage.bind(inner.projection.name(), slot.build);
        }
        let mut consumer = Self {
            inner,
            lease: Arc::new(DocumentCondition { key: names.slice(slot), expected: state.revision.into() }),
            names,
            slot,
            stop: &running.stop,
            filter: projection.filter(),
            projection,
            handled: state.value.position,
            state: state.value,
            pending: 0,
            rewinds: 0,
            commit: Commit::default(),
            parked: HashSet::new(),
        };
        let mut owned = SliceState { owner: Some(worker), ..consumer.state.clone() };
        if consumer.lease.expected == ExpectedDocument::Absent
            && slot.build == 1
            && inner.settings.start == Start::End
        {
            owned.position = consumer.persistently(|| inner.store.feed_end(slot.slice)).await?;
            consumer.handled = owned.position;
        }
        consumer.write(owned, Vec::new()).await?;
        running.taken.store(true, Ordering::SeqCst);
        Ok(consumer)
    }

    async fn work(&mut self) -> Result<Never, Ended> {
        self.settle_timeout().await?;
        self.parked = self.parked_streams().await?;
        loop {
            if self.stop.is_set() {
                return Err(Ended::Released);
            }
            match self.step().await {
                Err(Ended::Contended) => self.rewind().await?,
                step => step?,
            }
        }
    }

    /// One page, or some waiting.
    async fn step(&mut self) -> Result<(), Ended> {
        if self.state.replay {
            self.replay_parked().await?;
        }
        let growth = self.inner.store.growth();
        let mut more_due = self.handle_due().await?;
        let page = self.page().await?;
        let is_idle = page.is_last && page.through == self.handled;
        self.handle_page(page).await?;
        if is_idle {
            // There is nothing else to do.
            while more_due && !self.inner.stop.is_set() {
                more_due = self.handle_due().await?;
            }
            if self.handled > self.state.position {
                self.checkpoint().await?;
            }
            let settings = &self.inner.settings;
            let pause = self.stop.sleep(&*settings.clock, settings.poll);
            either(growth, Box::pin(pause)).await;
        }
        Ok(())
    }

    async fn page(&self) -> Result<FeedPage, Ended> {
        let read = FeedRead::new(self.slot.slice, self.handled)
            .limit(self.inner.settings.batch)
            .max_bytes(self.inner.settings.batch_bytes)
            .filter(self.filter.clone());
        self.persistently(|| self.inner.store.read_feed(&read)).await
    }

    /// Handles the events of a page, and writes a checkpoint if any was taken.
    async fn handle_page(&mut self, page: FeedPage) -> Result<(), Ended> {
        for entry in &page.entries {
            for (index, event) in entry.commit.events.iter().enumerate() {
                let position = entry.position.plus(index as u64);
                if position <= self.handled {
                    continue;
                }
                if !P::IS_REPLAYABLE {
                    // A long page is not to keep the timeouts of a process waiting.
                    self.handle_due().await?;
                }
                if self.filter.takes(&entry.stream, event.name()) {
                    let ctx = EventContext::of(entry, index, self.slot.slice);
                    self.handle(event, ctx, entry.commit.first).await?;
                }
                self.handled = position;
            }
        }
        self.handled = self.handled.max(page.through);
        if self.pending > 0 || self.handled.since(self.state.position) >= LONGEST_GAP {
            self.checkpoint().await?;
        }
        Ok(())
    }

    /// Waits before another attempt, if there is one.
    pub(super) async fn wait_after(&self, attempts: &mut u32, error: BoxError) -> Result<(), Ended> {
        *attempts += 1;
        if !self.may_retry(*attempts) && !is_retryable(&*error) {
            return Err(Ended::Failed(Failure { event: None, error: error.to_string() }));
        }
        self.wait(*attempts).await
    }

    pub(super) fn may_retry(&self, attempts: u32) -> bool {
        self.inner.settings.retry.allows_another(attempts)
    }

    /// Waits after so many attempts.
    pub(super) async fn wait(&self, attempts: u32) -> Result<(), Ended> {
        if self.stop.is_set() {
            return Err(Ended::Released);
        }
        let delay = self.inner.settings.retry.delay_after(attempts);
        self.stop.sleep(&*self.inner.settings.clock, delay.max(Duration::from_millis(1))).await;
        Ok(())
    }

    /// Asks the store as often as it takes, for as long as another attempt may succeed.
    pub(super) async fn persistently<'b, T>(
        &self,
        ask: impl Fn() -> BoxFuture<'b, Result<T, StoreError>>,
    ) -> Result<T, Ended> {
        let mut attempts = 0;
        loop {
            match ask().await {
                Err(error) if error.is_retryable() => {
                    attempts += 1;
                    self.wait(attempts).await?;
                }
                answer => return Ok(answer?),
            }
        }
    }

    /// Leaves the slot: its last checkpoint, and who may take it.
    async fn end(&mut self, ended: Ended) -> Ended {
        let ended = match ended {
            // Of the feed or of the documents: as bad as a failed event, and to be seen by an operator.
            Ended::Error(error) => Ended::Failed(Failure { event: None, error: error.to_string() }),
            ended => ended,
        };
        let mut next = SliceState { owner: None, ..self.state.clone() };
        match &ended {
            Ended::Lost | Ended::Contended | Ended::Error(_) => return ended,
            Ended::Failed(failure) => next.failure = Some(failure.clone()),
            Ended::Released => {}
        }
        // What is not in a checkpoint will be handled again, by whoever comes next.
        match self.write(next, Vec::new()).await {
            Ok(()) => ended,
            Err(worse) => worse,
        }
    }
}
