//! Tokens that say where the next page of a query begins.

use std::fmt::Write as _;

/// The bytes of the checksum, with which a token begins.
const CHECKSUM: usize = 4;

/// Returns the token for the page after the row `name`, of the query that `context` describes.
pub(super) fn encode(context: &str, name: &str) -> String {
    let checksum = checksum(context, name).to_be_bytes();
    let mut token = String::with_capacity(2 * (CHECKSUM + name.len()));
    for byte in checksum.iter().chain(name.as_bytes()) {
        // Writing to a `String` cannot fail.
        let _ = write!(token, "{byte:02x}");
    }
    token
}

/// Returns the name of the row that a token stands for, `None` if it is no token of this query.
pub(super) fn decode(context: &str, token: &str) -> Option<String> {
    let byte = |digits: &[u8]| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok();
    let (pairs, rest) = token.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|pair| byte(pair)).collect::<Option<Vec<_>>>()?;
    let (expected, name) = bytes.split_first_chunk::<CHECKSUM>()?;
    let name = String::from_utf8(name.to_vec()).ok()?;
    let is_sound = rest.is_empty() && checksum(context, &name) == u32::from_be_bytes(*expected);
    is_sound.then_some(name)
}

fn checksum(context: &str, name: &str) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in [context, name] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_for_its_query_only() {
        let token = encode("by_owner Ann", "a\u{1}1");
        assert_eq!(decode("by_owner Ann", &token).as_deref(), Some("a\u{1}1"));
        assert_eq!(decode("by_owner Bob", &token), None);
        for damaged in
            ["", "x", "zz", "ü", "00000000", &token[1..], &token[..token.len() - 2], &format!("{token}0")]
        {
            assert_eq!(decode("by_owner Ann", damaged), None, "{damaged}");
        }
    }
}
