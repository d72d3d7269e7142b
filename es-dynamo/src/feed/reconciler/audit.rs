//! The audit: compares the table with its feed without changing either.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use es_core::feed::{Feed, Position, SliceTree};
use es_core::{Cost, StoreError, StreamId, Version, error_text};

use super::Reconciler;
use super::scan::Scan;
use crate::feed::copies::commits_of;
use crate::feed::log::hint::{Hint, Noted};
use crate::feed::log::index::find_pages;
use crate::feed::log::page::LogPage;
use crate::feed::log::reference::Reference;
use crate::feed::log::storage::{PageQuery, Storage};
use crate::table::Consistency;
use crate::table::retry::retrying;

/// The number of pages of the log that one request reads.
const PAGES_AT_ONCE: u32 = 500;

/// The differences between a table and its feed.
///
/// ```
/// use es_dynamo::{DynamoStore, Reconciler};
///
/// async fn check(store: &DynamoStore) -> Result<(), Box<dyn std::error::Error>> {
///     let report = Reconciler::builder(store).build().audit().await?;
///     if !report.is_sound() {
///         eprintln!("{} streams are missing, {} are damaged", report.missing.len(), report.damaged.len());
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AuditReport {
    /// The number of streams in the table.
    pub streams: u64,
    /// The number of events in the feed.
    pub events: u64,
    /// Streams whose last events are not in the feed: the last version in the feed, and the last version in the table.
    /// While commands are running, these are the latest events, which an indexer is about to index.
    pub missing: BTreeMap<StreamId, (Version, Version)>,
    /// Streams with events in the feed that are not in the table: the last version in the feed, and the last version in
    /// the table.
    pub unfounded: BTreeMap<StreamId, (Version, Version)>,
    /// Streams whose commits in the table differ from those in the feed: the last version in the feed. They were
    /// deleted and created again, or the table was restored to a time before its feed and has grown since.
    pub contradicting: BTreeMap<StreamId, Version>,
    /// Streams whose events are not in the order of their versions in the feed, or not contiguous in the table, and other
    /// contradictions in the feed, such as pages of a slice whose parent is not split.
    pub disordered: Vec<String>,
    /// Streams with a commit in the table that cannot be decoded, and the error of the first one. They are not compared
    /// with the feed.
    pub damaged: BTreeMap<StreamId, String>,
    /// The number of items that have the sort key of a commit, but not the name of a stream as their partition key.
    pub foreign_items: u64,
    /// The cost of the audit.
    pub cost: Cost,
}

impl AuditReport {
    /// Returns whether the feed contains every event once and in order, and no others.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.missing.is_empty()
            && self.unfounded.is_empty()
            && self.contradicting.is_empty()
            && self.disordered.is_empty()
            && self.damaged.is_empty()
    }
}

impl AuditReport {
    /// Follows the commit of an item in the table. `indexed` is the trail of its stream in the feed.
    fn follow_item(&mut self, hint: &Hint, trail: &mut Trail, indexed: Option<&Trail>) {
        let stream = hint.stream();
        let Some(commit) = hint.commit() else {
            let reason = || "an item of one of its commits cannot be decoded".to_owned();
            self.damaged.entry(stream.clone()).or_insert_with(reason);
            return;
        };
        // Each part of a commit refers to the whole commit.
        let is_repeated = matches!(hint, Hint::Part(_)) && commit.last == trail.end;
        if is_repeated || self.damaged.contains_key(stream) {
            return;
        }
        if commit.first != trail.end.next() {
            let (first, end) = (commit.first, trail.end);
            self.disordered
                .push(format!("in the table, version {first} of `{stream}` follows version {end}"));
            return;
        }
        trail.follow(commit);
        if let Some(indexed) = indexed
            && trail.end >= indexed.end
            && trail.same.is_none()
        {
            trail.same = Some((trail.end, trail.digest) == (indexed.end, indexed.digest));
        }
    }

    /// Follows the references of a page of the feed, whose slice was read up to `end`.
    fn follow_page(
        &mut self,
        page: &LogPage,
        end: Position,
        tree: &SliceTree,
        trails: &mut BTreeMap<StreamId, Trail>,
    ) {
        let slice = page.slice;
        if page.first != end.next() {
            self.disordered.push(format!(
                "in slice {slice} of the feed, position {} follows position {end}",
                page.first
            ));
        }
        for (_, reference, copy) in page.copied() {
            let Reference { stream, first, .. } = reference;
            self.events += reference.events();
            if copy.is_some_and(|copy| copy.is_m() && commits_of(reference, copy).is_none()) {
                self.disordered.push(format!(
                    "in slice {slice} of the feed, the copy of version {first} of `{stream}` is not the commit to which its \
                     page refers"
                ));
            }
            if !tree.path(stream).any(|holder| holder == slice) {
                self.disordered.push(format!(
                    "slice {slice} of the feed has version {first} of `{stream}`, which belongs to another slice"
                ));
            }
            let trail = trails.entry(stream.clone()).or_default();
            if *first != trail.end.next() {
                let end = trail.end;
                self.disordered.push(format!(
                    "in slice {slice} of the feed, version {first} of `{stream}` follows version {end}"
                ));
            }
            trail.follow(reference);
        }
    }
}

