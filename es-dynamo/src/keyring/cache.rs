//! Keys that were read recently.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use es_core::personal::{KeyState, Subject};
use tokio::time::Instant;

/// The maximum number of cached keys.
const CAPACITY: usize = 10_000;

/// A bounded cache of keys, each for at most the same time after the start of the request that has read it.
pub(super) struct KeyCache {
    age: Duration,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    keys: HashMap<Subject, (KeyState, Instant)>,
    /// The number of times that a subject was forgotten.
    forgotten: u64,
}

/// The beginning of a request that reads keys.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    at: Instant,
    forgotten: u64,
}

impl KeyCache {
    pub(super) fn new(age: Duration) -> Self {
        Self { age, content: Mutex::default() }
    }

    /// Begins a request that reads keys.
    pub(super) fn begin(&self) -> Reading {
        Reading { at: Instant::now(), forgotten: self.content().forgotten }
    }

    /// Returns a key that is not too old.
    pub(super) fn get(&self, subject: &Subject) -> Option<KeyState> {
        let content = self.content();
        let (state, read_at) = content.keys.get(subject)?;
        (read_at.elapsed() < self.age).then(|| state.clone())
    }

    /// Caches a key, unless a subject was forgotten while it was read.
    pub(super) fn put(&self, subject: &Subject, state: &KeyState, reading: Reading) {
        let mut content = self.content();
        if content.forgotten != reading.forgotten {
            return;
        }
        if content.keys.len() >= CAPACITY {
            content.keys.retain(|_, (_, read_at)| read_at.elapsed() < self.age);
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

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn keys_age_from_the_start_of_their_request() {
        let (cache, ann) = (KeyCache::new(Duration::from_secs(60)), Subject::new("ann").expect("valid"));
        let reading = cache.begin();
        tokio::time::advance(Duration::from_secs(10)).await;
        cache.put(&ann, &KeyState::Forgotten, reading);
        tokio::time::advance(Duration::from_secs(49)).await;
        assert_eq!(cache.get(&ann), Some(KeyState::Forgotten));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(cache.get(&ann), None);
    }

    #[test]
    fn a_read_does_not_bring_a_forgotten_key_back() {
        let (cache, ann) = (KeyCache::new(Duration::from_secs(60)), Subject::new("ann").expect("valid"));
        let reading = cache.begin();
        cache.forget(&ann);
        cache.put(&ann, &KeyState::Missing, reading);
        assert_eq!(cache.get(&ann), None);
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let cache = KeyCache::new(Duration::from_secs(60));
        for number in 0..=CAPACITY {
            let subject = Subject::new(number).expect("valid");
            cache.put(&subject, &KeyState::Forgotten, cache.begin());
        }
        assert!(cache.content().keys.len() <= CAPACITY);
    }
}
