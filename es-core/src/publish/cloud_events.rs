//! CloudEvents: the envelope that others know.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use chrono::{Datelike, SecondsFormat};
use serde::de::IgnoredAny;

use super::{Envelope, Envelopes};
use crate::event::{DecodeError, EventData, without_values};
use crate::feed::Position;
use crate::projection::{BoxError, EventContext};

/// The media type of a CloudEvent in JSON.
const CONTENT_TYPE: &str = "application/cloudevents+json";

/// The longest name of an attribute that the specification recommends.
const LONGEST_NAME: usize = 20;

/// The names that are taken.
const TAKEN: [&str; 18] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "data",
    "database64",
    "sequence",
    "partitionkey",
    "schemaversion",
    "slice",
    "position",
    "actor",
    "correlationid",
    "causationid",
];

type Extension = Arc<dyn Fn(&EventData, &EventContext) -> Option<String> + Send + Sync>;

/// Makes [CloudEvents 1.0](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md) in
/// [JSON](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md).
///
/// | attribute | what it holds |
/// |---|---|
/// | `id` | the event's id: what to deduplicate by |
/// | `source` | what was given |
/// | `type` | the stored name, after the [prefix](Self::type_prefix) |
/// | `subject`, `partitionkey` | the stream, `order#1001` |
/// | `time` | when the event's commit was decided; left out for a year after 9999 or before 0, which RFC 3339 cannot express |
/// | `datacontenttype` | `application/json` |
/// | `dataschema` | the [address](Self::schemas) of the payload's schema, if there is one |
/// | `sequence` | the event's version in its stream, in twelve digits |
/// | `schemaversion` | the schema version of the payload, a number |
/// | `slice`, `position` | the place in the feed, a number and a text of digits; left out when it is not from the feed |
/// | `actor`, `correlationid`, `causationid` | what the metadata has of them |
/// | `data` | the payload as it is stored, byte for byte |
///
/// `partitionkey`, `sequence` and the two after `actor` are
/// [documented extensions](https://github.com/cloudevents/spec/tree/main/cloudevents/extensions). The
/// application's own metadata is not sent, unless an [`extension`](Self::extension) sends it.
///
/// In all texts except `source` and `dataschema`, characters that the specification forbids in attributes are
/// percent-encoded, and so is `%` itself: the stream `order#a%b` has the subject `order#a%25b`. Different streams
/// therefore have different subjects and partition keys.
///
/// ```
/// use es_core::publish::CloudEvents;
///
/// let envelopes = CloudEvents::source("https://shop.example/orders")?
///     .type_prefix("example.shop.")
///     .extension("tenant", |_, ctx| Some(ctx.metadata().get("tenant")?.as_str()?.to_owned()))?;
/// # Ok::<_, es_core::publish::InvalidCloudEvents>(())
/// ```
#[derive(Clone)]
pub struct CloudEvents {
    source: String,
    prefix: Cow<'static, str>,
    schemas: Option<String>,
    extensions: Vec<(String, Extension)>,
}

/// Why envelopes cannot be made like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCloudEvents {
    /// The source is no URI reference.
    #[error(
        "`{source_text}` is no source: it needs to be a URI reference such as https://shop.example/orders"
    )]
    #[non_exhaustive]
    Source {
        /// What was given.
        source_text: String,
    },
    /// The address of the schemas is no absolute URI.
    #[error(
        "`{address}` is no address of schemas: it needs to be a URI such as https://shop.example/schemas/"
    )]
    #[non_exhaustive]
    Schemas {
        /// What was given.
        address: String,
    },
    /// The name of an attribute is not allowed, or taken.
    #[error(
        "`{name}` cannot be the name of an extension: it needs 1 to 20 lower-case letters and digits, and not to be taken"
    )]
    #[non_exhaustive]
    Extension {
        /// What was given.
        name: String,
    },
}

impl CloudEvents {
    /// CloudEvents whose source is `source`: a URI reference that tells which application the events are of.
    ///
    /// # Errors
    ///
    /// [`InvalidCloudEvents::Source`] when it is none.
    pub fn source(source: impl Into<String>) -> Result<Self, InvalidCloudEvents> {
        let source = source.into();
        if !uri_reference(&source) {
            return Err(InvalidCloudEvents::Source { source_text: source });
        }
        Ok(Self { source, prefix: Cow::Borrowed(""), schemas: None, extensions: Vec::new() })
    }

