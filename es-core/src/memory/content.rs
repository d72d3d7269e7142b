//! What a store in memory holds.

use std::collections::HashMap;
use std::sync::Arc;

use super::documents::DocumentContent;
use super::feed::FeedContent;
use crate::cost::Cost;
use crate::event::CommitId;
use crate::snapshot::Snapshot;
use crate::store::{
    Claim, ClaimChange, Claimed, Commit, Conflict, Marker, NewCommit, OnceKey, WriteError, WriteSet,
};
use crate::stream_id::StreamId;
use crate::version::{ExpectedVersion, Version};

/// All that a store holds.
#[derive(Default)]
pub(super) struct Content {
    pub(super) streams: HashMap<StreamId, Stored>,
    pub(super) claims: HashMap<Claim, StreamId>,
    pub(super) markers: HashMap<OnceKey, Marker>,
    pub(super) feed: FeedContent,
    pub(super) documents: DocumentContent,
}

/// One stream.
#[derive(Default)]
pub(super) struct Stored {
    pub(super) commits: Vec<Commit>,
    pub(super) places: HashMap<CommitId, usize>,
    pub(super) snapshot: Option<Snapshot>,
}

impl Stored {
    pub(super) fn head(&self) -> Version {
        self.commits.last().map_or(Version::NONE, Commit::last)
    }

    /// The place of the first commit after `version`.
    pub(super) fn index_after(&self, version: Version) -> usize {
        self.commits.partition_point(|commit| commit.first <= version)
    }

    /// Whether the commit is there after which the snapshot was taken.
    pub(super) fn has_commit_of(&self, snapshot: &Snapshot) -> bool {
        let end = |commit: &Commit| (commit.last(), commit.time) == (snapshot.version(), snapshot.time());
        self.commits.iter().rev().take_while(|commit| commit.last() >= snapshot.version()).any(end)
    }

    /// Appends at the end.
    fn append(&mut self, commit: &NewCommit) {
        self.places.insert(commit.id, self.commits.len());
        self.commits.push(Commit {
            id: commit.id,
            first: self.head().next(),
            time: commit.time,
            metadata: Arc::new(commit.metadata.clone()),
            events: commit.events.clone(),
        });
    }
}

impl Content {
    /// Appends at the end of a stream, and of the feed.
    pub(super) fn append(&mut self, stream: &StreamId, commit: &NewCommit) {
        let stored = self.streams.entry(stream.clone()).or_default();
        self.feed.push(stream, stored.commits.len(), commit.events.len());
        stored.append(commit);
    }

    pub(super) fn head(&self, stream: &StreamId) -> Version {
        self.streams.get(stream).map_or(Version::NONE, Stored::head)
    }

    /// Whether the set is written already.
    pub(super) fn has(&self, set: &WriteSet) -> bool {
        let by_commit = set.appends().iter().any(|append| {
            let stored = self.streams.get(append.stream());
            stored.is_some_and(|stored| stored.places.contains_key(&append.commit().id))
        });
        let by_marker = set
            .once_key()
            .is_some_and(|once| self.markers.get(&once.key).is_some_and(|marker| marker.id == once.id));
        by_commit || by_marker
    }

    /// Whether the set may be written, as things stand.
    pub(super) fn check(&self, set: &WriteSet) -> Result<(), WriteError> {
        if let Some(once) = set.once_key()
            && let Some(marker) = self.markers.get(&once.key)
            && marker.counts_at(once.now)
        {
            return Err(WriteError::Done(marker.clone()));
        }
        for append in set.appends() {
            self.check_head(append.stream(), append.start()?)?;
        }
        for (stream, version) in set.unchanged_streams() {
            self.check_head(stream, *version)?;
        }
        for change in ClaimChange::net(set.claim_changes())? {
            let holder = self.claims.get(change.claim);
            if holder.is_some_and(|holder| holder != change.before) {
                let wanted_by = change.before.clone();
                return Err(Claimed::new(change.claim.clone(), holder.cloned(), wanted_by).into());
            }
        }
        self.documents.check(set.joined_writes())
    }

    fn check_head(&self, stream: &StreamId, expected: Version) -> Result<(), Conflict> {
        let head = self.head(stream);
        if head == expected {
            return Ok(());
        }
        let expected = ExpectedVersion::Exact(expected);
        Err(Conflict::new(stream.clone(), expected, Some(head), Cost::write(0.0)))
    }

    pub(super) fn write(&mut self, set: &WriteSet) -> Result<(), WriteError> {
        for append in set.appends() {
            self.append(append.stream(), append.commit());
        }
        for change in ClaimChange::net(set.claim_changes())? {
            match change.after {
                Some(holder) => self.claims.insert(change.claim.clone(), holder.clone()),
                None => self.claims.remove(change.claim),
            };
        }
        if let Some(once) = set.once_key() {
            let marker = Marker::new(once.id, once.places.clone(), once.expires);
            let marker = marker.with_fingerprint(once.fingerprint.clone());
            self.markers.insert(once.key.clone(), marker);
        }
        Ok(())
    }
}
