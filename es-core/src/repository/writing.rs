//! Sending writes until it is known what became of them.

use crate::aggregate::Aggregate;
use crate::clock::Clock;
use crate::cost::Cost;
use crate::error_text::error_text;
use crate::event::CommitId;
use crate::repository::fold::decode;
use crate::repository::load::Until;
use crate::repository::{Inner, Outcome, RetryPolicy};
use crate::store::{
    Append, AppendError, Appended, EventStore, Place, StoreError, WriteError, WriteSet, Written,
};
use crate::stream_id::StreamId;

/// Sends the very same request again while the store throttles or gives no answer.
pub(crate) struct Sender<'a> {
    pub(crate) store: &'a dyn EventStore,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) retry: RetryPolicy,
}

impl Sender<'_> {
    pub(crate) async fn append(&self, append: &Append, cost: &mut Cost) -> Result<Appended, AppendError> {
        let mut sent = Sent::default();
        loop {
            match self.store.append(append).await {
                Ok(appended) => {
                    *cost += appended.cost;
                    return Ok(appended);
                }
                Err(AppendError::Conflict(conflict)) => {
                    *cost += conflict.cost;
                    return Err(conflict.into());
                }
                Err(AppendError::Store(error)) => {
                    *cost += Cost::write(0.0); // the answer does not tell
                    self.wait_or_fail(error, &mut sent).await?;
                }
            }
        }
    }

    pub(crate) async fn write(&self, set: &WriteSet, cost: &mut Cost) -> Result<Written, WriteError> {
        let mut sent = Sent::default();
        loop {
            match self.store.write(set).await {
                Ok(written) => {
                    *cost += written.cost;
                    return Ok(written);
                }
                Err(WriteError::Conflict(conflict)) => {
                    *cost += conflict.cost;
                    return Err(conflict.into());
                }
                Err(WriteError::Store(error)) => {
                    *cost += Cost::write(0.0); // the answer does not tell
                    self.wait_or_fail(error, &mut sent).await?;
                }
                Err(other) => {
                    *cost += Cost::write(0.0); // the answer does not tell
                    return Err(sent.refused(other));
                }
            }
        }
    }

    async fn wait_or_fail(&self, error: StoreError, sent: &mut Sent) -> Result<(), StoreError> {
        sent.count += 1;
        // Only a repetition resolves an unknown outcome, also if expired credentials, for example, get in its way.
        let resolves = sent.unknown.is_some() && error.is_transient();
        if !(error.is_retryable() || resolves) || !self.retry.allows_another(sent.count) {
            return Err(sent.told(error));
        }
        tracing::debug!(error = error_text(&error), sent = sent.count, "repeating a write");
        self.clock.sleep(self.retry.delay_after(sent.count)).await;
        if error.is_outcome_unknown() {
            sent.unknown = Some(error);
        }
        Ok(())
    }
}

/// How a write has been sent so far.
#[derive(Default)]
struct Sent {
    count: u32,
    /// The last error that left open whether the write was carried out.
    unknown: Option<StoreError>,
}

impl Sent {
    /// Returns the error to report when the last attempt failed with `error`: an earlier one whose outcome is unknown
    /// counts for more than a later refusal.
    fn told(&mut self, error: StoreError) -> StoreError {
        match self.unknown.take() {
            Some(unknown) if !error.is_outcome_unknown() => unknown,
            _ => error,
        }
    }

    /// Returns the error to report when the last attempt was refused. A marker refuses every attempt of a write; a
    /// claim, or the condition of a joined write, may let a late one pass.
    fn refused(&mut self, error: WriteError) -> WriteError {
        match (error, self.unknown.take()) {
            (WriteError::Claimed(_) | WriteError::Refused(_), Some(unknown)) => unknown.into(),
            (error, _) => error,
        }
    }
}

impl<A: Aggregate> Inner<A> {
    pub(crate) fn sender(&self) -> Sender<'_> {
        Sender { store: &*self.store, clock: &*self.clock, retry: self.retry }
    }

    /// The outcome of a command that was carried out before, from where its events are.
    pub(crate) async fn first_outcome(
        &self,
        stream: &StreamId,
        place: &Place,
        cost: Cost,
    ) -> Result<Outcome<A>, StoreError> {
        let mut fold = self.load_past(stream, Until::Version(place.first.previous())).await?;
        let mut events = Vec::new();
        let mut commit: Option<CommitId> = None;
        if !place.is_empty() {
            for stored in self.commits(stream, place, &mut fold.cost).await? {
                commit = Some(stored.id);
                for (version, _, data) in stored.numbered() {
                    let event =
                        decode::<A>(data).map_err(|error| StoreError::decode(stream, version, error))?;
                    events.extend(event);
                }
                fold.apply(stream, &stored, None)?;
            }
        }
        if fold.version != place.last {
            let reason = format!("a marker tells of version {}, which is not there", place.last);
            return Err(StoreError::corrupt(stream, reason));
        }
        Ok(Outcome {
            state: fold.state,
            version: fold.version,
            events,
            commit,
            repeated: true,
            attempts: 1,
            cost: cost + fold.cost,
        })
    }
}
