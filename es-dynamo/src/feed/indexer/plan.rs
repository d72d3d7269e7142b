//! The plan of a worker: which shards it acquires, based on the stored checkpoints and leases.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use es_core::StoreError;
use es_core::documents::{
    ChangeSet, Document, DocumentKey, DocumentQuery, Documents, ExpectedDocument, ObservedLeases, Revision,
    fair_share, pages,
};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::source::Shard;
use crate::feed::reconciler::state::{COLLECTION, outcome, put};

/// The actions of one round.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Shards to acquire.
    pub(crate) acquire: Vec<String>,
    /// Shards that have expired before they were read to their end.
    pub(crate) expired: Vec<String>,
    /// Shards without a checkpoint whose parents have none either: records may have been missed.
    pub(crate) unknown: Vec<String>,
    /// Shards that no worker has read for so long that records may have expired.
    pub(crate) stale: Vec<String>,
    /// Shards whose checkpoints are no longer needed.
    pub(crate) forget: Vec<(String, Revision)>,
}

impl Plan {
    /// Returns whether there may be records that no worker will ever read.
    pub(crate) fn has_missed(&self) -> bool {
        !(self.expired.is_empty() && self.unknown.is_empty() && self.stale.is_empty())
    }
}

/// The information on which a worker decides, in addition to the stored states.
pub(crate) struct View<'a> {
    pub(crate) me: Uuid,
    /// The shards that it owns.
    pub(crate) mine: &'a HashSet<String>,
    /// The leases of all shards, as observed by the worker.
    pub(crate) leases: &'a ObservedLeases<String>,
    /// The monotonic time.
    pub(crate) now: Duration,
    /// Returns whether a checkpoint is so old that its position may have expired, or was written by a wrong clock.
    pub(crate) is_stale: &'a dyn Fn(&ShardState) -> bool,
}

impl View<'_> {
    /// Returns the other worker that holds the lease of a shard, unless it has expired.
    fn live_owner(&self, shard: &str, state: &ShardState) -> Option<Uuid> {
        state.owner.filter(|owner| *owner != self.me && !self.leases.is_expired(shard, self.now))
    }
}

/// Returns the plan of a worker for the stored states and the current shards of the stream.
pub(crate) fn plan(ledger: &Ledger, shards: &[Shard], view: &View<'_>) -> Plan {
    let there = shards.iter().map(|shard| shard.id.as_str()).collect();
    let mut plan = Plan::default();
    plan.compare(ledger, shards, &there, view);
    plan.acquire = to_acquire(ledger, shards, &there, view);
    plan
}

impl Ledger {
    fn is_done(&self, shard: &str) -> bool {
        self.shards.get(shard).is_some_and(|(state, _)| state.done)
    }
}

impl Plan {
    /// Compares the checkpoints with the shards: notes where records may have been missed, and which checkpoints are no
    /// longer needed.
    fn compare(&mut self, ledger: &Ledger, shards: &[Shard], there: &HashSet<&str>, view: &View<'_>) {
        let known = |shard: &str| ledger.shards.get(shard);
        let all_known = shards.iter().all(|shard| known(&shard.id).is_some());
        for (shard, (state, revision)) in &ledger.shards {
            if there.contains(shard.as_str()) {
                continue;
            }
            if !state.done {
                self.expired.push(shard.clone());
            } else if all_known {
                self.forget.push((shard.clone(), *revision));
            }
        }
        for shard in shards {
            match known(&shard.id) {
                // A live worker reads its shard, whatever its clock shows. If both had a say, two workers whose clocks
                // differ would reconcile the table, and take the lease from each other, in every round.
                Some((state, _))
                    if !state.done
                        && (view.is_stale)(state)
                        && view.live_owner(&shard.id, state).is_none() =>
                {
                    self.stale.push(shard.id.clone());
                }
                Some(_) => {}
                // It started after its parent was read to its end, or the parent is still being read: no record has
                // expired.
                None => match shard.parent.as_deref() {
                    Some(parent) if there.contains(parent) && !ledger.is_done(parent) => {}
                    Some(parent) if known(parent).is_some_and(|(state, _)| !(view.is_stale)(state)) => {}
                    _ => self.unknown.push(shard.id.clone()),
                },
            }
        }
    }
}

