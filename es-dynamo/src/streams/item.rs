//! The items of commits: their layout, and their decoding from both representations of attributes.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, Utc};
use es_core::event::{CommitId, EventData};
use es_core::store::{
    Append, Claim, Commit, MAX_ITEM_BYTES, MAX_WRITE_BYTES, MAX_WRITE_ITEMS, NewCommit, erased_event, limits,
};
use es_core::{Metadata, StoreError, StreamId, Version};

use super::compression::{self, COMPRESSED_COMMIT};
use super::group::{self, MemberFields, SEVERAL_COMMITS, group_item};
use super::lifecycle::{ERASED, LIFECYCLE};
use super::objects::{LargeEvent, LargePayloads, ObjectRef, WITH_OBJECTS, large_event_value};
use crate::table::{Item, item_size, names, unknown_format, value_size};

/// Returns the items of an append whose first event has the version `first`: one for several commits, and one or more
/// for a single commit.
///
/// # Errors
///
/// Those of [`commit_items`].
pub(crate) fn append_items(append: &Append, first: Version) -> Result<Vec<Item>, StoreError> {
    append_items_with(append, first, &LargePayloads::default())
}

/// Like [`append_items`], with the payloads of some events as objects.
pub(crate) fn append_items_with(
    append: &Append,
    first: Version,
    large: &LargePayloads,
) -> Result<Vec<Item>, StoreError> {
    match append.commits() {
        [commit] => commit_items(append.stream(), first, commit, &[], large),
        commits => Ok(vec![group_item(append.stream(), first, commits)?]),
    }
}

/// Returns the items of `commit`, whose first event has the version `first`: one, or several if it does not fit into
/// one. The first one lists the claims that the commit takes, so that they can be released when the stream is deleted.
/// The items refer to the objects of `large`.
///
/// # Errors
///
/// [`StoreError::TooLarge`] if an event or the metadata does not fit into an item, or the commit into a transaction.
pub(crate) fn commit_items(
    stream: &StreamId,
    first: Version,
    commit: &NewCommit,
    claims: &[&Claim],
    large: &LargePayloads,
) -> Result<Vec<Item>, StoreError> {
    let whole = CommitItems::of(stream, first, commit).with_claims(claims);
    let value = |(index, event): (usize, &EventData)| match large.get(index) {
        None => event_value(event),
        Some(payload) => large_event_value(event, &payload),
    };
    let values = || commit.events.iter().enumerate().map(value);
    let single = whole.item(first, whole.last, values().collect())?;
    if item_size(&single) <= MAX_ITEM_BYTES {
        return Ok(vec![single]);
    }

    let mut items = Vec::new();
    let mut part = Vec::new();
    let (mut part_first, mut part_bytes) = (first, 0);
    let frame = whole.frame_size()?;
    limits::check_frame(stream, frame)?;
    for ((value, event), version) in values().zip(&commit.events).zip(first.get()..) {
        let bytes = 1 + value_size(&value);
        if frame + bytes > MAX_ITEM_BYTES {
            let what = format!("the event `{}` at version {version} of the stream `{stream}`", event.name());
            return Err(StoreError::needs_payload_store(what, frame + bytes));
        }
        if frame + part_bytes + bytes > MAX_ITEM_BYTES {
            let part_last = Version::new(version).previous();
            items.push(whole.item(part_first, part_last, std::mem::take(&mut part))?);
            (part_first, part_bytes) = (Version::new(version), 0);
        }
        part_bytes += bytes;
        part.push(value);
    }
    items.push(whole.item(part_first, whole.last, part)?);

    let bytes = items.iter().map(item_size).sum();
    if items.len() > MAX_WRITE_ITEMS || bytes > MAX_WRITE_BYTES {
        let what = format!("a commit of {} events for the stream `{stream}`", commit.events.len());
        return Err(StoreError::too_large(what, bytes, MAX_WRITE_BYTES));
    }
    Ok(items)
}

/// Returns the size of an event in an item.
pub(crate) fn event_size(event: &EventData) -> u64 {
    let empty = EventData::new(event.name().to_owned(), event.version(), "");
    1 + value_size(&event_value(&empty)) + event.payload().len() as u64
}

/// The items of a commit: one, or several, each with a part of its events.
#[derive(Clone, Copy)]
pub(super) struct CommitItems<'a> {
    stream: &'a StreamId,
    first: Version,
    last: Version,
    commit: &'a NewCommit,
    claims: &'a [&'a Claim],
}

