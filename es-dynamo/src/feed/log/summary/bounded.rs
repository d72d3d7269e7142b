//! A cache of bounded size.

use std::collections::HashMap;
use std::hash::Hash;

/// A map that removes random entries when its weight exceeds a limit.
///
/// Random replacement needs no bookkeeping on reads, and keeps everything as long as everything fits.
#[derive(Debug)]
pub(crate) struct Bounded<K, V> {
    places: HashMap<K, u32>,
    entries: Vec<(K, V, u64)>,
    weight: u64,
    limit: u64,
    random: fastrand::Rng,
}

impl<K: Clone + Eq + Hash, V> Bounded<K, V> {
    pub(crate) fn new(limit: u64) -> Self {
        let random = fastrand::Rng::with_seed(limit);
        Self { places: HashMap::new(), entries: Vec::new(), weight: 0, limit, random }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let place = *self.places.get(key)?;
        self.entries.get(place as usize).map(|(_, value, _)| value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V, weight: u64) {
        self.remove(&key);
        self.weight += weight;
        self.places.insert(key.clone(), self.entries.len() as u32);
        self.entries.push((key, value, weight));
        self.evict();
    }

    /// Changes the maximum weight.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
        self.evict();
    }

    fn evict(&mut self) {
        while self.weight > self.limit && !self.entries.is_empty() {
            let place = self.random.usize(..self.entries.len());
            self.remove_at(place);
        }
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Some(place) = self.places.get(key) {
            self.remove_at(*place as usize);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    #[cfg(test)]
    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    fn remove_at(&mut self, place: usize) {
        let (key, _, weight) = self.entries.swap_remove(place);
        self.places.remove(&key);
        self.weight -= weight;
        if let Some((moved, ..)) = self.entries.get(place) {
            self.places.insert(moved.clone(), place as u32);
        }
    }

    pub(crate) fn clear(&mut self) {
        (self.places, self.entries, self.weight) = (HashMap::new(), Vec::new(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_is_bounded_and_values_are_current() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut cache, mut all) = (Bounded::new(50), HashMap::new());
        for value in 0..2_000 {
            let key = random.u32(..40);
            if random.u8(..10) == 0 {
                cache.remove(&key);
                all.remove(&key);
            } else {
                cache.insert(key, value, random.u64(1..5));
                all.insert(key, value);
            }
            assert!(cache.weight <= 50);
            assert!((0..40).all(|key| cache.get(&key).is_none_or(|value| all[&key] == *value)));
        }
        assert!(cache.entries.len() > 10, "it keeps what fits");
        cache.insert(1, 0, 51);
        assert!(cache.get(&1).is_none(), "larger than the cache");
        (0..40).for_each(|key| cache.insert(key, 0, 1));
        cache.set_limit(10);
        assert_eq!(cache.weight, 10, "a lower limit applies at once");
    }
}
