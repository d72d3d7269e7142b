//! Reading: as few pages as there can be, and never more in memory than two of them.

use std::collections::VecDeque;
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use es_core::store::{Commit, Contiguity, Head, Page, Read, SnapshotRequest};
use es_core::{Cost, Snapshot, StoreError, StreamId, Version};
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};

use crate::assembly::Assembly;
use crate::capacity;
use crate::error::translate;
use crate::item::{Attributes, snapshot_from};
use crate::names;
use crate::store::Table;

/// How often a commit is waited for of which only a part can be seen, and how long at first.
const MOST_WAITS: u32 = 10;
const WAIT: Duration = Duration::from_millis(10);

/// How far a read has come.
struct Progress {
    stream: StreamId,
    contiguity: Contiguity,
    assembly: Assembly,
    step: Step,
}

/// What comes next.
enum Step {
    /// Look at the end of the partition for a snapshot, and what follows it.
    FromSnapshot(SnapshotRequest),
    /// Read on upwards, up to a version; and then hand out the commits that were read from the end before.
    Upwards {
        until: Version,
        then: VecDeque<Commit>,
        first: bool,
    },
    Done,
}

impl Table {
    pub(crate) fn read(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        let step = match read.snapshot() {
            Some(request) => Step::FromSnapshot(request),
            None => Step::Upwards {
                until: read.end().unwrap_or(Version::MAX),
                then: VecDeque::new(),
                first: true,
            },
        };
        let stream = read.stream().clone();
        let contiguity = Contiguity::after(stream.clone(), read.start());
        let assembly = Assembly::new(stream.clone());
        stream::try_unfold(Progress { stream, contiguity, assembly, step }, async |mut progress| {
            Ok(self.next_page(&mut progress).await?.map(|page| (page, progress)))
        })
        .boxed()
    }

    async fn next_page(&self, progress: &mut Progress) -> Result<Option<Page>, StoreError> {
        let mut page = match std::mem::replace(&mut progress.step, Step::Done) {
            Step::Done => return Ok(None),
            Step::FromSnapshot(request) => self.downwards(progress, request).await?,
            Step::Upwards { until, then, first } => match self.upwards(progress, until, then, first).await? {
                Some(page) => page,
                None => return Ok(None),
            },
        };
        if let Some(snapshot) = &page.snapshot {
            progress.contiguity = Contiguity::after(progress.stream.clone(), snapshot.version());
        }
        for commit in &page.commits {
            progress.contiguity.check(commit)?;
        }
        page.commits.shrink_to_fit();
        Ok(Some(page))
    }

    /// The first page of a read that may start from a snapshot: one Query downwards from the partition's
    /// end, where the snapshot comes first, and then the newest commits.
    ///
    /// When it does not reach back far enough, what it found is kept, and what lies between is read upwards:
    /// so a long stream needs no more memory than a short one.
    async fn downwards(&self, progress: &mut Progress, request: SnapshotRequest) -> Result<Page, StoreError> {
        // The snapshot, the commits after it, and one that tells that the snapshot is not ahead of them.
        let limit = i32::try_from(request.longest_tail).unwrap_or(i32::MAX).saturating_add(2);
        let output = self
            .query(&progress.stream, names::COMMIT_PREFIX.to_owned(), names::SNAPSHOT_KEY.to_owned())
            .scan_index_forward(false)
            .limit(limit)
            .send()
            .await
            .map_err(|error| translate(&self.name, error))?;
        let mut page = Page { cost: capacity::of_read(output.consumed_capacity()), ..Page::default() };
        let more = output.last_evaluated_key.is_some();

        let mut snapshot = None;
        let mut newest = VecDeque::new();
        for item in output.items.unwrap_or_default() {
            let attributes = Attributes::of(&progress.stream, item)?;
            if attributes.is_snapshot() {
                match snapshot_from(attributes) {
                    Ok(found) => snapshot = Some(found),
                    Err(version) => page.unusable_snapshot = version,
                }
            } else {
                newest.push_front(attributes.part()?);
            }
        }
        let head = newest.back().map_or(Version::NONE, |part| part.whole.last);
        match snapshot {
            Some(found) if found.fits(request.fingerprint) && found.version() <= head => {
                page.snapshot = Some(found);
            }
            Some(found) => page.unusable_snapshot = Some(found.version()),
            None => {}
        }

        let start = page.snapshot.as_ref().map_or(Version::NONE, Snapshot::version);
        // What the snapshot covers is not needed, and a commit whose first part is not here is read upwards.
        newest.retain(|part| part.whole.last > start);
        while newest.front().is_some_and(|part| more && part.commit.first > part.whole.first) {
            newest.pop_front();
        }
        let oldest = newest.front().map_or(head.next(), |part| part.commit.first);
        progress.contiguity = Contiguity::after(progress.stream.clone(), start);
        let read_upwards = oldest > start.next() && more;
        let mut kept = VecDeque::new();
        let mut assembly = Assembly::new(progress.stream.clone());
        for part in newest {
            kept.extend(assembly.take(part)?);
        }
        if assembly.missing().is_some() {
            // The newest commit is not all there yet: it comes last, and is read again.
            progress.step = Step::Upwards { until: head, then: VecDeque::new(), first: false };
            if !read_upwards {
                page.commits = kept.into();
            }
        } else if read_upwards {
            progress.step = Step::Upwards { until: oldest.previous(), then: kept, first: false };
        } else {
            page.commits = kept.into();
        }
        Ok(page)
    }

