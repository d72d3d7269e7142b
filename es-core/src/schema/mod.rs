//! Shapes of stored data: the types that an event contains, and their fields.

mod impls;
pub(crate) mod probe;

use std::collections::BTreeMap;

use crate::event::Field;

/// A type that takes part in events, and whose shape is a part of theirs.
///
/// Derive it for the types that events contain, so that the schema lock (`testing::SchemaLock`, behind the
/// feature `testing`) sees a change in them, too. Types without it are known by their names alone. The types of the standard library,
/// and collections of types that have it, have it as well.
///
/// ```
/// use es_core::{Schema, event};
/// use es_core::serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, PartialEq, Schema, Serialize, Deserialize)]
/// #[serde(crate = "es_core::serde")]
/// pub struct Line { pub sku: String, pub cents: u64 }
///
/// #[event]
/// pub struct OrderPlaced { pub lines: Vec<Line> }
/// ```
pub trait Schema {
    /// Adds this type to `types`, if it has a name, and all that it is made of.
    fn describe(types: &mut Types);
}

/// Types by their names, each with its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Types {
    found: BTreeMap<&'static str, &'static [Field]>,
}

impl Types {
    /// Adds a type by its name; says whether it was not there before, so that its parts are to be added, too.
    pub fn add(&mut self, name: &'static str, parts: &'static [Field]) -> bool {
        self.found.insert(name, parts).is_none()
    }

    /// All types with their parts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static [Field])> {
        self.found.iter().map(|(name, parts)| (*name, *parts))
    }
}
