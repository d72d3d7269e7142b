//! What waits to be published.

use std::collections::HashSet;

use super::{Envelope, PublishError, Publisher};
use crate::clock::Clock;
use crate::event::EventId;
use crate::feed::Position;
use crate::repository::RetryPolicy;
use crate::stream_id::StreamId;

/// Envelopes that wait to be accepted by a broker, in the order in which they came.
///
/// [`Publishing`](super::Publishing) has one for each slice of the feed; a relay of another kind can have its own.
#[derive(Debug, Default)]
pub struct Outbox {
    envelopes: Vec<Envelope>,
    bytes: usize,
}

impl Outbox {
    /// Creates an empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an envelope for `publisher` at the end.
    ///
    /// # Errors
    ///
    /// [`Unpublished`] when it is larger than the broker takes; it is not added then.
    pub fn push(&mut self, envelope: Envelope, publisher: &dyn Publisher) -> Result<(), Unpublished> {
        let (bytes, limit) = (publisher.size(&envelope), publisher.limits().envelope_bytes);
        if bytes > limit {
            return Err(Unpublished::too_large(&envelope, bytes, limit));
        }
        self.bytes += bytes;
        self.envelopes.push(envelope);
        Ok(())
    }

    /// What waits.
    #[must_use]
    pub fn envelopes(&self) -> &[Envelope] {
        &self.envelopes
    }

    /// Returns whether as much waits as `publisher` takes at once.
    #[must_use]
    pub fn is_full(&self, publisher: &dyn Publisher) -> bool {
        let limits = publisher.limits();
        self.envelopes.len() >= limits.envelopes || self.bytes >= limits.bytes
    }

    /// Sends everything; what fails again and again, as `retry` has it, as long as none is accepted meanwhile.
    ///
    /// # Errors
    ///
    /// [`Unpublished`] for the first one that was not accepted. It waits on, and so do those of its stream after it.
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
            tracing::debug!(%error, attempts, "an event is published again");
            clock.sleep(retry.delay_after(attempts)).await;
        }
    }

    /// Sends everything, once: of each stream up to the first one that fails.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn send_once(&mut self, publisher: &dyn Publisher) -> Result<(), Unpublished> {
        let mut failed = HashSet::new();
        let mut first_failure: Option<(usize, Unpublished)> = None;
        loop {
            let places = self.next_batch(publisher, &failed);
            if places.is_empty() {
                return first_failure.map_or(Ok(()), |(_, failure)| Err(failure));
            }
            // Clones, so that nothing is gone when this is dropped while it waits.
            let batch: Vec<_> = places.iter().map(|place| self.envelopes[*place].clone()).collect();
            let outcomes = match publisher.publish(&batch).await {
                Ok(outcomes) => outcomes,
                Err(error) => vec![Err(error); batch.len()],
            };
            let mut accepted = HashSet::new();
            let mut outcomes = outcomes.into_iter();
            for (place, envelope) in places.iter().zip(batch) {
                let unknown = || Err(PublishError::transient("the publisher did not say what became of it"));
                match outcomes.next().unwrap_or_else(unknown) {
                    Ok(()) => {
                        self.bytes = self.bytes.saturating_sub(publisher.size(&envelope));
                        accepted.insert(*place);
                    }
                    Err(error) => {
                        failed.insert(envelope.stream().clone());
                        // A permanent one is what has to be seen.
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

    /// Returns the places of the next batch: the first envelope of each stream of which none has failed.
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

/// That an event was not published, and why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the event `{name}` at version {} of `{stream}` was not published: {cause}", .id.version())]
#[non_exhaustive]
pub struct Unpublished {
    /// The event's stream.
    pub stream: StreamId,
    /// The event.
    pub id: EventId,
    /// The event's stored name.
    pub name: String,
    /// The event's position in its slice of the feed.
    pub position: Position,
    /// Why.
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

    /// That the envelope takes `bytes`, and the broker takes `limit`.
    fn too_large(envelope: &Envelope, bytes: usize, limit: usize) -> Self {
        let reason = format!("it takes {bytes} bytes as a message, and the broker takes {limit}");
        Self::new(envelope, PublishError::permanent(reason))
    }
}
