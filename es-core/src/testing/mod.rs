//! Test support: scenarios for handlers, transactions, projections, and processes; laws for aggregates; a schema lock;
//! and stores that inject faults.
//!
//! Requires the feature `testing`, and [`check_laws`] the feature `proptest`.

mod faults;
mod faulty_payloads;
mod faulty_store;
#[cfg(feature = "proptest")]
mod laws;
mod lock;
mod projected;
mod reacting;
mod scenario;
mod store;
mod transacting;

use std::fmt::Debug;

pub use faults::{Fault, Faults};
pub use faulty_payloads::FaultyPayloads;
pub use faulty_store::FaultyStore;
#[cfg(feature = "proptest")]
#[cfg_attr(docsrs, doc(cfg(feature = "proptest")))]
pub use laws::{AnyCommand, check_laws};
pub use lock::{SchemaLock, Timeouts};
pub use projected::{Projected, project};
pub use reacting::{Reacted, react};
pub use scenario::{AfterCommand, Given, Then, given};
pub use store::TestStore;
pub use transacting::{Transacted, Transacting, transaction};

use similar::{ChangeTag, TextDiff};

/// Returns the difference between the `Debug` forms of two values, one line per field.
pub(crate) fn diff(expected: &impl Debug, actual: &impl Debug) -> String {
    diff_of_texts(&format!("{expected:#?}\n"), &format!("{actual:#?}\n"))
}

/// Returns the difference between two texts, line by line.
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
