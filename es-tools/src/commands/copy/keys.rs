//! The claims and idempotency keys of a copy.

use std::collections::BTreeMap;

use es_core::StreamId;
use es_core::chrono::{DateTime, TimeDelta, Utc};
use es_core::store::{
    Claim, ClaimChange, IdempotencyKey, IdempotencyRecord, NewIdempotencyRecord, StoredKey, WriteSet,
};
use es_core::uuid::Uuid;

use super::Copied;
use super::streams::Streams;
use super::verify::Difference;
use crate::failure::Result;
use crate::store::Store;

/// Claims by the streams that hold them.
pub(super) type ClaimsByStream = BTreeMap<StreamId, Vec<Claim>>;

/// The claims and the valid idempotency keys of a store.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) claims: BTreeMap<Claim, StreamId>,
    /// The records by the text of the stream, which is empty for a transaction, and of the key.
    pub(super) records: BTreeMap<(String, String), (IdempotencyKey, IdempotencyRecord)>,
}

impl Keys {
    pub(super) fn of(keys: Vec<StoredKey>) -> Self {
        let (now, mut all) = (Utc::now(), Self::default());
        for key in keys {
            match key {
                StoredKey::Claim { claim, stream } => {
                    all.claims.insert(claim, stream);
                }
                StoredKey::Idempotency { key, record } if record.is_valid_at(now) => {
                    let stream = key.stream().map_or(String::new(), StreamId::to_string);
                    all.records.insert((stream, key.key().to_owned()), (key, record));
                }
                _ => {}
            }
        }
        all
    }

    /// Returns the claims that no stream holds in `target`.
    pub(super) fn free_in(&self, target: &Self) -> ClaimsByStream {
        let mut free = ClaimsByStream::new();
        for (claim, stream) in &self.claims {
            if !target.claims.contains_key(claim) {
                free.entry(stream.clone()).or_default().push(claim.clone());
            }
        }
        free
    }

    /// Returns all keys, for a file.
    pub(super) fn all(&self) -> impl Iterator<Item = StoredKey> {
        let claims = self
            .claims
            .iter()
            .map(|(claim, stream)| StoredKey::Claim { claim: claim.clone(), stream: stream.clone() });
        let records = self
            .records
            .values()
            .map(|(key, record)| StoredKey::Idempotency { key: key.clone(), record: record.clone() });
        claims.chain(records)
    }

    /// Takes the claims and writes the records that the target lacks, and releases the claims of copied streams that
    /// the source has released. Most claims were taken with the last commit of their stream.
    pub(super) async fn write(&self, target: &Store, streams: &Streams, copied: &mut Copied) -> Result {
        let present = Self::of(super::Endpoint::Store(target.clone()).keys().await?);
        let now = Utc::now();
        for (claim, stream) in &present.claims {
            if self.claims.get(claim) != Some(stream) && streams.all.contains_key(stream) {
                let release = ClaimChange::Release { stream: stream.clone(), claim: claim.clone() };
                target.write(&alone(release, now)?).await?;
                copied.released += 1;
            }
        }
        for (claim, stream) in &self.claims {
            if present.claims.get(claim) != Some(stream) {
                let take = ClaimChange::Take { stream: stream.clone(), claim: claim.clone() };
                target.write(&alone(take, now)?).await?;
            }
        }
        copied.claims = self.claims.len() as u64;
        for (place, (key, record)) in &self.records {
            if present.records.get(place).is_some_and(|(_, present)| present.id == record.id) {
                continue;
            }
            let new =
                NewIdempotencyRecord::new(key.clone(), record.id, now, record.expires, record.ranges.clone());
            let set = WriteSet::new().idempotent(new.with_fingerprint(record.fingerprint.clone()));
            target.write(&set).await?;
        }
        copied.keys = self.records.len() as u64;
        Ok(())
    }

    /// Finds the keys that the target lacks.
    pub(super) fn verify(&self, target: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (claim, stream) in &self.claims {
            if target.claims.get(claim) != Some(stream) {
                let subject = format!("a claim `{}` of `{stream}`", claim.name());
                differences.push(Difference { subject, reason: "the target lacks it".to_owned() });
            }
        }
        for (place, (_, record)) in &self.records {
            // The content may be confidential. A record that has expired meanwhile may be gone.
            if target.records.get(place).is_none_or(|(_, found)| found.id != record.id)
                && record.is_valid_at(Utc::now())
            {
                let owner = if place.0.is_empty() { "a transaction" } else { &place.0 };
                let subject = format!("an idempotency key of {owner}");
                differences.push(Difference { subject, reason: "the target lacks its record".to_owned() });
            }
        }
        differences
    }
}

/// Returns the write of one change of a claim. A write without a commit needs an idempotency key, which expires soon.
fn alone(change: ClaimChange, now: DateTime<Utc>) -> Result<WriteSet> {
    let id = Uuid::now_v7();
    let key = IdempotencyKey::new(None, format!("es copy {id}"))?;
    let record = NewIdempotencyRecord::new(key, id, now, now + TimeDelta::minutes(1), Vec::new());
    Ok(WriteSet::new().claims([change]).idempotent(record))
}
