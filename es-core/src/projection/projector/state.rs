//! The documents that a projector stores: control, checkpoints, and heartbeats.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::accepted::{Gap, PassedOver};
use super::failure::{Delay, FailedEvent, Failure};
use crate::documents::{
    ChangeError, ChangeSet, Document, DocumentKey, DocumentQuery, Documents, Revision, pages,
};
use crate::event::without_values;
use crate::feed::{Feed, FeedAnchor, Position, Slice, SliceTree, Slices, mismatch};
use crate::projection::{EventContext, ProjectorError, registered, timeout};

const CONTROL: &str = "control";
const SLICE: &str = "slice#";
const WORKER: &str = "worker#";

/// The names of a projection's documents.
#[derive(Clone, Debug)]
pub(super) struct Names {
    collection: String,
}

impl Names {
    pub(super) fn new(projection: &str) -> Result<Self, ProjectorError> {
        if projection.is_empty() || projection.contains('#') {
            let reason = format!(
                "`{projection}` is not a valid projection name: use at least one character, and no `#`"
            );
            return Err(ProjectorError::invalid(reason));
        }
        Ok(Self { collection: format!("projection#{projection}") })
    }

    pub(super) fn control(&self) -> DocumentKey {
        DocumentKey::new(&self.collection, CONTROL)
    }

    pub(super) fn slice(&self, slot: Slot) -> DocumentKey {
        DocumentKey::new(&self.collection, format!("{SLICE}{:06}#{:06}", slot.build, slot.slice.get()))
    }

    pub(super) fn worker(&self, worker: Uuid) -> DocumentKey {
        DocumentKey::new(&self.collection, format!("{WORKER}{worker}"))
    }

    /// Returns the key of the record of accepted events of a slice.
    pub(super) fn accepted(&self, slot: Slot) -> DocumentKey {
        let name = format!("{:06}#{:06}", slot.build, slot.slice.get());
        DocumentKey::new(format!("{}#accepted", self.collection), name)
    }

    /// Returns the collection of the parked events of a slice.
    pub(super) fn parked(&self, slot: Slot) -> String {
        format!("{}#parked#{}#{}", self.collection, slot.build, slot.slice)
    }

    pub(super) fn parked_event(&self, slot: Slot, position: Position) -> DocumentKey {
        DocumentKey::new(self.parked(slot), format!("{:020}", position.get()))
    }

    pub(super) fn parked_timeout(&self, slot: Slot, name: &str) -> DocumentKey {
        DocumentKey::new(self.parked(slot), format!("timeout#{name}"))
    }
}

/// One slice of the feed in one build of the projection: the unit of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot {
    pub(super) build: u32,
    pub(super) slice: Slice,
}

/// The builds of a projection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
pub(super) struct Control {
    /// The active build, which readers use.
    pub(super) active: u32,
    /// The build that will replace it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) building: Option<u32>,
    /// Replaced builds whose data is still stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) replaced: Vec<u32>,
    #[serde(default)]
    pub(super) paused: bool,
    /// How the last rebuild ended, until the next one or a reset. An operator may repeat the order after a lost
    /// response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ended: Option<EndOfRebuild>,
    /// The highest build number used so far.
    #[serde(default)]
    last: u32,
}

impl Default for Control {
    fn default() -> Self {
        Self { active: 1, building: None, replaced: Vec::new(), paused: false, ended: None, last: 1 }
    }
}

/// How a rebuild ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde", rename_all = "lowercase")]
pub(super) enum EndOfRebuild {
    Switched,
    Canceled,
}

impl Control {
    /// Returns the builds that workers process.
    pub(super) fn builds(&self) -> impl Iterator<Item = u32> {
        [Some(self.active), self.building].into_iter().flatten()
    }

    /// Returns an unused build number, so that no data of an earlier build remains under it.
    pub(super) fn next_build(&mut self) -> Result<u32, ProjectorError> {
        let highest = self.builds().chain(self.replaced.iter().copied()).fold(self.last, u32::max);
        let next = highest.checked_add(1).ok_or_else(|| {
            ProjectorError::invalid(format!(
                "the document `{CONTROL}` of the projection has a build numbered {highest}, after which there is none: \
                 correct it by hand"
            ))
        })?;
        self.last = next;
        self.ended = None;
        Ok(next)
    }

    /// Returns the number of the new build.
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] if there is none.
    pub(super) fn new_build(&self) -> Result<u32, ProjectorError> {
        let error = "the projection is not being rebuilt: `rebuild` begins a new build";
        self.building.ok_or_else(|| ProjectorError::invalid(error))
    }

    /// Ends the rebuild, and returns the number of the new build.
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] if there is none.
    pub(super) fn end_rebuild(&mut self, end: EndOfRebuild) -> Result<u32, ProjectorError> {
        let building = self.new_build()?;
        (self.building, self.ended) = (None, Some(end));
        Ok(building)
    }

    /// Returns whether there is no rebuild, and the last one ended in this way.
    pub(super) fn has_ended(&self, end: EndOfRebuild) -> bool {
        self.building.is_none() && self.ended == Some(end)
    }
}

