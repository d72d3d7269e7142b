//! Text as CloudEvents and URIs allow it.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` as the value of an attribute: what CloudEvents forbid there is percent-encoded.
pub(super) fn attribute_text(text: &str) -> Cow<'_, str> {
    if text.contains(is_forbidden) { Cow::Owned(encoded(text, is_forbidden)) } else { Cow::Borrowed(text) }
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
    use super::*;

    #[test]
    fn what_is_forbidden_is_encoded() {
        assert_eq!(attribute_text("order#a b/ü"), "order#a b/ü");
        assert_eq!(attribute_text("a\nb\u{85}\u{FFFF}"), "a%0Ab%C2%85%EF%BF%BF");
        assert_eq!(percent_encoded("Order placed/ü"), "Order%20placed%2F%C3%BC");
    }

    #[test]
    fn tells_uris() {
        assert!(uri_reference("/orders") && uri_reference("urn:x:1") && uri_reference("1-555"));
        assert!(!uri_reference("") && !uri_reference("a b") && !uri_reference("ü"));
        assert!(absolute_uri("https://a.example/s/") && !absolute_uri("/s/") && !absolute_uri("1a:b"));
    }
}
