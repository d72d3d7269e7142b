//! Envelopes, and sending them.

use chrono::DateTime;
use es_core::clock::ManualClock;
use es_core::event::{CommitId, EventData};
use es_core::publish::{CloudEvents, Envelope, Envelopes, Outbox, Publisher};
use es_core::store::Commit;
use es_core::{EventContext, RetryPolicy, StreamId, Version};
use uuid::Uuid;

pub(crate) fn stream(number: usize) -> StreamId {
    StreamId::new("order", number).expect("a stream")
}

/// Returns the envelope of an event whose payload has about `bytes` bytes.
pub(crate) fn envelope(stream: &StreamId, version: u64, bytes: usize) -> Envelope {
    let envelopes = CloudEvents::source("/tests").expect("a source");
    envelope_of(stream, version, &format!("\"{}\"", "x".repeat(bytes)), envelopes)
}

/// Returns the envelope of an event with this payload.
pub(crate) fn envelope_of(
    stream: &StreamId,
    version: u64,
    payload: &str,
    envelopes: impl Envelopes,
) -> Envelope {
    let id = CommitId::new(Uuid::new_v4());
    let event = EventData::new("Counted", 1, payload);
    let commit = Commit::new(id, Version::new(version), DateTime::UNIX_EPOCH, vec![event]);
    let ctx = EventContext::outside_the_feed(stream, &commit, 0);
    envelopes.envelope(&commit.events[0], &ctx).expect("an envelope")
}

pub(crate) fn clock() -> ManualClock {
    ManualClock::at(DateTime::UNIX_EPOCH)
}

/// Publishes three events of each of three streams.
pub(crate) async fn send(publisher: &dyn Publisher) -> Result<(), String> {
    let mut outbox = Outbox::new();
    for version in 1..=3 {
        for number in 0..3 {
            outbox.push(envelope(&stream(number), version, 9), publisher).expect("is small");
        }
    }
    let patient = RetryPolicy::default().with_max_attempts(1000);
    outbox.send(publisher, patient, &clock()).await.map_err(|error| error.to_string())
}
