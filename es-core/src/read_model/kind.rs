//! The kinds of values in keys, determined from their types.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::Error;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

/// The kind of a type's values in a key, as far as the type's `Deserialize` implementation shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// A string, or an enum without fields.
    Text,
    /// An integer.
    Number,
    /// A `bool`.
    Bool,
    /// An instant. Its encoding does not depend on the time zone.
    Time,
    /// A date, with or without a time of day.
    Date,
    /// Unknown until there is a value.
    Any,
}

impl KeyKind {
    /// Returns the kind of the values of type `T`.
    #[must_use]
    pub fn of<T: DeserializeOwned>() -> Self {
        let asked = Cell::new(Self::Any);
        let accepts = |text| T::deserialize(Probe { text, asked: &asked }).is_ok();
        // A type that asks for a string and accepts any string is a text. A time accepts only times.
        match accepts("not a time") {
            false if accepts("2030-01-01T00:00:00+02:00") => Self::Time,
            false if accepts("2030-01-01") || accepts("2030-01-01T00:00:00") => Self::Date,
            _ => asked.get(),
        }
    }

    /// Returns the name of the kind in error messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Number => "an integer",
            Self::Bool => "a `bool`",
            Self::Time => "a time",
            Self::Date => "a date",
            Self::Any => "a value",
        }
    }
}

/// The kinds of a row's key and of its index fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowKinds {
    key: KeyKind,
    /// In the order of `Row::INDEXES`: the group, followed by the order fields.
    indexes: Vec<Vec<KeyKind>>,
}

impl RowKinds {
    /// Creates the kinds of a row from the kind of its key and those of the fields of each index.
    #[must_use]
    pub const fn new(key: KeyKind, indexes: Vec<Vec<KeyKind>>) -> Self {
        Self { key, indexes }
    }

    /// Returns the kind of the key.
    #[must_use]
    pub fn key(&self) -> KeyKind {
        self.key
    }

    /// Returns the kinds of the fields of the index with this number.
    #[must_use]
    pub fn of_index(&self, number: usize) -> &[KeyKind] {
        self.indexes.get(number).map_or(&[], Vec::as_slice)
    }
}

/// Records the kind of value that a type asks for, and passes it a string if it asks for one.
#[derive(Clone, Copy)]
struct Probe<'a> {
    text: &'static str,
    asked: &'a Cell<KeyKind>,
}

/// Records the requested kind, and returns an error.
macro_rules! probed {
    ($($method:ident)* => $kind:ident) => {
        $(fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            self.asked.set(KeyKind::$kind);
            Err(Error::custom("a kind, not a value"))
        })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    probed! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 => Number
    }
    probed!(deserialize_bool => Bool);
    probed!(deserialize_char => Text);
    probed! {
        deserialize_any deserialize_f32 deserialize_f64 deserialize_bytes deserialize_byte_buf
        deserialize_unit deserialize_seq deserialize_map deserialize_identifier
        deserialize_ignored_any => Any
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.asked.set(KeyKind::Text);
        visitor.visit_str(self.text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.asked.set(KeyKind::Text);
        Err(Error::custom("a kind, not a value"))
    }

    forward_to_deserialize_any!(unit_struct tuple tuple_struct struct);
}

/// Determines the kind of a field's type. Generated code calls `(&KeyProbe::<T>::new()).kind()` and
/// `(&KeyProbe::<T>::new()).order()`, for which the compiler selects the first of two traits that applies.
pub struct KeyProbe<T: ?Sized>(PhantomData<T>);

impl<T: ?Sized> KeyProbe<T> {
    #[allow(clippy::new_without_default, missing_docs)] // for generated code alone
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: ?Sized> fmt::Debug for KeyProbe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyProbe")
    }
}

#[allow(missing_docs)] // for generated code alone
mod probes {
    use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

    use super::{DeserializeOwned, KeyKind, KeyProbe};

    pub trait KnownKind {
        fn kind(&self) -> KeyKind;
    }

    impl<T: DeserializeOwned> KnownKind for KeyProbe<T> {
        fn kind(&self) -> KeyKind {
            KeyKind::of::<T>()
        }
    }

    pub trait UnknownKind {
        fn kind(&self) -> KeyKind;
    }