impl<'a> CommitItems<'a> {
    /// Returns the items of `commit`, whose first event has the version `first`.
    pub(super) fn of(stream: &'a StreamId, first: Version, commit: &'a NewCommit) -> Self {
        let last = first.plus(commit.events.len() as u64).previous();
        Self { stream, first, last, commit, claims: &[] }
    }

    /// Lists the claims that the commit takes in its first item.
    pub(super) fn with_claims(self, claims: &'a [&'a Claim]) -> Self {
        Self { claims, ..self }
    }

    /// Returns the item with the events `first` to `last`.
    pub(super) fn item(
        &self,
        first: Version,
        last: Version,
        events: Vec<AttributeValue>,
    ) -> Result<Item, StoreError> {
        let Self { stream, commit, claims, .. } = *self;
        let is_object =
            |event: &AttributeValue| event.as_m().is_ok_and(|map| map.contains_key(names::OBJECT));
        let has_objects = events.iter().any(is_object);
        let mut item = Item::from([
            (names::PARTITION_KEY.to_owned(), AttributeValue::S(stream.as_str().to_owned())),
            (names::SORT_KEY.to_owned(), AttributeValue::S(names::commit_key(first))),
            (names::LAST_VERSION.to_owned(), AttributeValue::N(last.to_string())),
            (names::COMMIT_ID.to_owned(), AttributeValue::S(commit.id.to_string())),
            (names::TIME.to_owned(), AttributeValue::N(commit.time.timestamp_millis().to_string())),
            (names::EVENTS.to_owned(), AttributeValue::L(events)),
        ]);
        if (first, last) != (self.first, self.last) {
            item.insert(names::COMMIT_FIRST.to_owned(), AttributeValue::N(self.first.to_string()));
            item.insert(names::COMMIT_LAST.to_owned(), AttributeValue::N(self.last.to_string()));
        }
        if first == self.first {
            item.extend(metadata_value(commit)?.map(|metadata| (names::METADATA.to_owned(), metadata)));
            if !claims.is_empty() {
                let text = |claim: &&Claim| AttributeValue::S(format!("{}#{}", claim.name(), claim.value()));
                let claims = claims.iter().map(text).collect();
                item.insert(names::TAKEN_CLAIMS.to_owned(), AttributeValue::L(claims));
            }
        }
        if commit.state().is_some() {
            item.insert(names::FORMAT.to_owned(), AttributeValue::N(LIFECYCLE.to_owned()));
        }
        if has_objects {
            item.insert(names::FORMAT.to_owned(), AttributeValue::N(WITH_OBJECTS.to_owned()));
        }
        Ok(item)
    }

    /// Returns an upper bound of the size of an item without its events.
    pub(super) fn frame_size(&self) -> Result<u64, StoreError> {
        Ok(item_size(&self.item(self.first, self.last, Vec::new())?) + 64)
    }
}

/// Returns the metadata as JSON, or `None` if the commit has none.
pub(crate) fn metadata_value(commit: &NewCommit) -> Result<Option<AttributeValue>, StoreError> {
    if commit.metadata.is_empty() {
        return Ok(None);
    }
    let metadata = serde_json::to_string(&commit.metadata)
        .map_err(|_| StoreError::invalid("the metadata of the commit cannot be represented in JSON"))?;
    Ok(Some(AttributeValue::S(metadata)))
}

pub(crate) fn event_value(event: &EventData) -> AttributeValue {
    let mut map = Item::from([
        (names::EVENT_NAME.to_owned(), AttributeValue::S(event.name().to_owned())),
        (names::EVENT_PAYLOAD.to_owned(), AttributeValue::S(event.payload().to_owned())),
    ]);
    if event.version() != 1 {
        map.insert(names::EVENT_VERSION.to_owned(), AttributeValue::N(event.version().to_string()));
    }
    AttributeValue::M(map)
}

/// An upper bound of the events in a transaction: each takes at least 8 bytes, for a map with two names.
const MAX_EVENTS: u64 = MAX_WRITE_BYTES / 8;

