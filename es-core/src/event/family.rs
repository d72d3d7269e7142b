//! The payloads of event families: each variant of the enum is stored as an event, without the variant's name.
//!
//! serde writes a variant as `{"Placed": {…}}`. The name is already stored next to the payload, so only the content
//! `{…}` is kept. Attributes on the fields keep their effect.

use std::fmt::Display;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, VariantAccess, Visitor,
};
use serde::ser::{self, Impossible, Serialize, SerializeStruct, SerializeTuple, Serializer};

use super::json::{malformed, without_values};
use super::{DecodeError, EncodeError, EventData};
use crate::personal::encoding;

/// Returns the payload of `value`, a variant that is stored under `name`.
///
/// # Errors
///
/// [`EncodeError`] if the content cannot be represented in JSON.
pub fn encode_variant<T: Serialize>(name: &str, value: &T) -> Result<String, EncodeError> {
    let mut bytes = Vec::with_capacity(128);
    encoding(|| value.serialize(Content(&mut serde_json::Serializer::new(&mut bytes))))
        .map_err(|error| EncodeError::new(name, without_values(&error)))?;
    String::from_utf8(bytes).map_err(|_| EncodeError::new(name, "its JSON is not UTF-8"))
}

/// Decodes a stored event as the variant that serde calls `variant`.
///
/// # Errors
///
/// [`DecodeError::Malformed`] if the payload does not match the variant.
pub fn decode_variant<T: DeserializeOwned>(variant: &str, stored: &EventData) -> Result<T, DecodeError> {
    let mut json = serde_json::Deserializer::from_str(stored.payload());
    T::deserialize(Variant { name: variant, content: &mut json })
        .and_then(|value| json.end().map(|()| value))
        .map_err(|error| malformed(stored, &error))
}

/// Serializes the content of a variant, and rejects everything else.
struct Content<S>(S);

fn no_variant<E: ser::Error>() -> E {
    E::custom("an event family must be an enum with a derived `Serialize`")
}

macro_rules! refuse {
    ($($method:ident($($value:ty),*);)*) => {
        $(fn $method(self, $(_: $value),*) -> Result<S::Ok, S::Error> { Err(no_variant()) })*
    };
}

impl<S: Serializer> Serializer for Content<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Impossible<S::Ok, S::Error>;
    type SerializeTuple = Impossible<S::Ok, S::Error>;
    type SerializeTupleStruct = Impossible<S::Ok, S::Error>;
    type SerializeTupleVariant = TupleContent<S::SerializeTuple>;
    type SerializeMap = Impossible<S::Ok, S::Error>;
    type SerializeStruct = Impossible<S::Ok, S::Error>;
    type SerializeStructVariant = StructContent<S::SerializeStruct>;

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<S::Ok, S::Error> {
        self.0.serialize_unit()
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        value.serialize(self.0)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.0.serialize_tuple(len).map(TupleContent)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.0.serialize_struct(name, len).map(StructContent)
    }

    refuse! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
    }

    fn serialize_some<T: ?Sized + Serialize>(self, _: &T) -> Result<S::Ok, S::Error> {
        Err(no_variant())
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: &T,
    ) -> Result<S::Ok, S::Error> {
        Err(no_variant())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        Err(no_variant())
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, S::Error> {
        Err(no_variant())
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        Err(no_variant())
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        Err(no_variant())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, S::Error> {
        Err(no_variant())
    }

    fn collect_str<T: ?Sized + Display>(self, _: &T) -> Result<S::Ok, S::Error> {
        Err(no_variant())
    }
}

struct TupleContent<S>(S);

impl<S: SerializeTuple> ser::SerializeTupleVariant for TupleContent<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), S::Error> {
        self.0.serialize_element(value)
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}

struct StructContent<S>(S);

impl<S: SerializeStruct> ser::SerializeStructVariant for StructContent<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_field<T: ?Sized + Serialize>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), S::Error> {
        self.0.serialize_field(key, value)
    }

    fn skip_field(&mut self, key: &'static str) -> Result<(), S::Error> {
        self.0.skip_field(key)
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}

/// Deserializes a content as the variant `name`.
struct Variant<'a, D> {
    name: &'a str,
    content: D,
}

impl<'de, D: de::Deserializer<'de>> de::Deserializer<'de> for Variant<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, D::Error> {
        Err(de::Error::custom("an event family must be an enum with a derived `Deserialize`"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_enum(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de, D: de::Deserializer<'de>> EnumAccess<'de> for Variant<'_, D> {
    type Error = D::Error;
    type Variant = ReadContent<D>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, ReadContent<D>), D::Error> {
        let variant = seed.deserialize(IntoDeserializer::<D::Error>::into_deserializer(self.name))?;
        Ok((variant, ReadContent(self.content)))
    }
}

struct ReadContent<D>(D);

impl<'de, D: de::Deserializer<'de>> VariantAccess<'de> for ReadContent<D> {
    type Error = D::Error;

    fn unit_variant(self) -> Result<(), D::Error> {
        de::Deserialize::deserialize(self.0)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, D::Error> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct("variant", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum DoorEvent {
        Opened,
        Named(String),
        Moved(i32, i32),
        Painted {
            color: String,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            shade: Option<u8>,
        },
    }

    #[test]
    fn stores_the_content_alone_and_reads_it_back() {
        let cases = [
            (DoorEvent::Opened, "Opened", "null"),
            (DoorEvent::Named("front".to_owned()), "Named", "\"front\""),
            (DoorEvent::Moved(1, -2), "Moved", "[1,-2]"),
            (DoorEvent::Painted { color: "red".to_owned(), shade: None }, "Painted", r#"{"color":"red"}"#),
        ];
        for (event, variant, payload) in cases {
            assert_eq!(encode_variant(variant, &event).expect("encodes"), payload);
            let stored = EventData::new(variant, 1, payload);
            assert_eq!(decode_variant::<DoorEvent>(variant, &stored).expect("decodes"), event);
        }
    }

    #[test]
    fn refuses_what_is_left_over() {
        let stored = EventData::new("Named", 1, "\"front\" 1");
        assert!(decode_variant::<DoorEvent>("Named", &stored).is_err());
    }
}
