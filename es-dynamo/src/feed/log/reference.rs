//! References to commits, of which pages consist.

use std::fmt;
use std::sync::Arc;

use es_core::event::{CommitId, EventData};
use es_core::feed::EventFilter;
#[cfg(feature = "indexer")]
use es_core::store::{Append, Appended};
use es_core::store::{Commit, is_erased};
use es_core::{StreamId, Version};

/// The stored names of the events in a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// The distinct names.
    These(Vec<Arc<str>>),
    /// The names are not known, because the events are erased, or there are too many to store.
    Any,
}

impl Names {
    fn of<'a>(events: impl Iterator<Item = &'a EventData>) -> Self {
        let mut names: Vec<Arc<str>> = Vec::new();
        for event in events {
            if is_erased(event) {
                // The events may come back from an archive.
                return Self::Any;
            }
            if !names.iter().any(|name| **name == *event.name()) {
                names.push(event.name().into());
            }
            if names.len() > MAX_NAMES {
                return Self::Any;
            }
        }
        Self::These(names)
    }
}

/// The last 32 bits of a commit's id, which distinguish it from another commit with the same versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CommitTag(pub(crate) u32);

impl CommitTag {
    pub(crate) fn of(id: CommitId) -> Self {
        Self(id.as_uuid().as_u128() as u32)
    }

    fn parse(text: &str) -> Option<Self> {
        let sound = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u32::from_str_radix(text, 16).ok().filter(|_| sound).map(Self)
    }
}

impl fmt::Display for CommitTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A reference to a commit, or to several commits in one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) stream: StreamId,
    pub(crate) first: Version,
    pub(crate) last: Version,
    pub(crate) tag: CommitTag,
    pub(crate) names: Names,
}

impl Reference {
    /// Returns the reference to the item of `stream` with the commit `first`, and with those that follow it in the
    /// item.
    pub(crate) fn to(stream: &StreamId, first: &Commit, following: &[Commit]) -> Self {
        let events = std::iter::once(first).chain(following).flat_map(|commit| &commit.events);
        let (last, tag) = (following.last().unwrap_or(first).last(), CommitTag::of(first.id));
        Self { stream: stream.clone(), first: first.first, last, tag, names: Names::of(events) }
    }

    /// Returns the reference to the item, or the items, that an append has written.
    #[cfg(feature = "indexer")]
    pub(crate) fn appended(append: &Append, appended: &Appended) -> Self {
        let names = Names::of(append.commits().iter().flat_map(|commit| &commit.events));
        let (stream, tag) = (append.stream().clone(), CommitTag::of(append.id()));
        Self { stream, first: appended.first, last: appended.last, tag, names }
    }

    /// Returns the number of events.
    pub(crate) fn events(&self) -> u64 {
        self.last.since(self.first) + 1
    }

    /// Returns whether the filter may match any of the events.
    pub(crate) fn is_taken(&self, filter: &EventFilter) -> bool {
        match &self.names {
            Names::These(names) => names.iter().any(|name| filter.takes(&self.stream, name)),
            Names::Any => true,
        }
    }

    /// Encodes the reference for a page, for example as `0 12-14 0,2 1f0c93ab 7f3a…`: the index of the aggregate's
    /// name, the versions, the indexes of the events' names, the end of the commit's id, and the id of the aggregate.
    pub(crate) fn encode(&self, aggregates: &mut NameTable, kinds: &mut NameTable) -> String {
        let aggregate = aggregates.place(self.stream.aggregate());
        let versions = match self.first == self.last {
            true => self.first.to_string(),
            false => format!("{}-{}", self.first, self.last),
        };
        let names = match &self.names {
            Names::Any => "*".to_owned(),
            Names::These(names) => {
                let places = names.iter().map(|name| kinds.place(name).to_string());
                places.collect::<Vec<_>>().join(",")
            }
        };
        format!("{aggregate} {versions} {names} {} {}", self.tag, self.stream.id())
    }

    /// Decodes a reference.
    pub(crate) fn decode(text: &str, aggregates: &[Arc<str>], kinds: &[Arc<str>]) -> Option<Self> {
        let mut fields = text.splitn(5, ' ');
        let (aggregate, versions, names) = (fields.next()?, fields.next()?, fields.next()?);
        let (tag, id) = (CommitTag::parse(fields.next()?)?, fields.next()?);
        let aggregate = aggregates.get(aggregate.parse::<usize>().ok()?)?;
        let stream = StreamId::new(aggregate, id).ok()?;
        let (first, last) = versions.split_once('-').unwrap_or((versions, versions));
        let (first, last) = (Version::new(first.parse().ok()?), Version::new(last.parse().ok()?));
        if first.is_none() || last < first || last > Version::MAX {
            return None;
        }
        let names = match names {
            "*" => Names::Any,
            places => {
                let place = |place: &str| kinds.get(place.parse::<usize>().ok()?).cloned();
                Names::These(places.split(',').map(place).collect::<Option<_>>()?)
            }
        };
        Some(Self { stream, first, last, tag, names })
    }
}

/// The maximum number of names in a reference.
const MAX_NAMES: usize = 100;

/// Names in the order in which they first occurred.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameTable {
    names: Vec<Arc<str>>,
}

impl NameTable {
    fn place(&mut self, name: &str) -> usize {
        self.names.iter().position(|known| **known == *name).unwrap_or_else(|| {
            self.names.push(name.into());
            self.names.len() - 1
        })
    }

    pub(crate) fn into_names(self) -> Vec<Arc<str>> {
        self.names
    }
}
