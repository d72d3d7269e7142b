//! A broker that fails, and what becomes of the events.

mod order;
mod projection;
mod unreliable;

use std::sync::Arc;

use chrono::DateTime;
use uuid::Uuid;

use super::{CloudEvents, Envelope, Envelopes};
use crate::event::{CommitId, EventData};
use crate::metadata::Metadata;
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

/// An envelope of the event at `version` of a stream.
fn envelope(stream: &StreamId, version: u64, payload: &str) -> Envelope {
    let commit = Commit {
        id: CommitId::new(Uuid::from_u128(version.into())),
        first: Version::new(version),
        time: DateTime::UNIX_EPOCH,
        metadata: Arc::new(Metadata::new()),
        events: vec![event(payload)],
    };
    let ctx = EventContext::outside_the_feed(stream, &commit, 0);
    cloud_events().envelope(&commit.events[0], &ctx).expect("an envelope")
}
