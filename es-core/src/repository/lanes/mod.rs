//! Lanes: commands that target the same aggregate at the same time, in one process, share their writes.
//!
//! The first command on a stream is its *head*: it is executed as if it were alone, and only its entry in the map tells
//! that it runs. A command that arrives meanwhile joins the stream's *lane*. When the head is done, it hands over a
//! copy of its state. Each member of the lane then decides in its own future, on the state after the decision before
//! it, and queues its commit. The commits of the queue are written as one append; meanwhile, other members decide and
//! queue.
//!
//! No task runs for a lane: a *driver* loads and writes, and every waiting member polls it. A future that is dropped,
//! or that is no longer polled, therefore stops no other command.

// | module | job |
// |---|---|
// | this one | which commands share a lane |
// | `state` | the state of a lane, without waiting |
// | `driver` | the requests of a lane: loads, writes, and what follows from their results |
// | `member` | a command in a lane |

mod driver;
mod member;
mod state;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::aggregate::Aggregate;
use crate::repository::Inner;
use crate::repository::loading::Fold;
use crate::repository::retry::Deadline;
use crate::stream_id::StreamId;
use driver::Lane;
pub(super) use member::Member;
pub(super) use state::Ended;

/// The number of maps over which the streams are spread, so that commands on different streams rarely wait for a lock.
const SHARDS: usize = 16;

/// The streams on which commands are being executed, of one repository.
pub(super) struct Lanes<A> {
    shards: [Mutex<HashMap<StreamId, Place<A>>>; SHARDS],
    hasher: RandomState,
    /// Whether states can be copied, which commands need in order to share a write.
    enabled: bool,
}

/// A stream on which commands are being executed.
struct Place<A> {
    has_head: bool,
    members: usize,
    /// The lane, once it has had a member.
    lane: Option<Arc<Lane<A>>>,
}

/// How a command is executed.
pub(super) enum Entered<A: Aggregate> {
    /// Without regard to others.
    Alone,
    /// As the first one on its stream.
    Head(Head<A>),
    /// Together with others.
    Member(Member<A>),
}

impl<A: Aggregate> Lanes<A> {
    pub(super) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            enabled: A::default().try_clone().is_some(),
        }
    }

    fn shard(&self, stream: &StreamId) -> MutexGuard<'_, HashMap<StreamId, Place<A>>> {
        let shard = self.hasher.hash_one(stream) as usize % SHARDS;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a command on `stream` take part, which may take until `deadline`.
    pub(super) fn enter(inner: &Arc<Inner<A>>, stream: &StreamId, deadline: Deadline) -> Entered<A> {
        let lanes = &inner.lanes;
        if !lanes.enabled {
            return Entered::Alone;
        }
        let mut shard = lanes.shard(stream);
        match shard.entry(stream.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Place { has_head: true, members: 0, lane: None });
                Entered::Head(Head { inner: Arc::clone(inner), stream: stream.clone(), released: false })
            }
            Entry::Occupied(mut occupied) => {
                let place = occupied.get_mut();
                place.members += 1;
                let lane = place.lane.get_or_insert_with(|| Arc::new(Lane::new(stream.clone())));
                Entered::Member(Member::join(Arc::clone(inner), Arc::clone(lane), deadline))
            }
        }
    }

    /// Counts a member off. Returns the lane if that was the last one: nothing polls its driver then.
    fn leave(&self, stream: &StreamId) -> Option<Arc<Lane<A>>> {
        let mut shard = self.shard(stream);
        let Entry::Occupied(mut occupied) = shard.entry(stream.clone()) else { return None };
        let place = occupied.get_mut();
        place.members -= 1;
        if place.members > 0 {
            return None;
        }
        let lane = place.lane.take();
        if !place.has_head {
            occupied.remove();
        }
        lane
    }

    /// Counts the head off, and returns the lane if it has members.
    fn release(&self, stream: &StreamId) -> Option<Arc<Lane<A>>> {
        let mut shard = self.shard(stream);
        let Entry::Occupied(mut occupied) = shard.entry(stream.clone()) else { return None };
        let place = occupied.get_mut();
        place.has_head = false;
        if place.members > 0 {
            return place.lane.clone();
        }
        occupied.remove();
        None
    }
}

/// The first command on a stream. The commands that arrive meanwhile wait for its state, or until it is dropped.
pub(super) struct Head<A: Aggregate> {
    inner: Arc<Inner<A>>,
    stream: StreamId,
    released: bool,
}

impl<A: Aggregate> Head<A> {
    /// Hands over a copy of `fold`, all of whose events are recorded, to the commands that wait.
    pub(super) fn hand_over(mut self, fold: &Fold<A>) {
        self.released = true;
        if let Some(lane) = self.inner.lanes.release(&self.stream) {
            lane.take_over(fold.try_clone());
        }
    }
}

impl<A: Aggregate> Drop for Head<A> {
    fn drop(&mut self) {
        if !self.released
            && let Some(lane) = self.inner.lanes.release(&self.stream)
        {
            lane.take_over(None);
        }
    }
}