/// The content of one item: a commit, a part of one, or several commits.
#[derive(Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) struct Part {
    /// The events of the item as a commit. If it has several commits, the first one.
    pub(crate) commit: Commit,
    /// The other commits, if the item has several.
    pub(crate) following: Vec<Commit>,
    /// The append that the item belongs to.
    pub(crate) whole: CommitHead,
    /// The events of the commit whose payloads are objects. Until they are [completed](crate::table::Table::complete),
    /// they are empty.
    pub(crate) large: Vec<LargeEvent>,
}

impl Part {
    /// Returns the version of the item's last event.
    pub(crate) fn last(&self) -> Version {
        self.following.last().unwrap_or(&self.commit).last()
    }

    /// Returns whether the item has all events of its append.
    pub(crate) fn is_whole(&self) -> bool {
        (self.commit.first, self.last()) == (self.whole.first, self.whole.last)
    }

    /// Returns whether all events have their payloads.
    pub(crate) fn is_complete(&self) -> bool {
        self.large.is_empty()
    }

    /// Returns the commits of the item.
    pub(crate) fn commits(&self) -> impl Iterator<Item = &Commit> {
        std::iter::once(&self.commit).chain(&self.following)
    }

    /// Returns the commits of the item, which must be [whole](Self::is_whole).
    pub(crate) fn into_commits(self) -> impl Iterator<Item = Commit> {
        std::iter::once(self.commit).chain(self.following)
    }

    /// Returns whether a commit with this time ends at `version`.
    pub(crate) fn ends_at(&self, version: Version, time: DateTime<Utc>) -> bool {
        match self.following.is_empty() {
            // All parts of a commit have its time.
            true => self.whole.last == version && self.commit.time == time,
            false => self.commits().any(|commit| commit.last() == version && commit.time == time),
        }
    }

    /// Drops the first ones of several commits: those that end at `version` or before it.
    pub(crate) fn drop_until(&mut self, version: Version) {
        let dropped = self.commits().take_while(|commit| commit.last() <= version).count();
        if let Some(last) = dropped.checked_sub(1)
            && dropped <= self.following.len()
        {
            let next = self.following.drain(..=last).next_back();
            self.commit = next.expect("is not empty");
            (self.whole.first, self.whole.id) = (self.commit.first, self.commit.id);
        }
    }
}

/// A commit, or several in one item, without events: the first version, the last version, and the first id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommitHead {
    pub(crate) id: CommitId,
    pub(crate) first: Version,
    pub(crate) last: Version,
}

/// The attributes that identify the commit of an item.
pub(crate) struct HeadFields<'a> {
    /// The version in the sort key.
    pub(crate) first: Version,
    pub(crate) last: Version,
    pub(crate) whole_first: Option<Version>,
    pub(crate) whole_last: Option<Version>,
    pub(crate) id: Cow<'a, str>,
}

/// The attributes of the item of a commit.
pub(crate) struct PartFields<'a> {
    pub(crate) head: HeadFields<'a>,
    /// The time in milliseconds since the start of 1970.
    pub(crate) time: i64,
    pub(crate) metadata: Option<Cow<'a, str>>,
    pub(crate) events: Vec<EventData>,
    /// The commits, if the item has several.
    pub(crate) members: Option<Vec<MemberFields<'a>>>,
}

impl HeadFields<'_> {
    /// Returns the commit that an item belongs to, or the problem with the item.
    fn check(&self) -> Result<CommitHead, &'static str> {
        let Self { first, last, .. } = *self;
        let (whole_first, whole_last) = (self.whole_first.unwrap_or(first), self.whole_last.unwrap_or(last));
        if last < first || whole_first > first || whole_last < last || whole_first.is_none() {
            return Err("its versions contradict each other");
        }
        if whole_last.since(whole_first) > MAX_EVENTS {
            return Err("its commit has more events than one can have");
        }
        let id = self.id.parse().map_err(|_| "its id is not a UUID")?;
        Ok(CommitHead { id, first: whole_first, last: whole_last })
    }
}

