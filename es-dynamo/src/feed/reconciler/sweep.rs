//! Deleting objects of the payload store to which no item refers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use chrono::{DateTime, TimeDelta, Utc};
use es_core::clock::{Clock, SystemClock};
use es_core::payloads::PayloadName;
use es_core::{Cost, StoreError};
use futures_util::{TryStreamExt, future};

use super::Reconciler;
use crate::streams::item::Format;
use crate::streams::objects::{ObjectStore, closed_key};
use crate::streams::snapshot::{COMPRESSED, IN_OBJECT};
use crate::table::retry::retrying;
use crate::table::{ConditionFailed, Item, ItemPage, Table, Written, names, translate, unknown_format};

/// How long a name has been closed before its object is deleted. By then, every transaction that was accepted before
/// the name was closed has become visible to a Scan, which takes seconds at most.
const CLOSED_FOR: TimeDelta = TimeDelta::hours(1);

/// The settings of [`Reconciler::sweep_payloads`].
#[derive(Clone, Debug)]
pub struct SweepOptions {
    min_age: Duration,
    dry_run: bool,
    clock: Arc<dyn Clock>,
}

impl SweepOptions {
    /// Returns the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self { min_age: Duration::from_secs(24 * 3600), dry_run: false, clock: Arc::new(SystemClock) }
    }

    /// Sets the minimum age of an object that is considered, by the clock of the payload store (default: one day). An
    /// append that is still running does not lose its objects at any age, but it has to store them again.
    #[must_use]
    pub fn with_min_age(mut self, age: Duration) -> Self {
        self.min_age = age;
        self
    }

    /// Only reports what would be closed and deleted (default: `false`).
    #[must_use]
    pub fn with_dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Sets the clock (default: the system's clock).
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }
}

impl Default for SweepOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// The result of [`Reconciler::sweep_payloads`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SweepReport {
    /// The number of objects in the payload store.
    pub objects: u64,
    /// The total size of the objects in bytes.
    pub bytes: u64,
    /// The objects whose names were closed in this run. A run that starts at least an hour later deletes them.
    pub closed: BTreeSet<PayloadName>,
    /// The objects that were deleted.
    pub deleted: BTreeSet<PayloadName>,
    /// The total size of the deleted objects in bytes.
    pub deleted_bytes: u64,
    /// The cost of the requests to the table.
    pub cost: Cost,
}

impl Reconciler {
    /// Deletes the objects of the payload store to which no item refers: those of appends that died before they wrote
    /// their items, of replaced snapshots, and of deleted streams.
    ///
    /// It takes two runs, at least an hour apart, to delete an object that is older than a day. The first run closes
    /// the name of the object, so that no new item can refer to it; the second one deletes the object if there is still
    /// no item. An append that is running or repeated meanwhile stores its object again, under another name, so it
    /// never loses its object. Each run scans the table if there are objects older than a day. Several runs may
    /// overlap.
    ///
    /// Do not run it while the table is being restored or copied.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the store has no payload store. [`StoreError::Corrupt`] if an item has a format that
    /// is unknown, so that its references cannot be read: nothing is deleted then. Otherwise, the errors of the
    /// requests.
    pub async fn sweep_payloads(&self, options: SweepOptions) -> Result<SweepReport, StoreError> {
        let table = &*self.store.table;
        let Some(objects) = &table.objects else {
            return Err(StoreError::invalid(
                "the store has no payload store to sweep: set it with `payloads` on the builder of the store",
            ));
        };
        let now = options.clock.now();
        let mut report = SweepReport::default();
        let old = old_objects(objects, now, options.min_age, &mut report).await?;
        if old.is_empty() {
            return Ok(report);
        }
        let scans = (0..self.segments).map(|segment| references(table, segment, self.segments));
        let mut referenced = BTreeSet::new();
        for (names, cost) in future::try_join_all(scans).await? {
            referenced.extend(names);
            report.cost += cost;
        }
        for (name, bytes) in old.into_iter().filter(|(name, _)| !referenced.contains(name)) {
            let (closed_at, cost) = match options.dry_run {
                true => closed_at(table, &name).await?,
                false => close(table, &name, now).await?,
            };
            report.cost += cost;
            // `now` is before the Scan.
            match closed_at {
                None => {
                    report.closed.insert(name);
                }
                Some(closed_at) if now - closed_at >= CLOSED_FOR => {
                    if !options.dry_run {
                        delete(objects, &name).await?;
                    }
                    report.deleted.insert(name);
                    report.deleted_bytes += bytes;
                }
                Some(_) => {}
            }
        }
        Ok(report)
    }
}

/// Returns the objects that have at least the age `min_age`, with their sizes, and counts all objects.
async fn old_objects(
    objects: &ObjectStore,
    now: DateTime<Utc>,
    min_age: Duration,
    report: &mut SweepReport,
) -> Result<BTreeMap<PayloadName, u64>, StoreError> {
    let min_age = TimeDelta::from_std(min_age).unwrap_or(TimeDelta::MAX);
    let mut old = BTreeMap::new();
    let mut listed = objects.payloads().store().list(objects.prefix());
    while let Some(object) = listed.try_next().await? {
        report.objects += 1;
        report.bytes += object.length;
        if now - object.stored_at >= min_age {
            old.insert(object.name, object.length);
        }
    }
    Ok(old)
}

