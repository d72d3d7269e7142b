//! Reading a stream with as few pages as possible, and at most two of them in memory.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use es_core::snapshot::Snapshot;
use es_core::store::{Commit, Contiguity, MAX_WRITE_ITEMS, Page, Read, SnapshotRequest};
use es_core::{Cost, StoreError, StreamId, Version};
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};

use super::decode::{Answer, Found, KEY_RANGE};
use super::item::{Attributes, CommitHead, Part};
use super::snapshot::StoredSnapshot;
use crate::table::retry::Backoff;
use crate::table::{ItemPage, Table, names};

/// How many versions before the known one of a snapshot a read starts, so that it returns the commit that ends with the
/// snapshot unless that commit has more events.
const EVENTS_BEFORE_SNAPSHOT: u64 = 8;

/// The attributes of a commit's item without its events. `#at` is the time.
pub(crate) const HEAD_ATTRIBUTES: &str = "pk, sk, lv, id, #at, cf, cl, f";

/// The maximum number of waits for items that are not visible yet.
const MAX_WAITS: u32 = 10;

/// The progress of a read.
struct Progress {
    stream: StreamId,
    /// The version up to which commits are returned.
    until: Version,
    contiguity: Contiguity,
    /// The parts of a commit that is not complete yet.
    assembly: Assembly,
    /// Whether the read may start inside an item, or inside a commit of several items.
    may_be_inside: bool,
    /// Which commits of the page share an item.
    groups: Vec<Range<usize>>,
    /// Whether to read the payloads that are objects.
    with_payloads: bool,
    /// Whether the next request is eventually consistent. Only the first one may be: the responses of two replicas may
    /// not fit together.
    eventual: bool,
    step: Step,
}

/// The next step of a read.
enum Step {
    /// Read the end of the partition: the snapshot, and the commits after it.
    FromSnapshot(SnapshotRequest),
    Upwards(Upwards),
    Done,
}

/// Read upwards to a version, and then return the commits that were read from the end before.
struct Upwards {
    until: Version,
    then: Vec<Commit>,
    /// Whether no page was returned yet. The first page is returned even if it has no commits.
    is_first: bool,
}

/// The end of a partition: the snapshot, if there is one, and the newest commits.
#[derive(Default)]
struct End {
    snapshot: Option<StoredSnapshot>,
    unusable: Option<Version>,
    /// In ascending order of their versions.
    parts: VecDeque<Part>,
    /// Whether there may be more before them.
    more: bool,
    cost: Cost,
}

/// Items that are not visible yet, or do not exist.
struct Missing {
    /// The error if they do not become visible.
    error: StoreError,
    most_waits: u32,
}

/// Whether a version is inside an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    No,
    Item,
    CommitOfSeveralItems,
}

/// A page, and the indexes of those of its commits that share an item.
pub(crate) type ItemsPage = (Page, Vec<Range<usize>>);

impl Progress {
    fn of(read: Read) -> Self {
        let (stream, start) = (read.stream().clone(), read.start());
        // Keys of higher versions would have more digits.
        let until = read.end().unwrap_or(Version::MAX).min(Version::MAX);
        let step = match read.snapshot() {
            Some(request) => Step::FromSnapshot(request),
            None => Step::Upwards(Upwards { until, then: Vec::new(), is_first: true }),
        };
        Self {
            until,
            contiguity: Contiguity::of(&read),
            assembly: Assembly::after(stream.clone(), start),
            may_be_inside: read.may_start_inside(),
            groups: Vec::new(),
            with_payloads: true,
            eventual: read.is_eventual(),
            stream,
            step,
        }
    }
}

impl Progress {
    /// Takes the next parts of commits, and adds the commits that they complete to `commits`. Stops at a part before
    /// which another one is missing.
    fn take(&mut self, found: Vec<Found>, commits: &mut Vec<Commit>) -> Result<Option<Missing>, StoreError> {
        for found in found {
            let Found::Part(part) = found else {
                return Err(StoreError::corrupt(&self.stream, "there is a snapshot among the commits"));
            };
            let is_split = part.commit.first > part.whole.first || self.assembly.awaited().is_some();
            let before = commits.len();
            match self.assembly.take(part, commits)? {
                Taken::Whole if commits.len() > before + 1 => self.groups.push(before..commits.len()),
                Taken::Whole | Taken::Started => {}
                Taken::Ahead(error) => {
                    // Everything before a complete commit is visible now, or does not exist.
                    let most_waits = if is_split { MAX_WAITS } else { 1 };
                    return Ok(Some(Missing { error, most_waits }));
                }
            }
        }
        Ok(None)
    }
}

