//! Text from the store, such as the name of an actor, that must not control the terminal.

use std::borrow::Cow;

/// Returns a text in which all control characters are escaped, except for line breaks and tabs.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |char| is_harmful(char) && !matches!(char, '\n' | '\t'))
}

/// Returns the text of one cell, in which line breaks and tabs are escaped as well.
pub(super) fn cell(text: &str) -> Cow<'_, str> {
    escaped(text, is_harmful)
}

/// Returns whether a character can change what a terminal shows elsewhere: a control character, or one that changes the
/// direction of the text.
fn is_harmful(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut result = String::with_capacity(text.len());
    for char in text.chars() {
        match is_escaped(char) {
            true => result.extend(char.escape_default()),
            false => result.push(char),
        }
    }
    Cow::Owned(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_control_the_terminal() {
        assert_eq!(printable("a\tb\nü 日本"), "a\tb\nü 日本");
        assert_eq!(printable("\u{1b}[31mred\r\u{9b}2J\u{202e}"), "\\u{1b}[31mred\\r\\u{9b}2J\\u{202e}");
        assert_eq!(printable("a\u{61c}\u{200e}\u{200f}b"), "a\\u{61c}\\u{200e}\\u{200f}b");
        assert_eq!(cell("ann\nbob\t"), "ann\\nbob\\t");
    }
}
