//! Tests of publishing to a broker that fails.

mod outbox;
mod publishing;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::DateTime;
use uuid::Uuid;

use super::{BatchLimits, CloudEvents, Envelope, Envelopes, PublishError, Publisher};
use crate::event::{CommitId, EventData};
use crate::projection::EventContext;
use crate::store::Commit;
use crate::stream_id::StreamId;
use crate::version::Version;

fn cloud_events() -> CloudEvents {
    CloudEvents::source("/tests").expect("a source")
}

fn stream(number: usize) -> StreamId {
    StreamId::new("order", number).expect("a stream")
}

fn event(payload: &str) -> EventData {
    EventData::new("Counted", 1, payload)
}

/// Returns an envelope of the event at `version` of a stream.
fn envelope(stream: &StreamId, version: u64, payload: &str) -> Envelope {
    let id = CommitId::new(Uuid::from_u128(version.into()));
    let commit = Commit::new(id, Version::new(version), DateTime::UNIX_EPOCH, vec![event(payload)]);
    let ctx = EventContext::outside_the_feed(stream, &commit, 0);
    cloud_events().envelope(&commit.events[0], &ctx).expect("an envelope")
}

/// A broker that accepts and rejects envelopes and loses responses, by a seed.
#[derive(Debug)]
struct Unreliable {
    limits: BatchLimits,
    /// The probability that an envelope is rejected.
    failing: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    accepted: Vec<Envelope>,
    /// Envelopes that may have been accepted although a failure was reported.
    unknown: HashSet<(String, u64)>,
    /// Envelopes that are rejected permanently.
    rejected: HashSet<(String, u64)>,
    /// Whether a request that contains one of these is rejected as a whole.
    rejects_requests: bool,
    batches: usize,
    broken: bool,
}

fn place(envelope: &Envelope) -> (String, u64) {
    (envelope.stream().to_string(), envelope.id().version().get())
}

impl Unreliable {
    fn seeded(seed: u64, failing: f64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let limits = BatchLimits::default().envelopes(random.usize(1..6)).bytes(random.usize(1..4000));
        let state = State {
            random,
            accepted: Vec::new(),
            unknown: HashSet::new(),
            rejected: HashSet::new(),
            rejects_requests: false,
            batches: 0,
            broken: false,
        };
        Self { limits, failing, state: Mutex::new(state) }
    }

    fn reliable() -> Self {
        Self { limits: BatchLimits::default(), ..Self::seeded(0, 0.0) }
    }

    fn limits(mut self, limits: BatchLimits) -> Self {
        self.limits = limits;
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets whether all batches are rejected permanently.
    fn set_broken(&self, broken: bool) {
        self.state().broken = broken;
    }

    /// Sets the events, by stream and version, that are rejected permanently: alone, or with their requests.
    fn set_rejected(&self, events: &[(usize, u64)], rejects_requests: bool) {
        let mut state = self.state();
        state.rejected =
            events.iter().map(|(number, version)| (stream(*number).to_string(), *version)).collect();
        state.rejects_requests = rejects_requests;
    }

    /// Returns how often each event was accepted.
    fn repetitions(&self) -> BTreeMap<(String, u64), usize> {
        let mut repetitions = BTreeMap::new();
        for envelope in &self.state().accepted {
            *repetitions.entry(place(envelope)).or_default() += 1;
        }
        repetitions
    }

    fn batches(&self) -> usize {
        self.state().batches
    }

    /// Returns the accepted versions by stream, in order and without repetitions. Only events with an unknown
    /// outcome may be repeated.
    fn published(&self) -> BTreeMap<String, Vec<u64>> {
        let state = self.state();
        let mut published = BTreeMap::<String, Vec<u64>>::new();
        for envelope in &state.accepted {
            let (stream, version) = place(envelope);
            let versions = published.entry(stream.clone()).or_default();
            if versions.contains(&version) {
                assert!(state.unknown.contains(&(stream, version)), "repeated without need: {envelope:?}");
            } else {
                versions.push(version);
            }
        }
        published
    }
}

#[async_trait]
impl Publisher for Unreliable {
    fn limits(&self) -> BatchLimits {
        self.limits
    }

    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Result<(), PublishError>>, PublishError> {
        let mut state = self.state();
        state.batches += 1;
        let bytes: usize = batch.iter().map(|envelope| self.size(envelope)).sum();
        assert!(!batch.is_empty() && batch.len() <= self.limits.envelopes, "{} at once", batch.len());
        assert!(batch.len() == 1 || bytes <= self.limits.bytes, "{bytes} bytes at once");
        let streams: HashSet<_> = batch.iter().map(Envelope::stream).collect();
        assert_eq!(streams.len(), batch.len(), "two of one stream");

        if state.broken {
            return Err(PublishError::permanent("the broker is broken on purpose"));
        }
        if state.random.f64() < self.failing / 4.0 {
            return Err(PublishError::transient("the request was lost on purpose"));
        }
        let is_rejected = |state: &State, envelope| state.rejected.contains(&place(envelope));
        if state.rejects_requests && batch.iter().any(|envelope| is_rejected(&state, envelope)) {
            return Err(PublishError::permanent("a record of the request is rejected on purpose"));
        }
        let mut outcomes = Vec::new();
        for envelope in batch {
            if is_rejected(&state, envelope) {
                outcomes.push(Err(PublishError::permanent("rejected on purpose")));
            } else if state.random.f64() < self.failing {
                outcomes.push(Err(PublishError::transient("refused on purpose")));
            } else {
                state.accepted.push(envelope.clone());
                outcomes.push(Ok(()));
            }
        }
        let said = match state.random.f64() / self.failing {
            part if part < 0.25 => 0,
            part if part < 0.5 => state.random.usize(0..=batch.len()),
            _ => batch.len(),
        };
        state.unknown.extend(batch[said..].iter().map(place));
        if said == 0 {
            return Err(PublishError::transient("the answer was lost on purpose"));
        }
        outcomes.truncate(said);
        Ok(outcomes)
    }
}
