//! Compile-time checks of the stored names and versions of events.

use super::EventKind;

/// Panics at compile time if `previous`, the kinds of a type, is not the version immediately before `kind`.
#[track_caller]
pub const fn assert_follows(kind: &EventKind, previous: &[EventKind]) {
    let [previous] = previous else {
        Message::new()
            .text("the `previous` of the event `")
            .text(kind.name)
            .text("` is a family of events: keep the old version of this event as a struct with `#[event]`")
            .panic();
    };
    if previous.version + 1 != kind.version {
        Message::new()
            .text("the event `")
            .text(kind.name)
            .text("` has version ")
            .number(kind.version)
            .text(", but its `previous` has version ")
            .number(previous.version)
            .text(": versions must be consecutive, so write `version = ")
            .number(previous.version + 1)
            .text("`")
            .panic();
    }
    if !same(previous.name, kind.name) && !contains(kind.aliases, previous.name) {
        Message::new()
            .text("the event `")
            .text(kind.name)
            .text("` has a `previous` with another stored name, `")
            .text(previous.name)
            .text("`: write `#[event(name = \"")
            .text(kind.name)
            .text("\")]` on the previous version, or `alias = \"")
            .text(previous.name)
            .text("\"` here if the event was renamed")
            .panic();
    }
    let mut alias = 0;
    while alias < previous.aliases.len() {
        let name = previous.aliases[alias];
        if !same(name, kind.name) && !contains(kind.aliases, name) {
            Message::new()
                .text("the event `")
                .text(kind.name)
                .text("` could not read events stored as `")
                .text(name)
                .text("`, an alias of its `previous`: add `alias = \"")
                .text(name)
                .text("\"`")
                .panic();
        }
        alias += 1;
    }
}

/// Panics at compile time if a kind in `parts[part]` has the same stored name as another kind in that part or in an
/// earlier one.
///
/// Checks a single part, so that the message points at the event of that part.
#[track_caller]
pub const fn assert_distinct(owner: &str, parts: &[&[EventKind]], part: usize) {
    let kinds = parts[part];
    let mut earlier = 0;
    while earlier <= part {
        let mut left = 0;
        while left < parts[earlier].len() {
            // Within a part, compare each pair only once.
            let mut right = if earlier == part { left + 1 } else { 0 };
            while right < kinds.len() {
                if let Some(name) = shared_name(&parts[earlier][left], &kinds[right]) {
                    Message::new()
                        .text("two events of `")
                        .text(owner)
                        .text("` have the stored name `")
                        .text(name)
                        .text("`: write `#[event(name = \"…\")]` with another name on one of them")
                        .panic();
                }
                right += 1;
            }
            left += 1;
        }
        earlier += 1;
    }
}

/// Panics at compile time if the name `retired`, which loads skip, is the stored name or an alias of one of the kinds.
#[track_caller]
pub const fn assert_retired(owner: &str, kinds: &[EventKind], retired: &str) {
    let mut at = 0;
    while at < kinds.len() {
        if same(kinds[at].name, retired) || contains(kinds[at].aliases, retired) {
            Message::new()
                .text("the event `")
                .text(kinds[at].name)
                .text("` of `")
                .text(owner)
                .text("` is stored as `")
                .text(retired)
                .text("`, which is retired, so loads would skip it: remove `")
                .text(retired)
                .text("` from `retired(…)`, or the event from `events(…)`")
                .panic();
        }
        at += 1;
    }
}

/// Panics at compile time if one of `kinds` is neither among the kinds of the aggregate nor an event of the framework.
#[track_caller]
pub const fn assert_belongs(aggregate: &str, owned: &[EventKind], kinds: &[EventKind]) {
    let mut at = 0;
    while at < kinds.len() {
        let mut other = 0;
        let mut found = matches!(kinds[at].name.as_bytes(), [b'$', ..]);
        while other < owned.len() {
            found = found || same(owned[other].name, kinds[at].name);
            other += 1;
        }
        if !found {
            Message::new()
                .text("`")
                .text(kinds[at].name)
                .text("` is not an event of `")
                .text(aggregate)
                .text("`: list it in the parentheses of its own aggregate")
                .panic();
        }
        at += 1;
    }
}

