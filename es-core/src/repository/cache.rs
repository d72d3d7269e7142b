//! States kept in memory between commands.

use std::sync::Arc;

use quick_cache::sync::Cache;

use crate::repository::fold::Fold;
use crate::stream_id::StreamId;

/// A bounded cache of states, by stream.
///
/// What it holds may be behind its stream at any time: who uses it has to find that out. The functions
/// are kept, so that only who asks for a cache needs states that can be cloned.
pub(crate) struct StateCache<A> {
    states: Cache<StreamId, Arc<Fold<A>>>,
    clone: fn(&Fold<A>) -> Fold<A>,
}

impl<A: Clone> StateCache<A> {
    pub(crate) fn with_capacity(entries: usize) -> Self {
        Self { states: Cache::new(entries), clone: Fold::clone }
    }
}

impl<A> StateCache<A> {
    /// The state of `stream` as it was last seen here.
    pub(crate) fn get(&self, stream: &StreamId) -> Option<Fold<A>> {
        self.states.get(stream).map(|fold| (self.clone)(&fold))
    }

    /// Keeps a state, unless a later one is kept already.
    pub(crate) fn put(&self, stream: &StreamId, fold: &Fold<A>) {
        if self.states.peek(stream).is_none_or(|kept| kept.version < fold.version) {
            self.states.insert(stream.clone(), Arc::new((self.clone)(fold)));
        }
    }
}
