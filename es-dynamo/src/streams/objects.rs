//! Payloads of events that do not fit into items: objects in a payload store, and the references to them.
//!
//! An object is stored before the item that refers to it. The two cannot be written atomically, so an append that dies
//! in between leaves an object without a reference, which the [reconciler](crate::Reconciler) deletes. It must not
//! delete the object of an append that is still running, or that is repeated much later. Therefore, it first *closes*
//! the name of the object, by an item in the table, and every item with references is written in a transaction that
//! requires that none of their names is closed. An append that finds a closed name stores its object again, under
//! another name.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck, TransactWriteItem};
use es_core::bytes::Bytes;
use es_core::event::EventData;
use es_core::payloads::{PayloadName, PayloadPrefix, Payloads};
use es_core::store::limits::{self, ItemSizes};
use es_core::store::{Append, Claim, NewCommit};
use es_core::{StoreError, StreamId, Version};

use super::item::{Attributes, CommitItems, Part, event_size};
use crate::table::{
    Item, PLACE_IS_FREE, Reason, Table, Transacted, Written, build_error, key, names, qualified,
};

/// The format number of a commit's item with references to objects.
pub(crate) const WITH_OBJECTS: &str = "6";

/// The size in bytes from which on digests are computed on a thread for blocking work. They would occupy a thread of
/// the runtime for about a millisecond.
const LARGE_CONTENT: usize = 1 << 20;

/// The payload store of a table.
pub(crate) struct ObjectStore {
    payloads: Payloads,
    prefix: PayloadPrefix,
}

/// The reference to an object in an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectRef {
    pub(crate) name: PayloadName,
    /// The length of its content in bytes.
    pub(crate) length: u64,
}

/// An event of a part whose payload is an object. The part has the event without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LargeEvent {
    pub(crate) version: Version,
    pub(crate) payload: ObjectRef,
}

/// The events of a commit whose payloads are objects, by their indexes.
#[derive(Clone, Debug, Default)]
pub(crate) struct LargePayloads(BTreeMap<usize, (PayloadName, Bytes)>);

impl LargePayloads {
    /// Returns the reference to the payload of the event with this index, if it is an object.
    pub(crate) fn get(&self, index: usize) -> Option<ObjectRef> {
        let (name, content) = self.0.get(&index)?;
        Some(ObjectRef { name: name.clone(), length: content.len() as u64 })
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the names of the objects.
    pub(crate) fn names(&self) -> BTreeSet<PayloadName> {
        self.0.values().map(|(name, _)| name.clone()).collect()
    }

    /// Gives other names to the objects whose names are `closed`.
    pub(crate) fn rename(&mut self, closed: &BTreeSet<PayloadName>) {
        for (name, _) in self.0.values_mut().filter(|(name, _)| closed.contains(name)) {
            *name = name.next_generation();
        }
    }
}

impl ObjectStore {
    /// Returns the objects of the largest of `events`, so that the others are smaller than `most` bytes, with a
    /// reference for each object.
    pub(crate) async fn largest(&self, events: &[EventData], most: u64) -> Result<LargePayloads, StoreError> {
        let mut indexes: Vec<_> = (0..events.len()).collect();
        indexes.sort_by_key(|index| std::cmp::Reverse(events[*index].payload().len()));
        let mut bytes: u64 = events.iter().map(event_size).sum();
        let mut contents = Vec::new();
        for index in indexes {
            if bytes <= most {
                break;
            }
            let payload = events[index].payload();
            bytes = (bytes + self.reference_bytes()).saturating_sub(payload.len() as u64);
            contents.push((index, Bytes::copy_from_slice(payload.as_bytes())));
        }
        let named = self.named(contents).await?;
        Ok(LargePayloads(named.into_iter().map(|(index, name, content)| (index, (name, content))).collect()))
    }

    pub(crate) fn new(payloads: Payloads, table: &str) -> Result<Self, StoreError> {
        let prefix = match payloads.prefix() {
            Some(prefix) => prefix.clone(),
            None => PayloadPrefix::new(&format!("{table}/payloads")).map_err(|_| {
                StoreError::invalid(format!(
                    "the table `{table}` has a name that the names of objects cannot start with: set `Payloads::with_prefix`"
                ))
            })?,
        };
        Ok(Self { payloads, prefix })
    }

    pub(crate) fn payloads(&self) -> &Payloads {
        &self.payloads
    }

    pub(crate) fn prefix(&self) -> &PayloadPrefix {
        &self.prefix
    }