impl Missing {
    /// The rest of a commit is missing.
    fn rest(assembly: &Assembly) -> Self {
        Self { error: assembly.incomplete(), most_waits: MAX_WAITS }
    }
}

impl Table {
    pub(crate) fn read(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        stream::try_unfold(Box::new(Progress::of(read)), async |mut progress| {
            let Some(mut page) = self.next_page(&mut progress).await? else { return Ok(None) };
            // The last item may have more commits than were asked for.
            let wanted = page.commits.partition_point(|commit| commit.first <= progress.until);
            page.commits.truncate(wanted);
            Ok(Some((page, progress)))
        })
        .boxed()
    }

    /// Reads whole items, of which the last one may end after the version until which to read. Returns the pages with
    /// the indexes of those commits that share an item. The read must start after an item. Payloads that are objects
    /// are not read: the events have empty payloads instead.
    pub(crate) fn read_items(&self, read: Read) -> BoxStream<'_, Result<ItemsPage, StoreError>> {
        let progress =
            Box::new(Progress { may_be_inside: false, with_payloads: false, ..Progress::of(read) });
        stream::try_unfold(progress, async |mut progress| {
            let page = self.next_page(&mut progress).await?;
            Ok(page.map(|page| ((page, std::mem::take(&mut progress.groups)), progress)))
        })
        .boxed()
    }

    async fn next_page(&self, progress: &mut Progress) -> Result<Option<Page>, StoreError> {
        let mut page = match std::mem::replace(&mut progress.step, Step::Done) {
            Step::Done => return Ok(None),
            Step::FromSnapshot(request) => self.downwards(progress, request).await?,
            Step::Upwards(upwards) => match self.upwards(progress, upwards).await? {
                Some(page) => page,
                None => return Ok(None),
            },
        };
        for commit in &page.commits {
            progress.contiguity.check(commit)?;
        }
        page.commits.shrink_to_fit();
        Ok(Some(page))
    }

    /// Returns the first page of a read that may start from a snapshot: one descending Query from the end of the
    /// partition, which returns the snapshot first, and then the newest commits.
    ///
    /// If the page does not reach back far enough, its commits are kept, and those before them are read upwards, so
    /// that a long stream needs no more memory than a short one.
    async fn downwards(&self, progress: &mut Progress, request: SnapshotRequest) -> Result<Page, StoreError> {
        let end = self.end(progress, request).await?;
        // Boxed, because its memory would be added to that of the request, and a larger future is slower to allocate.
        Box::pin(self.page_of_end(progress, request, end)).await
    }

    /// Returns the first page of a read that started at the end of the partition.
    async fn page_of_end(
        &self,
        progress: &mut Progress,
        request: SnapshotRequest,
        end: End,
    ) -> Result<Page, StoreError> {
        let End { snapshot, unusable, mut parts, more, cost } = end;
        let mut page = Page::new(Vec::new(), cost);
        page.unusable_snapshot = unusable;
        let head = parts.back().map_or(Version::NONE, |part| part.whole.last);
        let snapshot = match snapshot {
            None => None,
            Some(StoredSnapshot::Whole(snapshot)) => Some(snapshot),
            Some(StoredSnapshot::Large(large)) => {
                let completed = Box::pin(self.complete_snapshot(large, request.fingerprint)).await?;
                completed.map_err(|version| page.unusable_snapshot = Some(version)).ok()
            }
        };
        match snapshot {
            Some(found) if found.fits(request.fingerprint) && belongs(&found, &parts) => {
                page.snapshot = Some(found);
            }
            Some(found) => page.unusable_snapshot = Some(found.version()),
            None => {}
        }

        let start = page.snapshot.as_ref().map_or(Version::NONE, Snapshot::version);
        progress.may_be_inside = !start.is_none();
        // Commits that the snapshot includes are not needed, and a commit whose first part is missing is read upwards.
        parts.retain(|part| part.whole.last > start);
        parts.iter_mut().for_each(|part| part.drop_until(start));
        while more && parts.front().is_some_and(|part| part.commit.first > part.whole.first) {
            parts.pop_front();
        }
        if !parts.iter().all(Part::is_complete) {
            Box::pin(self.complete(&progress.stream, &mut parts)).await?;
        }
        let before = parts.front().map_or(head, |part| part.commit.first.previous());
        progress.contiguity = Contiguity::after(progress.stream.clone(), start);
        progress.assembly = Assembly::after(progress.stream.clone(), start);
        match assembled(&progress.stream, if more { before } else { start }, parts)? {
            Some(commits) if !more || before <= start => page.commits = commits,
            Some(then) => progress.step = Step::Upwards(Upwards { until: before, then, is_first: false }),
            // A part is not visible yet, so everything is read again.
            None => {
                progress.step = Step::Upwards(Upwards { until: head, then: Vec::new(), is_first: false });
            }
        }
        Ok(page)
    }

    /// Reads the snapshot, the newest commits, as many as are expected after it, and one more, which shows whether the
    /// snapshot is ahead of the stream. If its version is known, only few commits before it.
    async fn end(&self, progress: &mut Progress, request: SnapshotRequest) -> Result<End, StoreError> {
        let limit = i32::try_from(request.longest_tail).unwrap_or(i32::MAX).saturating_add(2);
        let mut start = Version::new(request.known.get().saturating_sub(EVENTS_BEFORE_SNAPSHOT));
        let mut end = End::default();
        let mut from = None;
        loop {
            let low =
                if start.is_none() { names::COMMIT_PREFIX.to_owned() } else { names::commit_key(start) };
            let request = self
                .stream_query(&progress.stream, low, names::SNAPSHOT_KEY.to_owned())
                .consistent_read(!std::mem::take(&mut progress.eventual))
                .scan_index_forward(false)
                .limit(limit)
                .set_exclusive_start_key(from.take());
            let output = self.send_query(request).await?;
            let answer = Answer::of(&self.name, &progress.stream, output)?;
            end.cost += answer.cost;
            for found in answer.found {
                match found {
                    Found::Part(part) => end.parts.push_front(part),
                    Found::Snapshot(Ok(found)) => end.snapshot = Some(found),
                    Found::Snapshot(Err(version)) => end.unusable = version,
                }
            }
            from = answer.last_key;
            end.more = from.is_some() || start > Version::FIRST;
            // A page can end at any item, even before the first commit.
            if !end.more || !end.parts.is_empty() {
                return Ok(end);
            }
            if from.is_none() {
                // The stream ends before the version, so the known version is wrong, or the last commit is long.
                start = Version::NONE;
            }
        }
    }

    /// Returns the next page upwards, of whole items. A page that ends inside a commit returns the commits before it.
    async fn upwards(
        &self,
        progress: &mut Progress,
        Upwards { until, then, is_first }: Upwards,
    ) -> Result<Option<Page>, StoreError> {
        let mut page = Page::default();
        progress.groups.clear();
        let mut from = None;
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100));
        loop {
            // Every request starts after the last event that was read, so that no event between two requests is missed.
            let start = progress.assembly.next();
            let until = progress.assembly.awaited().map_or(until, |last| last.max(until));
            if start > until {
                page.commits.extend(then);
                return Ok((is_first || !page.commits.is_empty()).then_some(page));
            }
            let request = self
                .stream_query(&progress.stream, names::commit_key(start), names::commit_key(until))
                .consistent_read(!std::mem::take(&mut progress.eventual))
                .set_exclusive_start_key(from.take());
            let output = self.send_query(request).await?;
            let Answer { mut found, last_key, cost } = Answer::of(&self.name, &progress.stream, output)?;
            page.cost += cost;
            let mut parts = found.iter_mut().filter_map(Found::part_mut);
            if progress.with_payloads && !parts.all(|part| part.is_complete()) {
                let parts = found.iter_mut().filter_map(Found::part_mut);
                Box::pin(self.complete(&progress.stream, parts)).await?;
            }
            let (empty, more) = (found.is_empty(), last_key.is_some());
            if progress.may_be_inside && (!empty || !more) {
                progress.may_be_inside = false;
                let is_at_start =
                    matches!(found.first(), Some(Found::Part(part)) if part.whole.first == start);
                if !is_at_start {
                    let inside = Box::pin(self.start_inside(progress, &mut page)).await?;
                    if inside == Inside::CommitOfSeveralItems {
                        from = None;
                        continue;
                    }
                }
            }
            let missing = progress.take(found, &mut page.commits)?;
            if empty && more {
                from = last_key;
                continue;
            }
            if missing.is_none() && more {
                if page.commits.is_empty() {
                    continue;
                }
                progress.step = Step::Upwards(Upwards { until, then, is_first: false });
                return Ok(Some(page));
            }
            if missing.is_none() && progress.assembly.awaited().is_none() {
                page.commits.extend(then);
                return Ok(Some(page));
            }
            // The rest of the last commit is beyond the limit, or something is not visible yet.
            if empty || missing.is_some() {
                let missing = missing.unwrap_or_else(|| Missing::rest(&progress.assembly));
                if backoff.failures() >= missing.most_waits {
                    return Err(missing.error);
                }
                // Rare, so it is boxed, which keeps the future of a page small.
                Box::pin(tokio::time::sleep(backoff.next())).await;
            }
        }
    }

    /// Finds out whether the version after which to read is inside an item. If so, adds the remaining commits of the item
    /// to `page`, from the one that contains the version on. If the commit has several items, the read has to start
    /// again, from its first event.
    async fn start_inside(&self, progress: &mut Progress, page: &mut Page) -> Result<Inside, StoreError> {
        let start = progress.assembly.next();
        let mut from = None;
        loop {
            let request = self
                .stream_query(&progress.stream, names::COMMIT_PREFIX.to_owned(), names::commit_key(start))
                .scan_index_forward(false)
                .limit(1)
                .set_exclusive_start_key(from.take());
            let output = self.send_query(request).await?;
            let mut answer = Answer::of(&self.name, &progress.stream, output)?;
            page.cost += answer.cost;
            if let Some(Found::Part(mut part)) = answer.found.pop() {
                if part.whole.last < start {
                    return Ok(Inside::No);
                }
                part.drop_until(start.previous());
                let before = part.whole.first.previous();
                progress.assembly = Assembly::after(progress.stream.clone(), before);
                if !part.is_whole() {
                    return Ok(Inside::CommitOfSeveralItems);
                }
                if progress.with_payloads {
                    self.complete(&progress.stream, [&mut part]).await?;
                }
                progress.assembly.take(part, &mut page.commits)?;
                return Ok(Inside::Item);
            }
            from = answer.last_key;
            if from.is_none() {
                return Ok(Inside::No);
            }
        }
    }

    /// Returns the last commit whose first event has the version `until` or a lower one, strongly consistent.
    pub(crate) async fn last_commit(
        &self,
        stream: &StreamId,
        until: Version,
    ) -> Result<(Option<CommitHead>, Cost), StoreError> {
        let (found, cost) = self.last_item(stream, until).await?;
        Ok((found.map(Attributes::commit_head).transpose()?, cost))
    }

    /// Returns the item of that commit, without its events.
    pub(crate) async fn last_item<'s>(
        &self,
        stream: &'s StreamId,
        until: Version,
    ) -> Result<(Option<Attributes<'s>>, Cost), StoreError> {
        let mut cost = Cost::ZERO;
        let mut from = None;
        loop {
            let request = self
                .stream_query(stream, names::COMMIT_PREFIX.to_owned(), names::commit_key(until))
                .scan_index_forward(false)
                .limit(1)
                .projection_expression(HEAD_ATTRIBUTES)
                .expression_attribute_names("#at", names::TIME)
                .set_exclusive_start_key(from.take());
            let output = self.send_query(request).await?;
            let mut page = ItemPage::of_query(output, &self.name, stream.as_str())?;
            cost += page.cost;
            from = page.last_key;
            match page.items.pop() {
                Some(item) => return Ok((Some(Attributes::of(stream, item)?), cost)),
                None if from.is_none() => return Ok((None, cost)),
                None => {}
            }
        }
    }

    /// Returns a strongly consistent Query of a stream for the sort keys from `from` to `to`, both included.
    pub(super) fn stream_query(
        &self,
        stream: &StreamId,
        from: String,
        to: String,
    ) -> aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.name)
            .key_condition_expression(KEY_RANGE)
            .expression_attribute_values(":stream", AttributeValue::S(stream.as_str().to_owned()))
            .expression_attribute_values(":from", AttributeValue::S(from))
            .expression_attribute_values(":to", AttributeValue::S(to))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
    }
}

