//! Copying events from the tables of other libraries.
//!
//! The book's chapter on migration describes the whole procedure. The other tables are only read.

mod layout;
mod payload;

use std::cmp::max;
use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::fmt;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, SubsecRound, Utc};
use es_core::event::{CommitId, EventData};
use es_core::store::{Append, AppendError, Commit, NewCommit, Read};
use es_core::{EventStore, StoreError, StreamId, Version};
use futures_util::TryStreamExt;
use layout::Layout;
use uuid::Uuid;

use crate::table::{required, translate};

pub use layout::ForeignEvent;

type Item = HashMap<String, AttributeValue>;
type Cause = Box<dyn Error + Send + Sync>;
type Convert = dyn Fn(&mut ForeignEvent) -> Result<(), Cause> + Send + Sync;

/// Copies all events from a table of another library.
///
/// You can run it again after a failure, or to copy newer events. It then compares the existing events of the target
/// with the table, one by one, and continues after the last one. The ids of commits are derived from the stream and the
/// version, so that no event is stored twice.
///
/// The client needs the permissions `dynamodb:Scan` and `dynamodb:Query` on the other table.
///
/// Up to 25 consecutive events with equal times and metadata become one commit. Times are preserved, except that a time
/// before that of the previous commit is replaced by the time of that commit.
///
/// ```
/// # use es_core::MemoryStore;
/// # async fn example(client: aws_sdk_dynamodb::Client) -> Result<(), es_core::StoreError> {
/// use es_dynamo::import::Import;
///
/// let target = MemoryStore::new(); // or a DynamoStore
/// let import = Import::dynamo_es(client, "Events").undated("2020-01-01T00:00:00Z".parse().unwrap());
/// let copied = import.run(&target).await?;
/// println!("{} streams, {} events, {} of them new", copied.streams, copied.events, copied.new);
/// # Ok(())
/// # }
/// ```
#[must_use = "an import does nothing until `run` is called"]
pub struct Import {
    client: Client,
    table: String,
    layout: Layout,
    undated: Option<DateTime<Utc>>,
    convert: Box<Convert>,
}

/// The result of [`Import::run`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// The number of streams in the table.
    pub streams: u64,
    /// The number of events in the table, all of which are now in the target.
    pub events: u64,
    /// The number of events that this run has copied.
    pub new: u64,
}

impl Import {
    /// Returns an import from the event table of dynamo-es 0.5, which stores the events of cqrs-es.
    ///
    /// Its items have no time. Set one for all events with [`undated`](Self::undated), or for each event in
    /// [`convert`](Self::convert), for example from its metadata.
    pub fn dynamo_es(client: Client, events: impl Into<String>) -> Self {
        Self::new(client, events.into(), Layout::DynamoEs)
    }

    /// Returns an import from the journal table of event-store-adapter-rs 5. The snapshot table is not needed.
    pub fn event_store_adapter(client: Client, journal: impl Into<String>) -> Self {
        Self::new(client, journal.into(), Layout::EventStoreAdapter)
    }

    fn new(client: Client, table: String, layout: Layout) -> Self {
        Self { client, table, layout, undated: None, convert: Box::new(ForeignEvent::unwrap_variant) }
    }

    /// Sets the time of events without a time.
    pub fn undated(mut self, time: DateTime<Utc>) -> Self {
        self.undated = Some(time);
        self
    }

    /// Sets the conversion of each event (default: [`ForeignEvent::unwrap_variant`]). It must return the same result in
    /// every run.
    pub fn convert<F, E>(mut self, convert: F) -> Self
    where
        F: Fn(&mut ForeignEvent) -> Result<(), E> + Send + Sync + 'static,
        E: Into<Cause>,
    {
        self.convert = Box::new(move |event| convert(event).map_err(Into::into));
        self
    }

    /// Copies the events that are missing in `target`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if an event cannot be copied: the numbers of its stream are not contiguous, an attribute
    /// is missing, its payload could not be read by a load, or the target has a different event. The error names the
    /// event and the problem, and does not quote the payload. Other errors are those of the requests. Events that were
    /// copied before the error remain in the target, and the next run continues after them.
    pub async fn run(&self, target: &dyn EventStore) -> Result<Imported, StoreError> {
        let mut imported = Imported::default();
        for partition in self.partitions().await? {
            let rows = self.rows(&partition).await?;
            imported.new += copy(target, &rows).await?;
            imported.events += rows.len() as u64;
            imported.streams += 1;
        }
        Ok(imported)
    }

    /// Returns the partition keys of all streams.
    async fn partitions(&self) -> Result<BTreeSet<String>, StoreError> {
        let key = self.layout.partition_key();
        let mut pages = self
            .client
            .scan()
            .table_name(&self.table)
            .consistent_read(true)
            .projection_expression("#key")
            .expression_attribute_names("#key", key)
            .into_paginator()
            .send();
        let mut partitions = BTreeSet::new();
        while let Some(page) = pages.next().await {
            for mut item in required(page.map_err(|error| translate(&self.table, error))?.items, "Items")? {
                match item.remove(key) {
                    Some(AttributeValue::S(partition)) if self.layout.is_stream(&partition) => {
                        partitions.insert(partition);
                    }
                    Some(AttributeValue::S(_)) => {}
                    _ => return Err(self.invalid(format!("an item has no string `{key}`"))),
                }
            }
        }
        Ok(partitions)
    }