    /// Returns the objects of the commit of an append whose first event has the version `first`. There are none if the
    /// commit can be stored without objects.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooLarge`] if an event exceeds the limit of the payload store, or the commit does not fit into a
    /// transaction even with objects.
    pub(crate) async fn large_payloads(
        &self,
        append: &Append,
        first: Version,
        claims: &[&Claim],
    ) -> Result<LargePayloads, StoreError> {
        // Several commits in one append are small.
        let [commit] = append.commits() else { return Ok(LargePayloads::default()) };
        let indexes = self.choose(append.stream(), first, commit, claims)?;
        let content = |index: usize| Bytes::copy_from_slice(commit.events[index].payload().as_bytes());
        let contents: Vec<_> = indexes.into_iter().map(|index| (index, content(index))).collect();
        let named = self.named(contents).await?;
        Ok(LargePayloads(named.into_iter().map(|(index, name, content)| (index, (name, content))).collect()))
    }

    /// Returns objects without content in the place of the large payloads of a commit, for the sizes of its items.
    pub(crate) fn sample(
        &self,
        stream: &StreamId,
        first: Version,
        commit: &NewCommit,
    ) -> Result<LargePayloads, StoreError> {
        let empty = (PayloadName::of(self.prefix.clone(), b""), Bytes::new());
        let indexes = self.choose(stream, first, commit, &[])?;
        Ok(LargePayloads(indexes.into_iter().map(|index| (index, empty.clone())).collect()))
    }

    /// Returns the indexes of the events whose payloads become objects; see [`limits::large_events`].
    fn choose(
        &self,
        stream: &StreamId,
        first: Version,
        commit: &NewCommit,
        claims: &[&Claim],
    ) -> Result<BTreeSet<usize>, StoreError> {
        let sizes = ItemSizes {
            frame: CommitItems::of(stream, first, commit).with_claims(claims).frame_size()?,
            events: commit.events.iter().map(event_size).collect(),
            reference: self.reference_bytes(),
        };
        limits::large_events(stream, first, commit, sizes, self.payloads.max_bytes())
    }

    /// Names contents by their digests.
    pub(crate) async fn named<T: Send + 'static>(
        &self,
        contents: Vec<(T, Bytes)>,
    ) -> Result<Vec<(T, PayloadName, Bytes)>, StoreError> {
        let prefix = self.prefix.clone();
        let bytes: usize = contents.iter().map(|(_, content)| content.len()).sum();
        let name = move || {
            let named = contents.into_iter().map(|(id, content)| {
                let name = PayloadName::of(prefix.clone(), &content);
                (id, name, content)
            });
            named.collect()
        };
        match bytes < LARGE_CONTENT {
            true => Ok(name()),
            false => {
                tokio::task::spawn_blocking(name).await.map_err(|error| StoreError::Backend(error.into()))
            }
        }
    }

    /// An upper bound of the size of a reference to an object, with its attribute names.
    fn reference_bytes(&self) -> u64 {
        self.prefix.as_str().len() as u64 + 100
    }
}

/// Returns the attributes of an event whose payload is an object.
pub(crate) fn large_event_value(event: &EventData, payload: &ObjectRef) -> AttributeValue {
    let mut map = Item::from([(names::EVENT_NAME.to_owned(), AttributeValue::S(event.name().to_owned()))]);
    if event.version() != 1 {
        map.insert(names::EVENT_VERSION.to_owned(), AttributeValue::N(event.version().to_string()));
    }
    map.extend(reference_attributes(payload));
    AttributeValue::M(map)
}

/// Returns the attributes of a reference, in an event or in the item of a snapshot.
pub(crate) fn reference_attributes(object: &ObjectRef) -> [(String, AttributeValue); 2] {
    [
        (names::OBJECT.to_owned(), AttributeValue::S(object.name.to_string())),
        (names::OBJECT_LENGTH.to_owned(), AttributeValue::N(object.length.to_string())),
    ]
}

impl Attributes<'_> {
    /// Returns a reference from the values of its attributes.
    pub(crate) fn object_ref(&self, name: &str, length: &str) -> Result<ObjectRef, StoreError> {
        let name = name.parse().map_err(|_| self.corrupt("the name of an object is damaged"))?;
        let length = length.parse().map_err(|_| self.corrupt("the length of an object is damaged"))?;
        Ok(ObjectRef { name, length })
    }
}

/// Returns the key of the item that closes the name of an object.
pub(crate) fn closed_key(name: &PayloadName) -> Item {
    key(format!("{}{name}", names::OBJECT_PREFIX), names::OBJECT_KEY)
}

impl Table {
    /// Returns the payload store, for an item that refers to an object.
    pub(crate) fn objects(&self, what: impl FnOnce() -> String) -> Result<&ObjectStore, StoreError> {
        self.objects.as_ref().ok_or_else(|| {
            let reason = format!(
                "{} is in a payload store, and this store has none: set it with `payloads` on the builder of the store",
                what()
            );
            StoreError::setup(reason, None)
        })
    }

