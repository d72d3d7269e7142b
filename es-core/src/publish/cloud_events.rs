//! [CloudEvents](https://cloudevents.io) in JSON, the default envelope.

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

/// The maximum length of an attribute name that the specification recommends.
const MAX_NAME_CHARS: usize = 20;

/// Attribute names that the envelope itself uses, or that the specification reserves.
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

/// Encodes events as [CloudEvents 1.0](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md) in
/// [JSON](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md).
///
/// | attribute | value |
/// |---|---|
/// | `id` | the event id; consumers deduplicate by it |
/// | `source` | the source passed to [`source`](Self::source) |
/// | `type` | the stored event name, after the [prefix](Self::type_prefix) |
/// | `subject`, `partitionkey` | the stream, `order#1001` |
/// | `time` | the time of the commit; omitted for years before 0 and after 9999, which RFC 3339 cannot express |
/// | `datacontenttype` | `application/json` |
/// | `dataschema` | the URI of the payload's schema, if [`schemas`](Self::schemas) is set |
/// | `sequence` | the event's version in its stream, zero-padded to twelve digits |
/// | `schemaversion` | the schema version of the payload, an integer |
/// | `slice`, `position` | the event's position in the feed, an integer and a string of digits; omitted for events that do not come from the feed |
/// | `actor`, `correlationid`, `causationid` | the corresponding metadata, if present |
/// | `data` | the payload exactly as stored, byte for byte |
///
/// `partitionkey`, `sequence`, `correlationid`, and `causationid` are [documented
/// extensions](https://github.com/cloudevents/spec/tree/main/cloudevents/extensions). Other metadata is not sent
/// unless an [`extension`](Self::extension) adds it.
///
/// In all strings except `source` and `dataschema`, characters that the specification forbids in attributes are
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

/// An invalid setting of [`CloudEvents`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCloudEvents {
    /// The source is not a URI reference.
    #[error(
        "`{source_text}` is not a valid source: pass a URI reference such as https://shop.example/orders"
    )]
    #[non_exhaustive]
    Source {
        /// The rejected value.
        source_text: String,
    },
    /// The schema address is not an absolute URI.
    #[error("`{address}` is not a valid schema address: pass a URI such as https://shop.example/schemas/")]
    #[non_exhaustive]
    Schemas {
        /// The rejected value.
        address: String,
    },
    /// The name of an extension attribute is invalid or already used.
    #[error(
        "`{name}` is not a valid extension name: use 1 to 20 lowercase letters and digits, and a name that is not used yet"
    )]
    #[non_exhaustive]
    Extension {
        /// The rejected value.
        name: String,
    },
}

impl CloudEvents {
    /// Creates an encoder for events of `source`, a URI reference that identifies the application.
    ///
    /// # Errors
    ///
    /// [`InvalidCloudEvents::Source`] if `source` is not a URI reference.
    pub fn source(source: impl Into<String>) -> Result<Self, InvalidCloudEvents> {
        let source = source.into();
        if !uri_reference(&source) {
            return Err(InvalidCloudEvents::Source { source_text: source });
        }
        Ok(Self { source, prefix: Cow::Borrowed(""), schemas: None, extensions: Vec::new() })
    }

    /// Sets the prefix of `type`, such as `example.shop.` (default: none). It precedes the stored event name.
    #[must_use]
    pub fn type_prefix(mut self, prefix: impl Into<Cow<'static, str>>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the address of the payload schemas (default: none). `dataschema` is then `address`, followed by the
    /// stored event name, `/`, and the schema version.
    ///
    /// # Errors
    ///
    /// [`InvalidCloudEvents::Schemas`] if `address` is not an absolute URI.
    pub fn schemas(mut self, address: impl Into<String>) -> Result<Self, InvalidCloudEvents> {
        let address = address.into();
        if !absolute_uri(&address) {
            return Err(InvalidCloudEvents::Schemas { address });
        }
        self.schemas = Some(address);
        Ok(self)
    }

    /// Adds the attribute `name` with the value that `value` returns. The attribute is omitted if the value is `None`
    /// or empty.
    ///
    /// # Errors
    ///
    /// [`InvalidCloudEvents::Extension`] if the specification does not allow the name, or if it is already used.
    pub fn extension(
        mut self,
        name: impl Into<String>,
        value: impl Fn(&EventData, &EventContext) -> Option<String> + Send + Sync + 'static,
    ) -> Result<Self, InvalidCloudEvents> {
        let name = name.into();
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let taken = TAKEN.contains(&name.as_str()) || self.extensions.iter().any(|(other, _)| *other == name);
        if name.is_empty() || name.len() > MAX_NAME_CHARS || !name.bytes().all(allowed) || taken {
            return Err(InvalidCloudEvents::Extension { name });
        }
        self.extensions.push((name, Arc::new(value)));
        Ok(self)
    }

    /// Returns the CloudEvent of `event`, as JSON.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the payload is not JSON, or if the schema version exceeds the range of a CloudEvents
    /// integer.
    pub fn json(&self, event: &EventData, ctx: &EventContext) -> Result<String, DecodeError> {
        let malformed = |reason: String| DecodeError::Malformed {
            name: event.name().to_owned(),
            version: event.version(),
            reason,
        };
        serde_json::from_str::<IgnoredAny>(event.payload())
            .map_err(|error| malformed(without_values(&error)))?;
        let schema_version = i32::try_from(event.version()).map_err(|_| {
            malformed("its schema version exceeds the range of a CloudEvents integer".to_owned())
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
        // Written last, so that a streaming consumer has read the attributes before the data.
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

/// Writes a JSON object member by member, so that a payload is copied unchanged, including integers of any size.
struct Object(String);

impl Object {
    fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    fn raw(&mut self, name: &str, json: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        // None of the attribute names needs escaping.
        self.0.extend(["\"", name, "\":", json]);
    }

    fn text(&mut self, name: &str, text: &str) {
        self.raw(name, &serde_json::Value::from(attribute_text(text)).to_string());
    }

    /// Writes a URI, which cannot contain the forbidden characters.
    fn uri(&mut self, name: &str, uri: &str) {
        self.raw(name, &serde_json::Value::from(uri).to_string());
    }

    /// Writes a string unless it is empty, which attributes must not be.
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

/// Returns `text` as the value of an attribute. Characters that CloudEvents forbids are percent-encoded, and so is `%`.
/// Different texts therefore have different values, and a consumer can restore the text by percent-decoding.
fn attribute_text(text: &str) -> Cow<'_, str> {
    let is_encoded = |char| char == '%' || is_forbidden(char);
    if text.contains(is_encoded) { Cow::Owned(encoded(text, is_encoded)) } else { Cow::Borrowed(text) }
}

/// Returns whether `char` is a control character or a Unicode noncharacter.
fn is_forbidden(char: char) -> bool {
    let code = u32::from(char);
    char.is_control() || (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

/// Returns `text` percent-encoded as a segment of a URI path.
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

/// Returns whether `text` is not empty and contains only the characters of a URI reference.
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

    /// Decodes an attribute.
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
        /// Because the encoding is reversible, different strings have different values.
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
