//! Error texts for logs and for stored failures.

use std::error::Error;
use std::fmt::{self, Write};
use std::iter;

use crate::projection::guard::caught;

/// The maximum length of an [`error_text`], in bytes (2 KiB).
const MAX_ERROR_TEXT: usize = 2048;

/// The maximum number of causes of an error that are examined. User-defined errors may form a cycle.
const MAX_CAUSES: usize = 100;

/// Returns an error and all of its causes on one line, truncated to 2 KiB.
///
/// A cause whose text already ends the line is not repeated. Line breaks become spaces, and other control characters
/// are escaped. Use this function to log or store an error: the `Display` of an error does not include its causes.
///
/// ```
/// use es_core::{StoreError, error_text};
///
/// let error = StoreError::unavailable("connection refused");
/// assert_eq!(error_text(&error), "the store is unavailable: connection refused");
/// ```
#[must_use]
pub fn error_text(error: &(dyn Error + 'static)) -> String {
    // The `Display` of an error may be user code.
    caught(|| text(error)).unwrap_or_else(|panic| format!("an error without a text: {panic}"))
}

fn text(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for error in chain(error) {
        let more = Limited::text_of(error);
        if text.is_empty() {
            text = more;
        } else if !text.ends_with(&more) {
            // Writing to a `String` cannot fail.
            let _ = write!(text, ": {more}");
        }
        if text.len() > MAX_ERROR_TEXT {
            break;
        }
    }
    truncated(text)
}

/// Returns an error, its cause, and so on.
pub(crate) fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&error| error.source()).take(MAX_CAUSES)
}

/// A text of little more than [`MAX_ERROR_TEXT`] bytes, regardless of what is written to it.
struct Limited(String);

impl Limited {
    fn text_of(value: &(impl fmt::Display + ?Sized)) -> String {
        let mut text = Self(String::new());
        // The only error is that there is more text than is needed.
        let _ = write!(text, "{value}");
        on_one_line(text.0)
    }
}

impl Write for Limited {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = (MAX_ERROR_TEXT + 1).saturating_sub(self.0.len());
        if part.len() > room {
            self.0.push_str(&part[..part.ceil_char_boundary(room)]);
            return Err(fmt::Error);
        }
        self.0.push_str(part);
        Ok(())
    }
}

/// Replaces line breaks, with the spaces around them, and escapes other control characters.
fn on_one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let lines = text.split(|char: char| char.is_control() && char.is_whitespace()).map(str::trim);
    let mut line = String::with_capacity(text.len());
    for part in lines.filter(|part| !part.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        for char in part.chars() {
            match char.is_control() {
                true => line.extend(char.escape_default()),
                false => line.push(char),
            }
        }
    }
    line
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
    fn stays_on_one_line() {
        let panic =
            caused("assertion failed\n  left: 1\r\n right: 2\n", Some(caused("\u{1b}[31mred\t", None)));
        assert_eq!(error_text(&panic), "assertion failed left: 1 right: 2: \\u{1b}[31mred");
    }

    /// An error of an application.
    #[derive(Debug)]
    enum Hostile {
        Panic,
        Cycle,
        Endless,
    }

    impl fmt::Display for Hostile {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Panic => panic!("no text"),
                Self::Cycle => f.write_str("cycle"),
                Self::Endless => loop {
                    f.write_str("more ")?;
                },
            }
        }
    }

    impl Error for Hostile {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            matches!(self, Self::Cycle).then_some(self)
        }
    }

    #[test]
    fn survives_errors_that_panic_or_have_no_end() {
        assert_eq!(error_text(&Hostile::Panic), "an error without a text: user code panicked: no text");
        assert_eq!(error_text(&Hostile::Cycle), "cycle");
        assert!(error_text(&Hostile::Endless).ends_with("… (truncated)"));
    }

    #[test]
    fn truncates_long_texts_at_a_character_boundary() {
        let text = error_text(&caused(&"ä".repeat(200_000), None));
        assert!(text.len() <= MAX_ERROR_TEXT && text.len() > MAX_ERROR_TEXT - 4, "{}", text.len());
        assert!(text.ends_with("ä… (truncated)"));
    }
}