/// The state of a slice: its checkpoint, owner, and failures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
pub(super) struct SliceState {
    /// The checkpoint: all events up to it are finished or parked.
    pub(super) position: Position,
    /// The anchor of that position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) anchor: Option<FeedAnchor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<Uuid>,
    /// The number of parked events.
    #[serde(default)]
    pub(super) parked: u64,
    /// The number of skipped events.
    #[serde(default)]
    pub(super) skipped: u64,
    /// The number of events that were left out because they were erased.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) erased: u64,
    /// The failure at which it stopped. Kept while a worker retries, until the event succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<Failure>,
    /// The decision of an operator about one event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) exception: Option<Exception>,
    /// Whether to replay the parked events.
    #[serde(default)]
    pub(super) replay: bool,
    /// Ranges in which events may have been passed over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) unchecked: Vec<Gap>,
    /// Events that were passed over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) passed_over: Vec<PassedOver>,
    /// Set in the transaction of the checkpoint at the end of a slice that was split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) closed: Option<Closed>,
    /// Whether the slice was closed before the projection started at its end, so that its children start at theirs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_omitted: bool,
}

/// The state of a slice that was split and whose checkpoint is at its end, so that its children may be processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde", rename_all = "lowercase")]
pub(super) enum Closed {
    /// Timeouts may be left.
    Draining,
    /// Nothing is left, unless an operator replays parked events.
    Finished,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde requires")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The decision of an operator about one event or timeout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
pub(super) struct Exception {
    pub(super) position: Position,
    /// The name of the timeout's document, if it is not an event of the feed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<String>,
    /// Whether to park it. Otherwise it is skipped.
    pub(super) park: bool,
    /// The error.
    #[serde(default)]
    pub(super) error: String,
}

impl Exception {
    pub(super) fn new(event: &FailedEvent, park: bool, error: String) -> Self {
        Self { position: event.position, timeout: event.timeout_document(), park, error }
    }

    /// Returns whether it concerns the event at `at`.
    pub(super) fn is_at(&self, at: Position) -> bool {
        self.timeout.is_none() && self.position == at
    }

    /// Returns whether it concerns this event or timeout.
    fn is_of(&self, origin: &Origin) -> bool {
        match origin {
            Origin::Event { position, .. } => self.is_at(*position),
            Origin::Timeout { name, .. } => self.timeout.as_ref() == Some(name),
        }
    }
}

/// A decoded document and its revision.
#[derive(Clone, Debug)]
pub(super) struct Revised<T> {
    pub(super) value: T,
    pub(super) revision: Option<Revision>,
}

/// The heartbeat of a worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
pub(super) struct Sign {
    /// The id of the worker in its process.
    run: Uuid,
    /// Whether its version follows slices that are split.
    #[serde(default)]
    splits: bool,
    /// Its slots that are delayed by a transient error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) delays: Vec<DelayedSlot>,
}

/// A slot that is delayed by a transient error.
#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
pub(super) struct DelayedSlot {
    build: u32,
    slice: Slice,
    delay: Delay,
}

impl Sign {
    pub(super) fn new(run: Uuid, delays: Vec<(Slot, Delay)>) -> Self {
        let delayed = |(slot, delay): (Slot, _)| DelayedSlot { build: slot.build, slice: slot.slice, delay };
        Self { run, splits: true, delays: delays.into_iter().map(delayed).collect() }
    }
}

/// All documents in a projection's collection.
#[derive(Debug, Default)]
pub(super) struct Overview {
    pub(super) control: Control,
    pub(super) slices: BTreeMap<(u32, u32), Revised<SliceState>>,
    pub(super) workers: BTreeMap<Uuid, Revision>,
    /// The ids of the workers in their processes.
    pub(super) runs: BTreeSet<Uuid>,
    /// The number of workers whose version does not follow slices that are split.
    pub(super) outdated: u64,
    /// The slots that are delayed by a transient error, as reported by their workers.
    pub(super) delays: BTreeMap<Slot, Delay>,
}

impl Overview {
    pub(super) async fn read(
        store: &(impl Documents + ?Sized),
        names: &Names,
    ) -> Result<Self, ProjectorError> {
        let mut overview = Self::default();
        let mut pages = pages(store, DocumentQuery::new(&names.collection));
        while let Some(page) = pages.try_next().await? {
            for (name, document) in page.documents {
                overview.add(&DocumentKey::new(&names.collection, name), &document)?;
            }
        }
        Ok(overview)
    }