    /// Returns the check of a transaction that the name of an object is not closed.
    pub(crate) fn is_open(&self, name: &PayloadName) -> Result<TransactWriteItem, StoreError> {
        let check = ConditionCheck::builder()
            .table_name(&self.name)
            .set_key(Some(closed_key(name)))
            .condition_expression(PLACE_IS_FREE)
            .build()
            .map_err(build_error)?;
        Ok(TransactWriteItem::builder().condition_check(check).build())
    }

    /// Stores objects, before the items that refer to them.
    pub(crate) async fn store_objects(
        &self,
        objects: impl Iterator<Item = &LargePayloads>,
    ) -> Result<(), StoreError> {
        let objects: BTreeMap<_, _> = objects.flat_map(|large| large.0.values().cloned()).collect();
        let Some(store) = self.objects.as_ref().filter(|_| !objects.is_empty()) else { return Ok(()) };
        Ok(store.payloads.put_all(objects.into_iter().collect()).await?)
    }

    /// Stores the objects of `large`, and then writes the items that refer to them, in one transaction. The items are
    /// made by `puts`. Objects whose names are closed are stored again under other names.
    pub(crate) async fn transact_large(
        &self,
        large: &mut LargePayloads,
        puts: impl Fn(&LargePayloads) -> Result<Vec<TransactWriteItem>, StoreError>,
    ) -> Result<Written, StoreError> {
        let mut was_unknown = false;
        loop {
            let stored = self.store_objects(std::iter::once(&*large)).await;
            stored.map_err(|error| qualified(error, was_unknown))?;
            let mut items = puts(large)?;
            let count = items.len();
            let names: Vec<_> = large.names().into_iter().collect();
            for name in &names {
                items.push(self.is_open(name)?);
            }
            let outcome = self.transact(items).await.map_err(|error| qualified(error, was_unknown))?;
            let mut outcome = match outcome {
                Transacted::Done(cost) => return Ok(Written::Done(cost)),
                Transacted::Cancelled(cancelled) => cancelled,
            };
            was_unknown |= outcome.is_outcome_unknown;
            let (items, checks) = outcome.reasons.split_at(count);
            let closed = names.into_iter().zip(checks).filter(|(_, reason)| reason.is_condition());
            let closed: BTreeSet<_> = closed.map(|(name, _)| name).collect();
            if closed.is_empty() || items.iter().any(Reason::is_condition) {
                outcome.is_outcome_unknown = was_unknown;
                return Ok(Written::Refused(outcome.failed_condition()?));
            }
            large.rename(&closed);
        }
    }

    /// Reads the objects to which `parts` refer, and completes their events.
    ///
    /// # Errors
    ///
    /// Those of [`complete`]. [`StoreError::Setup`] if there is no payload store.
    pub(crate) async fn complete<'a>(
        &self,
        stream: &StreamId,
        parts: impl IntoIterator<Item = &'a mut Part>,
    ) -> Result<(), StoreError> {
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_complete()).collect();
        let Some(part) = parts.first() else { return Ok(()) };
        let version = part.large[0].version;
        let objects = self.objects(|| format!("the event at version {version} of the stream `{stream}`"))?;
        complete(&objects.payloads, parts).await
    }
}

/// Reads the objects to which `parts` refer, and completes their events.
///
/// # Errors
///
/// [`StoreError::Corrupt`] if an object is missing or damaged.
pub(crate) async fn complete(payloads: &Payloads, parts: Vec<&mut Part>) -> Result<(), StoreError> {
    let large: Vec<_> = parts
        .into_iter()
        .flat_map(|part| {
            let large = std::mem::take(&mut part.large);
            let first = part.commit.first;
            let mut events: Vec<_> = part.commit.events.iter_mut().map(Some).collect();
            large.into_iter().filter_map(move |large| {
                let event = events.get_mut(large.version.since(first) as usize)?.take()?;
                Some((event, large))
            })
        })
        .collect();
    let wanted = large.iter().map(|(_, large)| (large.payload.name.clone(), large.payload.length));
    let contents = payloads.get_all(wanted.collect()).await?;
    for ((event, large), content) in large.into_iter().zip(contents) {
        let payload = String::from_utf8(content.into()).map_err(|_| {
            StoreError::corrupt_item(format!("the object `{}`", large.payload.name), "it is not UTF-8")
        })?;
        *event = EventData::new(event.name().to_owned(), event.version(), payload);
    }
    Ok(())
}
