//! Rules for texts that are parts of keys.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The digits of the digest in a shortened text.
const DIGITS: usize = 32;

/// Whether a text has control characters. Ids, claims, and idempotency keys have none: they are invisible in
/// consoles and logs, and the framework separates parts of keys by them.
pub(crate) fn has_control_characters(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// Returns `text` if it has at most `limit` bytes. Otherwise its beginning, `mark`, and a digest of all of it, which
/// together have at most `limit` bytes: different texts stay different, and keep their order as far as they differ in
/// the beginning.
pub(crate) fn shorten(text: String, limit: usize, mark: &str) -> String {
    if text.len() <= limit {
        return text;
    }
    let digest = Sha256::digest(text.as_bytes());
    let mut short = text;
    short.truncate(short.floor_char_boundary(limit - DIGITS - mark.len()));
    short.push_str(mark);
    for byte in &digest[..DIGITS / 2] {
        // Writing to a `String` cannot fail.
        let _ = write!(short, "{byte:02x}");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_stay_and_long_ones_keep_their_beginning() {
        assert_eq!(shorten("x".repeat(64), 64, "~"), "x".repeat(64));
        let long = shorten("ü".repeat(40), 64, "~");
        assert!(long.len() <= 64 && long.starts_with(&"ü".repeat(15)), "{long}");
        assert_ne!(long, shorten("ü".repeat(41), 64, "~"));
        assert_eq!(long, shorten("ü".repeat(40), 64, "~"));
    }
}
