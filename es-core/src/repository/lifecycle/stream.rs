//! The steps that end a stream, which need no types.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::archive::{Archive, Archives};
use crate::clock::{Clock, SystemClock};
use crate::cost::Cost;
use crate::event::CommitId;
use crate::ids::{IdSource, RandomIds};
use crate::metadata::Metadata;
use crate::payloads::{PayloadError, PayloadName};
use crate::repository::loading::Pages;
use crate::repository::retry::{Deadline, RetryTokens, Retrying};
use crate::repository::{ExecuteError, RetryBudget, RetryPolicy};
use crate::store::{
    Append, Commit, Conflict, EventStore, Head, Read, StoreError, StreamState, WriteError, superseded_archive,
};
use crate::stream_id::StreamId;
use crate::version::Version;

/// The result of closing, archiving, restoring, or deleting a stream.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StreamEnd {
    /// The version of the event that changed the state of the stream, which is the last one.
    pub version: Version,
    /// Whether an earlier call has changed the state. If it was interrupted, this call has completed it.
    pub repeated: bool,
    /// The archive that was written or restored.
    pub archive: Option<PayloadName>,
    /// The total cost of the requests to the event store.
    pub cost: Cost,
}

/// Closes, archives, restores, and deletes streams by their names: for tools that do not know the aggregates.
/// Applications use the methods of a [`Repository`](crate::Repository).
///
/// Requests are retried as those of a repository with the default settings, without a deadline.
///
/// ```
/// use es_core::MemoryStore;
/// use es_core::repository::StreamLifecycle;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let lifecycle = StreamLifecycle::new(MemoryStore::new());
/// let error = lifecycle.close(&"account#ann".parse()?).await.unwrap_err();
/// assert_eq!(error.to_string(), "the stream `account#ann` has no events: check the id");
/// # Ok(())
/// # }
/// ```
pub struct StreamLifecycle {
    store: Arc<dyn EventStore>,
    tokens: RetryTokens,
    metadata: Metadata,
}

impl StreamLifecycle {
    /// Returns the operations on the streams of `store`.
    #[must_use]
    pub fn new(store: impl EventStore) -> Self {
        let tokens = RetryTokens::new(RetryBudget::default());
        Self { store: Arc::new(store), tokens, metadata: Metadata::new() }
    }

    /// Sets the metadata of the events that are recorded, such as who closed a stream (default: none).
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Closes a stream, see [`Repository::close`](crate::Repository::close).
    ///
    /// # Errors
    ///
    /// As `Repository::close`.
    pub async fn close(&self, stream: &StreamId) -> Result<StreamEnd, StoreError> {
        self.ending(stream).close().await
    }

    /// Archives a closed stream, see [`Repository::archive`](crate::Repository::archive).
    ///
    /// # Errors
    ///
    /// As `Repository::archive`.
    pub async fn archive(&self, stream: &StreamId, archives: &Archives) -> Result<StreamEnd, StoreError> {
        self.ending(stream).archive(archives).await
    }

    /// Restores an archived stream, see [`Repository::restore`](crate::Repository::restore).
    ///
    /// # Errors
    ///
    /// As `Repository::restore`.
    pub async fn restore(&self, stream: &StreamId, archives: &Archives) -> Result<StreamEnd, StoreError> {
        self.ending(stream).restore(archives).await
    }

    /// Deletes a stream, see [`Repository::delete`](crate::Repository::delete).
    ///
    /// # Errors
    ///
    /// As `Repository::delete`.
    pub async fn delete(&self, stream: &StreamId) -> Result<StreamEnd, StoreError> {
        self.ending(stream).delete(None).await
    }

    /// Deletes a stream and its archive, see [`Repository::delete_archived`](crate::Repository::delete_archived).
    ///
    /// # Errors
    ///
    /// As `Repository::delete_archived`.
    pub async fn delete_archived(
        &self,
        stream: &StreamId,
        archives: &Archives,
    ) -> Result<StreamEnd, StoreError> {
        self.ending(stream).delete(Some(archives)).await
    }