/// Returns the names of the objects to which the items of a segment refer.
async fn references(
    table: &Table,
    segment: u32,
    segments: u32,
) -> Result<(BTreeSet<PayloadName>, Cost), StoreError> {
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let (mut names, mut cost, mut from) = (BTreeSet::new(), Cost::ZERO, None::<Item>);
    loop {
        let page = retrying(|| async {
            let output = table
                .client
                .scan()
                .table_name(&table.name)
                .consistent_read(true)
                .segment(number(segment))
                .total_segments(number(segments))
                .filter_expression("(begins_with(sk, :commits) OR sk = :snapshot) AND attribute_exists(f)")
                .expression_attribute_values(":commits", AttributeValue::S(names::COMMIT_PREFIX.to_owned()))
                .expression_attribute_values(":snapshot", AttributeValue::S(names::SNAPSHOT_KEY.to_owned()))
                .projection_expression("pk, sk, f, o, ev")
                .set_exclusive_start_key(from.clone())
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await
                .map_err(|error| translate(&table.name, error))?;
            ItemPage::of_scan(output, &table.name)
        });
        let page = page.await?;
        cost += page.cost;
        for item in &page.items {
            add_references(item, &mut names)?;
        }
        from = page.last_key;
        if from.is_none() {
            return Ok((names, cost));
        }
    }
}

/// Adds the names of the objects to which an item refers. A format that is unknown may refer to objects in another way.
fn add_references(item: &Item, found: &mut BTreeSet<PayloadName>) -> Result<(), StoreError> {
    let text = |name| item.get(name).and_then(|value| value.as_s().ok()).map_or("", String::as_str);
    let is_snapshot = text(names::SORT_KEY) == names::SNAPSHOT_KEY;
    let corrupt = |reason: &str| {
        let (partition, sort) = (text(names::PARTITION_KEY), text(names::SORT_KEY));
        StoreError::corrupt_item(format!("the item with the key `{partition}`, `{sort}`"), reason)
    };
    let format = item.get(names::FORMAT).and_then(|format| format.as_n().ok()).map_or("", String::as_str);
    let events = item.get(names::EVENTS).and_then(|events| events.as_l().ok());
    let objects: Vec<_> = match (is_snapshot, format) {
        (true, "1" | COMPRESSED) => return Ok(()),
        (true, IN_OBJECT) => item.get(names::OBJECT).into_iter().collect(),
        (true, format) => return Err(corrupt(&unknown_format(format))),
        (false, format) => match Format::of(format) {
            Some(
                Format::OneCommit
                | Format::SeveralCommits
                | Format::Lifecycle
                | Format::Compressed
                | Format::Erased,
            ) => return Ok(()),
            Some(Format::WithObjects) => {
                let maps = events.into_iter().flatten().filter_map(|event| event.as_m().ok());
                maps.filter_map(|event| event.get(names::OBJECT)).collect()
            }
            None => return Err(corrupt(&unknown_format(format))),
        },
    };
    if objects.is_empty() {
        return Err(corrupt("it has the format of an item that refers to an object, and refers to none"));
    }
    for object in objects {
        let name = object.as_s().ok().and_then(|name| name.parse().ok());
        found.insert(name.ok_or_else(|| corrupt("the name of an object is damaged"))?);
    }
    Ok(())
}

/// Closes the name of an object. If it is closed already, returns since when.
async fn close(
    table: &Table,
    name: &PayloadName,
    now: DateTime<Utc>,
) -> Result<(Option<DateTime<Utc>>, Cost), StoreError> {
    let mut item = closed_key(name);
    item.insert(names::TIME.to_owned(), AttributeValue::N(now.timestamp_millis().to_string()));
    match retrying(|| table.put_if_absent(item.clone())).await? {
        Written::Done(cost) => Ok((None, cost)),
        Written::Refused(ConditionFailed { item: Some(item), .. }) => Ok((Some(time_of(&item)), Cost::ZERO)),
        Written::Refused(_) => closed_at(table, name).await,
    }
}

/// Returns since when the name of an object is closed.
async fn closed_at(table: &Table, name: &PayloadName) -> Result<(Option<DateTime<Utc>>, Cost), StoreError> {
    let (item, cost) = retrying(|| table.get(closed_key(name))).await?;
    Ok((item.as_ref().map(time_of), cost))
}

/// Returns the time in an item that closes a name. If it is damaged, the object is never deleted.
fn time_of(item: &Item) -> DateTime<Utc> {
    let millis = item.get(names::TIME).and_then(|time| time.as_n().ok()?.parse().ok());
    millis.and_then(DateTime::from_timestamp_millis).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

async fn delete(objects: &ObjectStore, name: &PayloadName) -> Result<(), StoreError> {
    retrying(|| async { Ok(objects.payloads().store().delete(name).await?) }).await
}
