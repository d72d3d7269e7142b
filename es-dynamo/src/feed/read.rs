//! Reading the feed: pages of the log, and then the commits to which they refer.

use std::collections::{HashMap, HashSet};

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::feed::{FeedAnchor, FeedEntry, FeedError, FeedPage, FeedRead, MissingCommit, Position};
use es_core::store::{Commit, Read};
use es_core::{Cost, StoreError};
use futures_util::TryStreamExt;

use super::log::hint::Hint;
use super::log::index::{FeedIndex, SliceIndex};
use super::log::page::{LogPage, damaged};
use super::log::reference::{CommitTag, Reference};
use super::log::storage::{PageQuery, Pages, Storage};
use super::{TableFeed, copies};
use crate::streams::item::Attributes;
use crate::table::{BatchGet, Consistency, Item, MAX_KEYS, key, names};

/// Why the feed cannot be read after a position.
enum Broken {
    /// The page at this position is missing.
    Gap(Position),
    /// No page contains the position, or its page was replaced.
    Start,
}

/// A commit that matches the filter, or the commits of an item.
struct Selected<'a> {
    /// The position of its first event.
    position: Position,
    /// The anchor of its page.
    anchor: FeedAnchor,
    reference: &'a Reference,
    copy: Option<&'a AttributeValue>,
}

impl Selected<'_> {
    /// Returns the position of its last event.
    fn last(&self) -> Position {
        self.position.plus(self.reference.events()).previous()
    }
}

/// The commits of pages that a read returns.
struct Selection<'a> {
    selected: Vec<Selected<'a>>,
    /// The position up to which it is complete, and the anchor of that position.
    through: Position,
    anchor: Option<FeedAnchor>,
    /// Whether the pages have more references, beyond the limit of the read.
    is_limited: bool,
}

impl<'a> Selection<'a> {
    fn of(pages: &'a [LogPage], read: &FeedRead) -> Self {
        let anchor = pages.first().filter(|page| page.first <= read.after).map(LogPage::anchor);
        let mut selection = Self { selected: Vec::new(), through: read.after, anchor, is_limited: false };
        let mut events = 0;
        for page in pages {
            let anchor = page.anchor();
            for (position, reference, copy) in page.copied() {
                let last = position.plus(reference.events()).previous();
                if last <= read.after {
                    continue;
                }
                if events >= u64::from(read.limit) {
                    selection.is_limited = true;
                    return selection;
                }
                if reference.is_taken(&read.filter) {
                    events += reference.events();
                    selection.selected.push(Selected { position, anchor, reference, copy });
                }
                (selection.through, selection.anchor) = (last, Some(anchor));
            }
        }
        selection
    }
}

/// The content of a page of the feed.
#[derive(Default)]
struct Content {
    entries: Vec<FeedEntry>,
    /// The end of the content, and its anchor, if it ends before the last selected commit.
    end: Option<(Position, FeedAnchor)>,
    passed_over: u64,
    erased: u64,
    cost: Cost,
}

impl TableFeed {
    /// Reads a part of a slice with one `Query`, and one `BatchGetItem` for each 100 commits that match the filter.
    pub(crate) async fn read_feed(&self, read: &FeedRead) -> Result<FeedPage, StoreError> {
        let index = self.index().await?;
        let slice = index.slice(self, read.slice).await?;
        let Pages { pages, more, cost } = self.current_pages(read, index, &slice).await?;
        slice.note_pages(&pages);
        let closing = pages.last().filter(|page| page.closes());
        if let Some(closing) = closing {
            index.note_closed(read.slice, closing.last())?;
        }

        let Selection { selected, through, anchor, is_limited } = Selection::of(&pages, read);
        let content = self.content(read, &slice, &selected).await?;
        let (through, anchor) = content.end.map_or((through, anchor), |(end, at)| (end, Some(at)));
        let is_last = (!more || closing.is_some()) && !is_limited && content.end.is_none();
        let page = FeedPage::new(content.entries, through, anchor, is_last, cost + content.cost);
        let page = page.with_closed(is_last && closing.is_some());
        Ok(page.with_passed_over(content.passed_over).with_erased(content.erased))
    }

