//! Kinds of events: stored names, schema versions, and shapes.

mod assertions;

use std::fmt;

pub use assertions::{assert_belongs, assert_distinct, assert_follows, assert_retired};

use crate::schema::Types;

/// A kind of stored event: its name, the schema version of its payload, and its earlier names and versions.
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
    /// The name of the field, or its position if it is unnamed.
    pub name: &'static str,
    /// The type of the field, as written in the source.
    pub ty: &'static str,
}

impl Field {
    /// Creates a field `name` of type `ty`.
    #[must_use]
    pub const fn new(name: &'static str, ty: &'static str) -> Self {
        Self { name, ty }
    }
}

impl EventKind {
    /// Creates a kind with the stored name `name` and the schema version `version`, which is at least 1.
    #[must_use]
    pub const fn new(name: &'static str, version: u32) -> Self {
        Self { name, version, aliases: &[], previous: None, fields: &[], types: |_| {} }
    }

    /// Sets the names under which events of this kind were stored earlier.
    #[must_use]
    pub const fn with_aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// Sets the kind of the previous schema version.
    #[must_use]
    pub const fn with_previous(mut self, previous: &'static EventKind) -> Self {
        self.previous = Some(previous);
        self
    }

    /// Sets the fields of the payload.
    #[must_use]
    pub const fn with_fields(mut self, fields: &'static [Field]) -> Self {
        self.fields = fields;
        self
    }

    /// Sets the function that collects the types of the fields.
    #[must_use]
    pub const fn with_types(mut self, types: fn(&mut Types)) -> Self {
        self.types = types;
        self
    }

    /// Returns the stored name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the schema version that is written.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Returns the names under which events of this kind were stored earlier.
    #[must_use]
    pub const fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    /// Returns the kind of the previous schema version, which can still be decoded.
    #[must_use]
    pub const fn previous(&self) -> Option<&'static EventKind> {
        self.previous
    }

    /// Returns this version and all supported earlier ones, newest first.
    pub fn versions(&self) -> impl Iterator<Item = &EventKind> {
        std::iter::successors(Some(self), |kind| kind.previous)
    }

    /// Returns the fields of the payload.
    #[must_use]
    pub const fn fields(&self) -> &'static [Field] {
        self.fields
    }

    /// Returns the types of the fields that implement [`Schema`](crate::Schema), and the types inside them.
    #[must_use]
    pub fn types(&self) -> Types {
        let mut types = Types::default();
        (self.types)(&mut types);
        types
    }

    /// Returns whether `name` is the stored name of this kind, or one of its aliases.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

/// The functions that collect types are not compared, because the fields determine them.
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

// The functions below run at compile time: the macros call them in constants, because only the compiler knows the
// stored names of all events of an aggregate.

/// Returns the total number of kinds in the parts.
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

/// Concatenates the kinds of the parts. `N` must be the result of [`count_kinds`].
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
