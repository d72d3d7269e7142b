//! Reading: as few pages as there can be, and never more in memory than two of them.

use std::collections::VecDeque;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use es_core::store::{Commit, Contiguity, Head, Page, Read, SnapshotRequest};
use es_core::{Cost, Snapshot, StoreError, StreamId, Version};
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};

use crate::capacity;
use crate::error::translate;
use crate::item::{Attributes, snapshot_from};
use crate::names;
use crate::store::Table;

/// How far a read has come.
struct Progress {
    stream: StreamId,
    contiguity: Contiguity,
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
        stream::try_unfold(Progress { stream, contiguity, step }, async |mut progress| {
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
                newest.push_front(attributes.commit()?);
            }
        }
        let head = newest.back().map_or(Version::NONE, Commit::last);
        match snapshot {
            Some(found) if found.fits(request.fingerprint) && found.version() <= head => {
                page.snapshot = Some(found);
            }
            Some(found) => page.unusable_snapshot = Some(found.version()),
            None => {}
        }

        let start = page.snapshot.as_ref().map_or(Version::NONE, Snapshot::version);
        newest.retain(|commit| commit.last() > start);
        let oldest = newest.front().map_or(head.next(), |commit| commit.first);
        if oldest > start.next() && more {
            progress.contiguity = Contiguity::after(progress.stream.clone(), start);
            progress.step = Step::Upwards { until: oldest.previous(), then: newest, first: false };
        } else {
            page.commits = newest.into();
        }
        Ok(page)
    }

    /// The next page upwards. An empty one that is not the last is passed over.
    async fn upwards(
        &self,
        progress: &mut Progress,
        until: Version,
        then: VecDeque<Commit>,
        first: bool,
    ) -> Result<Option<Page>, StoreError> {
        // Every page starts after the last event that was seen, so none can be left out between two.
        let start = progress.contiguity.last().next();
        let mut from = None;
        let mut page = Page::default();
        if start > until {
            // Nothing is asked for before what was kept.
            page.commits = then.into();
            return Ok((first || !page.commits.is_empty()).then_some(page));
        }
        loop {
            let output = self
                .query(&progress.stream, names::commit_key(start), names::commit_key(until))
                .set_exclusive_start_key(from.take())
                .send()
                .await
                .map_err(|error| translate(&self.name, error))?;
            page.cost += capacity::of_read(output.consumed_capacity());
            for item in output.items.unwrap_or_default() {
                page.commits.push(Attributes::of(&progress.stream, item)?.commit()?);
            }
            match output.last_evaluated_key {
                Some(key) if page.commits.is_empty() => from = Some(key),
                Some(_) => {
                    progress.step = Step::Upwards { until, then, first: false };
                    return Ok(Some(page));
                }
                None => {
                    page.commits.extend(then);
                    return Ok(Some(page));
                }
            }
        }
    }

    pub(crate) async fn head(&self, stream: &StreamId) -> Result<Head, StoreError> {
        let output = self
            .query(stream, names::COMMIT_PREFIX.to_owned(), names::commit_key(Version::MAX))
            .scan_index_forward(false)
            .limit(1)
            .projection_expression("sk, lv, id")
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
