//! Error texts for logs and for stored failures.

use std::error::Error;
use std::fmt::Write;

/// The maximum length of an [`error_text`], in bytes (2 KiB).
pub(crate) const MAX_ERROR_TEXT: usize = 2048;

/// Returns an error and all of its causes on one line, truncated to 2 KiB.
///
/// A cause whose text already ends the line is not repeated. Use this function to log or store an error: the
/// `Display` of an error does not include its causes.
///
/// ```
/// use es_core::{StoreError, error_text};
///
/// let error = StoreError::unavailable("connection refused");
/// assert_eq!(error_text(&error), "the store is unavailable: connection refused");
/// ```
#[must_use]
pub fn error_text(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            // Writing to a `String` cannot fail.
            let _ = write!(text, ": {more}");
        }
        if text.len() > MAX_ERROR_TEXT {
            break;
        }
        cause = error.source();
    }
    truncated(text)
}

/// Truncates a text to [`MAX_ERROR_TEXT`] bytes at a character boundary, with a mark at its end.
pub(crate) fn truncated(mut text: String) -> String {
    const MARK: &str = "… (truncated)";
    if text.len() > MAX_ERROR_TEXT {
        text.truncate(text.floor_char_boundary(MAX_ERROR_TEXT - MARK.len()));
        text.push_str(MARK);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Caused {
        text: String,
        source: Option<Box<Caused>>,
    }

    fn caused(text: &str, source: Option<Caused>) -> Caused {
        Caused { text: text.to_owned(), source: source.map(Box::new) }
    }

    #[test]
    fn includes_every_cause_once() {
        let error = caused("the load failed", Some(caused("timeout", Some(caused("timeout", None)))));
        assert_eq!(error_text(&error), "the load failed: timeout");
        let error = caused("a: b", Some(caused("b", Some(caused("c", None)))));
        assert_eq!(error_text(&error), "a: b: c");
    }

    #[test]
    fn truncates_long_texts_at_a_character_boundary() {
        let text = error_text(&caused(&"ä".repeat(200_000), None));
        assert!(text.len() <= MAX_ERROR_TEXT && text.len() > MAX_ERROR_TEXT - 4, "{}", text.len());
        assert!(text.ends_with("ä… (truncated)"));
    }
}