impl PartFields<'_> {
    /// Returns the part of a commit, or the problem with the fields.
    pub(crate) fn check(self) -> Result<Part, &'static str> {
        let whole = self.head.check()?;
        let (HeadFields { first, last, .. }, events) = (self.head, self.events);
        if events.is_empty() || first.plus(events.len() as u64) != last.next() {
            return Err("it does not have as many events as versions");
        }
        if let Some(members) = self.members {
            if (whole.first, whole.last) != (first, last) {
                return Err("it has several commits, and is a part of one");
            }
            let mut commits = group::commits(first, group::members(&whole, self.time, members)?, events)?;
            let commit = commits.remove(0);
            return Ok(Part { commit, following: commits, whole, large: Vec::new() });
        }
        let time = DateTime::from_timestamp_millis(self.time).ok_or("the attribute `at` is out of range")?;
        let commit = with_metadata(Commit::new(whole.id, first, time, events), self.metadata)?;
        Ok(Part { commit, following: Vec::new(), whole, large: Vec::new() })
    }
}

/// Adds the stored metadata, if there is any, to a commit, or returns the problem with it.
pub(crate) fn with_metadata(commit: Commit, text: Option<Cow<'_, str>>) -> Result<Commit, &'static str> {
    let Some(text) = text else { return Ok(commit) };
    let metadata: Metadata = serde_json::from_str(&text).map_err(|_| "its metadata is damaged")?;
    Ok(commit.with_metadata(metadata))
}

/// The attributes of the item of a commit as they are stored, without those that are missing.
#[derive(Default)]
struct StoredAttributes<'a> {
    last: Option<Version>,
    whole_first: Option<Version>,
    whole_last: Option<Version>,
    id: Option<Cow<'a, str>>,
    time: Option<i64>,
    metadata: Option<Cow<'a, str>>,
    format: Format,
    events: Option<Vec<StoredEvent>>,
    // In format 1, the following are unknown attributes, so their types are checked later.
    members: Option<AttributeValue>,
    compressed: Option<AttributeValue>,
    length: Option<AttributeValue>,
}

/// An event, and the reference to its payload if that is an object.
type StoredEvent = (EventData, Option<ObjectRef>);

