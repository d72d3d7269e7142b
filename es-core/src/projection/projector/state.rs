//! What a projector keeps in the store.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::accepted::{Gap, PassedOver};
use super::delays::Delay;
use super::failure::{FailedEvent, Failure};
use super::fate::Origin;
use crate::documents::{ChangeError, ChangeSet, Document, DocumentKey, DocumentQuery, Documents, Revision};
use crate::event::without_values;
use crate::feed::{FeedAnchor, Position, Slice};
use crate::projection::ProjectorError;

const CONTROL: &str = "control";
const SLICE: &str = "slice#";
const WORKER: &str = "worker#";

/// How one projection's documents are called.
#[derive(Clone, Debug)]
pub(super) struct Names {
    collection: String,
}

impl Names {
    pub(super) fn new(projection: &str) -> Result<Self, ProjectorError> {
        if projection.is_empty() || projection.contains('#') {
            let reason =
                format!("a projection's name has at least one character, and no `#`: not `{projection}`");
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

    /// Which events the code accepts that works on a slice.
    pub(super) fn accepted(&self, slot: Slot) -> DocumentKey {
        let name = format!("{:06}#{:06}", slot.build, slot.slice.get());
        DocumentKey::new(format!("{}#accepted", self.collection), name)
    }

    /// The collection of the events of a slice that are parked.
    pub(super) fn parked(&self, slot: Slot) -> String {
        format!("{}#parked#{}#{}", self.collection, slot.build, slot.slice)
    }

    pub(super) fn parked_event(&self, slot: Slot, position: Position) -> DocumentKey {
        DocumentKey::new(self.parked(slot), format!("{:020}", position.get()))
    }

    pub(super) fn parked_timeout(&self, slot: Slot, name: &str) -> DocumentKey {
        DocumentKey::new(self.parked(slot), format!("timeout#{name}"))
    }

    fn all(&self) -> DocumentQuery {
        DocumentQuery::new(&self.collection)
    }
}

/// One slice of the feed in one build of the projection: what a worker takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot {
    pub(super) build: u32,
    pub(super) slice: Slice,
}

/// Which builds there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
pub(super) struct Control {
    /// The one that is read.
    pub(super) active: u32,
    /// The one that is made to replace it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) building: Option<u32>,
    /// Those that were replaced, and are still stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) replaced: Vec<u32>,
    #[serde(default)]
    pub(super) paused: bool,
    /// The highest number that a build has had.
    #[serde(default)]
    last: u32,
}

impl Default for Control {
    fn default() -> Self {
        Self { active: 1, building: None, replaced: Vec::new(), paused: false, last: 1 }
    }
}

impl Control {
    /// The builds that are worked on.
    pub(super) fn builds(&self) -> impl Iterator<Item = u32> {
        [Some(self.active), self.building].into_iter().flatten()
    }

    /// A number that no build has had, so that nothing is left of an earlier one.
    pub(super) fn next_build(&mut self) -> Result<u32, ProjectorError> {
        let highest = self.builds().chain(self.replaced.iter().copied()).fold(self.last, u32::max);
        let next = highest.checked_add(1).ok_or_else(|| {
            ProjectorError::invalid(format!(
                "the document `{CONTROL}` of the projection has a build numbered {highest}, after which there is none: \
                 correct it by hand"
            ))
        })?;
        self.last = next;
        Ok(next)
    }
}

/// How far a slice is, and who works on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
pub(super) struct SliceState {
    /// The checkpoint: all events up to it are finished, or parked.
    pub(super) position: Position,
    /// The part of the feed that holds that position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) anchor: Option<FeedAnchor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<Uuid>,
    /// How many events are parked.
    #[serde(default)]
    pub(super) parked: u64,
    /// How many events were skipped.
    #[serde(default)]
    pub(super) skipped: u64,
    /// Why it has stopped. Kept while a worker tries again, until it has got past it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<Failure>,
    /// What to do with one event, as an operator decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) exception: Option<Exception>,
    /// Whether to try the parked events again.
    #[serde(default)]
    pub(super) replay: bool,
    /// Where events may have been passed over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) unchecked: Vec<Gap>,
    /// Events that were passed over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) passed_over: Vec<PassedOver>,
}

/// What is to be done with one event or timeout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
pub(super) struct Exception {
    pub(super) position: Position,
    /// The name of the timeout's document, if it is not an event of the feed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<String>,
    /// Otherwise it is skipped.
    pub(super) park: bool,
    /// What went wrong with it.
    #[serde(default)]
    pub(super) error: String,
}

impl Exception {
    pub(super) fn new(event: &FailedEvent, park: bool, error: String) -> Self {
        Self { position: event.position, timeout: event.timeout_document(), park, error }
    }

