//! The outbox: envelopes that wait for the broker.

use std::collections::HashSet;

use tracing::Instrument;

use super::{Envelope, PublishError, Publisher};
use crate::clock::Clock;
use crate::event::EventId;
use crate::feed::Position;
use crate::measure;
use crate::repository::RetryPolicy;
use crate::spans::Operation;
use crate::stream_id::StreamId;

/// Envelopes that wait to be accepted by a broker, in order.
///
/// [`Publishing`](super::Publishing) has one for each slice of the feed. A custom relay can use its own.
///
/// ```
/// use es_core::publish::{Envelope, Outbox, Publisher, Unpublished};
///
/// /// Sends one envelope without a projector.
/// async fn send(envelope: Envelope, publisher: &dyn Publisher) -> Result<(), Unpublished> {
///     let mut outbox = Outbox::new();
///     outbox.push(envelope, publisher)?;
///     outbox.send_once(publisher).await
/// }
/// ```
#[derive(Debug, Default)]
pub struct Outbox {
    envelopes: Vec<Envelope>,
    bytes: usize,
}

impl Outbox {
    /// Creates an empty outbox.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an envelope for `publisher`.
    ///
    /// # Errors
    ///
    /// [`Unpublished`] if the envelope is larger than the broker accepts, in which case it is not added.
    pub fn push(&mut self, envelope: Envelope, publisher: &dyn Publisher) -> Result<(), Unpublished> {
        let (bytes, limit) = (publisher.size(&envelope), publisher.limits().envelope_bytes);
        if bytes > limit {
            return Err(Unpublished::too_large(&envelope, bytes, limit));
        }
        self.bytes += bytes;
        self.envelopes.push(envelope);
        Ok(())
    }

    /// Returns the waiting envelopes.
    #[must_use]
    pub fn envelopes(&self) -> &[Envelope] {
        &self.envelopes
    }

    /// Returns whether the waiting envelopes fill a batch of `publisher`.
    #[must_use]
    pub fn is_full(&self, publisher: &dyn Publisher) -> bool {
        let limits = publisher.limits();
        self.envelopes.len() >= limits.envelopes || self.bytes >= limits.bytes
    }

    /// Sends all envelopes, and retries failed ones according to `retry`. The count of attempts restarts whenever
    /// an envelope is accepted.
    ///
    /// # Errors
    ///
    /// [`Unpublished`] for the first envelope that was not accepted. It stays in the outbox, as do the later
    /// envelopes of its stream.
    pub async fn send(
        &mut self,
        publisher: &dyn Publisher,
        retry: RetryPolicy,
        clock: &dyn Clock,
    ) -> Result<(), Unpublished> {
        let mut attempts = 0;
        loop {
            let before = self.envelopes.len();
            let Err(error) = self.send_once(publisher).await else { return Ok(()) };
            if self.envelopes.len() < before {
                attempts = 0;
            }
            attempts += 1;
            if !error.cause.is_transient() || !retry.allows_another(attempts) {
                return Err(error);
            }
            tracing::debug!(%error, attempts, "publishing failed; retrying");
            clock.sleep(retry.delay_after(attempts)).await;
        }
    }

    /// Sends all envelopes once. Of each stream, stops at the first envelope that fails.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub async fn send_once(&mut self, publisher: &dyn Publisher) -> Result<(), Unpublished> {
        let mut failed = HashSet::new();
        let mut first_failure: Option<(usize, Unpublished)> = None;
        loop {
            let places = self.next_batch(publisher, &failed);
            if places.is_empty() {
                return first_failure.map_or(Ok(()), |(_, failure)| Err(failure));
            }
            // Cloned, so that no envelope is lost if this future is dropped.
            let batch: Vec<_> = places.iter().map(|place| self.envelopes[*place].clone()).collect();
            let measured = measure::Batch::start(publisher.system());
            let span = Operation::publish(publisher.system(), batch.len());
            let mut outcomes = match publisher.publish(&batch).instrument(span.span()).await {
                Ok(outcomes) => outcomes,
                Err(error) => vec![Err(error); batch.len()],
            };
            outcomes.resize_with(batch.len(), || {
                Err(PublishError::transient("the publisher returned no result for it"))
            });
            span.record("accepted", outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64);
            span.end(measured.ended(&outcomes));
            let mut accepted = HashSet::new();
            for ((place, envelope), outcome) in places.iter().zip(batch).zip(outcomes) {
                match outcome {
                    Ok(()) => {
                        self.bytes = self.bytes.saturating_sub(publisher.size(&envelope));
                        accepted.insert(*place);
                    }
                    Err(error) => {
                        failed.insert(envelope.stream().clone());
                        // A permanent failure takes precedence over a transient one.
                        let graver = first_failure
                            .as_ref()
                            .is_none_or(|(_, earlier)| earlier.cause.is_transient() && !error.is_transient());
                        if graver {
                            first_failure = Some((*place, Unpublished::new(&envelope, error)));
                        }
                    }
                }
            }
            let mut place = 0;
            self.envelopes.retain(|_| {
                place += 1;
                !accepted.contains(&(place - 1))
            });
        }
    }

    /// Returns the indexes of the next batch: the first envelope of each stream without a failure.
    fn next_batch(&self, publisher: &dyn Publisher, failed: &HashSet<StreamId>) -> Vec<usize> {
        let limits = publisher.limits();
        let (mut places, mut bytes, mut streams) = (Vec::new(), 0, HashSet::new());
        for (place, envelope) in self.envelopes.iter().enumerate() {
            if failed.contains(envelope.stream()) || !streams.insert(envelope.stream()) {
                continue;
            }
            bytes += publisher.size(envelope);
            if !places.is_empty() && (places.len() >= limits.envelopes || bytes > limits.bytes) {
                break;
            }
            places.push(place);
        }
        places
    }
}

/// The error for an event that was not published.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the event `{name}` at version {} of `{stream}` was not published: {cause}", .id.version())]
#[non_exhaustive]
pub struct Unpublished {
    /// The event's stream.
    pub stream: StreamId,
    /// The event id.
    pub id: EventId,
    /// The event's stored name.
    pub name: String,
    /// The event's position in its slice of the feed.
    pub position: Position,
    /// The cause.
    pub cause: PublishError,
}

impl Unpublished {
    fn new(envelope: &Envelope, cause: PublishError) -> Self {
        Self {
            stream: envelope.stream().clone(),
            id: envelope.id(),
            name: envelope.name().to_owned(),
            position: envelope.position(),
            cause,
        }
    }

    /// Creates the error for an envelope of `bytes` bytes where the broker accepts `limit`.
    fn too_large(envelope: &Envelope, bytes: usize, limit: usize) -> Self {
        let reason = format!("its message has {bytes} bytes, and the broker accepts at most {limit}");
        Self::new(envelope, PublishError::permanent(reason))
    }
}