const fn shared_name(left: &EventKind, right: &EventKind) -> Option<&'static str> {
    if same(left.name, right.name) || contains(left.aliases, right.name) {
        return Some(right.name);
    }
    let mut alias = 0;
    while alias < right.aliases.len() {
        if same(left.name, right.aliases[alias]) || contains(left.aliases, right.aliases[alias]) {
            return Some(right.aliases[alias]);
        }
        alias += 1;
    }
    None
}

const fn contains(names: &[&str], name: &str) -> bool {
    let mut at = 0;
    while at < names.len() {
        if same(names[at], name) {
            return true;
        }
        at += 1;
    }
    false
}

const fn same(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// A message that is built at compile time, where `format!` is not available.
struct Message {
    bytes: [u8; 1024],
    len: usize,
}

impl Message {
    const fn new() -> Self {
        Self { bytes: [0; 1024], len: 0 }
    }

    /// Appends a text, or leaves it out if it exceeds the buffer.
    const fn text(mut self, text: &str) -> Self {
        let text = text.as_bytes();
        if self.len + text.len() <= self.bytes.len() {
            let mut at = 0;
            while at < text.len() {
                self.bytes[self.len + at] = text[at];
                at += 1;
            }
            self.len += text.len();
        }
        self
    }

    const fn number(self, number: u32) -> Self {
        const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
        let message = if number >= 10 { self.number(number / 10) } else { self };
        message.text(DIGITS[(number % 10) as usize])
    }

    #[track_caller]
    const fn panic(&self) -> ! {
        match std::str::from_utf8(self.bytes.split_at(self.len).0) {
            Ok(text) => panic!("{}", text),
            Err(_) => panic!("the stored names of these events conflict"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{concat_kinds, count_kinds};
    use super::*;

    #[test]
    fn concatenates_in_order() {
        const A: &[EventKind] = &[EventKind::new("A", 1)];
        const BC: &[EventKind] = &[EventKind::new("B", 2), EventKind::new("C", 3)];
        const ALL: [EventKind; count_kinds(&[A, BC])] = concat_kinds(&[A, BC]);
        assert_eq!(ALL.map(|kind| kind.name()), ["A", "B", "C"]);
    }

    #[test]
    #[should_panic(expected = "two events of `order` have the stored name `Placed`")]
    fn rejects_an_alias_that_is_the_name_of_another_event() {
        let kinds = [EventKind::new("Placed", 1), EventKind::new("Ordered", 1).with_aliases(&["Placed"])];
        assert_distinct("order", &[&kinds], 0);
    }

    #[test]
    #[should_panic(expected = "two events of `order` have the stored name `Placed`")]
    fn rejects_a_name_of_an_earlier_part() {
        let placed = [EventKind::new("Paid", 1), EventKind::new("Placed", 1)];
        assert_distinct("order", &[&placed, &[EventKind::new("Placed", 1)]], 1);
    }

    #[test]
    fn ignores_later_parts() {
        let placed = [EventKind::new("Placed", 1)];
        assert_distinct("order", &[&placed, &placed], 0);
    }

    #[test]
    #[should_panic(expected = "the event `Placed` of `order` is stored as `Ordered`, which is retired")]
    fn rejects_a_retired_alias() {
        let kinds = [EventKind::new("Placed", 1).with_aliases(&["Ordered"])];
        assert_retired("order", &kinds, "Ordered");
    }

    #[test]
    #[should_panic(expected = "has version 12, but its `previous` has version 10: versions must")]
    fn rejects_a_gap_between_versions() {
        assert_follows(&EventKind::new("Placed", 12), &[EventKind::new("Placed", 10)]);
    }

    #[test]
    #[should_panic(expected = "write `#[event(name = \"Placed\")]` on the previous version")]
    fn rejects_a_previous_event_of_another_name() {
        assert_follows(&EventKind::new("Placed", 2), &[EventKind::new("PlacedOld", 1)]);
    }

    #[test]
    #[should_panic(expected = "could not read events stored as `A`, an alias of its `previous`")]
    fn rejects_a_missing_alias() {
        let previous = [EventKind::new("B", 2).with_aliases(&["A"])];
        assert_follows(&EventKind::new("C", 3).with_aliases(&["B"]), &previous);
    }

    #[test]
    #[should_panic(expected = "is a family of events")]
    fn rejects_a_family_as_the_previous_version() {
        assert_follows(&EventKind::new("A", 2), &[EventKind::new("A", 1), EventKind::new("B", 1)]);
    }
}
