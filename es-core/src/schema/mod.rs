//! Shapes of stored data: the types inside events, and their fields.

mod impls;
pub(crate) mod probe;

use std::collections::BTreeMap;

use crate::event::Field;

/// A type that is used inside events, and whose shape is part of the shape of those events.
///
/// Derive it for the types inside your events, so that the schema lock (`testing::SchemaLock`, behind the feature
/// `testing`) also detects changes in these types. For a type without `Schema`, the lock only records the name. Types
/// of the standard library implement it, including collections of types that do.
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
#[diagnostic::on_unimplemented(
    message = "the shape of `{Self}` is unknown",
    label = "does not implement `Schema`",
    note = "add `Schema` to the derives of `{Self}`: `#[derive(Schema)]`"
)]
pub trait Schema {
    /// Adds this type to `types`, and the types of its fields.
    fn describe(types: &mut Types);
}

/// Types by name, each with its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Types {
    found: BTreeMap<&'static str, &'static [Field]>,
}

impl Types {
    /// Adds a type. Returns `true` if it was not present, in which case the types of its fields must be added, too.
    pub fn add(&mut self, name: &'static str, parts: &'static [Field]) -> bool {
        self.found.insert(name, parts).is_none()
    }

    /// Returns all types in the order of their names, each with its fields.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static [Field])> {
        self.found.iter().map(|(name, parts)| (*name, *parts))
    }
}