/// Returns the shards that a worker acquires: its share of those that are ready, or one of a worker with more.
fn to_acquire(ledger: &Ledger, shards: &[Shard], there: &HashSet<&str>, view: &View<'_>) -> Vec<String> {
    // Parents before children. This is not needed for safety, but avoids reading records twice.
    let ready: Vec<&Shard> = shards
        .iter()
        .filter(|shard| !ledger.is_done(&shard.id))
        .filter(|shard| {
            let waits_for = |parent: &str| there.contains(parent) && !ledger.is_done(parent);
            !shard.parent.as_deref().is_some_and(waits_for)
        })
        .collect();
    let owner = |shard: &Shard| -> Option<Uuid> {
        let (state, _) = ledger.shards.get(&shard.id)?;
        view.live_owner(&shard.id, state)
    };
    let mut owned: HashMap<Uuid, Vec<&Shard>> = HashMap::new();
    let mut free = Vec::new();
    for shard in ready.iter().copied().filter(|shard| !view.mine.contains(&shard.id)) {
        match owner(shard) {
            Some(other) => owned.entry(other).or_default().push(shard),
            None => free.push(shard),
        }
    }
    // Workers without shards are unknown, so there is no common order of workers, and each rounds up.
    let share = fair_share(ready.len(), owned.len() + 1, 0);
    let wanted = share.saturating_sub(view.mine.len());
    if wanted == 0 || !free.is_empty() {
        return free.iter().take(wanted).map(|shard| shard.id.clone()).collect();
    }
    // Steal one shard at a time from the worker that owns the most, if that is more than its share.
    let most = owned.values().max_by_key(|shards| shards.len()).filter(|shards| shards.len() > share);
    most.and_then(|shards| shards.first()).map(|shard| shard.id.clone()).into_iter().collect()
}

/// The prefix of the names of shards' documents.
const SHARD: &str = "shard/";

/// The checkpoint and the lease of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardState {
    /// The sequence number of the last record that is indexed, if there is one.
    pub(crate) after: Option<String>,
    /// Whether the shard is closed and was read to its end.
    pub(crate) done: bool,
    /// The worker that holds the lease.
    pub(crate) owner: Option<Uuid>,
    /// The time of the write in milliseconds since 1970, by the clock of the writer. Used for ages of hours only.
    pub(crate) at: i64,
    /// Whether the version of the worker follows slices that are split.
    #[serde(default)]
    pub(crate) splits: bool,
    /// How far the worker was behind in this shard at the time of the write, in milliseconds, if it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lag: Option<u64>,
}

/// The states of all shards.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) shards: HashMap<String, (ShardState, Revision)>,
}

fn shard_key(shard: &str) -> DocumentKey {
    DocumentKey::new(COLLECTION, format!("{SHARD}{shard}"))
}

/// Reads the ledger. A document that cannot be decoded counts as lost.
pub(crate) async fn read_ledger(documents: &dyn Documents) -> Result<Ledger, StoreError> {
    let mut ledger = Ledger::default();
    let mut pages = pages(documents, DocumentQuery::new(COLLECTION).prefix(SHARD));
    while let Some(page) = pages.try_next().await? {
        for (name, document) in page.documents {
            let Some(shard) = name.strip_prefix(SHARD) else { continue };
            if let Some(state) = decode(&document) {
                ledger.shards.insert(shard.to_owned(), (state, document.revision));
            } else {
                // A worker that starts the shard from its beginning can overwrite it.
                ledger.shards.insert(shard.to_owned(), (ShardState::default(), document.revision));
            }
        }
    }
    Ok(ledger)
}

fn decode(document: &Document) -> Option<ShardState> {
    serde_json::from_str(&document.body).ok()
}

/// Writes the state of a shard, unless it has changed since `seen`. Returns its new revision if it was written.
pub(crate) async fn write_shard(
    documents: &dyn Documents,
    shard: &str,
    state: &ShardState,
    seen: Option<Revision>,
) -> Result<Option<Revision>, StoreError> {
    let state = ShardState { splits: true, ..state.clone() };
    put(documents, shard_key(shard), &state, seen.into()).await
}