    fn add(&mut self, key: &DocumentKey, document: &Document) -> Result<(), ProjectorError> {
        let name = key.name();
        if name == CONTROL {
            self.control = decode(key, document)?;
        } else if let Some(slot) = name.strip_prefix(SLICE) {
            let numbers = slot
                .split_once('#')
                .and_then(|(build, slice)| Some((build.parse().ok()?, slice.parse().ok()?)));
            let Some(slot) = numbers else { return Err(unreadable(key, "its name is not that of a slice")) };
            let read = Revised { value: decode(key, document)?, revision: Some(document.revision) };
            self.slices.insert(slot, read);
        } else if let Some(worker) = name.strip_prefix(WORKER)
            && let Ok(worker) = worker.parse()
        {
            self.workers.insert(worker, document.revision);
            let Sign { run, splits, delays } = decode(key, document)?;
            self.runs.insert(run);
            self.outdated += u64::from(!splits);
            for DelayedSlot { build, slice, delay } in delays {
                self.delays.insert(Slot { build, slice }, delay);
            }
        }
        Ok(())
    }

    /// Returns the state of a slot, or a new one if the slot has none.
    pub(super) fn slice(&self, slot: Slot) -> Revised<SliceState> {
        let found = self.slices.get(&(slot.build, slot.slice.get()));
        found.cloned().unwrap_or_else(|| Revised { value: SliceState::default(), revision: None })
    }

    /// Returns the slices of a build with a state, in ascending order. The feed may no longer have some of them, after a
    /// restore to a time before a split.
    pub(super) fn slices_of(&self, build: u32) -> impl Iterator<Item = (Slice, &SliceState)> {
        let range = (build, 0)..=(build, u32::MAX);
        self.slices.range(range).map(|((_, slice), state)| (Slice::new(*slice), &state.value))
    }

    /// Returns the slices of the feed and those of a build with a state.
    pub(super) fn all_slices(&self, tree: &SliceTree, build: u32) -> BTreeSet<Slice> {
        tree.iter().chain(self.slices_of(build).map(|(slice, _)| slice)).collect()
    }

    /// Returns the descendants of a slice that have a state, in ascending order.
    pub(super) fn descendants(
        &self,
        initial: Slices,
        Slot { build, slice }: Slot,
    ) -> impl Iterator<Item = (Slice, &SliceState)> {
        let is_descendant = move |other: Slice| initial.ancestors(other).any(|ancestor| ancestor == slice);
        self.slices_of(build).filter(move |(other, _)| is_descendant(*other))
    }

    /// Returns the slices of a build that may be processed, parents first: the initial slices, and the children of each
    /// slice that was processed up to its end. Those whose last timeouts are left follow, even if a restore has moved
    /// their parents back.
    pub(super) fn reachable(&self, initial: Slices, build: u32) -> Vec<Slice> {
        let mut slices: Vec<_> = initial.iter().collect();
        let mut index = 0;
        while let Some(slice) = slices.get(index) {
            let state = self.slices.get(&(build, slice.get()));
            if state.is_some_and(|state| state.value.closed.is_some()) {
                slices.extend(initial.children(*slice).into_iter().flatten());
            }
            index += 1;
        }
        for (slice, state) in self.slices_of(build) {
            if state.closed == Some(Closed::Draining) && !slices.contains(&slice) {
                slices.push(slice);
            }
        }
        slices
    }