impl Attributes<'_> {
    /// Decodes the part of a commit in the item, which is usually the whole commit.
    pub(crate) fn part(mut self) -> Result<Part, StoreError> {
        let first = self.first_version()?;
        let mut stored = self.stored()?;
        let events = self.stored_events(first, &mut stored)?;
        let StoredAttributes { last, whole_first, whole_last, id, time, metadata, format, members, .. } =
            stored;
        let (Some(last), Some(id), Some(time), Some(events)) = (last, id, time, events) else {
            return Err(self.corrupt("one of its attributes is missing"));
        };
        let members = match (format, members) {
            (Format::OneCommit | Format::Lifecycle | Format::Erased | Format::WithObjects, _) => None,
            (Format::Compressed, None) => None,
            (Format::SeveralCommits | Format::Compressed, Some(members)) => {
                Some(self.member_fields(members)?)
            }
            (Format::SeveralCommits, None) => return Err(self.corrupt("one of its attributes is missing")),
        };
        let mut large = Vec::new();
        let events = events.into_iter().zip(first.get()..).map(|((event, payload), version)| {
            large.extend(payload.map(|payload| LargeEvent { version: Version::new(version), payload }));
            event
        });
        let events = events.collect();
        if !large.is_empty() && format != Format::WithObjects {
            return Err(self.corrupt("an event has no payload"));
        }
        let head = HeadFields { first, last, whole_first, whole_last, id };
        let fields = PartFields { head, time, metadata, events, members };
        let part = fields.check().map_err(|reason| self.corrupt(reason))?;
        Ok(Part { large, ..part })
    }

    /// Takes the attributes of a commit's item, and checks their types.
    fn stored<'v>(&mut self) -> Result<StoredAttributes<'v>, StoreError> {
        let mut stored = StoredAttributes::default();
        for (attribute, value) in self.take_all() {
            match (attribute.as_str(), value) {
                (names::EVENTS, AttributeValue::L(list)) => {
                    let decoded = list.into_iter().map(|value| self.event(value));
                    stored.events = Some(decoded.collect::<Result<Vec<_>, _>>()?);
                }
                (names::COMMIT_ID, AttributeValue::S(text)) => stored.id = Some(text.into()),
                (names::METADATA, AttributeValue::S(text)) => stored.metadata = Some(text.into()),
                (names::TIME, AttributeValue::N(number)) => {
                    stored.time = Some(self.parse(names::TIME, &number)?);
                }
                (names::LAST_VERSION, AttributeValue::N(number)) => {
                    stored.last = Some(self.parse_version(names::LAST_VERSION, &number)?);
                }
                (names::COMMIT_FIRST, AttributeValue::N(number)) => {
                    stored.whole_first = Some(self.parse_version(names::COMMIT_FIRST, &number)?);
                }
                (names::COMMIT_LAST, AttributeValue::N(number)) => {
                    stored.whole_last = Some(self.parse_version(names::COMMIT_LAST, &number)?);
                }
                (names::MEMBERS, value) => stored.members = Some(value),
                (names::COMPRESSED_EVENTS, value) => stored.compressed = Some(value),
                (names::EVENTS_LENGTH, value) => stored.length = Some(value),
                (names::FORMAT, AttributeValue::N(number)) => {
                    stored.format =
                        Format::of(&number).ok_or_else(|| self.corrupt(unknown_format(&number)))?;
                }
                (
                    names::EVENTS
                    | names::COMMIT_ID
                    | names::METADATA
                    | names::TIME
                    | names::LAST_VERSION
                    | names::COMMIT_FIRST
                    | names::COMMIT_LAST
                    | names::FORMAT,
                    _,
                ) => return Err(self.corrupt(format!("the attribute `{attribute}` is of another type"))),
                _ => {}
            }
        }
        Ok(stored)
    }

    /// Takes the events as the format stores them: as a list, compressed, or erased.
    fn stored_events(
        &self,
        first: Version,
        stored: &mut StoredAttributes<'_>,
    ) -> Result<Option<Vec<StoredEvent>>, StoreError> {
        match (stored.format, stored.last) {
            (Format::Compressed, _) => {
                let decoded = self.compressed_events(stored.compressed.take(), stored.length.take())?;
                Ok(Some(decoded.into_iter().map(|event| (event, None)).collect()))
            }
            (Format::Erased, Some(last)) => {
                let count = last.next().since(first);
                if count > MAX_EVENTS {
                    return Err(self.corrupt("it has more events than one can have"));
                }
                Ok(Some(vec![(erased_event(), None); count as usize]))
            }
            _ => Ok(stored.events.take()),
        }
    }

    /// Decodes the compressed list of events.
    fn compressed_events(
        &self,
        data: Option<AttributeValue>,
        length: Option<AttributeValue>,
    ) -> Result<Vec<EventData>, StoreError> {
        let (Some(AttributeValue::B(data)), Some(AttributeValue::N(length))) = (data, length) else {
            return Err(self.corrupt("its compressed events are missing, or of another type"));
        };
        let length = self.parse(names::EVENTS_LENGTH, &length)?;
        compression::events(data.as_ref(), length)
            .ok_or_else(|| self.corrupt("its compressed events are damaged"))
    }

    /// Decodes an event of the list. If its payload is an object, returns the reference to it.
    fn event(&self, value: AttributeValue) -> Result<StoredEvent, StoreError> {
        let AttributeValue::M(map) = value else {
            return Err(self.corrupt("an event is not a map"));
        };
        let (mut name, mut version, mut payload) = (None, 1, None);
        let (mut object, mut length) = (None, None);
        for (attribute, value) in map {
            match (attribute.as_str(), value) {
                (names::EVENT_NAME, AttributeValue::S(text)) => name = Some(text),
                (names::EVENT_PAYLOAD, AttributeValue::S(text)) => payload = Some(text),
                (names::EVENT_VERSION, AttributeValue::N(number)) => {
                    version = number
                        .parse()
                        .map_err(|_| self.corrupt("the version of an event is out of range"))?;
                }
                (names::OBJECT, AttributeValue::S(text)) => object = Some(text),
                (names::OBJECT_LENGTH, AttributeValue::N(number)) => length = Some(number),
                (names::EVENT_NAME | names::EVENT_PAYLOAD | names::EVENT_VERSION, _) => {
                    return Err(
                        self.corrupt(format!("the attribute `{attribute}` of an event is of another type"))
                    );
                }
                _ => {}
            }
        }
        match (name, payload, object.zip(length)) {
            // Without the format that allows objects, these are unknown attributes.
            (Some(name), Some(payload), _) => Ok((EventData::new(name, version, payload), None)),
            (Some(name), None, Some((object, length))) => {
                Ok((EventData::new(name, version, ""), Some(self.object_ref(&object, &length)?)))
            }
            _ => Err(self.corrupt("an event has no name or no payload")),
        }
    }

    /// Returns the whole append of the item, without its events.
    pub(crate) fn commit_head(mut self) -> Result<CommitHead, StoreError> {
        self.format()?;
        self.head()
    }

    /// Returns the whole append of the item, and the id and the last version of each commit. There are none if the
    /// boundaries of several commits are damaged.
    pub(crate) fn stored_commits(mut self) -> Result<(CommitHead, Vec<(CommitId, Version)>), StoreError> {
        let format = self.format()?;
        let head = self.head()?;
        let stored = match format {
            Format::OneCommit | Format::Lifecycle | Format::Erased | Format::WithObjects => {
                vec![(head.id, head.last)]
            }
            Format::Compressed if !self.rest.contains_key(names::MEMBERS) => vec![(head.id, head.last)],
            Format::SeveralCommits | Format::Compressed => self.boundaries(&head).unwrap_or_default(),
        };
        Ok((head, stored))
    }

    /// Returns the format.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if it is unknown.
    pub(crate) fn format(&mut self) -> Result<Format, StoreError> {
        let Some(number) = self.optional_digits(names::FORMAT)? else { return Ok(Format::OneCommit) };
        Format::of(&number).ok_or_else(|| self.corrupt(unknown_format(&number)))
    }

    /// Returns the whole append of the item, whose format was checked.
    pub(crate) fn head(&mut self) -> Result<CommitHead, StoreError> {
        let first = self.first_version()?;
        let last = self.version(names::LAST_VERSION)?;
        let whole_first = self.optional_version(names::COMMIT_FIRST)?;
        let whole_last = self.optional_version(names::COMMIT_LAST)?;
        let id = self.text(names::COMMIT_ID)?.into();
        let head = HeadFields { first, last, whole_first, whole_last, id };
        head.check().map_err(|reason| self.corrupt(reason))
    }

    fn boundaries(mut self, whole: &CommitHead) -> Result<Vec<(CommitId, Version)>, StoreError> {
        let time = self.number(names::TIME)?;
        let members = self.rest.remove(names::MEMBERS).unwrap_or(AttributeValue::L(Vec::new()));
        let members = group::members(whole, time, self.member_fields(members)?);
        let members = members.map_err(|reason| self.corrupt(reason))?;
        Ok(members.into_iter().map(|member| (member.id, member.last)).collect())
    }
}

