//! The names of objects.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::error::PayloadError;

/// The length of a digest in bytes.
const DIGEST_BYTES: usize = 32;

/// The beginning of the names of related objects, such as the table and the purpose: `events/payloads`.
///
/// It consists of segments of ASCII letters, digits, `_`, `.`, and `-`, separated by `/`. Such names are valid in file
/// systems and in S3.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayloadPrefix(Arc<str>);

impl PayloadPrefix {
    /// The maximum length of a prefix in bytes.
    pub const MAX_BYTES: usize = 512;

    /// Creates a prefix.
    ///
    /// # Errors
    ///
    /// [`InvalidPayloadName`] if a segment is empty, starts with `.`, or contains other characters, or if the prefix is
    /// longer than [`MAX_BYTES`](Self::MAX_BYTES).
    pub fn new(text: &str) -> Result<Self, InvalidPayloadName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let is_valid =
            |segment: &str| !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(allowed);
        if text.len() > Self::MAX_BYTES || !text.split('/').all(is_valid) {
            return Err(InvalidPayloadName { text: text.to_owned() });
        }
        Ok(Self(text.into()))
    }

    /// Returns the prefix without a `/` at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PayloadPrefix {
    type Err = InvalidPayloadName;

    fn from_str(text: &str) -> Result<Self, InvalidPayloadName> {
        Self::new(text)
    }
}

impl fmt::Display for PayloadPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PayloadPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The name of an object: a prefix, `/`, and the SHA-256 of its content in hexadecimal.
///
/// The name of a later [generation](Self::next_generation) ends with `-` and its number.
///
/// ```
/// use es_core::payloads::{PayloadName, PayloadPrefix};
///
/// let name = PayloadName::of(PayloadPrefix::new("events/payloads")?, b"abc");
/// assert!(name.to_string().starts_with("events/payloads/ba7816bf8f01cfea"));
/// assert_eq!(name.to_string().parse(), Ok(name));
/// # Ok::<_, es_core::payloads::InvalidPayloadName>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayloadName {
    prefix: PayloadPrefix,
    digest: [u8; DIGEST_BYTES],
    generation: u32,
}

impl PayloadName {
    /// Returns the name of the object with this `content`.
    #[must_use]
    pub fn of(prefix: PayloadPrefix, content: &[u8]) -> Self {
        Self { prefix, digest: Sha256::digest(content).into(), generation: 0 }
    }

    /// Returns another name for the same content. Used if an object with this name may be deleted at any moment, so
    /// that nothing new may refer to it.
    #[must_use]
    pub fn next_generation(&self) -> Self {
        Self { generation: self.generation.saturating_add(1), ..self.clone() }
    }

    /// Returns the prefix.
    #[must_use]
    pub fn prefix(&self) -> &PayloadPrefix {
        &self.prefix
    }

    /// Returns the SHA-256 of the content.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Returns the last segment of the name: the digest and the generation.
    #[must_use]
    pub fn file_name(&self) -> String {
        let mut text = String::with_capacity(2 * DIGEST_BYTES);
        for byte in self.digest {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        if self.generation > 0 {
            let _ = write!(text, "-{}", self.generation);
        }
        text
    }

    /// Returns the name with this prefix and this [last segment](Self::file_name).
    ///
    /// # Errors
    ///
    /// [`InvalidPayloadName`] if `file_name` is not a digest with an optional generation.
    pub fn from_file_name(prefix: PayloadPrefix, file_name: &str) -> Result<Self, InvalidPayloadName> {
        let (digits, generation) = match file_name.split_once('-') {
            None => (file_name, Some(0)),
            Some((digits, number)) => (digits, number.parse().ok()),
        };
        let name = bytes_of(digits)
            .zip(generation)
            .map(|(digest, generation)| Self { prefix, digest, generation })
            // Each name has one spelling.
            .filter(|name| name.file_name() == file_name);
        name.ok_or_else(|| InvalidPayloadName { text: file_name.to_owned() })
    }

    /// Returns `content` if it has the digest in the name.
    ///
    /// # Errors
    ///
    /// [`PayloadError::Corrupt`] otherwise.
    pub fn verified(&self, content: Bytes) -> Result<Bytes, PayloadError> {
        if <[u8; DIGEST_BYTES]>::from(Sha256::digest(&content)) != self.digest {
            let reason = format!("its {} bytes do not have the digest in its name", content.len());
            return Err(PayloadError::corrupt(self, reason));
        }
        Ok(content)
    }
}

/// Returns the bytes of a digest in hexadecimal.
fn bytes_of(digits: &str) -> Option<[u8; DIGEST_BYTES]> {
    let mut bytes = [0; DIGEST_BYTES];
    if digits.len() != 2 * DIGEST_BYTES || !digits.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

impl FromStr for PayloadName {
    type Err = InvalidPayloadName;

    fn from_str(text: &str) -> Result<Self, InvalidPayloadName> {
        let invalid = || InvalidPayloadName { text: text.to_owned() };
        let (prefix, file_name) = text.rsplit_once('/').ok_or_else(invalid)?;
        Self::from_file_name(PayloadPrefix::new(prefix)?, file_name).map_err(|_| invalid())
    }
}

impl fmt::Display for PayloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.prefix, self.file_name())
    }
}

impl fmt::Debug for PayloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// The error of a text that is not the name or the prefix of an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a valid name of an object: use segments of letters, digits, `_`, `.`, and `-`, separated by `/`"
)]
#[non_exhaustive]
pub struct InvalidPayloadName {
    /// The rejected text.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix() -> PayloadPrefix {
        PayloadPrefix::new("events/payloads").expect("valid")
    }

    #[test]
    fn prefixes_consist_of_plain_segments() {
        for valid in ["a", "events/payloads", "My_table.2-x/archives"] {
            assert_eq!(PayloadPrefix::new(valid).expect("valid").as_str(), valid);
        }
        for invalid in ["", "/", "a/", "/a", "a//b", "a/../b", "..", ".hidden", "ä", "a b", "a\\b", "a\0"] {
            assert!(PayloadPrefix::new(invalid).is_err(), "{invalid:?}");
        }
        assert!(
            PayloadPrefix::new(&"a".repeat(512)).is_ok() && PayloadPrefix::new(&"a".repeat(513)).is_err()
        );
    }

    #[test]
    fn each_name_has_one_spelling() {
        let name = PayloadName::of(prefix(), b"abc");
        let digits = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(name.to_string(), format!("events/payloads/{digits}"));
        let second = name.next_generation();
        assert_eq!(second.to_string(), format!("events/payloads/{digits}-1"));
        assert_ne!(name, second);
        for name in [name, second] {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        let upper = digits.to_uppercase();
        let invalid = [digits[1..].to_owned(), format!("{digits}0"), upper, format!("{digits}-0")];
        let more = [format!("{digits}-01"), format!("{digits}-"), format!("{digits}-+1"), "ä".repeat(32)];
        for file_name in invalid.into_iter().chain(more) {
            assert!(PayloadName::from_file_name(prefix(), &file_name).is_err(), "{file_name}");
        }
    }

    #[test]
    fn other_content_is_found_out() {
        let name = PayloadName::of(prefix(), b"abc").next_generation();
        assert_eq!(name.verified("abc".into()).expect("the content"), "abc");
        for other in ["abd", "ab", "abc ", ""] {
            let error = name.verified(other.into()).expect_err("other content");
            assert!(error.to_string().contains(&name.to_string()), "{error}");
        }
    }
}