    /// Returns whether a build has handled, parked, or failed at an event.
    pub(super) fn has_begun(&self, build: u32) -> bool {
        let begun = |state: &SliceState| state.position > Position::NONE || state.failure.is_some();
        self.slices.iter().any(|((number, _), slice)| *number == build && begun(&slice.value))
    }
}

pub(super) async fn read<T: DeserializeOwned + Default>(
    store: &(impl Documents + ?Sized),
    key: &DocumentKey,
) -> Result<Revised<T>, ProjectorError> {
    match store.document(key).await? {
        Some(document) => Ok(Revised { value: decode(key, &document)?, revision: Some(document.revision) }),
        None => Ok(Revised { value: T::default(), revision: None }),
    }
}

/// Changes a document with `edit`, which may return an error, using optimistic concurrency.
pub(super) async fn edit<T: DeserializeOwned + Serialize + Default>(
    store: &(impl Documents + ?Sized),
    key: &DocumentKey,
    mut new_id: impl FnMut() -> Uuid,
    mut edit: impl FnMut(&mut T) -> Result<(), ProjectorError>,
) -> Result<T, ProjectorError> {
    loop {
        let Revised { mut value, revision } = read::<T>(store, key).await?;
        edit(&mut value)?;
        let set = ChangeSet::new(new_id()).put(key.clone(), revision.into(), encode(&value)?);
        match store.change(&set).await {
            Ok(()) => return Ok(value),
            Err(ChangeError::Store(error)) => return Err(error.into()),
            Err(_) => {}
        }
    }
}

pub(super) fn encode(value: &impl Serialize) -> Result<String, ProjectorError> {
    serde_json::to_string(value).map_err(|error| ProjectorError::invalid(without_values(&error)))
}

pub(super) fn decode<T: DeserializeOwned>(
    key: &DocumentKey,
    document: &Document,
) -> Result<T, ProjectorError> {
    serde_json::from_str(&document.body).map_err(|error| unreadable(key, &without_values(&error)))
}

fn unreadable(key: &DocumentKey, reason: &str) -> ProjectorError {
    ProjectorError::Unreadable { key: key.to_string(), reason: reason.to_owned() }
}

/// Returns the number of the active build of a projection.
pub(crate) async fn active_build(
    store: &(impl Documents + ?Sized),
    projection: &str,
) -> Result<u32, ProjectorError> {
    Ok(read::<Control>(store, &Names::new(projection)?.control()).await?.value.active)
}

/// Returns the numbers of workers, by projection, process, or publisher, whose version does not follow slices that are
/// [split](crate::feed::Feed::split). Such a worker stops at the end of a slice that was split, and loses nothing. Update
/// all workers before the first split: `es feed split` refuses it otherwise.
///
/// A worker that has died counts until another worker of its projection has noticed it, which takes a
/// [lease](super::ProjectorBuilder::lease).
///
/// ```
/// # async fn example(store: es_core::MemoryStore) -> Result<(), es_core::projection::ProjectorError> {
/// for (projection, workers) in es_core::projection::workers_without_splits(&store).await? {
///     println!("update {workers} workers of {projection}");
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`ProjectorError`] if the registry or the heartbeats of the workers cannot be read or decoded.
pub async fn workers_without_splits(
    store: &(impl Documents + ?Sized),
) -> Result<BTreeMap<String, u64>, ProjectorError> {
    let mut all = BTreeMap::new();
    for registration in registered(store).await? {
        let overview = Overview::read(store, &Names::new(&registration.name)?).await?;
        if overview.outdated > 0 {
            all.insert(registration.name, overview.outdated);
        }
    }
    Ok(all)
}

/// The origin of a reaction: an event of the feed, or a timeout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde", rename_all = "snake_case")]
pub(crate) enum Origin {
    Event {
        slice: Slice,
        position: Position,
        /// The anchor of that position.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        anchor: Option<FeedAnchor>,
    },
    /// A timeout, with the name of its document.
    Timeout { slice: Slice, name: String },
}

impl Origin {
    pub(crate) fn of(ctx: &EventContext) -> Self {
        let slice = ctx.slice();
        match ctx.timeout_key() {
            Some(key) => Self::Timeout { slice, name: timeout::document(ctx.time(), key) },
            None => Self::Event { slice, position: ctx.position(), anchor: ctx.anchor() },
        }
    }
}

/// The fate of an event or timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is not finished.
    Pending,
    /// It is parked.
    Parked,
    /// It was handled or skipped.
    Passed,
    /// It is no longer in the feed, which was restored to an earlier state.
    Gone,
}

/// Returns the fate of an event or timeout of the process `process`.
pub(crate) async fn fate(
    store: &(impl Feed + ?Sized),
    process: &str,
    origin: &Origin,
) -> Result<Fate, ProjectorError> {
    let names = Names::new(process)?;
    let slice = match origin {
        Origin::Event { slice, .. } | Origin::Timeout { slice, .. } => *slice,
    };
    // A process has only one build.
    let slot = Slot { build: 1, slice };
    let state = read::<SliceState>(store, &names.slice(slot)).await?.value;
    let is_skipped = state.exception.is_some_and(|exception| !exception.park && exception.is_of(origin));
    if is_skipped {
        return Ok(Fate::Passed);
    }
    let (is_pending, parked) = match origin {
        Origin::Event { position, anchor, .. } => {
            let is_pending = state.position < *position;
            if is_pending && mismatch(store, slice, *position, *anchor).await?.is_some() {
                return Ok(Fate::Gone);
            }
            (is_pending, names.parked_event(slot, *position))
        }
        Origin::Timeout { name, .. } => {
            let key = DocumentKey::new(timeout::collection(process, slice), name);
            (store.document(&key).await?.is_some(), names.parked_timeout(slot, name))
        }
    };
    if is_pending {
        return Ok(Fate::Pending);
    }
    let is_parked = store.document(&parked).await?.is_some();
    Ok(if is_parked { Fate::Parked } else { Fate::Passed })
}
