//! The audit: what is different, without changing it.

use std::collections::BTreeMap;

use es_core::feed::Feed;
use es_core::{Cost, StoreError, StreamId, Version};

use super::scan::Scan;
use super::{Reconciler, retrying};
use crate::feed::{Hint, Noted, PageQuery, Storage};

/// How many pages of the log are read at once.
const PAGES_AT_ONCE: u32 = 500;

/// In what a table and its feed differ.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AuditReport {
    /// Streams in the table.
    pub streams: u64,
    /// Events in the feed.
    pub events: u64,
    /// Streams whose last events are not in the feed: up to which version they are, and where they end. On a
    /// table that is written to, those are the latest events, which an indexer is about to index.
    pub missing: BTreeMap<StreamId, (Version, Version)>,
    /// Streams of which the feed has events that the table does not have: up to which version it has them, and
    /// where they end in the table.
    pub unfounded: BTreeMap<StreamId, (Version, Version)>,
    /// Streams whose events are not in the order of their versions in the feed, or not contiguous in the table.
    pub disordered: Vec<String>,
    /// Items that look like commits, and are of no stream that there can be.
    pub foreign_items: u64,
    /// What it cost.
    pub cost: Cost,
}

impl AuditReport {
    /// Whether the feed has every event once and in order, and no other.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.missing.is_empty() && self.unfounded.is_empty() && self.disordered.is_empty()
    }
}

impl Reconciler {
    /// Compares the table with its feed, and changes nothing.
    ///
    /// It keeps the last version of every stream in memory, about 200 bytes each.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the table cannot be read; what is wrong with the feed is reported instead.
    pub async fn audit(&self) -> Result<AuditReport, StoreError> {
        let mut report = AuditReport::default();
        let table = self.table_heads(&mut report).await?;
        let feed = self.feed_heads(&mut report).await?;
        report.streams = table.len() as u64;
        for (stream, head) in &table {
            let mark = feed.get(stream).copied().unwrap_or_default();
            if mark < *head {
                report.missing.insert(stream.clone(), (mark, *head));
            }
        }
        for (stream, mark) in feed {
            let head = table.get(&stream).copied().unwrap_or_default();
            if mark > head {
                // The feed was read later: perhaps the stream has grown meanwhile.
                let head = self.store.table.head(&stream).await?.version;
                if mark > head {
                    report.unfounded.insert(stream, (mark, head));
                }
            }
        }
        Ok(report)
    }

    /// Where each stream ends in the table.
    async fn table_heads(&self, report: &mut AuditReport) -> Result<BTreeMap<StreamId, Version>, StoreError> {
        let table = &*self.store.table;
        let mut heads: BTreeMap<StreamId, Version> = BTreeMap::new();
        for segment in 0..self.segments {
            let mut after = None;
            loop {
                let page = retrying(|| table.scan(segment, self.segments, after.as_ref())).await?;
                report.cost += page.cost;
                for noted in page.noted {
                    let Noted::Hint(hint) = noted else {
                        report.foreign_items += u64::from(matches!(noted, Noted::Foreign));
                        continue;
                    };
                    let head = heads.entry(hint.stream().clone()).or_default();
                    match &hint {
                        Hint::Commit(commit) if commit.first == head.next() => *head = commit.last,
                        Hint::Commit(commit) => report.disordered.push(format!(
                            "in the table, version {} of `{}` follows version {head}",
                            commit.first, commit.stream
                        )),
                        Hint::UpTo(stream, Version::MAX) => {
                            report.disordered.push(format!("a commit of `{stream}` cannot be read"));
                        }
                        // Parts of one commit, each of which names the whole.
                        Hint::UpTo(_, last) => *head = *last,
                    }
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(heads)
    }

    /// Up to which version the feed has each stream.
    async fn feed_heads(&self, report: &mut AuditReport) -> Result<BTreeMap<StreamId, Version>, StoreError> {
        let table = &*self.store.table;
        let mut heads: BTreeMap<StreamId, Version> = BTreeMap::new();
        for slice in self.store.slices().await?.iter() {
            let mut end = es_core::feed::Position::NONE;
            loop {
                let query = PageQuery::After(end);
                let found = retrying(|| table.pages(slice, query, PAGES_AT_ONCE, false)).await;
                let found = match found {
                    Err(error @ StoreError::Damaged { .. }) => {
                        report.disordered.push(error.to_string());
                        break;
                    }
                    other => other?,
                };
                report.cost += found.cost;
                for page in &found.pages {
                    if page.first != end.next() {
                        report.disordered.push(format!(
                            "in slice {slice} of the feed, position {} follows position {end}",
                            page.first
                        ));
                    }
                    end = page.last();
                    for reference in &page.references {
                        report.events += reference.events();
                        let head = heads.entry(reference.stream.clone()).or_default();
                        if reference.first != head.next() {
                            report.disordered.push(format!(
                                "in slice {slice} of the feed, version {} of `{}` follows version {head}",
                                reference.first, reference.stream
                            ));
                        }
                        *head = reference.last;
                    }
                }
                if !found.more {
                    break;
                }
            }
        }
        Ok(heads)
    }
}