/// The format of a commit's item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    OneCommit,
    SeveralCommits,
    /// A commit with one event of the framework, which changes the state of the stream.
    Lifecycle,
    /// One commit, or several, with compressed events.
    Compressed,
    /// Without the content of its events, which was erased.
    Erased,
    /// A commit, or a part of one, with events whose payloads are objects.
    WithObjects,
}

impl Format {
    pub(crate) fn of(number: &str) -> Option<Self> {
        match number {
            "1" => Some(Self::OneCommit),
            SEVERAL_COMMITS => Some(Self::SeveralCommits),
            LIFECYCLE => Some(Self::Lifecycle),
            COMPRESSED_COMMIT => Some(Self::Compressed),
            ERASED => Some(Self::Erased),
            WITH_OBJECTS => Some(Self::WithObjects),
            _ => None,
        }
    }
}

/// The attributes of an item, which are removed one by one.
///
/// A missing attribute or one of another type is a [`StoreError::Corrupt`] that names the stream, the item, and the
/// attribute, but quotes no value.
pub(crate) struct Attributes<'a> {
    stream: &'a StreamId,
    sort_key: String,
    rest: Item,
}

impl<'a> Attributes<'a> {
    /// Returns the attributes of an item of `stream`.
    pub(crate) fn of(stream: &'a StreamId, mut item: Item) -> Result<Self, StoreError> {
        match item.remove(names::SORT_KEY) {
            Some(AttributeValue::S(sort_key)) => Ok(Self { stream, sort_key, rest: item }),
            _ => Err(StoreError::corrupt(stream, "an item has no sort key")),
        }
    }

    /// Returns all remaining attributes. Iterating over them is faster than looking up each one.
    fn take_all(&mut self) -> Item {
        std::mem::take(&mut self.rest)
    }

    /// Returns an attribute, which is not checked.
    pub(crate) fn take(&mut self, name: &str) -> Option<AttributeValue> {
        self.rest.remove(name)
    }

