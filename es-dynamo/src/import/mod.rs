//! Events in the tables of other libraries, copied.
//!
//! Made for a move: see the chapter of the book on it. Nothing is written to the other tables.

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

/// A copy of all events in a table of another library.
///
/// It may be run again after a failure, or to copy newer events. It then compares the target with the table, event by
/// event, and continues where the target ends. The ids of commits are derived from the stream and the version, so
/// nothing is stored twice.
///
/// Its client needs `dynamodb:Scan` and `dynamodb:Query` on the old table, and nothing else there.
///
/// Events that follow each other with the same time and metadata become one commit, of 25 at most. Their times
/// are kept, but never run backwards.
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
#[must_use = "nothing is copied without `run`"]
pub struct Import {
    client: Client,
    table: String,
    layout: Layout,
    undated: Option<DateTime<Utc>>,
    convert: Box<Convert>,
}

/// What a run has found and done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// How many streams the table has.
    pub streams: u64,
    /// How many events they have together, all of which are in the target now.
    pub events: u64,
    /// How many of them were not there before.
    pub new: u64,
}

impl Import {
    /// Of the table of events of dynamo-es 0.5, for cqrs-es.
    ///
    /// Its items have no time: set one with [`undated`](Self::undated), or for each in
    /// [`convert`](Self::convert), from the metadata perhaps.
    pub fn dynamo_es(client: Client, events: impl Into<String>) -> Self {
        Self::new(client, events.into(), Layout::DynamoEs)
    }

    /// Of the journal table of event-store-adapter-rs 5. Its tables of heads and snapshots are not needed.
    pub fn event_store_adapter(client: Client, journal: impl Into<String>) -> Self {
        Self::new(client, journal.into(), Layout::EventStoreAdapter)
    }

    fn new(client: Client, table: String, layout: Layout) -> Self {
        Self { client, table, layout, undated: None, convert: Box::new(ForeignEvent::unwrap_variant) }
    }

    /// The time of events that have none.
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

    /// Copies the events that `target` does not have yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if an event cannot be copied: its number is not contiguous from 1, an attribute is missing,
    /// no load could read its payload, or its stream differs from the target's. The error names the event and the
    /// problem, and quotes no payload. Other errors are those of the requests. Events that were copied before the error
    /// stay in the target, and the next run continues after them.
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

    /// The names of all streams, as the table has them.
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
                    _ => return Err(self.invalid(format!("an item has no text `{key}`"))),
                }
            }
        }
        Ok(partitions)
    }

    /// The events of one stream, in order and converted.
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

/// How many events a commit has at most.
const MOST_EVENTS: usize = 25;

/// Copies the events of one stream, which are all that there are; says how many were new.
pub(crate) async fn copy(target: &dyn EventStore, rows: &[ForeignEvent]) -> Result<u64, StoreError> {
    let Some(first) = rows.first() else { return Ok(0) };
    let stream = first.stream().map_err(StoreError::Backend)?;
    if let Some(row) = rows.iter().find(|row| (&row.aggregate, &row.id) != (&first.aggregate, &first.id)) {
        return Err(invalid(&stream, format!("event {} is of `{}#{}`", row.number, row.aggregate, row.id)));
    }

    let (mut end, mut time) = compared(target, &stream, rows).await?;
    let start = end;
    while let Some(row) = rows.get(end.get() as usize) {
        let rest = rows[end.get() as usize..].iter().take(MOST_EVENTS);
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

/// Compares what the target has with the rows; tells where it ends, and when that was.
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
                format!("the target has an event {version}, and the table has none"),
            ));
        };
        if row.data().map_err(StoreError::Backend)? != *event {
            return Err(invalid(stream, format!("the target has another event {version} than the table")));
        }
    }
    Ok(())
}

/// Returns an id that is always the same for the same place.
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