    /// Puts `prefix` before the stored name in `type`, such as `example.shop.`; nothing if none is given.
    #[must_use]
    pub fn type_prefix(mut self, prefix: impl Into<Cow<'static, str>>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Says where the schemas of payloads are: `dataschema` is `address`, the stored name, `/` and the schema
    /// version.
    ///
    /// # Errors
    ///
    /// [`InvalidCloudEvents::Schemas`] when it is no absolute URI.
    pub fn schemas(mut self, address: impl Into<String>) -> Result<Self, InvalidCloudEvents> {
        let address = address.into();
        if !absolute_uri(&address) {
            return Err(InvalidCloudEvents::Schemas { address });
        }
        self.schemas = Some(address);
        Ok(self)
    }

    /// Adds an attribute `name` with what `value` makes of the event; none where it makes nothing.
    ///
    /// # Errors
    ///
    /// [`InvalidCloudEvents::Extension`] when the specification does not allow the name, or it is taken.
    pub fn extension(
        mut self,
        name: impl Into<String>,
        value: impl Fn(&EventData, &EventContext) -> Option<String> + Send + Sync + 'static,
    ) -> Result<Self, InvalidCloudEvents> {
        let name = name.into();
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let taken = TAKEN.contains(&name.as_str()) || self.extensions.iter().any(|(other, _)| *other == name);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(allowed) || taken {
            return Err(InvalidCloudEvents::Extension { name });
        }
        self.extensions.push((name, Arc::new(value)));
        Ok(self)
    }

    /// Returns the CloudEvent of `event`, as JSON.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the payload is no JSON, or the schema version is higher than an integer of a
    /// CloudEvent may be.
    pub fn json(&self, event: &EventData, ctx: &EventContext) -> Result<String, DecodeError> {
        let malformed = |reason: String| DecodeError::Malformed {
            name: event.name().to_owned(),
            version: event.version(),
            reason,
        };
        serde_json::from_str::<IgnoredAny>(event.payload())
            .map_err(|error| malformed(without_values(&error)))?;
        let schema_version = i32::try_from(event.version()).map_err(|_| {
            malformed("its version is out of the range of a CloudEvent's integers".to_owned())
        })?;

        let stream = ctx.stream().as_str();
        let mut object = Object::with_capacity(event.payload().len() + 512);
        object.text("specversion", "1.0");
        object.text("id", &ctx.event_id().to_string());
        object.uri("source", &self.source);
        object.text("type", &format!("{}{}", self.prefix, event.name()));
        object.text("subject", stream);
        let time = ctx.time();
        if (0..=9999).contains(&time.year()) {
            object.text("time", &time.to_rfc3339_opts(SecondsFormat::Millis, true));
        }
        object.text("datacontenttype", "application/json");
        if let Some(schemas) = &self.schemas {
            let name = percent_encoded(event.name());
            object.uri("dataschema", &format!("{schemas}{name}/{schema_version}"));
        }
        object.text("sequence", &format!("{:012}", ctx.version().get()));
        object.text("partitionkey", stream);
        object.raw("schemaversion", &schema_version.to_string());
        if ctx.position() > Position::NONE {
            object.raw("slice", &ctx.slice().to_string());
            object.text("position", &ctx.position().to_string());
        }
        let metadata = ctx.metadata();
        object.optional("actor", metadata.actor());
        object.optional("correlationid", metadata.correlation());
        object.optional("causationid", metadata.causation());
        for (name, value) in &self.extensions {
            object.optional(name, value(event, ctx).as_deref());
        }
        // Last, so that a consumer who reads as it comes knows what it is.
        object.raw("data", event.payload());
        Ok(object.finish())
    }
}

impl Envelopes for CloudEvents {
    fn envelope(&self, event: &EventData, ctx: &EventContext) -> Result<Envelope, BoxError> {
        Ok(Envelope::new(event, ctx, CONTENT_TYPE, self.json(event, ctx)?))
    }
}

impl fmt::Debug for CloudEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudEvents")
            .field("source", &self.source)
            .field("prefix", &self.prefix)
            .field("schemas", &self.schemas)
            .field("extensions", &self.extensions.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .finish()
    }
}

