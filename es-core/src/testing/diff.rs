//! Differences, shown line by line.

use std::fmt::Debug;

use similar::{ChangeTag, TextDiff};

/// The difference between two values, by their `Debug` form: one line for each field.
pub(crate) fn diff(expected: &impl Debug, actual: &impl Debug) -> String {
    diff_of_texts(&format!("{expected:#?}\n"), &format!("{actual:#?}\n"))
}

/// The difference between two texts.
pub(crate) fn diff_of_texts(expected: &str, actual: &str) -> String {
    let mut text = String::from("- expected\n+ actual\n\n");
    for change in TextDiff::from_lines(expected, actual).iter_all_changes() {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => ' ',
        };
        text.push(sign);
        text.push(' ');
        text.push_str(change.value());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    #[allow(dead_code)] // is shown
    struct Line {
        sku: &'static str,
        count: u32,
    }

    #[test]
    fn shows_the_fields_that_differ() {
        let expected = [Line { sku: "a", count: 1 }, Line { sku: "b", count: 2 }];
        let actual = [Line { sku: "a", count: 1 }, Line { sku: "b", count: 3 }];
        let lines: Vec<_> = diff(&expected, &actual).lines().skip(3).map(str::to_owned).collect();
        let changed: Vec<_> = lines.iter().filter(|line| !line.starts_with(' ')).collect();
        assert_eq!(changed, ["-         count: 2,", "+         count: 3,"]);
        assert_eq!(lines.len(), 11);
    }
}
