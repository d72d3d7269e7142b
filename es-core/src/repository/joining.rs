//! What else is written with a command.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::aggregate::Aggregate;
use crate::clock::later;
use crate::store::{JoinedWrite, Once, OnceKey, Place, StoreError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// How long a key is remembered, where nothing else is said: 7 days.
pub(crate) const USUAL_RETENTION: Duration = Duration::from_hours(7 * 24);

/// What a command has decided, right before it is recorded: what joined writes are made of.
#[derive(Debug)]
#[non_exhaustive]
pub struct Decided<'a, A: Aggregate> {
    /// The aggregate's id.
    pub id: &'a A::Id,
    /// The state as it will be.
    pub state: &'a A,
    /// The version that the last of the events will have.
    pub version: Version,
    /// The events that will be recorded.
    pub events: &'a [A::Event],
}

/// Makes the writes that join a decision.
pub(crate) type Joining<'a, A> = Box<dyn Fn(&Decided<'_, A>) -> Vec<JoinedWrite> + Send + Sync + 'a>;

/// Boxes a function that makes writes of one type.
pub(crate) fn boxed<'a, A, F, I>(join: F) -> Joining<'a, A>
where
    A: Aggregate,
    F: Fn(&Decided<'_, A>) -> I + Send + Sync + 'a,
    I: IntoIterator,
    I::Item: Send + Sync + 'static,
{
    Box::new(move |decided| join(decided).into_iter().map(JoinedWrite::new).collect())
}

/// That a command is to be carried out once.
#[derive(Clone)]
pub(crate) struct OnceRequest {
    pub(crate) key: String,
    pub(crate) retention: Duration,
}

impl OnceRequest {
    pub(crate) fn key_of(&self, stream: Option<&StreamId>) -> Result<OnceKey, StoreError> {
        OnceKey::new(stream.cloned(), self.key.as_str())
    }

    /// What is written with the commits at `places`.
    pub(crate) fn once(&self, key: OnceKey, id: Uuid, now: DateTime<Utc>, places: Vec<Place>) -> Once {
        Once::new(key, id, now, later(now, self.retention), places)
    }
}

/// A digest (FNV-1a, 64 bits) that stays the same in all versions of this crate.
pub(crate) fn digest(content: &[u8]) -> String {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", content.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// The key may be anyone's: it is not shown.
impl fmt::Debug for OnceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").field("retention", &self.retention).finish_non_exhaustive()
    }
}