    /// Whether it is about the event at `at`.
    pub(super) fn is_at(&self, at: Position) -> bool {
        self.timeout.is_none() && self.position == at
    }

    /// Whether it is about this event or timeout.
    pub(super) fn is_of(&self, origin: &Origin) -> bool {
        match origin {
            Origin::Event { position, .. } => self.is_at(*position),
            Origin::Timeout { name, .. } => self.timeout.as_ref() == Some(name),
        }
    }
}

/// A document together with the revision in which it was read.
#[derive(Clone, Debug)]
pub(super) struct Read<T> {
    pub(super) value: T,
    pub(super) revision: Option<Revision>,
}

/// What a worker says of itself with each sign of life.
#[derive(Debug, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
pub(super) struct Sign {
    /// What identifies the worker in its process.
    run: Uuid,
    /// Its slots that wait for a transient error to pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) delays: Vec<DelayedSlot>,
}

/// A slot that waits for a transient error to pass.
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
        Self { run, delays: delays.into_iter().map(delayed).collect() }
    }
}

/// All that a projection has in its collection.
#[derive(Debug, Default)]
pub(super) struct Overview {
    pub(super) control: Control,
    pub(super) slices: BTreeMap<(u32, u32), Read<SliceState>>,
    pub(super) workers: BTreeMap<Uuid, Revision>,
    /// What identifies the workers in their processes.
    pub(super) runs: BTreeSet<Uuid>,
    /// The slots that wait for a transient error to pass, as their workers say.
    pub(super) delays: BTreeMap<Slot, Delay>,
}

impl Overview {
    pub(super) async fn read(
        store: &(impl Documents + ?Sized),
        names: &Names,
    ) -> Result<Self, ProjectorError> {
        let mut overview = Self::default();
        let mut query = names.all();
        loop {
            let page = store.documents(&query).await?;
            for (name, document) in page.documents {
                let key = DocumentKey::new(&query.collection, &name);
                overview.add(&key, &document)?;
            }
            if page.next.is_none() {
                return Ok(overview);
            }
            query = query.after(page.next);
        }
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
            let read = Read { value: decode(key, document)?, revision: Some(document.revision) };
            self.slices.insert(slot, read);
        } else if let Some(worker) = name.strip_prefix(WORKER)
            && let Ok(worker) = worker.parse()
        {
            self.workers.insert(worker, document.revision);
            let Sign { run, delays } = decode(key, document)?;
            self.runs.insert(run);
            for DelayedSlot { build, slice, delay } in delays {
                self.delays.insert(Slot { build, slice }, delay);
            }
        }
        Ok(())
    }

    /// The state of a slot; a new one when nobody has worked on it yet.
    pub(super) fn slice(&self, slot: Slot) -> Read<SliceState> {
        let found = self.slices.get(&(slot.build, slot.slice.get()));
        found.cloned().unwrap_or_else(|| Read { value: SliceState::default(), revision: None })
    }
}

pub(super) async fn read<T: DeserializeOwned + Default>(
    store: &(impl Documents + ?Sized),
    key: &DocumentKey,
) -> Result<Read<T>, ProjectorError> {
    match store.document(key).await? {
        Some(document) => Ok(Read { value: decode(key, &document)?, revision: Some(document.revision) }),
        None => Ok(Read { value: T::default(), revision: None }),
    }
}

/// Changes a document as `edit` says, on its latest state; `edit` may refuse.
pub(super) async fn edit<T: DeserializeOwned + Serialize + Default>(
    store: &(impl Documents + ?Sized),
    key: &DocumentKey,
    mut new_id: impl FnMut() -> Uuid,
    mut edit: impl FnMut(&mut T) -> Result<(), ProjectorError>,
) -> Result<T, ProjectorError> {
    loop {
        let Read { mut value, revision } = read::<T>(store, key).await?;
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

/// The number of the build of a projection that is to be read.
pub(crate) async fn active_build(
    store: &(impl Documents + ?Sized),
    projection: &str,
) -> Result<u32, ProjectorError> {
    Ok(read::<Control>(store, &Names::new(projection)?.control()).await?.value.active)
}