    impl<T: ?Sized> UnknownKind for &KeyProbe<T> {
        fn kind(&self) -> KeyKind {
            KeyKind::Any
        }
    }

    /// For types that can never be part of a key.
    pub trait NoOrder {
        fn order(&self) -> Unordered;
    }

    /// For all other types.
    pub trait SomeOrder {
        fn order(&self) -> Ordered;
    }

    impl<T: ?Sized> SomeOrder for &KeyProbe<T> {
        fn order(&self) -> Ordered {
            Ordered
        }
    }

    #[derive(Debug)]
    pub struct Ordered;
    #[derive(Debug)]
    pub struct Unordered;

    /// Implemented for types whose values can be part of a key, as far as the type determines it.
    #[diagnostic::on_unimplemented(
        message = "`{T}` cannot be part of the key or an index of a row",
        label = "not a string, an integer, or a `bool`",
        note = "use a string, an integer (such as cents), a `bool`, or a type that is serialized as one of these, such as an id, a date, or an enum without fields"
    )]
    pub trait CanBeKey<T: ?Sized> {}

    #[diagnostic::do_not_recommend]
    impl<T: ?Sized> CanBeKey<T> for Ordered {}

    pub fn require_key<T: ?Sized, O: CanBeKey<T>>(_: &O) {}

    macro_rules! no_order {
        ($([$($of:ident),*] $ty:ty),* $(,)?) => {
            $(
                impl<$($of),*> NoOrder for KeyProbe<$ty> {
                    fn order(&self) -> Unordered {
                        Unordered
                    }
                }
            )*
        };
    }

    no_order! {
        [] f32, [] f64, [] Option<f32>, [] Option<f64>,
        [T] Vec<T>, [T] Option<Vec<T>>, [T, S] HashSet<T, S>, [T] BTreeSet<T>,
        [K, V, S] HashMap<K, V, S>, [K, V] BTreeMap<K, V>, [A, B] (A, B), [A, B, C] (A, B, C),
    }
}

pub use probes::{KnownKind, NoOrder, SomeOrder, UnknownKind, require_key};

#[cfg(test)]
mod tests {
    use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, Utc};
    use serde::{Deserialize, Serialize};
    use uuid::Uuid;

    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(crate = "crate::serde")]
    struct Id(Uuid);

    #[derive(Serialize, Deserialize)]
    #[serde(crate = "crate::serde")]
    struct Since(Option<DateTime<FixedOffset>>);

    #[derive(Serialize, Deserialize)]
    #[serde(crate = "crate::serde")]
    enum Color {
        Red,
    }

    #[derive(Clone, Serialize, Deserialize)]
    #[serde(crate = "crate::serde", try_from = "u32", into = "u32")]
    struct Even(u32);

    impl TryFrom<u32> for Even {
        type Error = String;
        fn try_from(number: u32) -> Result<Self, String> {
            Err(format!("{number} is odd"))
        }
    }

    impl From<Even> for u32 {
        fn from(even: Even) -> Self {
            even.0
        }
    }

    #[test]
    fn the_kind_of_a_type_is_known_without_a_value() {
        let texts = [KeyKind::of::<String>(), KeyKind::of::<Option<String>>(), KeyKind::of::<char>()];
        assert_eq!(texts, [KeyKind::Text; 3]);
        assert_eq!(KeyKind::of::<Color>(), KeyKind::Text);
        assert_eq!([KeyKind::of::<u8>(), KeyKind::of::<Option<i64>>()], [KeyKind::Number; 2]);
        assert_eq!(KeyKind::of::<bool>(), KeyKind::Bool);
        assert_eq!([KeyKind::of::<DateTime<Utc>>(), KeyKind::of::<Since>()], [KeyKind::Time; 2]);
        assert_eq!([KeyKind::of::<NaiveDate>(), KeyKind::of::<NaiveDateTime>()], [KeyKind::Date; 2]);
        assert_eq!([KeyKind::of::<f64>(), KeyKind::of::<Vec<u8>>()], [KeyKind::Any; 2]);
        assert_eq!([KeyKind::of::<Id>(), KeyKind::of::<Even>()], [KeyKind::Text, KeyKind::Number]);
    }
}