    /// Returns the converted events of one stream, in order.
    async fn rows(&self, partition: &str) -> Result<Vec<ForeignEvent>, StoreError> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("#key = :partition")
            .expression_attribute_names("#key", self.layout.partition_key())
            .expression_attribute_values(":partition", AttributeValue::S(partition.to_owned()))
            .into_paginator()
            .send();
        let mut rows: Vec<ForeignEvent> = Vec::new();
        while let Some(page) = pages.next().await {
            for item in required(page.map_err(|error| translate(&self.table, error))?.items, "Items")? {
                let number = rows.len() as u64 + 1;
                let row = self.row(item, number);
                rows.push(
                    row.map_err(|reason| self.invalid(format!("`{partition}`, event {number}: {reason}")))?,
                );
            }
        }
        Ok(rows)
    }

    fn row(&self, item: Item, number: u64) -> Result<ForeignEvent, Cause> {
        let mut event = self.layout.event(item)?;
        if event.number != number {
            return Err(format!("has the number {}", event.number).into());
        }
        event.time = event.time.or(self.undated);
        (self.convert)(&mut event)?;
        event.check()?;
        Ok(event)
    }

    fn invalid(&self, reason: String) -> StoreError {
        StoreError::invalid(format!("the table `{}`: {reason}", self.table))
    }
}

impl fmt::Debug for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Import")
            .field("table", &self.table)
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

/// The maximum number of events in a commit.
const MAX_EVENTS: usize = 25;

/// Copies the events of one stream, of which `rows` are all events. Returns the number of new events.
pub(crate) async fn copy(target: &dyn EventStore, rows: &[ForeignEvent]) -> Result<u64, StoreError> {
    let Some(first) = rows.first() else { return Ok(0) };
    let stream = first.stream().map_err(StoreError::Backend)?;
    if let Some(row) = rows.iter().find(|row| (&row.aggregate, &row.id) != (&first.aggregate, &first.id)) {
        return Err(invalid(&stream, format!("event {} is of `{}#{}`", row.number, row.aggregate, row.id)));
    }

    let (mut end, mut time) = compared(target, &stream, rows).await?;
    let start = end;
    while let Some(row) = rows.get(end.get() as usize) {
        let rest = rows[end.get() as usize..].iter().take(MAX_EVENTS);
        let together = rest.take_while(|other| (other.time, &other.metadata) == (row.time, &row.metadata));
        let events: Result<Vec<EventData>, Cause> = together.map(ForeignEvent::data).collect();
        time = max(time, row.time.unwrap_or_default().trunc_subsecs(3));
        let commit = NewCommit::new(id_of(&stream, end.next()), time, events.map_err(StoreError::Backend)?)
            .with_metadata(row.metadata.clone());
        let append = Append::after_loaded(stream.clone(), end, commit);
        end = target.append(&append).await.map_err(failed)?.last;
    }
    Ok(end.get() - start.get())
}

/// Compares the events of the target with the rows. Returns the last version of the target, and its time.
async fn compared(
    target: &dyn EventStore,
    stream: &StreamId,
    rows: &[ForeignEvent],
) -> Result<(Version, DateTime<Utc>), StoreError> {
    let (mut end, mut time) = (Version::NONE, DateTime::<Utc>::MIN_UTC);
    let mut pages = target.read(Read::all(stream.clone()));
    while let Some(page) = pages.try_next().await? {
        for commit in &page.commits {
            compare(stream, commit, rows)?;
            (end, time) = (commit.last(), commit.time);
        }
    }
    Ok((end, time))
}

fn compare(stream: &StreamId, commit: &Commit, rows: &[ForeignEvent]) -> Result<(), StoreError> {
    for (version, _, event) in commit.numbered() {
        let Some(row) = rows.get(version.get() as usize - 1) else {
            return Err(invalid(
                stream,
                format!("the target has an event {version}, but the table does not"),
            ));
        };
        if row.data().map_err(StoreError::Backend)? != *event {
            return Err(invalid(
                stream,
                format!("event {version} of the target differs from that of the table"),
            ));
        }
    }
    Ok(())
}

/// Returns the id of the commit at a version, which is the same in every run.
fn id_of(stream: &StreamId, first: Version) -> CommitId {
    CommitId::new(Uuid::new_v5(&COMMITS, format!("{stream}/{first}").as_bytes()))
}

/// The namespace of the ids of copied commits.
const COMMITS: Uuid = Uuid::from_u128(0x5b0c_8a52_3f9e_4d61_a7c4_19e2_6d80_f3b5);

fn invalid(stream: &StreamId, reason: String) -> StoreError {
    StoreError::invalid(format!("the copy of `{stream}`: {reason}"))
}

fn failed(error: AppendError) -> StoreError {
    match error {
        AppendError::Store(error) => error,
        other => StoreError::Backend(Box::new(other)),
    }
}
