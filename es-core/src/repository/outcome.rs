//! What a repository returns.

use chrono::{DateTime, Utc};

use crate::aggregate::Aggregate;
use crate::cost::Cost;
use crate::event::CommitId;
use crate::version::Version;

/// A command that was carried out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome<A: Aggregate> {
    /// The aggregate's state after the command.
    pub state: A,
    /// The version of the aggregate's last event.
    pub version: Version,
    /// The events that the command led to, as they were recorded; empty when there was nothing to do.
    pub events: Vec<A::Event>,
    /// The commit that recorded them; `None` when there was nothing to do.
    pub commit: Option<CommitId>,
    /// Whether this is the outcome of an earlier command under the same key, see
    /// [`Request::once`](crate::Request::once); then nothing was recorded now.
    pub repeated: bool,
    /// How many times the command was decided; more than once when other writers came first.
    pub attempts: u32,
    /// What all the attempts cost together. A snapshot, which is written later, is not in it.
    pub cost: Cost,
}

/// The state of an aggregate at a version.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded<A> {
    /// The state; the aggregate's [`Default`] when it has no events.
    pub state: A,
    /// The version of the last event in the state.
    pub version: Version,
    /// When the commit of the last event in the state was decided.
    pub time: Option<DateTime<Utc>>,
    /// The version of the snapshot that the load started from, if it did.
    pub snapshot: Option<Version>,
    /// What the load cost.
    pub cost: Cost,
}

impl<A> Loaded<A> {
    /// Whether the aggregate has any events.
    #[must_use]
    pub fn exists(&self) -> bool {
        !self.version.is_none()
    }
}