/// Returns whether a snapshot belongs to the stream: its version is neither beyond the newest commit nor inside one,
/// and the commit that ends at its version, if it is among `parts`, is the one after which the snapshot was taken.
///
/// It may be another commit if the stream was truncated, for example by a restore, and has grown again.
fn belongs(snapshot: &Snapshot, parts: &VecDeque<Part>) -> bool {
    let version = snapshot.version();
    let head = parts.back().map_or(Version::NONE, Part::last);
    let contradicts = |part: &Part| {
        let includes = part.whole.first <= version && version <= part.whole.last;
        includes && !part.ends_at(version, snapshot.time())
    };
    version <= head && !parts.iter().any(contradicts)
}

/// Returns the commits of `parts`, which follow the version `start`, or `None` if any part is missing.
fn assembled(
    stream: &StreamId,
    start: Version,
    parts: VecDeque<Part>,
) -> Result<Option<Vec<Commit>>, StoreError> {
    let mut commits = Vec::with_capacity(parts.len());
    let mut assembly = Assembly::after(stream.clone(), start);
    for part in parts {
        if let Taken::Ahead(_) = assembly.take(part, &mut commits)? {
            return Ok(None);
        }
    }
    Ok(assembly.awaited().is_none().then_some(commits))
}

/// Assembles commits from their parts, in order.
///
/// The parts of a commit are written in one transaction, but a concurrent Query may return any of them without the
/// others
/// ([isolation](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html#transaction-isolation)).
/// Missing parts have to be read again.
pub(crate) struct Assembly {
    stream: StreamId,
    /// The last version of the last complete commit.
    last: Version,
    started: Option<Started>,
}