    /// Reads the pages for a read from any replica, and again with strong consistency if they lack pages that exist, as
    /// far as this process knows.
    async fn current_pages(
        &self,
        read: &FeedRead,
        index: &FeedIndex,
        slice: &SliceIndex,
    ) -> Result<Pages, StoreError> {
        let limit = slice.pages_for(read.limit);
        let has_missed = |found: &Pages| {
            let newest = found.pages.last();
            let has_missed_events =
                slice.has_after(read.after) && newest.is_none_or(|page| page.last() <= read.after);
            let has_missed_split =
                !found.more && index.is_closed(read.slice) && !newest.is_some_and(LogPage::closes);
            has_missed_events || has_missed_split
        };
        match self.pages_after(read, limit, Consistency::Eventual).await? {
            Ok(found) if !has_missed(&found) => Ok(found),
            // The response may be from a replica that lags behind.
            _ => match self.pages_after(read, limit, Consistency::Strong).await? {
                Ok(found) => Ok(found),
                Err(broken) => Err(self.explain(read, broken).await?),
            },
        }
    }

    /// Reads the selected commits, up to the size of the read or the first missing commit.
    async fn content(
        &self,
        read: &FeedRead,
        slice: &SliceIndex,
        selected: &[Selected<'_>],
    ) -> Result<Content, StoreError> {
        let mut content = Content { entries: Vec::with_capacity(selected.len()), ..Content::default() };
        let (mut rest, mut bytes, mut end) = (selected, 0, None);
        while let Some(first) = rest.first() {
            if bytes >= read.max_bytes {
                break;
            }
            let (some, others) = rest.split_at(slice.commits_for(read.max_bytes - bytes).min(rest.len()));
            let resolved = self.resolve(some.iter().map(|one| (one.reference, one.copy))).await?;
            let Resolved { found, missing, cost } = resolved;
            content.cost += cost;
            if !found.is_empty() {
                let size = found.iter().flatten().map(Commit::bytes).sum();
                slice.note_commits(found.len(), size);
                bytes += size;
            }
            for (one, commits) in some.iter().zip(found) {
                content.add(read, one, commits);
                end = Some((one.last(), one.anchor));
            }
            match missing {
                None => rest = others,
                Some(_) if end.is_none() && self.is_passed_over(first.reference).await? => {
                    content.pass_over(read, first);
                    // The next read starts after it.
                    end = Some((first.last(), first.anchor));
                    break;
                }
                Some(reason) if end.is_none() => {
                    return Err(FeedError::from(missing_item(read, first, reason)).into());
                }
                // The next read starts with the missing commit, and returns the error.
                Some(_) => break,
            }
        }
        content.end = end.filter(|_| !rest.is_empty());
        Ok(content)
    }

    /// Returns the page that contains `read.after`, and about `limit` pages after it.
    ///
    /// The anchor contains the first position of that page. Without an anchor, one more request finds the page.
    async fn pages_after(
        &self,
        read: &FeedRead,
        limit: u32,
        consistency: Consistency,
    ) -> Result<Result<Pages, Broken>, StoreError> {
        let after = read.after;
        if after > names::LAST_POSITION {
            return Ok(Err(Broken::Start));
        }
        let (mut before, mut start) = (Pages::default(), Position::NONE);
        if after > Position::NONE {
            match read.anchor.filter(|anchor| anchor.first() <= after) {
                Some(anchor) => start = anchor.first().previous(),
                None => {
                    before = self.pages(read.slice, PageQuery::Until(after), 1, consistency).await?;
                    let Some(page) = before.pages.first() else { return Ok(Err(Broken::Start)) };
                    start = page.first;
                }
            }
        }
        // One more page than needed, because DynamoDB does not say whether there are items after the limit.
        let limit = limit + u32::from(after > Position::NONE);
        let mut found = self.pages(read.slice, PageQuery::After(start), limit + 1, consistency).await?;
        found.cost += before.cost;
        found.pages.splice(0..0, before.pages);

        let mut expected = Position::new(1);
        if after > Position::NONE {
            let holds = |page: &&LogPage| page.first <= after && after <= page.last();
            let Some(page) = found.pages.first().filter(holds) else { return Ok(Err(Broken::Start)) };
            if read.anchor.is_some_and(|anchor| anchor != page.anchor()) {
                return Ok(Err(Broken::Start));
            }
            expected = page.first;
        }
        for page in &found.pages {
            if page.first != expected {
                return Ok(Err(Broken::Gap(expected)));
            }
            expected = page.last().next();
        }
        if found.pages.len() > limit as usize {
            found.pages.truncate(limit as usize);
            found.more = true;
        }
        Ok(Ok(found))
    }

    /// Returns the error for a position after which the feed cannot be read.
    async fn explain(&self, read: &FeedRead, broken: Broken) -> Result<StoreError, StoreError> {
        let missing = |position| damaged(read.slice, position, "it is missing, and there are pages after it");
        if let Broken::Gap(position) = broken {
            return Ok(missing(position));
        }
        let (slice, after) = (read.slice, read.after);
        let end = self.index().await?.end(self, slice).await?.position;
        if after > end {
            return Ok(FeedError::beyond_end(slice, after, end).into());
        }
        let holding = self.pages(slice, PageQuery::Until(after), 1, Consistency::Strong).await?.pages.pop();
        let found = match holding {
            Some(page) if page.last() < after => return Ok(missing(page.last().next())),
            None => return Ok(missing(Position::new(1))),
            Some(page) => page.anchor(),
        };
        Ok(match read.anchor {
            Some(expected) if expected != found => FeedError::replaced(slice, after, expected, found).into(),
            // The page has become visible in the meantime.
            _ => StoreError::unavailable("the feed changed while it was being read"),
        })
    }
}

impl Content {
    /// Adds the commits of `selected` that the read asks for.
    fn add(&mut self, read: &FeedRead, selected: &Selected<'_>, commits: Vec<Commit>) {
        let reference = selected.reference;
        for commit in commits {
            let position = selected.position.plus(commit.first.since(reference.first));
            let entry = FeedEntry::new(position, reference.stream.clone(), commit).within(selected.anchor);
            // An item may have commits before the position, and commits without a matching event.
            if entry.last() <= read.after {
                continue;
            }
            self.erased += read.filter.erased(&entry.stream, &entry.commit);
            if read.filter.takes_any(&entry.stream, &entry.commit) {
                self.entries.push(entry);
            }
        }
    }

