//! Appending commits: one conditional `PutItem`, or one transaction if a commit does not fit into an item.

use es_core::event::CommitId;
use es_core::store::{Append, AppendError, Appended, Commit, Conflict};
use es_core::{Cost, ExpectedVersion, StoreError, StreamId, Version};

use super::item::{Attributes, CommitHead, Format, append_items, append_items_with};
use super::objects::LargePayloads;
use crate::table::{
    ConditionFailed, Item, PLACE_IS_FREE, Table, Transacted, Written, check_key, item_size, key, names,
    qualified, responses,
};

impl Table {
    pub(crate) async fn append(&self, append: &Append) -> Result<Appended, AppendError> {
        append.last_version_after(Version::NONE)?;
        append.check_sealed()?;
        // Rare cases are boxed, here and below, which keeps the future of an append by a repository small.
        match append.expected() {
            ExpectedVersion::NoStream => self.append_at(append, Version::NONE, Cost::ZERO).await,
            ExpectedVersion::Exact(version) if append.is_loaded() || version.is_none() => {
                self.append_at(append, version, Cost::ZERO).await
            }
            ExpectedVersion::Exact(version) => Box::pin(self.append_checked(append, version)).await,
            ExpectedVersion::Any | ExpectedVersion::StreamExists => {
                Box::pin(self.append_anywhere(append)).await
            }
        }
    }

    /// Appends after `version`, which must be the end of an item, with a single conditional write.
    ///
    /// The sort key is the version of the first event, so two writers that start from the same version write the same
    /// key, regardless of the number of their events.
    async fn append_at(
        &self,
        append: &Append,
        version: Version,
        spent: Cost,
    ) -> Result<Appended, AppendError> {
        let (first, last) = (version.next(), append.last_version_after(version)?);
        let items = match append_items(append, first) {
            Err(StoreError::TooLarge { .. }) if self.objects.is_some() => {
                return Box::pin(self.append_large(append, first, spent)).await;
            }
            items => items?,
        };
        let mut items = self.compress(items).await?;
        let outcome = match items.len() {
            1 => self.put_if_absent(items.remove(0)).await?,
            _ => Box::pin(self.put_all(items)).await?,
        };
        match outcome {
            Written::Done(cost) => Ok(Appended::new(first, last, spent + cost)),
            Written::Refused(failed) => {
                let wanted = append_items(append, first)?;
                let operation = if wanted.len() > 1 { responses::TRANSACT_WRITE } else { "PutItem" };
                Box::pin(self.refused(append, first, (operation, &wanted), failed, spent)).await
            }
        }
    }

