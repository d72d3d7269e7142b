//! Why a set was not written.

use es_core::store::{Claimed, Conflict, WriteError, WriteRefused, Written};
use es_core::{Cost, ExpectedVersion, StoreError};

use super::items::Purpose;
use crate::item::{holder_of, marker_from};
use crate::store::Table;
use crate::transact::{Reason, cancelled};

impl Table {
    /// Why a transaction was cancelled. That its own commit is there already is looked for first: then all of
    /// it is, whatever else has happened since.
    pub(super) async fn why(
        &self,
        purposes: &[Purpose<'_>],
        reasons: &[Reason],
        written: Written,
    ) -> Result<Written, WriteError> {
        let failed = || {
            purposes.iter().zip(reasons).filter_map(|(purpose, reason)| match reason {
                Reason::Condition(item) => Some((purpose, item)),
                _ => None,
            })
        };
        let mut cost = written.cost;
        let mut conflict = None;
        for (purpose, item) in failed() {
            match purpose {
                Purpose::Commit(index, append) => {
                    let first = written.appended[*index].first;
                    let (old, read) = self.old_commit(append.stream(), first, item.clone()).await?;
                    cost += read;
                    if let Some(old) = old.filter(|old| old.id == append.commit().id) {
                        self.repeated(append.stream(), old, written.appended[*index].last, cost)?;
                        return Ok(written.at_cost(cost).repeated());
                    }
                    let actual = old.map(|old| old.last);
                    conflict = Some((append.stream(), append.expected(), actual));
                }
                Purpose::Unchanged(stream, version) => {
                    conflict = conflict.or(Some((stream, ExpectedVersion::Exact(*version), None)));
                }
                Purpose::Claim(_) | Purpose::Once(_) | Purpose::Joined(_) => {}
            }
        }
        for (purpose, item) in failed() {
            if let Purpose::Once(once) = purpose {
                let (marker, read) = match item {
                    Some(item) => (Some(marker_from(item)?), Cost::ZERO),
                    None => {
                        let found = self.marker(&once.key).await?;
                        (found.marker, found.cost)
                    }
                };
                cost += read;
                return match marker {
                    Some(marker) if marker.id == once.id => Ok(written.at_cost(cost).repeated()),
                    Some(marker) => Err(WriteError::Done(marker)),
                    None => Err(StoreError::Throttled("the marker of a key has just expired".into()).into()),
                };
            }
        }
        if let Some((stream, expected, actual)) = conflict {
            return Err(Conflict::new(stream.clone(), expected, actual, cost).into());
        }
        // What still changes is seen again first: the holder of a claim may be giving it back right now.
        if reasons.iter().any(|reason| matches!(reason, Reason::Passing(_) | Reason::Lasting(_))) {
            return Err(cancelled(reasons).into());
        }
        for (purpose, item) in failed() {
            match purpose {
                Purpose::Claim(change) => {
                    let holder = match item {
                        Some(item) => Some(holder_of(change.claim, item)?),
                        None => self.claim_holder(change.claim).await?.stream,
                    };
                    let wanted_by = change.before.clone();
                    return Err(Claimed::new(change.claim.clone(), holder, wanted_by).into());
                }
                Purpose::Joined(index) => return Err(WriteRefused::new(*index).into()),
                Purpose::Commit(..) | Purpose::Unchanged(..) | Purpose::Once(_) => {}
            }
        }
        Err(cancelled(reasons).into())
    }
}