    /// Counts and logs the events of a commit that is gone.
    fn pass_over(&mut self, read: &FeedRead, gone: &Selected<'_>) {
        let Selected { position, reference, .. } = gone;
        self.passed_over += reference.events() - delivered(read, *position);
        tracing::warn!(
            slice = read.slice.get(),
            position = position.get(),
            stream = %reference.stream,
            first = reference.first.get(),
            last = reference.last.get(),
            "passed over a commit that is gone"
        );
    }
}

/// Returns the number of events of the item at `position` that were delivered before: those of its first commits.
fn delivered(read: &FeedRead, position: Position) -> u64 {
    read.after.next().get().saturating_sub(position.get())
}

/// Returns the error for a reference whose item cannot be read.
fn missing_item(read: &FeedRead, missing: &Selected<'_>, reason: String) -> MissingCommit {
    let Selected { position, anchor, reference, .. } = missing;
    let delivered = delivered(read, *position);
    let (position, first) = (position.plus(delivered), reference.first.plus(delivered));
    let (stream, range) = (reference.stream.clone(), (first, reference.last));
    MissingCommit::new(read.slice, (position, *anchor), stream, range, reason)
}

/// The commits of references.
struct Resolved {
    /// The commits of each reference, up to the first missing one.
    found: Vec<Vec<Commit>>,
    /// Why a commit is missing, if one is.
    missing: Option<String>,
    cost: Cost,
}

/// Items by stream and sort key.
pub(super) type Found = HashMap<(String, String), Item>;

impl TableFeed {
    /// Returns the commits of references, in order: from their copies, as far as these can be used.
    async fn resolve<'a>(
        &self,
        references: impl Iterator<Item = (&'a Reference, Option<&'a AttributeValue>)>,
    ) -> Result<Resolved, StoreError> {
        let references: Vec<(&Reference, Option<Vec<Commit>>)> = references
            .map(|(reference, copy)| (reference, copy.and_then(|copy| copies::commits_of(reference, copy))))
            .collect();
        let others =
            references.iter().filter(|(_, copied)| copied.is_none()).map(|(reference, _)| *reference);
        let (mut found, mut cost) = self.find(others).await?;
        let mut resolved = Vec::with_capacity(references.len());
        for (reference, copied) in references {
            if let Some(commits) = copied {
                resolved.push(commits);
                continue;
            }
            match self.whole(reference, found.remove(&place(reference))).await? {
                Ok((commits, read)) => {
                    cost += read;
                    resolved.push(commits);
                }
                Err(reason) => return Ok(Resolved { found: resolved, missing: Some(reason), cost }),
            }
        }
        Ok(Resolved { found: resolved, missing: None, cost })
    }