/// The commits of a stream up to a version.
#[derive(Clone, Copy, Debug, Default)]
struct Trail {
    end: Version,
    /// A digest of all commits up to that version.
    digest: u64,
    /// Whether the table has the same commits as the feed, up to the last one in the feed.
    same: Option<bool>,
}

impl Trail {
    fn follow(&mut self, commit: &Reference) {
        let mut hasher = DefaultHasher::new();
        (self.digest, commit.last, commit.tag).hash(&mut hasher);
        (self.end, self.digest) = (commit.last, hasher.finish());
    }
}

impl Reconciler {
    /// Compares the table with its feed without changing either.
    ///
    /// It keeps the end of every stream and a digest of its commits in memory, about 200 bytes per stream.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the table cannot be read. Errors in the feed or in a stream are in the report instead.
    pub async fn audit(&self) -> Result<AuditReport, StoreError> {
        let mut report = AuditReport::default();
        let feed = self.feed_trails(&mut report).await?;
        // The table is read after the feed, so that it has every event of the feed.
        let table = self.table_trails(&feed, &mut report).await?;
        report.streams = table.len() as u64;
        for (stream, trail) in &table {
            let mark = feed.get(stream).map_or(Version::NONE, |found| found.end);
            if report.damaged.contains_key(stream) {
                continue;
            }
            if trail.same == Some(false) {
                report.contradicting.insert(stream.clone(), mark);
            } else if mark < trail.end {
                report.missing.insert(stream.clone(), (mark, trail.end));
            }
        }
        for (stream, Trail { end: mark, .. }) in feed {
            let head = table.get(&stream).map_or(Version::NONE, |trail| trail.end);
            if mark <= head || report.damaged.contains_key(&stream) {
                continue;
            }
            // The scan may have missed the latest commits: it is eventually consistent.
            match self.store.table.head(&stream).await {
                Ok(head) if mark > head.version => {
                    report.unfounded.insert(stream, (mark, head.version));
                }
                Ok(_) => {}
                Err(error @ StoreError::Corrupt { .. }) => {
                    report.damaged.insert(stream, error_text(&error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(report)
    }

    /// Returns the end of each stream in the table, and whether its commits match those in the feed.
    async fn table_trails(
        &self,
        feed: &BTreeMap<StreamId, Trail>,
        report: &mut AuditReport,
    ) -> Result<BTreeMap<StreamId, Trail>, StoreError> {
        let table = &*self.store.table;
        let mut trails: BTreeMap<StreamId, Trail> = BTreeMap::new();
        for segment in 0..self.segments {
            let mut after = None;
            loop {
                let page = retrying(|| table.scan(segment, self.segments, after.as_ref())).await?;
                report.cost += page.cost;
                for noted in page.noted {
                    match noted {
                        Noted::Hint(hint) => {
                            let trail = trails.entry(hint.stream().clone()).or_default();
                            report.follow_item(&hint, trail, feed.get(hint.stream()));
                        }
                        Noted::Foreign => report.foreign_items += 1,
                        Noted::Nothing | Noted::Keyless => {}
                    }
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(trails)
    }

    /// Returns the end of each stream in the feed, and a digest of its commits.
    async fn feed_trails(&self, report: &mut AuditReport) -> Result<BTreeMap<StreamId, Trail>, StoreError> {
        let feed = &*self.store.feed;
        let mut trails: BTreeMap<StreamId, Trail> = BTreeMap::new();
        let tree = self.store.slice_tree().await?;
        // Parents are first, so that the trails of streams continue in the children.
        for slice in tree.iter() {
            let mut end = Position::NONE;
            loop {
                let query = PageQuery::After(end);
                let found = retrying(|| feed.pages(slice, query, PAGES_AT_ONCE, Consistency::Strong)).await;
                let found = match found {
                    Err(error @ StoreError::Corrupt { .. }) => {
                        report.disordered.push(error.to_string());
                        break;
                    }
                    other => other?,
                };
                report.cost += found.cost;
                for page in &found.pages {
                    report.follow_page(page, end, &tree, &mut trails);
                    end = page.last();
                }
                if !found.more {
                    break;
                }
            }
        }
        // After a restore, pages of a child may be there without the page that closes its parent.
        for slice in tree.open() {
            let Ok(children) = tree.checked_children(slice) else { continue };
            if let Some(child) = retrying(|| find_pages(feed, children)).await? {
                report.disordered.push(format!(
                    "slice {child} of the feed has pages, although slice {slice}, its parent, is not split"
                ));
            }
        }
        Ok(trails)
    }
}