struct Started {
    commit: Commit,
    whole: CommitHead,
    parts: usize,
}

/// The result of taking a part.
pub(crate) enum Taken {
    /// It completes a commit, or has several.
    Whole,
    /// Its commit is not complete yet.
    Started,
    /// A part before it is missing. The error applies if that part does not become visible.
    Ahead(StoreError),
}

impl Assembly {
    /// Returns an assembly of the parts after `version`.
    pub(crate) fn after(stream: StreamId, version: Version) -> Self {
        Self { stream, last: version, started: None }
    }

    /// Takes the next part, and adds the commits that it completes to `commits`.
    pub(crate) fn take(&mut self, part: Part, commits: &mut Vec<Commit>) -> Result<Taken, StoreError> {
        let Part { commit, following, whole, .. } = part;
        if commit.first < self.next() {
            return Err(self.corrupt(format!("the version {} is stored twice", commit.first)));
        }
        if let Some(error) = self.gap_before(&commit, whole.first) {
            return Ok(Taken::Ahead(error));
        }
        let started = match self.started.take() {
            None if !following.is_empty() => {
                self.last = whole.last;
                commits.push(commit);
                commits.extend(following);
                return Ok(Taken::Whole);
            }
            None => Started { commit, whole, parts: 1 },
            Some(mut started) if started.whole == whole => {
                started.commit.events.extend(commit.events);
                started.parts += 1;
                started
            }
            Some(_) => {
                let reason =
                    format!("the part at version {} is of another commit than the one before", commit.first);
                return Err(self.corrupt(reason));
            }
        };
        if started.parts > MAX_WRITE_ITEMS {
            return Err(self.corrupt(format!("the commit at version {} has too many parts", whole.first)));
        }
        if started.commit.last() < whole.last {
            self.started = Some(started);
            return Ok(Taken::Started);
        }
        self.last = started.commit.last();
        commits.push(started.commit);
        Ok(Taken::Whole)
    }

    fn corrupt(&self, reason: String) -> StoreError {
        StoreError::corrupt(&self.stream, reason)
    }

    fn gap_before(&self, commit: &Commit, whole_first: Version) -> Option<StoreError> {
        if self.started.is_none() && commit.first == self.last.next() && commit.first > whole_first {
            let reason =
                format!("the commit at version {whole_first} starts before the events that follow it");
            return Some(self.corrupt(reason));
        }
        if commit.first == self.next() {
            return None;
        }
        Contiguity::after(self.stream.clone(), self.next().previous()).check(commit).err()
    }

    /// Returns the version of the next event.
    pub(crate) fn next(&self) -> Version {
        self.started.as_ref().map_or(self.last, |started| started.commit.last()).next()
    }

    /// Returns the last version of the commit that is not complete yet.
    fn awaited(&self) -> Option<Version> {
        self.started.as_ref().map(|started| started.whole.last)
    }

    /// Returns the error for a commit whose rest does not become visible.
    pub(crate) fn incomplete(&self) -> StoreError {
        let reason = format!("the rest of a commit is missing, from version {} on", self.next());
        self.corrupt(reason)
    }
}