    /// The next page upwards. One that ends inside of a commit gives what comes before that.
    async fn upwards(
        &self,
        progress: &mut Progress,
        until: Version,
        then: VecDeque<Commit>,
        first: bool,
    ) -> Result<Option<Page>, StoreError> {
        let mut page = Page::default();
        let mut from = None;
        let mut waits = 0;
        loop {
            // Every page starts after the last event that was seen, so none can be left out between two.
            let (start, until) = match progress.assembly.missing() {
                Some((start, last)) => (start, until.max(last)),
                None => (page.commits.last().map_or(progress.contiguity.last(), Commit::last).next(), until),
            };
            if start > until {
                page.commits.extend(then);
                return Ok((first || !page.commits.is_empty()).then_some(page));
            }
            let output = self
                .query(&progress.stream, names::commit_key(start), names::commit_key(until))
                .set_exclusive_start_key(from.take())
                .send()
                .await
                .map_err(|error| translate(&self.name, error))?;
            page.cost += capacity::of_read(output.consumed_capacity());
            let items = output.items.unwrap_or_default();
            let empty = items.is_empty();
            for item in items {
                let part = Attributes::of(&progress.stream, item)?.part()?;
                page.commits.extend(progress.assembly.take(part)?);
            }
            match (output.last_evaluated_key, progress.assembly.missing()) {
                (Some(key), _) if empty => from = Some(key),
                (Some(_), _) if page.commits.is_empty() => {}
                (Some(_), _) => {
                    progress.step = Step::Upwards { until, then, first: false };
                    return Ok(Some(page));
                }
                (None, None) => {
                    page.commits.extend(then);
                    return Ok(Some(page));
                }
                // The rest of the last commit lies beyond the bound, or cannot be seen yet.
                (None, Some((missing, _))) => {
                    if empty {
                        waits += 1;
                        if waits > MOST_WAITS {
                            return Err(progress.assembly.incomplete(missing));
                        }
                        tokio::time::sleep(WAIT * waits).await;
                    }
                }
            }
        }
    }

    pub(crate) async fn head(&self, stream: &StreamId) -> Result<Head, StoreError> {
        let output = self
            .query(stream, names::COMMIT_PREFIX.to_owned(), names::commit_key(Version::MAX))
            .scan_index_forward(false)
            .limit(1)
            .projection_expression("sk, lv, id, cf, cl")
            .send()
            .await
            .map_err(|error| translate(&self.name, error))?;
        let cost: Cost = capacity::of_read(output.consumed_capacity());
        let version = match output.items.unwrap_or_default().pop() {
            Some(item) => Attributes::of(stream, item)?.commit_head()?.last,
            None => Version::NONE,
        };
        Ok(Head::new(version, cost))
    }

    /// A strongly consistent Query for the sort keys from `from` to `to`, both included.
    fn query(
        &self,
        stream: &StreamId,
        from: String,
        to: String,
    ) -> aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.name)
            .key_condition_expression("pk = :pk AND sk BETWEEN :from AND :to")
            .expression_attribute_values(":pk", AttributeValue::S(stream.as_str().to_owned()))
            .expression_attribute_values(":from", AttributeValue::S(from))
            .expression_attribute_values(":to", AttributeValue::S(to))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
    }
}