    /// Returns the outcome of a write whose version is taken: by another writer, or by an earlier attempt whose
    /// response was lost.
    async fn refused(
        &self,
        append: &Append,
        first: Version,
        (operation, wanted): (&'static str, &[Item]),
        failed: ConditionFailed,
        spent: Cost,
    ) -> Result<Appended, AppendError> {
        let stream = append.stream();
        let ConditionFailed { item: old, is_outcome_unknown } = failed;
        let bytes = wanted.iter().map(item_size).sum();
        let there = old.as_ref().map_or(0, item_size);
        let mut cost = spent + responses::failed_write_cost(operation, bytes, there);
        let old = self.old_commit(stream, first, old).await;
        let (old, read) = old.map_err(|error| qualified(error, is_outcome_unknown))?;
        cost += read;
        match old {
            Some(old) if old.head.id == append.id() => Ok(old.repeated(append, cost)?),
            // Commits are never moved, so no late attempt of this append can succeed any more.
            old => {
                let (actual, winner) = old.map(|old| (old.head.last, old.commits)).unzip();
                let conflict = Conflict::new(stream.clone(), append.expected(), actual, cost);
                Err(conflict.with_commits(winner.unwrap_or_default()).into())
            }
        }
    }

    /// Appends a commit with events whose payloads become objects.
    async fn append_large(
        &self,
        append: &Append,
        first: Version,
        spent: Cost,
    ) -> Result<Appended, AppendError> {
        let last = append.last_version_after(first.previous())?;
        let what = || format!("an event of the stream `{}`", append.stream());
        let mut large = self.objects(what)?.large_payloads(append, first, &[]).await?;
        let puts = |large: &LargePayloads| {
            let items = append_items_with(append, first, large)?;
            items.into_iter().map(|item| self.put_if(item, PLACE_IS_FREE).build()).collect()
        };
        match self.transact_large(&mut large, puts).await? {
            Written::Done(cost) => Ok(Appended::new(first, last, spent + cost)),
            Written::Refused(failed) => {
                let wanted = append_items_with(append, first, &large)?;
                self.refused(append, first, (responses::TRANSACT_WRITE, &wanted), failed, spent).await
            }
        }
    }

    /// Writes the parts of a commit in one transaction, if all their versions are free.
    async fn put_all(&self, items: Vec<Item>) -> Result<Written, StoreError> {
        let puts = items.into_iter().map(|item| self.put_if(item, PLACE_IS_FREE).build());
        match self.transact(puts.collect::<Result<_, _>>()?).await? {
            Transacted::Done(cost) => Ok(Written::Done(cost)),
            Transacted::Cancelled(cancelled) => Ok(Written::Refused(cancelled.failed_condition()?)),
        }
    }

    /// Appends after a version that was not loaded. It may be beyond the end of the stream or inside an item, which the
    /// conditional write alone would accept.
    async fn append_checked(&self, append: &Append, version: Version) -> Result<Appended, AppendError> {
        let stream = append.stream();
        let head = self.head(stream).await?;
        if head.version == version {
            head.check_accepts(append)?;
            return self.append_at(append, version, head.cost).await;
        }
        let (mut cost, mut winner) = (head.cost, Vec::new());
        if head.version > version {
            // An earlier attempt of this append may have succeeded.
            let (found, read) = self.commit_at(stream, version.next()).await?;
            cost += read;
            if let Some(found) = found {
                if found.head.id == append.id() {
                    return Ok(found.repeated(append, cost)?);
                }
                winner = found.commits;
            }
        }
        let conflict = Conflict::new(stream.clone(), append.expected(), Some(head.version), cost);
        Err(conflict.with_commits(winner).into())
    }

    async fn append_anywhere(&self, append: &Append) -> Result<Appended, AppendError> {
        let stream = append.stream();
        let head = || self.head(stream);
        append.at_end(head, |version, cost| self.append_at(append, version, cost), tokio::time::sleep).await
    }

    /// Returns the commit at a version: from `item`, if a failed condition returned it, and otherwise from the table.
    pub(crate) async fn old_commit(
        &self,
        stream: &StreamId,
        first: Version,
        item: Option<Item>,
    ) -> Result<(Option<OldCommit>, Cost), StoreError> {
        match item {
            Some(item) => {
                check_key(&item, &key(stream.as_str(), names::commit_key(first)))?;
                Ok((Some(OldCommit::of(stream, item)?), Cost::ZERO))
            }
            None => self.commit_at(stream, first).await,
        }
    }

    /// Returns the commit whose first event has the version `first`.
    async fn commit_at(
        &self,
        stream: &StreamId,
        first: Version,
    ) -> Result<(Option<OldCommit>, Cost), StoreError> {
        let (item, cost) = self.get(key(stream.as_str(), names::commit_key(first))).await?;
        let old = item.map(|item| OldCommit::of(stream, item)).transpose()?;
        Ok((old, cost))
    }
}

/// The existing commits at the version of a failed append: one, or several in one item.
pub(crate) struct OldCommit {
    pub(crate) head: CommitHead,
    /// The commits with their events, if the item has all of them and their payloads, and they can be decoded.
    /// Otherwise, the load after the conflict reads them, and reports the problem.
    pub(crate) commits: Vec<Commit>,
    /// The id and the last version of each commit.
    stored: Vec<(CommitId, Version)>,
    /// Whether the content of the item was erased, with the boundaries of several commits.
    erased: bool,
}

impl OldCommit {
    /// Returns the commits of `item`.
    pub(crate) fn of(stream: &StreamId, item: Item) -> Result<Self, StoreError> {
        let erased = Attributes::of(stream, item.clone())?.format()? == Format::Erased;
        let (head, stored) = Attributes::of(stream, item.clone())?.stored_commits()?;
        let part = Attributes::of(stream, item)?.part().ok();
        let part = part.filter(|part| part.is_whole() && part.is_complete());
        let commits = part.map(|part| part.into_commits().collect()).unwrap_or_default();
        Ok(Self { head, commits, stored, erased })
    }

    /// Returns the response to `append`, which an earlier attempt stored here.
    pub(crate) fn repeated(self, append: &Append, cost: Cost) -> Result<Appended, StoreError> {
        match self.erased {
            true => Ok(Appended::new(self.head.first, self.head.last, cost).repeated()),
            false => append.repeated(self.head.first, self.stored, cost),
        }
    }
}
