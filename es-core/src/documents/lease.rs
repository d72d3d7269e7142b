//! Leases in documents: when they expire, and how workers share their work.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::time::Duration;

use super::Revision;

/// The leases of workers, as one process observes them.
///
/// A worker acquires a lease by writing a document, and renews it by writing the document again, which changes its
/// [revision](Revision). All workers regularly list these documents and call [`observe`](Self::observe). A lease has
/// expired when its revision has not changed for the lease duration. Each process measures that time with its monotonic
/// clock, because the wall clocks of processes differ.
///
/// Expiry only decides when to take over, and a process may be wrong about it. Safety comes from fencing: every write
/// of a worker must be conditional on the revision of its lease ([`DocumentCondition`](super::DocumentCondition)), so
/// that a worker that has lost its lease without noticing cannot write.
///
/// ```
/// use std::time::Duration;
/// use es_core::documents::{ObservedLeases, Revision};
/// use uuid::Uuid;
///
/// let mut leases = ObservedLeases::new(Duration::from_secs(30));
/// let first = Revision::new(Uuid::from_u128(1));
/// leases.observe([("a", first)], Duration::from_secs(100));
/// assert!(!leases.is_expired("a", Duration::from_secs(129)));
/// assert!(leases.is_expired("a", Duration::from_secs(130)));
///
/// let renewed = Revision::new(Uuid::from_u128(2));
/// leases.observe([("a", renewed)], Duration::from_secs(130));
/// assert!(!leases.is_expired("a", Duration::from_secs(130)));
/// ```
#[derive(Clone, Debug)]
pub struct ObservedLeases<K> {
    duration: Duration,
    /// The revision of each lease, and when it was first observed.
    seen: BTreeMap<K, (Revision, Duration)>,
}

impl<K: Ord> ObservedLeases<K> {
    /// Creates an empty collection of leases that expire after `duration`.
    #[must_use]
    pub fn new(duration: Duration) -> Self {
        Self { duration, seen: BTreeMap::new() }
    }

    /// Records the current revisions of all leases at the monotonic time `now`. Other leases are removed.
    pub fn observe(&mut self, leases: impl IntoIterator<Item = (K, Revision)>, now: Duration) {
        let before = std::mem::take(&mut self.seen);
        for (key, revision) in leases {
            let unchanged = before.get(&key).filter(|(known, _)| *known == revision);
            let since = unchanged.map_or(now, |(_, since)| *since);
            self.seen.insert(key, (revision, since));
        }
    }

    /// Removes a lease. If it is observed again, its time starts again.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.seen.remove(key);
    }

    /// Returns whether there is a lease with this key.
    #[must_use]
    pub fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.seen.contains_key(key)
    }

    /// Returns whether a lease has expired at the monotonic time `now`. A lease that was never observed has not
    /// expired.
    #[must_use]
    pub fn is_expired<Q: Ord + ?Sized>(&self, key: &Q, now: Duration) -> bool
    where
        K: Borrow<Q>,
    {
        self.seen.get(key).is_some_and(|(_, since)| now.saturating_sub(*since) >= self.duration)
    }

    /// Returns the number of leases, including expired ones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Returns whether there are no leases.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Returns the leases in the order of their keys, each with its revision and the time since that revision was first
    /// observed, at the monotonic time `now`.
    pub fn iter(&self, now: Duration) -> impl Iterator<Item = (&K, Revision, Duration)> {
        self.seen.iter().map(move |(key, (revision, since))| (key, *revision, now.saturating_sub(*since)))
    }

    /// Returns the expired leases with their revisions at the monotonic time `now`, ordered by key.
    pub fn expired(&self, now: Duration) -> impl Iterator<Item = (&K, Revision)> {
        self.iter(now).filter(|(.., age)| *age >= self.duration).map(|(key, revision, _)| (key, revision))
    }

    /// Returns the [fair share](fair_share) of the worker with the lease `key` in `items` items that the workers of all
    /// leases share.
    #[must_use]
    pub fn share<Q: Ord + ?Sized>(&self, key: &Q, items: usize) -> usize
    where
        K: Borrow<Q>,
    {
        fair_share(items, self.len(), self.seen.keys().filter(|other| (*other).borrow() < key).count())
    }
}

/// Returns the number of items that a worker should take if `workers` workers share `items` items. `rank` is the index
/// of the worker, from 0. The shares of all workers differ by at most one, and add up to `items`.
#[must_use]
pub fn fair_share(items: usize, workers: usize, rank: usize) -> usize {
    let workers = workers.max(1);
    items / workers + usize::from(rank < items % workers)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn revision(number: u128) -> Revision {
        Revision::new(Uuid::from_u128(number))
    }

    #[test]
    fn a_lease_expires_when_its_revision_does_not_change_for_the_lease_duration() {
        let mut leases = ObservedLeases::new(SECOND * 3);
        leases.observe([("a", revision(1)), ("b", revision(2))], SECOND);
        leases.observe([("a", revision(1)), ("b", revision(3))], SECOND * 3);
        assert_eq!(leases.expired(SECOND * 4 - Duration::from_millis(1)).count(), 0);
        assert_eq!(leases.expired(SECOND * 4).collect::<Vec<_>>(), [(&"a", revision(1))]);
        assert!(leases.is_expired("a", SECOND * 4) && !leases.is_expired("b", SECOND * 4));
        assert!(leases.is_expired("b", SECOND * 6));
        assert!(!leases.is_expired("c", SECOND * 6), "never observed");
    }

    #[test]
    fn a_lease_that_was_removed_or_missing_starts_again() {
        let mut leases = ObservedLeases::new(SECOND);
        leases.observe([("a", revision(1))], Duration::ZERO);
        leases.observe([], SECOND);
        assert!(leases.is_empty());
        leases.observe([("a", revision(1))], SECOND);
        assert!(!leases.is_expired("a", SECOND));
        leases.remove("a");
        leases.observe([("a", revision(1))], SECOND * 2);
        assert!(leases.contains("a") && !leases.is_expired("a", SECOND * 2));
        assert_eq!(leases.iter(SECOND * 3).collect::<Vec<_>>(), [(&"a", revision(1), SECOND)]);
    }

    #[test]
    fn shares_are_fair_and_complete() {
        for items in 0..20 {
            for workers in 1..8 {
                let shares: Vec<_> = (0..workers).map(|rank| fair_share(items, workers, rank)).collect();
                assert_eq!(shares.iter().sum::<usize>(), items);
                assert!(shares[0] - shares[workers - 1] <= 1, "{shares:?}");
                assert_eq!(shares[0], items.div_ceil(workers));
            }
        }
        let mut leases = ObservedLeases::new(SECOND);
        assert_eq!(leases.share("a", 7), 7, "no other worker is known");
        leases.observe([("a", revision(1)), ("b", revision(2)), ("c", revision(3))], SECOND);
        assert_eq!(["a", "b", "c"].map(|key| leases.share(key, 7)), [3, 2, 2]);
    }
}