    pub(crate) fn is_snapshot(&self) -> bool {
        self.sort_key == names::SNAPSHOT_KEY
    }

    /// Returns the version in the sort key of a commit.
    pub(crate) fn first_version(&self) -> Result<Version, StoreError> {
        names::version_of(&self.sort_key).ok_or_else(|| self.corrupt("its sort key is not one of a commit"))
    }

    /// Returns the claims that the commit takes.
    pub(crate) fn taken_claims(&mut self) -> Result<Vec<Claim>, StoreError> {
        let Some(list) = self.rest.remove(names::TAKEN_CLAIMS) else { return Ok(Vec::new()) };
        let claim = |value: &AttributeValue| {
            let (name, value) = value.as_s().ok()?.split_once('#')?;
            Claim::new(name, value).ok()
        };
        let claims = list.as_l().ok().and_then(|list| list.iter().map(claim).collect());
        claims.ok_or_else(|| self.corrupt("its list of claims cannot be read"))
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<String, StoreError> {
        self.optional_text(name)?.ok_or_else(|| self.corrupt(format!("the attribute `{name}` is missing")))
    }

    pub(crate) fn optional_text(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        match self.rest.remove(name) {
            None => Ok(None),
            Some(AttributeValue::S(text)) => Ok(Some(text)),
            Some(_) => Err(self.corrupt(format!("the attribute `{name}` is not a string"))),
        }
    }

    pub(crate) fn number<T: FromStr>(&mut self, name: &str) -> Result<T, StoreError> {
        self.optional_number(name)?.ok_or_else(|| self.corrupt(format!("the attribute `{name}` is missing")))
    }

    pub(crate) fn optional_bytes(&mut self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.rest.remove(name) {
            None => Ok(None),
            Some(AttributeValue::B(bytes)) => Ok(Some(bytes.into_inner())),
            Some(_) => Err(self.corrupt(format!("the attribute `{name}` is not binary"))),
        }
    }

    /// Returns the digits of a number.
    pub(crate) fn optional_digits(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        match self.rest.remove(name) {
            None => Ok(None),
            Some(AttributeValue::N(number)) => Ok(Some(number)),
            Some(_) => Err(self.corrupt(format!("the attribute `{name}` is not a number"))),
        }
    }

    pub(crate) fn optional_number<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, StoreError> {
        match self.rest.remove(name) {
            None => Ok(None),
            Some(AttributeValue::N(number)) => self.parse(name, &number).map(Some),
            Some(_) => Err(self.corrupt(format!("the attribute `{name}` is not a number"))),
        }
    }

    pub(crate) fn version(&mut self, name: &str) -> Result<Version, StoreError> {
        self.optional_version(name)?.ok_or_else(|| self.corrupt(format!("the attribute `{name}` is missing")))
    }

    pub(crate) fn optional_version(&mut self, name: &str) -> Result<Option<Version>, StoreError> {
        match self.optional_number(name)? {
            None => Ok(None),
            Some(number) => self.in_range(name, Version::new(number)).map(Some),
        }
    }

    pub(crate) fn time(&mut self) -> Result<DateTime<Utc>, StoreError> {
        let milliseconds = self.number(names::TIME)?;
        DateTime::from_timestamp_millis(milliseconds)
            .ok_or_else(|| self.corrupt(format!("the attribute `{}` is out of range", names::TIME)))
    }

    /// Parses the number in an attribute.
    pub(crate) fn parse<T: FromStr>(&self, name: &str, number: &str) -> Result<T, StoreError> {
        number.parse().map_err(|_| self.corrupt(format!("the attribute `{name}` is out of range")))
    }

    /// Parses the version in an attribute.
    fn parse_version(&self, name: &str, number: &str) -> Result<Version, StoreError> {
        self.in_range(name, Version::new(self.parse(name, number)?))
    }

    fn in_range(&self, name: &str, version: Version) -> Result<Version, StoreError> {
        if version > Version::MAX {
            return Err(self.corrupt(format!("the attribute `{name}` is out of range")));
        }
        Ok(version)
    }

    /// Returns an error about this item.
    pub(crate) fn corrupt(&self, reason: impl Display) -> StoreError {
        // The sort key may contain any text.
        let key = self.sort_key.chars().take(20).collect::<String>();
        StoreError::corrupt(self.stream, format!("the item {key:?} cannot be read: {reason}"))
    }
}