    /// Replaces each hint at a commit by one from the table's item with its key, so that the content of hints is not
    /// trusted.
    pub(crate) async fn verified(&self, hints: Vec<Hint>) -> Result<Vec<Hint>, StoreError> {
        let (found, _) = self.find(hints.iter().filter_map(Hint::commit)).await?;
        let verified = hints.into_iter().map(|hint| match hint {
            Hint::Commit(reference) | Hint::Part(reference) => match found.get(&place(&reference)) {
                Some(item) => Hint::at(reference.stream, item.clone()),
                None => Hint::UpTo(reference.stream, reference.last),
            },
            hint @ Hint::UpTo(..) => hint,
        });
        Ok(verified.collect())
    }

    /// Reads the items of references, as far as they exist.
    pub(super) async fn find(
        &self,
        references: impl Iterator<Item = &Reference>,
    ) -> Result<(Found, Cost), StoreError> {
        let places: HashSet<_> = references.map(place).collect();
        let (mut found, mut cost) = (Found::new(), Cost::ZERO);
        // Items that a lagging replica does not have are read again with strong consistency.
        for consistency in [Consistency::Eventual, Consistency::Strong] {
            let missing: Vec<_> = places.iter().filter(|at| !found.contains_key(at)).cloned().collect();
            for places in missing.chunks(MAX_KEYS) {
                cost += self.get_all(places, consistency, &mut found).await?;
            }
        }
        Ok((found, cost))
    }

    /// Adds the existing items to `found`.
    pub(super) async fn get_all(
        &self,
        places: &[(String, String)],
        consistency: Consistency,
        found: &mut Found,
    ) -> Result<Cost, StoreError> {
        let keys = places.iter().map(|(stream, sort)| key(stream, sort)).collect();
        let mut batch = BatchGet::new(&self.table.client, &self.table.name, consistency, keys);
        let wanted: HashSet<_> = places.iter().map(|(stream, sort)| (&**stream, &**sort)).collect();
        let is_wanted = |item: &Item| place_of(item).is_some_and(|place| wanted.contains(&place));
        while let Some(items) = batch.next(is_wanted).await? {
            for item in items {
                if let Some((stream, sort)) = place_of(&item) {
                    found.insert((stream.to_owned(), sort.to_owned()), item);
                }
            }
        }
        Ok(batch.cost)
    }

    /// Returns the commits of `item`, or the whole commit whose first part it is, or the reason why these are missing.
    async fn whole(
        &self,
        reference: &Reference,
        item: Option<Item>,
    ) -> Result<Result<(Vec<Commit>, Cost), String>, StoreError> {
        let stream = &reference.stream;
        let Some(item) = item else { return Ok(Err("it is not in the table".to_owned())) };
        let mut part = match Attributes::of(stream, item).and_then(Attributes::part) {
            Err(error @ StoreError::Corrupt { .. }) => return Ok(Err(error.to_string())),
            part => part?,
        };
        let found = (part.whole.first, part.whole.last, CommitTag::of(part.whole.id));
        if found != (reference.first, reference.last, reference.tag) {
            let reason = format!(
                "the table has another commit at this version, {} with the events {} to {}, instead of the one whose id \
                 ends with {}",
                part.whole.id, part.whole.first, part.whole.last, reference.tag
            );
            return Ok(Err(reason));
        }
        if part.is_whole() {
            if let Err(error) = self.table.complete(stream, [&mut part]).await {
                return match error {
                    StoreError::Corrupt { .. } => Ok(Err(error.to_string())),
                    error => Err(error),
                };
            }
            return Ok(Ok((part.into_commits().collect(), Cost::ZERO)));
        }
        let read = Read::all(stream.clone()).after(reference.first.previous()).until(reference.last);
        let (mut pages, mut cost) = (self.table.read(read), Cost::ZERO);
        loop {
            let page = match pages.try_next().await {
                Err(error @ StoreError::Corrupt { .. }) => return Ok(Err(error.to_string())),
                page => page?,
            };
            let Some(page) = page else { return Ok(Err("it is not in the table".to_owned())) };
            cost += page.cost;
            if let Some(commit) = page.commits.into_iter().next() {
                return Ok(Ok((vec![commit], cost)));
            }
        }
    }
}

/// Returns the partition key and the sort key of an item.
fn place_of(item: &Item) -> Option<(&str, &str)> {
    let text = |name| Some(item.get(name)?.as_s().ok()?.as_str());
    Some((text(names::PARTITION_KEY)?, text(names::SORT_KEY)?))
}

/// Returns the stream and the sort key of a commit.
pub(super) fn place(reference: &Reference) -> (String, String) {
    (reference.stream.as_str().to_owned(), names::commit_key(reference.first))
}
