//! Reading the feed: pages, and then the commits at which they point.

use es_core::StoreError;
use es_core::feed::{FeedEntry, FeedError, FeedPage, FeedRead, MissingCommit, Position};
use es_core::store::{Commit, MAX_ITEM_BYTES};

use super::index::SliceIndex;
use super::page::{LogPage, damaged};
use super::reference::Reference;
use super::resolve::Resolved;
use super::storage::{PageQuery, Pages, Storage};
use crate::names;
use crate::store::Table;

/// The most pages of the log that are read at once.
const MOST_PAGES: u64 = 500;

/// Why the pages that were found cannot be read on from a position.
enum Broken {
    /// The page at this position is missing.
    Gap(Position),
    /// The position after which to read is in no page, or in another one than before.
    Start,
}

impl Table {
    /// Reads a part of a slice: one `Query`, and one `BatchGetItem` for every hundred commits that the filter takes.
    pub(crate) async fn read_feed(&self, read: &FeedRead) -> Result<FeedPage, StoreError> {
        let slice = self.feed().await?.slice(read.slice)?;
        let limit = slice.pages_for(read.limit);
        let found = match self.pages_after(read, limit, true).await? {
            Ok(found) => found,
            // A replica that is behind may have answered.
            Err(_) => match self.pages_after(read, limit, false).await? {
                Ok(found) => found,
                Err(broken) => return Err(self.explain(read, broken).await?),
            },
        };
        let Pages { pages, more, mut cost } = found;
        slice.note_pages(&pages);

        let mut taken = Vec::new();
        let (mut through, mut events, mut left_out) = (read.after, 0, false);
        let mut anchor = pages.first().filter(|page| page.first <= through).map(LogPage::anchor);
        for page in &pages {
            for (first, reference) in page.placed() {
                let last = first.plus(reference.events()).previous();
                if last <= read.after {
                    continue;
                }
                if events >= u64::from(read.limit) {
                    left_out = true;
                    break;
                }
                if reference.is_taken(&read.filter) {
                    events += reference.events();
                    taken.push((first, page.anchor(), reference));
                }
                (through, anchor) = (last, Some(page.anchor()));
            }
        }
        let (mut entries, mut bytes, mut rest) =
            (Vec::<FeedEntry>::with_capacity(taken.len()), 0, &taken[..]);
        while let Some((position, at, reference)) = rest.first() {
            if bytes >= read.max_bytes {
                break;
            }
            let (some, others) = rest.split_at(slice.commits_for(read.max_bytes - bytes).min(rest.len()));
            let resolved = self.resolve(some.iter().map(|(.., reference)| *reference)).await?;
            let Resolved { commits, missing, cost: read_cost } = resolved;
            cost += read_cost;
            if !commits.is_empty() {
                let size = commits.iter().map(Commit::bytes).sum();
                slice.note_commits(commits.len(), size);
                bytes += size;
            }
            let found = some.iter().zip(commits).map(|((position, anchor, reference), commit)| {
                FeedEntry::new(*position, reference.stream.clone(), commit).within(*anchor)
            });
            entries.extend(found);
            match missing {
                None => rest = others,
                Some(reason) if entries.is_empty() => {
                    let Reference { stream, first, last, .. } = reference;
                    let place = (*position, *at);
                    let missing =
                        MissingCommit::new(read.slice, place, stream.clone(), (*first, *last), reason);
                    return Err(FeedError::from(missing).into());
                }
                // The next page begins with the commit that is missing, and is the error.
                Some(_) => break,
            }
        }
        if !rest.is_empty()
            && let Some(last) = entries.last()
        {
            (through, anchor, left_out) = (last.last(), Some(last.anchor), true);
        }
        Ok(FeedPage::new(entries, through, anchor, !more && !left_out, cost))
    }

    /// About `limit` pages from the one on in which `read.after` is followed, with the one that holds that position.
    ///
    /// The anchor says where that page begins. Without one, it takes one more request to find it.
    async fn pages_after(
        &self,
        read: &FeedRead,
        limit: u32,
        eventual: bool,
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
                    before = self.pages(read.slice, PageQuery::Until(after), 1, eventual).await?;
                    let Some(page) = before.pages.first() else { return Ok(Err(Broken::Start)) };
                    start = page.first;
                }
            }
        }
        // One more than is wanted: DynamoDB does not tell whether there is anything behind the last item that it was
        // asked for.
        let limit = limit + u32::from(after > Position::NONE);
        let mut found = self.pages(read.slice, PageQuery::After(start), limit + 1, eventual).await?;
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

    /// The error for a position from which the feed cannot be read on.
    async fn explain(&self, read: &FeedRead, broken: Broken) -> Result<StoreError, StoreError> {
        let missing = |position| damaged(read.slice, position, "it is missing, and there are pages after it");
        if let Broken::Gap(position) = broken {
            return Ok(missing(position));
        }
        let (slice, after) = (read.slice, read.after);
        let end = self.feed().await?.end(self, slice).await?;
        if after > end {
            return Ok(FeedError::beyond_end(slice, after, end).into());
        }
        let holding = self.pages(slice, PageQuery::Until(after), 1, false).await?.pages.pop();
        let found = match holding {
            Some(page) if page.last() < after => return Ok(missing(page.last().next())),
            None => return Ok(missing(Position::new(1))),
            Some(page) => page.anchor(),
        };
        Ok(match read.anchor {
            Some(expected) if expected != found => FeedError::replaced(slice, after, expected, found).into(),
            // It has come meanwhile.
            _ => StoreError::unavailable("the feed has changed while it was read"),
        })
    }
}

impl SliceIndex {
    /// How many pages have about `limit` events, by the pages that were read last.
    fn pages_for(&self, limit: u32) -> u32 {
        let events = self.reading().events_a_page.max(1);
        (u64::from(limit) / events + 1).min(MOST_PAGES) as u32
    }

    /// How many commits have about `bytes` bytes, by those that were read last.
    fn commits_for(&self, bytes: u64) -> usize {
        let commits = bytes / self.reading().bytes_a_commit.max(1);
        usize::try_from(commits).unwrap_or(usize::MAX).max(1)
    }

    fn note_commits(&self, commits: usize, bytes: u64) {
        self.reading().bytes_a_commit = bytes / commits as u64;
    }

    fn note_pages(&self, pages: &[LogPage]) {
        if let (Some(first), Some(last)) = (pages.first(), pages.last()) {
            let events = last.last().since(first.first) + 1;
            self.reading().events_a_page = events / pages.len() as u64;
        }
    }
}

/// What reading a slice has taught.
pub(super) struct Reading {
    events_a_page: u64,
    /// As large as one item may be, until commits have been read.
    bytes_a_commit: u64,
}

impl Default for Reading {
    fn default() -> Self {
        Self { events_a_page: 0, bytes_a_commit: MAX_ITEM_BYTES }
    }
}
