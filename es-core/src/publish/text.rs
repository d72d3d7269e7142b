//! Text as CloudEvents and URIs allow it.

use std::borrow::Cow;
use std::fmt::Write;

/// Returns `text` as the value of an attribute: what CloudEvents forbids there is percent-encoded, and so is `%`.
/// Different texts therefore have different values, and a consumer gets the text back by percent-decoding.
pub(super) fn attribute_text(text: &str) -> Cow<'_, str> {
    let is_encoded = |char| char == '%' || is_forbidden(char);
    if text.contains(is_encoded) { Cow::Owned(encoded(text, is_encoded)) } else { Cow::Borrowed(text) }
}

/// Control characters, and what Unicode calls no characters.
fn is_forbidden(char: char) -> bool {
    let code = u32::from(char);
    char.is_control() || (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

/// `text` as a part of a URI's path.
pub(super) fn percent_encoded(text: &str) -> String {
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

/// Whether `text` has the characters of a URI reference, and any.
pub(super) fn uri_reference(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte))
}

/// Whether `text` is a URI with a scheme.
pub(super) fn absolute_uri(text: &str) -> bool {
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