/// Deletes the state of a shard, unless it has changed since `seen`.
pub(crate) async fn forget_shard(
    documents: &dyn Documents,
    shard: &str,
    seen: Revision,
) -> Result<(), StoreError> {
    let set = ChangeSet::new(Uuid::new_v4()).delete(shard_key(shard), ExpectedDocument::At(seen));
    outcome(documents.change(&set).await, seen).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Uuid = Uuid::from_u128(1);

    fn shard(id: &str, parent: Option<&str>) -> Shard {
        Shard { id: id.to_owned(), parent: parent.map(str::to_owned) }
    }

    fn ledger(states: &[(&str, bool, Option<u128>)]) -> Ledger {
        let state = |(id, done, owner): &(&str, bool, Option<u128>)| {
            let state =
                ShardState { done: *done, owner: owner.map(Uuid::from_u128), ..ShardState::default() };
            ((*id).to_owned(), (state, Revision::new(ME)))
        };
        Ledger { shards: states.iter().map(state).collect() }
    }

    fn of(ledger: &Ledger, shards: &[Shard], mine: &[&str], dead: &[&str]) -> Plan {
        let mine = mine.iter().map(|shard| (*shard).to_owned()).collect();
        let lease = Duration::from_secs(30);
        let mut leases = ObservedLeases::new(lease);
        let revisions = || ledger.shards.iter().map(|(shard, (_, revision))| (shard.clone(), *revision));
        leases.observe(revisions().filter(|(shard, _)| dead.contains(&shard.as_str())), Duration::ZERO);
        leases.observe(revisions(), lease);
        let is_stale = |state: &ShardState| state.at < 0;
        plan(ledger, shards, &View { me: ME, mine: &mine, leases: &leases, now: lease, is_stale: &is_stale })
    }

    #[test]
    fn parents_are_read_before_children() {
        let shards = [shard("b", Some("a")), shard("a", Some("0"))];
        let of = |states: &[_]| of(&ledger(states), &shards, &[], &[]).acquire;
        assert_eq!(of(&[("a", false, None)]), ["a"]);
        assert_eq!(of(&[("a", true, None)]), ["b"]);
        assert!(of(&[("a", true, None), ("b", true, None)]).is_empty());
    }

    #[test]
    fn a_shard_without_a_known_parent_may_follow_a_missed_shard() {
        let of = |states: &[_], shards: &[Shard]| of(&ledger(states), shards, &[], &[]).unknown;
        assert_eq!(of(&[], &[shard("a", None)]), ["a"]);
        assert_eq!(of(&[("0", true, None)], &[shard("b", Some("a"))]), ["b"]);
        assert!(of(&[("a", true, None)], &[shard("b", Some("a"))]).is_empty());
        assert!(of(&[("a", false, None)], &[shard("a", None), shard("b", Some("a"))]).is_empty());
    }

    #[test]
    fn an_old_checkpoint_may_have_expired() {
        let mut ledger = ledger(&[("a", true, None), ("c", false, None)]);
        for (state, _) in ledger.shards.values_mut() {
            state.at = -1;
        }
        let found = of(&ledger, &[shard("b", Some("a")), shard("c", None)], &[], &[]);
        assert_eq!((found.unknown, found.stale), (vec!["b".to_owned()], vec!["c".to_owned()]));
    }

    /// The clock of one of two workers is wrong.
    #[test]
    fn the_checkpoint_of_a_live_worker_is_not_old() {
        let mut ledger = ledger(&[("a", false, Some(2)), ("b", false, Some(2))]);
        for (state, _) in ledger.shards.values_mut() {
            state.at = -1;
        }
        let found = of(&ledger, &[shard("a", None), shard("b", None)], &[], &["b"]);
        assert_eq!(found.stale, ["b"]);
    }

    #[test]
    fn an_expired_shard_that_was_not_read_to_its_end_is_reported() {
        let found = of(&ledger(&[("a", false, None), ("b", true, None)]), &[], &[], &[]);
        assert_eq!((found.expired, found.forget.len()), (vec!["a".to_owned()], 1));
        let found = of(&ledger(&[("b", true, None)]), &[shard("c", Some("b"))], &[], &[]);
        assert_eq!(found.forget.len(), 0, "its child is not known yet");
    }

    #[test]
    fn workers_share_shards() {
        let shards: Vec<_> = ["a", "b", "c", "d"].iter().map(|id| shard(id, None)).collect();
        let two = Some(2);
        let both = ledger(&[("a", false, two), ("b", false, two), ("c", false, two), ("d", false, two)]);
        assert_eq!(of(&both, &shards, &[], &[]).acquire.len(), 1, "one at a time");
        assert_eq!(of(&both, &shards, &["a"], &[]).acquire.len(), 1);
        assert_eq!(of(&both, &shards, &["a", "b"], &[]).acquire.len(), 0);
        assert_eq!(of(&both, &shards, &[], &["a", "b", "c", "d"]).acquire.len(), 4);
        let free = ledger(&[("a", false, two), ("b", false, None), ("c", false, None), ("d", false, None)]);
        assert_eq!(of(&free, &shards, &[], &[]).acquire.len(), 2);
    }
}
