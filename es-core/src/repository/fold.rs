//! Folding a stream into a state.

use chrono::{DateTime, Utc};

use crate::aggregate::Aggregate;
use crate::cost::Cost;
use crate::event::{DecodeError, Event, EventData};
use crate::repository::Loaded;
use crate::snapshot::Snapshot;
use crate::store::{Commit, StoreError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// About what a commit takes in a store besides its events.
const COMMIT_BYTES: u64 = 150;

/// A state on its way through its stream.
#[derive(Clone)]
pub(crate) struct Fold<A> {
    pub(crate) state: A,
    pub(crate) version: Version,
    pub(crate) time: Option<DateTime<Utc>>,
    /// The version of the newest snapshot that is known to be usable, and its size in bytes.
    pub(crate) snapshot: Version,
    pub(crate) snapshot_bytes: u64,
    /// What came since that snapshot.
    pub(crate) tail: Tail,
    /// A snapshot that was found and cannot be used.
    pub(crate) unusable_snapshot: Option<Version>,
    pub(crate) cost: Cost,
}

/// How much came since a snapshot.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tail {
    pub(crate) commits: u64,
    pub(crate) bytes: u64,
}

impl Tail {
    pub(crate) fn add(&mut self, events: &[EventData]) {
        self.commits += 1;
        self.bytes += COMMIT_BYTES
            + events.iter().map(|event| (event.name().len() + event.payload().len()) as u64).sum::<u64>();
    }
}

impl<A: Aggregate> Fold<A> {
    pub(crate) fn new() -> Self {
        Self {
            state: A::default(),
            version: Version::NONE,
            time: None,
            snapshot: Version::NONE,
            snapshot_bytes: 0,
            tail: Tail::default(),
            unusable_snapshot: None,
            cost: Cost::ZERO,
        }
    }

    /// Forgets what was folded, but not what it cost.
    pub(crate) fn restart(&mut self) {
        let (cost, unusable_snapshot) = (self.cost, self.unusable_snapshot);
        *self = Self { cost, unusable_snapshot, ..Self::new() };
    }

    /// Goes on from `state`, which is what `snapshot` holds.
    pub(crate) fn restore(&mut self, state: A, snapshot: &Snapshot) {
        self.state = state;
        self.version = snapshot.version();
        self.time = Some(snapshot.time());
        self.note_snapshot(snapshot);
    }

    /// Remembers that there is such a snapshot of the state as it is.
    pub(crate) fn note_snapshot(&mut self, snapshot: &Snapshot) {
        self.snapshot = snapshot.version();
        self.snapshot_bytes = snapshot.state().len() as u64;
        self.tail = Tail::default();
    }

    /// Applies the events of `commit`, up to the version `until`.
    pub(crate) fn apply(
        &mut self,
        stream: &StreamId,
        commit: &Commit,
        until: Option<Version>,
    ) -> Result<(), StoreError> {
        for (version, _, data) in commit.numbered() {
            if until.is_some_and(|until| version > until) {
                break;
            }
            match decode::<A>(data) {
                Ok(Some(event)) => self.state.apply_event(&event),
                Ok(None) => {}
                Err(error) => return Err(StoreError::decode(stream, version, error)),
            }
            self.version = version;
        }
        self.time = Some(commit.time);
        self.tail.add(&commit.events);
        Ok(())
    }
}

impl<A: Aggregate> From<Fold<A>> for Loaded<A> {
    fn from(fold: Fold<A>) -> Self {
        Self {
            state: fold.state,
            version: fold.version,
            time: fold.time,
            snapshot: (!fold.snapshot.is_none()).then_some(fold.snapshot),
            cost: fold.cost,
        }
    }
}

/// The event of a stored one; `None` when it is retired and to be skipped.
pub(crate) fn decode<A: Aggregate>(data: &EventData) -> Result<Option<A::Event>, DecodeError> {
    if A::RETIRED.contains(&data.name()) {
        return Ok(None);
    }
    A::Event::decode(data).map(Some)
}
