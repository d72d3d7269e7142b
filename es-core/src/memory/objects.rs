//! Large payloads of the in-memory store: objects in a payload store, as on DynamoDB.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{MemoryStore, StoredStream};
use crate::payloads::{PayloadError, PayloadName, PayloadPrefix, Payloads};
use crate::snapshot::Snapshot;
use crate::store::{Append, Commit, NewCommit, Page, StoreError, limits};
use crate::stream_id::StreamId;
use crate::version::Version;

/// The prefix of objects, unless the settings have one.
const PREFIX: &str = "memory/payloads";

/// An object and its length.
pub(super) type Object = (PayloadName, u64);

/// The objects of the events of a commit, by the indexes of the events.
pub(super) type Objects = BTreeMap<usize, Object>;

impl MemoryStore {
    /// Uses a payload store for events and snapshots that do not fit into an item of a DynamoDB table, as
    /// `DynamoStoreBuilder::payloads` does (default: none, so that they are rejected with [`StoreError::TooLarge`]).
    ///
    /// ```
    /// use es_core::MemoryStore;
    /// use es_core::payloads::MemoryPayloads;
    ///
    /// let store = MemoryStore::new().with_payloads(MemoryPayloads::new());
    /// ```
    #[must_use]
    pub fn with_payloads(mut self, payloads: impl Into<Payloads>) -> Self {
        self.payloads = Some(payloads.into());
        self
    }

    /// Returns the maximum size of a payload or a state outside of items.
    pub(super) fn max_bytes(&self) -> Option<u64> {
        self.payloads.as_ref().map(Payloads::max_bytes)
    }

    /// Stores the large payloads of an append whose first event follows `version`.
    pub(super) async fn put_objects(&self, append: &Append, version: Version) -> Result<Objects, StoreError> {
        append.check_sealed()?;
        match append.commits() {
            [commit] => self.put_objects_of(append.stream(), commit, version).await,
            _ => Ok(Objects::new()),
        }
    }

    /// Stores the large payloads of stored commits again. Returns the objects of each with its first version.
    pub(super) async fn put_commit_objects(
        &self,
        stream: &StreamId,
        commits: &[Commit],
    ) -> Result<Vec<(Version, Objects)>, StoreError> {
        let mut objects = Vec::new();
        for commit in commits.iter().filter(|_| self.payloads.is_some()) {
            let new = NewCommit::new(commit.id, commit.time, commit.events.clone());
            let new = new.with_metadata((*commit.metadata).clone());
            let version = commit.first.previous();
            objects.push((commit.first, self.put_objects_of(stream, &new, version).await?));
        }
        Ok(objects)
    }

    /// Stores the large payloads of a commit whose first event follows `version`.
    async fn put_objects_of(
        &self,
        stream: &StreamId,
        commit: &NewCommit,
        version: Version,
    ) -> Result<Objects, StoreError> {
        let Some(payloads) = &self.payloads else { return Ok(Objects::new()) };
        let large = limits::large_payloads(stream, version, commit, payloads.max_bytes())?;
        let content = |index: &usize| Bytes::copy_from_slice(commit.events[*index].payload().as_bytes());
        let contents: Vec<_> = large.iter().map(content).collect();
        let objects = put_all(payloads, contents).await?;
        Ok(large.into_iter().zip(objects).collect())
    }

    /// Stores the state of a large snapshot.
    pub(super) async fn put_snapshot_object(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
    ) -> Result<Option<Object>, StoreError> {
        let Some(payloads) = &self.payloads else { return Ok(None) };
        if !limits::is_large_snapshot(stream, snapshot) {
            return Ok(None);
        }
        let state = Bytes::copy_from_slice(snapshot.state().as_bytes());
        Ok(put_all(payloads, vec![state]).await?.pop())
    }

    /// Reads the objects of a page. Its events and its snapshot have their contents already, so this only fails as a
    /// load from DynamoDB would.
    pub(super) async fn check_objects(&self, objects: Vec<Object>) -> Result<(), StoreError> {
        if let Some(payloads) = self.payloads.as_ref().filter(|_| !objects.is_empty()) {
            payloads.get_all(objects).await?;
        }
        Ok(())
    }

    /// Removes the snapshot of a page if its object is missing or damaged.
    pub(super) async fn check_snapshot_object(
        &self,
        object: Option<Object>,
        page: &mut Page,
    ) -> Result<(), StoreError> {
        let Some((object, payloads)) = object.zip(self.payloads.as_ref()) else { return Ok(()) };
        match payloads.get_all(vec![object]).await {
            Err(PayloadError::Missing { .. } | PayloadError::Corrupt { .. }) => {
                page.unusable_snapshot = page.snapshot.take().map(|snapshot| snapshot.version());
                Ok(())
            }
            result => Ok(result.map(drop)?),
        }
    }
}

async fn put_all(payloads: &Payloads, contents: Vec<Bytes>) -> Result<Vec<Object>, StoreError> {
    let default = || PayloadPrefix::new(PREFIX).expect("is valid");
    let prefix = payloads.prefix().cloned().unwrap_or_else(default);
    let named = contents.into_iter().map(|content| (PayloadName::of(prefix.clone(), &content), content));
    let named: Vec<_> = named.collect();
    let objects = named.iter().map(|(name, content)| (name.clone(), content.len() as u64)).collect();
    payloads.put_all(named).await?;
    Ok(objects)
}

impl StoredStream {
    /// Returns the objects to which commits refer.
    pub(super) fn objects_of(&self, commits: &[Commit]) -> Vec<Object> {
        let (Some(first), Some(last)) = (commits.first(), commits.last()) else { return Vec::new() };
        self.objects.range(first.first..=last.last()).map(|(_, object)| object.clone()).collect()
    }

    /// Notes the objects of a commit whose first event has the version `first`.
    pub(super) fn note_objects(&mut self, first: Version, objects: Objects) {
        self.objects.extend(objects.into_iter().map(|(index, object)| (first.plus(index as u64), object)));
    }
}
