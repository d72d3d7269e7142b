//! Reading the feed: pages, and then the commits at which they point.

use std::collections::VecDeque;

use es_core::StoreError;
use es_core::feed::{FeedEntry, FeedPage, FeedRead, Position};
use es_core::store::{Commit, MAX_ITEM_BYTES};

use super::index::SliceIndex;
use super::page::{LogPage, damaged};
use super::storage::{PageQuery, Pages, Storage};
use crate::store::Table;

/// The most pages of the log that are read at once.
const MOST_PAGES: u64 = 500;

impl Table {
    /// Reads a part of a slice: one `Query`, and one `BatchGetItem` for every hundred commits that the filter takes.
    pub(crate) async fn read_feed(&self, read: &FeedRead) -> Result<FeedPage, StoreError> {
        let slice = self.feed().await?.slice(read.slice)?;
        let limit = slice.pages_for(read.limit);
        // One more: DynamoDB does not tell whether there is anything behind the last item that it was asked for.
        let asked = limit + 1;
        let Pages { mut pages, mut more, mut cost } = match self.pages_from(slice, read, asked, true).await? {
            Ok(pages) => pages,
            // A replica that is behind may have answered.
            Err(_) => self.pages_from(slice, read, asked, false).await?.map_err(|missing| {
                damaged(read.slice, missing, "it is missing, and there are pages after it")
            })?,
        };
        slice.note_pages(&pages);
        if pages.len() > limit as usize {
            pages.truncate(limit as usize);
            more = true;
        }

        let mut taken = Vec::new();
        let (mut through, mut events, mut left_out) = (read.after, 0, false);
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
                    taken.push((first, reference));
                }
                through = last;
            }
            if through == page.last() {
                slice.note_end(through);
            }
        }
        let (mut entries, mut bytes, mut rest) = (Vec::with_capacity(taken.len()), 0, &taken[..]);
        while let Some((next, _)) = rest.first() {
            if bytes >= read.max_bytes {
                (through, left_out) = (next.previous(), true);
                break;
            }
            let (some, others) = rest.split_at(slice.commits_for(read.max_bytes - bytes).min(rest.len()));
            let (commits, read_cost) = self.resolve(some.iter().map(|(_, reference)| *reference)).await?;
            let size = commits.iter().map(Commit::bytes).sum();
            slice.note_commits(some.len(), size);
            cost += read_cost;
            bytes += size;
            entries.extend(some.iter().zip(commits).map(|((position, reference), commit)| {
                FeedEntry::new(*position, reference.stream.clone(), commit)
            }));
            rest = others;
        }
        Ok(FeedPage::new(entries, through, !more && !left_out, cost))
    }

    /// The pages from the one on in which `after` is followed, or the position at which one of them is missing.
    ///
    /// Where a page starts is known of places where this process has read before. Elsewhere it takes one more
    /// request, if the place is inside of a page, or at the end of all.
    async fn pages_from(
        &self,
        slice: &SliceIndex,
        read: &FeedRead,
        limit: u32,
        eventual: bool,
    ) -> Result<Result<Pages, Position>, StoreError> {
        let after = read.after;
        let mut found = self.pages(read.slice, PageQuery::After(after), limit, eventual).await?;
        let starts_there = found.pages.first().is_some_and(|page| page.first == after.next());
        if !starts_there && after != Position::NONE && !slice.is_end(after) {
            let before = self.pages(read.slice, PageQuery::Until(after), 1, eventual).await?;
            found.cost += before.cost;
            for page in before.pages {
                if page.last() > after {
                    found.pages.insert(0, page);
                } else if page.last() == after {
                    slice.note_end(after);
                }
            }
        }
        let inside = found.pages.first().map(|page| page.first).filter(|first| *first <= after);
        let mut expected = inside.unwrap_or(after.next());
        for page in &found.pages {
            if page.first != expected {
                return Ok(Err(expected));
            }
            expected = page.last().next();
        }
        Ok(Ok(found))
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

    /// Whether a page is known to end at a position.
    fn is_end(&self, position: Position) -> bool {
        self.reading().ends.contains(&position)
    }

    fn note_end(&self, position: Position) {
        let mut reading = self.reading();
        if !reading.ends.contains(&position) {
            reading.ends.push_back(position);
        }
        if reading.ends.len() > Reading::MOST_ENDS {
            reading.ends.pop_front();
        }
    }
}

/// What reading a slice has taught.
pub(super) struct Reading {
    /// Some positions at which pages end, the latest last.
    ends: VecDeque<Position>,
    events_a_page: u64,
    /// As large as one item may be, until commits have been read.
    bytes_a_commit: u64,
}

impl Default for Reading {
    fn default() -> Self {
        Self { ends: VecDeque::new(), events_a_page: 0, bytes_a_commit: MAX_ITEM_BYTES }
    }
}

impl Reading {
    /// About as many as there are readers of a slice.
    const MOST_ENDS: usize = 64;
}
