//! What identifies a kind of event in storage.

mod assertions;

use std::fmt;

pub use assertions::{assert_belongs, assert_distinct, assert_follows, assert_retired};

use crate::schema::Types;

/// A kind of event as it is stored: its name, the schema version of its payload, and its history.
#[derive(Clone, Copy)]
pub struct EventKind {
    name: &'static str,
    version: u32,
    aliases: &'static [&'static str],
    previous: Option<&'static EventKind>,
    fields: &'static [Field],
    types: fn(&mut Types),
}

/// A field of an event's payload: its name in the JSON, and its type as written in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Field {
    /// The name of the field; the position of an unnamed one.
    pub name: &'static str,
    /// The type of the field, as written in the source.
    pub ty: &'static str,
}

impl Field {
    /// The field `name` of type `ty`.
    #[must_use]
    pub const fn new(name: &'static str, ty: &'static str) -> Self {
        Self { name, ty }
    }
}

impl EventKind {
    /// The kind with the stored name `name` whose payloads have the schema version `version`, from 1.
    #[must_use]
    pub const fn new(name: &'static str, version: u32) -> Self {
        Self { name, version, aliases: &[], previous: None, fields: &[], types: |_| {} }
    }

    /// Names that events of this kind were stored under before.
    #[must_use]
    pub const fn with_aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// The kind of the version before this one.
    #[must_use]
    pub const fn with_previous(mut self, previous: &'static EventKind) -> Self {
        self.previous = Some(previous);
        self
    }

    /// The shape of the payload.
    #[must_use]
    pub const fn with_fields(mut self, fields: &'static [Field]) -> Self {
        self.fields = fields;
        self
    }

    /// How the types are found that the fields are made of.
    #[must_use]
    pub const fn with_types(mut self, types: fn(&mut Types)) -> Self {
        self.types = types;
        self
    }

    /// The stored name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The schema version that is written.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Names that events of this kind were stored under before.
    #[must_use]
    pub const fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    /// The kind of the version before this one, which is still read.
    #[must_use]
    pub const fn previous(&self) -> Option<&'static EventKind> {
        self.previous
    }

    /// This version and all before it, which are still read, the newest first.
    pub fn versions(&self) -> impl Iterator<Item = &EventKind> {
        std::iter::successors(Some(self), |kind| kind.previous)
    }

    /// The shape of the payload.
    #[must_use]
    pub const fn fields(&self) -> &'static [Field] {
        self.fields
    }

    /// The types that the fields are made of, as far as they have a [`Schema`](crate::Schema).
    #[must_use]
    pub fn types(&self) -> Types {
        let mut types = Types::default();
        (self.types)(&mut types);
        types
    }

    /// Whether events stored under `name` are of this kind.
    #[must_use]
    pub fn answers_to(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

/// The functions that find types are not compared: they follow from the fields.
impl PartialEq for EventKind {
    fn eq(&self, other: &Self) -> bool {
        (self.name, self.version, self.aliases, self.previous, self.fields)
            == (other.name, other.version, other.aliases, other.previous, other.fields)
    }
}

impl Eq for EventKind {}

impl fmt::Debug for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventKind")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("aliases", &self.aliases)
            .field("previous", &self.previous)
            .field("fields", &self.fields)
            .finish_non_exhaustive()
    }
}

// What follows runs while the user's crate compiles: the macros call it in constants, because only there
// are the stored names of all the events of an aggregate known.

/// How many kinds the parts have together.
#[must_use]
pub const fn count_kinds(parts: &[&[EventKind]]) -> usize {
    let mut count = 0;
    let mut part = 0;
    while part < parts.len() {
        count += parts[part].len();
        part += 1;
    }
    count
}

/// All the kinds of the parts, in order; `N` is [`count_kinds`] of them.
#[must_use]
pub const fn concat_kinds<const N: usize>(parts: &[&[EventKind]]) -> [EventKind; N] {
    let mut all = [EventKind::new("", 1); N];
    let mut filled = 0;
    let mut part = 0;
    while part < parts.len() {
        let mut kind = 0;
        while kind < parts[part].len() {
            all[filled] = parts[part][kind];
            filled += 1;
            kind += 1;
        }
        part += 1;
    }
    all
}