/// A JSON object, written member by member: a payload goes in as it is, numbers of any size included.
struct Object(String);

impl Object {
    fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    fn raw(&mut self, name: &str, json: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        // No name that is written needs an escape.
        self.0.extend(["\"", name, "\":", json]);
    }

    fn text(&mut self, name: &str, text: &str) {
        self.raw(name, &serde_json::Value::from(attribute_text(text)).to_string());
    }

    /// A URI, which has none of the characters that are forbidden, and is encoded where it needs to be.
    fn uri(&mut self, name: &str, uri: &str) {
        self.raw(name, &serde_json::Value::from(uri).to_string());
    }

    /// A text, unless it is empty, which an attribute may not be.
    fn optional(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.text(name, text);
        }
    }

    fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// Returns `text` as the value of an attribute: what CloudEvents forbids there is percent-encoded, and so is `%`.
/// Different texts therefore have different values, and a consumer gets the text back by percent-decoding.
fn attribute_text(text: &str) -> Cow<'_, str> {
    let is_encoded = |char| char == '%' || is_forbidden(char);
    if text.contains(is_encoded) { Cow::Owned(encoded(text, is_encoded)) } else { Cow::Borrowed(text) }
}

/// Control characters, and what Unicode calls no characters.
fn is_forbidden(char: char) -> bool {
    let code = u32::from(char);
    char.is_control() || (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

/// `text` as a part of a URI's path.
fn percent_encoded(text: &str) -> String {
    encoded(text, |char| !(char.is_ascii_alphanumeric() || "-._~".contains(char)))
}

fn encoded(text: &str, is_encoded: impl Fn(char) -> bool) -> String {
    let mut result = String::with_capacity(text.len());
    for char in text.chars() {
        if is_encoded(char) {
            for byte in char.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(result, "%{byte:02X}");
            }
        } else {
            result.push(char);
        }
    }
    result
}

/// Returns whether `text` has the characters of a URI reference, and any.
fn uri_reference(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte))
}

/// Returns whether `text` is a URI with a scheme.
fn absolute_uri(text: &str) -> bool {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    uri_reference(text)
        && scheme.starts_with(|char: char| char.is_ascii_alphabetic())
        && scheme.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn what_is_forbidden_is_encoded() {
        assert_eq!(attribute_text("order#a b/ü"), "order#a b/ü");
        assert_eq!(attribute_text("a\nb\u{85}\u{FFFF}"), "a%0Ab%C2%85%EF%BF%BF");
        assert_eq!(attribute_text("a%0Ab"), "a%250Ab");
        assert_eq!(percent_encoded("Order placed/ü"), "Order%20placed%2F%C3%BC");
    }

    /// Undoes the encoding.
    fn decoded(text: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'%' => {
                    let digits = [rest.next().expect("a digit"), rest.next().expect("a digit")];
                    let digits = str::from_utf8(&digits).expect("two digits");
                    u8::from_str_radix(digits, 16).expect("two hexadecimal digits")
                }
                other => other,
            });
        }
        String::from_utf8(bytes).expect("the text was UTF-8")
    }

    proptest! {
        /// An encoding that can be undone gives different texts different values.
        #[test]
        fn attributes_can_be_decoded(text in r"(?s)(.|[%\x00-\x1f\x7f-\x9f\u{fdd0}\u{ffff}]|%[0-9A-F]{2}){0,20}") {
            let value = attribute_text(&text);
            prop_assert!(!value.contains(is_forbidden), "{value:?}");
            prop_assert_eq!(decoded(&value), text);
        }
    }

    #[test]
    fn tells_uris() {
        assert!(uri_reference("/orders") && uri_reference("urn:x:1") && uri_reference("1-555"));
        assert!(!uri_reference("") && !uri_reference("a b") && !uri_reference("ü"));
        assert!(absolute_uri("https://a.example/s/") && !absolute_uri("/s/") && !absolute_uri("1a:b"));
    }
}
