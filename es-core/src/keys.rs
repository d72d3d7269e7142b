//! Validation, shortening, and digests of texts that are parts of keys, and the names of types.

use std::any::type_name;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The length of a [`digest`].
const DIGITS: usize = 32;

/// Returns the first 16 bytes of the SHA-256 of `content`, in hexadecimal. Digests are stored: they must not change.
pub(crate) fn digest(content: &[u8]) -> String {
    let mut digits = String::with_capacity(DIGITS);
    for byte in &Sha256::digest(content)[..DIGITS / 2] {
        // Writing to a `String` cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// Returns the name of a type without its path. The names of commands are stored as fingerprints: they must not change.
pub(crate) fn short_name<T: ?Sized>() -> &'static str {
    let name = type_name::<T>();
    let path = name.find('<').map_or(name, |generics| &name[..generics]);
    path.rfind(':').map_or(path, |colon| &path[colon + 1..])
}

/// Returns whether a text contains control characters. They are rejected in ids, claims, and idempotency keys, because
/// they are invisible in consoles and logs, and because the framework uses them as separators in keys.
pub(crate) fn has_control_characters(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// Returns `text` if it has at most `limit` bytes. A longer text is shortened to at most `limit` bytes: its beginning,
/// `mark`, and a digest of the whole text. Different texts therefore stay different, and texts that differ in their
/// beginning keep their order.
pub(crate) fn shorten(text: String, limit: usize, mark: &str) -> String {
    if text.len() <= limit {
        return text;
    }
    let digest = digest(text.as_bytes());
    let mut short = text;
    short.truncate(short.floor_char_boundary(limit - DIGITS - mark.len()));
    short.push_str(mark);
    short.push_str(&digest);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_do_not_change() {
        assert_eq!(digest(b"abc"), "ba7816bf8f01cfea414140de5dae2223");
    }

    #[test]
    fn short_texts_stay_and_long_ones_keep_their_beginning() {
        assert_eq!(shorten("x".repeat(64), 64, "~"), "x".repeat(64));
        let long = shorten("ü".repeat(40), 64, "~");
        assert!(long.len() <= 64 && long.starts_with(&"ü".repeat(15)), "{long}");
        assert_ne!(long, shorten("ü".repeat(41), 64, "~"));
        assert_eq!(long, shorten("ü".repeat(40), 64, "~"));
    }
}
