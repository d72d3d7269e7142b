//! Keys that were read recently.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{KeyState, Subject};
use crate::clock::Clock;

/// The maximum number of cached keys.
const CAPACITY: usize = 10_000;

/// A bounded cache of keys, each for at most the same time after the start of the request that has read it.
pub(super) struct KeyCache {
    age: Duration,
    clock: Arc<dyn Clock>,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    /// The keys, with the monotonic time at which the request that has read them began.
    keys: HashMap<Subject, (KeyState, Duration)>,
    /// The number of times that a subject was forgotten.
    forgotten: u64,
}

/// The beginning of a request that reads keys.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    at: Duration,
    forgotten: u64,
}

impl KeyCache {
    pub(super) fn new(age: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { age, clock, content: Mutex::default() }
    }

    /// Begins a request that reads keys.
    pub(super) fn begin(&self) -> Reading {
        Reading { at: self.clock.monotonic(), forgotten: self.content().forgotten }
    }

    /// Returns a key that is not too old.
    pub(super) fn get(&self, subject: &Subject) -> Option<KeyState> {
        let content = self.content();
        let (state, read_at) = content.keys.get(subject)?;
        self.is_fresh(*read_at).then(|| state.clone())
    }

    /// Caches a key, unless a subject was forgotten while it was read.
    pub(super) fn put(&self, subject: &Subject, state: &KeyState, reading: Reading) {
        let mut content = self.content();
        if content.forgotten != reading.forgotten {
            return;
        }
        if content.keys.len() >= CAPACITY {
            content.keys.retain(|_, (_, read_at)| self.is_fresh(*read_at));
        }
        if content.keys.len() >= CAPACITY {
            content.keys.clear();
        }
        content.keys.insert(subject.clone(), (state.clone(), reading.at));
    }

    /// Removes the key of a subject.
    pub(super) fn forget(&self, subject: &Subject) {
        let mut content = self.content();
        content.forgotten += 1;
        content.keys.remove(subject);
    }

    fn is_fresh(&self, read_at: Duration) -> bool {
        self.clock.monotonic().saturating_sub(read_at) < self.age
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    /// Returns a cache for one minute.
    fn cache() -> (KeyCache, ManualClock) {
        let clock = ManualClock::at("2030-01-01T00:00:00Z".parse().expect("a time"));
        (KeyCache::new(Duration::from_secs(60), Arc::new(clock.clone())), clock)
    }

    fn ann() -> Subject {
        Subject::new("ann").expect("valid")
    }

    #[test]
    fn keys_age_from_the_start_of_their_request() {
        let (cache, clock) = cache();
        let reading = cache.begin();
        clock.advance(chrono::Duration::seconds(10));
        cache.put(&ann(), &KeyState::Forgotten, reading);
        clock.advance(chrono::Duration::seconds(49));
        assert_eq!(cache.get(&ann()), Some(KeyState::Forgotten));
        clock.advance(chrono::Duration::seconds(1));
        assert_eq!(cache.get(&ann()), None);
    }

    #[test]
    fn a_read_does_not_bring_a_forgotten_key_back() {
        let (cache, _) = cache();
        let reading = cache.begin();
        cache.forget(&ann());
        cache.put(&ann(), &KeyState::Missing, reading);
        assert_eq!(cache.get(&ann()), None);
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let (cache, _) = cache();
        for number in 0..=CAPACITY {
            let subject = Subject::new(number).expect("valid");
            cache.put(&subject, &KeyState::Forgotten, cache.begin());
        }
        assert!(cache.content().keys.len() <= CAPACITY);
    }
}