    fn ending<'a>(&'a self, stream: &'a StreamId) -> Ending<'a> {
        let (clock, ids): (&dyn Clock, &dyn IdSource) = (&SystemClock, &RandomIds);
        let deadline = Deadline::after(None, clock);
        let retrying = Retrying { clock, policy: RetryPolicy::default(), tokens: &self.tokens, deadline };
        Ending { store: &*self.store, ids, retrying, metadata: &self.metadata, stream, cost: Cost::ZERO }
    }
}

impl fmt::Debug for StreamLifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamLifecycle").field("store", &self.store).finish_non_exhaustive()
    }
}

/// A stream while its state is changed.
pub(super) struct Ending<'a> {
    pub(super) store: &'a dyn EventStore,
    pub(super) ids: &'a dyn IdSource,
    pub(super) retrying: Retrying<'a>,
    pub(super) metadata: &'a Metadata,
    pub(super) stream: &'a StreamId,
    /// The cost of all requests so far.
    pub(super) cost: Cost,
}

impl Ending<'_> {
    /// Closes the stream.
    pub(super) async fn close(mut self) -> Result<StreamEnd, StoreError> {
        for attempts in 1.. {
            let head = self.head().await?;
            if !head.state.is_open() {
                return Ok(self.had_ended(head.version, None));
            }
            if let Some(version) = self.change(&head, &StreamState::Closed, attempts).await? {
                return Ok(self.ended(version, None));
            }
        }
        unreachable!("the last attempt ends the loop")
    }

    /// Deletes the stream. Then deletes its archive, if there is one, and erases its content.
    pub(super) async fn delete(mut self, archives: Option<&Archives>) -> Result<StreamEnd, StoreError> {
        for attempts in 1.. {
            let head = self.head().await?;
            match head.state {
                StreamState::Deleted => {
                    self.delete_archive(&head, archives).await?;
                    self.erase().await?;
                    return Ok(self.had_ended(head.version, None));
                }
                StreamState::Archived { ref archive } => {
                    let Some(archives) = archives else { return Err(head.closed(self.stream).into()) };
                    // In another payload store, nothing would be deleted, and then the name of the archive be lost.
                    if !self.retrying.read(|| archives.contains(archive)).await? {
                        if self.head().await?.version == head.version {
                            return Err(PayloadError::missing(archive).into());
                        }
                        // Another call has restored or deleted the stream.
                        continue;
                    }
                }
                // The archive from which it was restored may still be there. The events are in the stream again.
                StreamState::Closed => self.delete_archive(&head, archives).await?,
                StreamState::Open => {}
            }
            if let Some(version) = self.change(&head, &StreamState::Deleted, attempts).await? {
                if let (StreamState::Archived { archive }, Some(archives)) = (&head.state, archives) {
                    self.retrying.read(|| archives.delete(archive)).await?;
                }
                self.erase().await?;
                return Ok(self.ended(version, None));
            }
        }
        unreachable!("the last attempt ends the loop")
    }

    /// Deletes the archive that the last commit of the stream has superseded, if there is one.
    async fn delete_archive(&mut self, head: &Head, archives: Option<&Archives>) -> Result<(), StoreError> {
        let Some(archives) = archives else { return Ok(()) };
        match self.superseded_archive(head).await? {
            Some(archive) => self.retrying.read(|| archives.delete(&archive)).await,
            None => Ok(()),
        }
    }

    /// Writes an archive of the closed stream and verifies it. Then records the archive, and erases the content.
    pub(super) async fn archive(mut self, archives: &Archives) -> Result<StreamEnd, StoreError> {
        let mut written: Option<PayloadName> = None;
        for attempts in 1.. {
            let head = self.head().await?;
            let recorded = match &head.state {
                StreamState::Archived { archive } => Some(archive),
                _ => None,
            };
            if let Some(name) = written.take().filter(|name| recorded != Some(name)) {
                // Another call was faster. Nothing can refer to this archive any more.
                self.retrying.read(|| archives.delete(&name)).await?;
            }
            match &head.state {
                StreamState::Archived { archive } => {
                    let archive = archive.clone();
                    self.erase().await?;
                    return Ok(self.had_ended(head.version, Some(archive)));
                }
                StreamState::Deleted => return Err(head.closed(self.stream).into()),
                // The check for an open stream has the error.
                StreamState::Open | StreamState::Closed => {}
            }
            let (name, content) = self.pack(archives, &head).await?;
            let state = StreamState::archived(name.clone());
            let append = self.state_change(&head, &state)?;
            self.retrying.read(|| archives.put(&name, &content)).await?;
            drop(content);
            let stored = self.retrying.read(|| archives.get(&name, self.stream)).await?;
            stored.check_end(head.version).await?;
            written = Some(name.clone());
            if let Some(version) = self.append(&append, &[], attempts).await? {
                self.erase().await?;
                return Ok(self.ended(version, Some(name)));
            }
        }
        unreachable!("the last attempt ends the loop")
    }

    /// Returns the archive of the closed stream, which is written page by page. If the stream was restored before,
    /// completes that.
    async fn pack(&mut self, archives: &Archives, head: &Head) -> Result<(PayloadName, Bytes), StoreError> {
        let (mut writer, mut last) = (archives.writer(self.stream), None);
        if head.state == StreamState::Closed {
            let read = Read::all(self.stream.clone()).until(head.version).as_stored();
            let mut pages = Pages::new(self.store, read);
            while let Some(page) = pages.next(&self.retrying).await? {
                self.cost += page.cost;
                page.commits.iter().try_for_each(|commit| writer.add(commit))?;
                last = page.commits.into_iter().next_back().or(last);
            }
        }
        if let Some(restored) = last.as_ref().and_then(superseded_archive) {
            self.complete_restore(archives, &restored).await?;
        }
        writer.finish()
    }

    /// Brings the content of the archived stream back, and closes the stream again. Then deletes the archive.
    pub(super) async fn restore(mut self, archives: &Archives) -> Result<StreamEnd, StoreError> {
        for attempts in 1.. {
            let head = self.head().await?;
            let archive = match &head.state {
                StreamState::Archived { archive } => archive.clone(),
                StreamState::Closed => {
                    // An earlier call may have ended before it deleted the archive.
                    let archive = self.superseded_archive(&head).await?;
                    if let Some(archive) = &archive {
                        self.complete_restore(archives, archive).await?;
                    }
                    return Ok(self.had_ended(head.version, archive));
                }
                StreamState::Open => {
                    let reason = match head.version.is_none() {
                        true => "has no events: check the id",
                        false => "is open, so there is nothing to restore",
                    };
                    return Err(StoreError::invalid(format!("the stream `{}` {reason}", self.stream)));
                }
                StreamState::Deleted => return Err(head.closed(self.stream).into()),
            };
            let Some(archived) = self.retrying.read(|| archives.find(&archive, self.stream)).await? else {
                if self.head().await?.version == head.version {
                    return Err(PayloadError::missing(&archive).into());
                }
                // Another call has restored or deleted the stream.
                continue;
            };
            let commits = archived.all_commits().await?;
            drop(archived);
            let append = self.state_change(&head, &StreamState::Closed)?;
            if let Some(version) = self.append(&append, &commits, attempts).await? {
                self.complete_restore(archives, &archive).await?;
                return Ok(self.ended(version, Some(archive)));
            }
        }
        unreachable!("the last attempt ends the loop")
    }

    /// Deletes an archive, if it still exists, after its commits were found in the stream.
    async fn complete_restore(
        &mut self,
        archives: &Archives,
        archive: &PayloadName,
    ) -> Result<(), StoreError> {
        let kept = self.retrying.read(|| archives.find(archive, self.stream)).await?;
        let Some(kept) = kept else { return Ok(()) };
        if !self.starts_with(&kept).await? {
            let head = self.head().await?;
            return Err(match head.state.is_readable() {
                true => {
                    let reason =
                        format!("its events are not those in its archive `{archive}`, which is kept");
                    StoreError::corrupt(self.stream, reason)
                }
                // It was deleted or archived again since.
                false => head.closed(self.stream).into(),
            });
        }
        self.retrying.read(|| archives.delete(archive)).await
    }

    /// Returns whether the first commits of the stream are those of an archive.
    async fn starts_with(&mut self, archive: &Archive<'_>) -> Result<bool, StoreError> {
        let mut archived = archive.commits();
        let mut pages = Pages::new(self.store, Read::all(self.stream.clone()).as_stored());
        while let Some(page) = pages.next(&self.retrying).await? {
            self.cost += page.cost;
            for commit in &page.commits {
                match archived.next().transpose()? {
                    Some(archived) if archived == *commit => {}
                    Some(_) => return Ok(false),
                    None => return Ok(true),
                }
            }
        }
        Ok(archived.next().transpose()?.is_none())
    }

    /// Returns the archive that the last commit of the stream has superseded.
    async fn superseded_archive(&mut self, head: &Head) -> Result<Option<PayloadName>, StoreError> {
        let read = Read::all(self.stream.clone()).after(head.version.previous()).as_stored();
        let mut pages = Pages::new(self.store, read);
        let mut last = None;
        while let Some(page) = pages.next(&self.retrying).await? {
            self.cost += page.cost;
            last = page.commits.into_iter().next_back().or(last);
        }
        Ok(last.as_ref().and_then(superseded_archive))
    }

    async fn head(&mut self) -> Result<Head, StoreError> {
        let head = self.retrying.read(|| self.store.head(self.stream)).await?;
        self.cost += head.cost;
        Ok(head)
    }

    async fn erase(&mut self) -> Result<(), StoreError> {
        self.cost += self.retrying.read(|| self.store.erase(self.stream)).await?;
        Ok(())
    }

    /// Returns the append that changes the state of the stream.
    fn state_change(&self, head: &Head, state: &StreamState) -> Result<Append, StoreError> {
        let (id, now) = (CommitId::new(self.ids.new_id()), self.retrying.clock.now());
        let append = Append::state_change(self.stream.clone(), head, state, id, now)?;
        Ok(append.with_metadata(self.metadata.clone()))
    }

    /// Changes the state of the stream. Returns the new version, or `None` after a conflict.
    async fn change(
        &mut self,
        head: &Head,
        state: &StreamState,
        attempts: u32,
    ) -> Result<Option<Version>, StoreError> {
        let append = self.state_change(head, state)?;
        self.append(&append, &[], attempts).await
    }

    /// Appends the commit that changes the state of the stream, after the `restored` commits were brought back. Returns
    /// its version, or `None` after a conflict.
    async fn append(
        &mut self,
        append: &Append,
        restored: &[Commit],
        attempts: u32,
    ) -> Result<Option<Version>, StoreError> {
        let send = async || {
            Ok(match restored {
                [] => self.store.append(append).await?,
                commits => self.store.restore(commits, append).await?,
            }
            .cost)
        };
        match self.retrying.write(&mut self.cost, send).await {
            Ok(()) => Ok(Some(append.last_version_after(append.start()?)?)),
            Err(WriteError::Conflict(conflict)) => {
                let waited = self.retrying.wait_after_conflict::<Conflict>(conflict, attempts).await;
                waited.map(|()| None).map_err(|error| match error {
                    ExecuteError::Store(error) => error,
                    contention => StoreError::Backend(contention.into()),
                })
            }
            Err(WriteError::Store(error)) => Err(error),
            Err(error) => Err(StoreError::Backend(error.into())),
        }
    }

    /// Returns the result of a change.
    fn ended(&self, version: Version, archive: Option<PayloadName>) -> StreamEnd {
        StreamEnd { version, repeated: false, archive, cost: self.cost }
    }

    /// Returns the result of a call that found the stream in the requested state.
    fn had_ended(&self, version: Version, archive: Option<PayloadName>) -> StreamEnd {
        StreamEnd { repeated: true, ..self.ended(version, archive) }
    }
}
