//! Pages: the items that the log of a slice consists of.

use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::StoreError;
use es_core::feed::{FeedAnchor, Position, Slice, Slices};
use uuid::Uuid;

use super::reference::{NameTable, Names, Reference};
use crate::table::{Item, check_format, item_size, key, names};

/// The maximum number of commits in a page.
pub(crate) const MAX_COMMITS: usize = 64;

/// The maximum size of a page in bytes, because names and ids may be long.
const MAX_BYTES: u64 = 100 * 1024;

/// The format of a page that closes its slice.
///
/// A reader or writer that does not know this format stops with an error. In particular, it never writes a page after
/// it.
const CLOSING: &str = "2";

/// A page of the log: references, and the position of the first event in them.
///
/// The last page of a slice that was split has no references. It is at the position after that of the last event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LogPage {
    pub(crate) slice: Slice,
    /// The number of initial slices of the feed.
    pub(crate) slices: Slices,
    pub(crate) first: Position,
    /// The id by which a writer recognizes its page.
    pub(crate) id: Uuid,
    pub(crate) references: Vec<Reference>,
    /// Copies of some commits, in the order of the references, if the page was read and has any.
    pub(crate) copies: Vec<AttributeValue>,
}

impl LogPage {
    /// Returns a page at `first` with a new id, and with as many of the references as fit into it.
    pub(crate) fn filled(slice: Slice, slices: Slices, first: Position, references: &[Reference]) -> Self {
        let count = references.len().min(MAX_COMMITS);
        let (id, references) = (Uuid::new_v4(), references[..count].to_vec());
        let mut page = Self { slice, slices, first, id, references, copies: Vec::new() };
        while item_size(&page.to_item()) > MAX_BYTES && page.references.len() > 1 {
            page.references.truncate(page.references.len() / 2);
        }
        if item_size(&page.to_item()) > MAX_BYTES {
            page.references[0].names = Names::Any;
        }
        page
    }

    /// Returns the page that closes a slice which ends before `first`, with a new id.
    pub(crate) fn closing(slice: Slice, slices: Slices, first: Position) -> Self {
        Self { slice, slices, first, id: Uuid::new_v4(), references: Vec::new(), copies: Vec::new() }
    }

    /// Returns whether the page closes its slice.
    pub(crate) fn closes(&self) -> bool {
        self.references.is_empty()
    }

    /// Adds the copies of commits from the item of the page. Copies of another form are not used.
    pub(crate) fn with_copies(mut self, copies: Option<AttributeValue>) -> Self {
        if let Some(AttributeValue::L(copies)) = copies {
            self.copies = copies;
        }
        self
    }

    /// Returns the references with their copies, each with the position of its first event.
    pub(crate) fn copied(&self) -> impl Iterator<Item = (Position, &Reference, Option<&AttributeValue>)> {
        let copies = self.copies.iter().map(Some).chain(std::iter::repeat(None));
        self.placed().zip(copies).map(|((position, reference), copy)| (position, reference, copy))
    }

    /// Returns the position of the last event, which is before the first position if the page closes its slice.
    pub(crate) fn last(&self) -> Position {
        let events: u64 = self.references.iter().map(Reference::events).sum();
        self.first.plus(events).previous()
    }

    /// Returns the anchor, which identifies the page even if another page replaces it at its position.
    pub(crate) fn anchor(&self) -> FeedAnchor {
        FeedAnchor::new(self.first, self.id)
    }

    /// Returns the references, each with the position of its first event.
    fn placed(&self) -> impl Iterator<Item = (Position, &Reference)> {
        let mut next = self.first;
        self.references.iter().map(move |reference| {
            let first = next;
            next = next.plus(reference.events());
            (first, reference)
        })
    }

    pub(crate) fn to_item(&self) -> Item {
        let (mut aggregates, mut kinds) = (NameTable::default(), NameTable::default());
        let references: Vec<_> = self
            .references
            .iter()
            .map(|reference| AttributeValue::S(reference.encode(&mut aggregates, &mut kinds)))
            .collect();
        let list = |table: NameTable| {
            let names = table.into_names().into_iter();
            AttributeValue::L(names.map(|name| AttributeValue::S(name.to_string())).collect())
        };
        let mut item = key(names::feed_partition(self.slice), names::page_key(self.first));
        item.extend([
            (names::PAGE_ID.to_owned(), AttributeValue::S(self.id.simple().to_string())),
            (names::COUNT.to_owned(), AttributeValue::N(self.slices.count().to_string())),
        ]);
        if self.closes() {
            item.insert(names::FORMAT.to_owned(), AttributeValue::N(CLOSING.to_owned()));
            return item;
        }
        item.extend([
            (names::PAGE_AGGREGATES.to_owned(), list(aggregates)),
            (names::PAGE_KINDS.to_owned(), list(kinds)),
            (names::PAGE_REFERENCES.to_owned(), AttributeValue::L(references)),
        ]);
        item
    }

    /// Decodes a page of `slice`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`], which names the item and quotes nothing.
    pub(crate) fn from_item(slice: Slice, item: &Item) -> Result<Self, StoreError> {
        let first = item
            .get(names::SORT_KEY)
            .and_then(|value| value.as_s().ok())
            .and_then(|text| names::position_of(text))
            .ok_or_else(|| damaged(slice, Position::NONE, "its sort key is not one of a page"))?;
        let closes = matches!(item.get(names::FORMAT), Some(AttributeValue::N(format)) if format == CLOSING);
        if !closes {
            check_format(item).map_err(|reason| damaged(slice, first, reason))?;
        }
        Self::decode(slice, first, item, closes).map_err(|reason| damaged(slice, first, reason))
    }

    fn decode(slice: Slice, first: Position, item: &Item, closes: bool) -> Result<Self, &'static str> {
        let id = page_id(item).ok_or("its id is missing or not a UUID")?;
        let slices = item.get(names::COUNT).and_then(|value| Slices::new(value.as_n().ok()?.parse().ok()?));
        let slices = slices.ok_or("the number of slices is missing or out of range")?;
        if closes {
            return match item.contains_key(names::PAGE_REFERENCES) {
                true => Err("it closes the slice, and has references"),
                false => Ok(Self { id, ..Self::closing(slice, slices, first) }),
            };
        }
        let table = |name| texts(item, name).map(|all| all.map(Arc::<str>::from).collect::<Vec<_>>());
        let aggregates = table(names::PAGE_AGGREGATES).ok_or("its aggregates are not a list of strings")?;
        let kinds = table(names::PAGE_KINDS).ok_or("its names of events are not a list of strings")?;
        let references = texts(item, names::PAGE_REFERENCES)
            .ok_or("its references are not a list of strings")?
            .map(|text| Reference::decode(text, &aggregates, &kinds))
            .collect::<Option<Vec<_>>>()
            .ok_or("one of its references is malformed")?;
        if references.is_empty() {
            return Err("it has no references");
        }
        let page = Self { slice, slices, first, id, references, copies: Vec::new() };
        // Later positions would exceed the digits of a sort key.
        if page.last() > names::LAST_POSITION {
            return Err("its last position is out of range");
        }
        Ok(page)
    }
}

/// Returns the id of a page's item.
pub(crate) fn page_id(item: &Item) -> Option<Uuid> {
    item.get(names::PAGE_ID)?.as_s().ok()?.parse().ok()
}

/// Returns the strings of a list, or `None` if it is missing or has other values.
fn texts<'a>(item: &'a Item, name: &str) -> Option<impl Iterator<Item = &'a str>> {
    let list = item.get(name)?.as_l().ok()?;
    let texts: Vec<&str> =
        list.iter().map(|value| value.as_s().ok().map(String::as_str)).collect::<Option<_>>()?;
    Some(texts.into_iter())
}

/// Returns the error for a damaged page.
pub(crate) fn damaged(slice: Slice, first: Position, reason: impl std::fmt::Display) -> StoreError {
    let what = format!("the page at position {first} of the feed's slice {slice}");
    StoreError::corrupt_item(what, reason.to_string())
}

#[cfg(test)]
mod tests {
    use es_core::{StreamId, Version};

    use super::*;
    use crate::feed::log::reference::CommitTag;
    use crate::feed::log::simulation::reference;

    /// One-event commits of orders with UUIDs.
    fn orders(count: usize) -> Vec<Reference> {
        let kinds = ["OrderPlaced", "OrderShipped", "OrderCancelled"];
        (0..count)
            .map(|index| reference("order", Uuid::new_v4(), index as u64 + 1, 1, &[kinds[index % 3]]))
            .collect()
    }

    fn page(references: &[Reference]) -> LogPage {
        let slices = Slices::new(8).expect("not zero");
        LogPage::filled(Slice::new(7), slices, Position::new(123_456), references)
    }

    #[test]
    fn decoding_a_page_restores_it() {
        let references = [
            reference("order", "a b#c", 1, 1, &["Placed"]),
            reference("order", "1", 12, 3, &["Placed", "Paid"]),
            reference("bet", " ", 999_999_999_990, 10, &["Placed"]),
            Reference { names: Names::Any, ..reference("bet", "*", 2, 1, &[]) },
        ];
        let page = page(&references);
        assert_eq!(LogPage::from_item(Slice::new(7), &page.to_item()).expect("decodes"), page);
        assert_eq!(page.last(), Position::new(123_456 + 15 - 1));
        let positions: Vec<u64> = page.placed().map(|(position, _)| position.get()).collect();
        assert_eq!(positions, [123_456, 123_457, 123_460, 123_470]);
    }

    #[test]
    fn a_closing_page_has_no_event_and_is_refused_by_readers_of_pages_with_events() {
        let (slice, slices) = (Slice::new(7), Slices::new(8).expect("not zero"));
        let closing = LogPage::closing(slice, slices, Position::new(12));
        let item = closing.to_item();
        assert_eq!(LogPage::from_item(slice, &item).expect("decodes"), closing);
        assert!(closing.closes() && closing.last() == Position::new(11) && closing.placed().next().is_none());
        // The check of versions without splits.
        let error = check_format(&item).expect_err("an unknown format");
        assert_eq!(error, "it has the format 2, which this version does not support: update es-dynamo");
        for format in ["3", "0", "x"] {
            let mut item = item.clone();
            item.insert(names::FORMAT.to_owned(), AttributeValue::N(format.to_owned()));
            LogPage::from_item(slice, &item).expect_err(format);
        }
        let mut both = page(&orders(3)).to_item();
        both.insert(names::FORMAT.to_owned(), AttributeValue::N(CLOSING.to_owned()));
        LogPage::from_item(slice, &both).expect_err("references in a closing page");
    }

    #[test]
    fn sixteen_commits_cost_one_write_unit() {
        for count in [1, 16, 64] {
            let bytes = item_size(&page(&orders(count)).to_item());
            let units = crate::table::responses::write_units(bytes);
            println!("{count} commits: {bytes} bytes, {units} WCU, {:.4} a commit", units / count as f64);
        }
        assert!(item_size(&page(&orders(16)).to_item()) <= 1024);
    }

    #[test]
    fn a_page_does_not_exceed_its_limits() {
        assert_eq!(page(&orders(200)).references.len(), MAX_COMMITS);
        let long = |index| {
            let (id, name) = (format!("{index}{}", "x".repeat(500)), format!("{index}{}", "n".repeat(1_500)));
            reference("order", id, 1, 1, &[name.as_str()])
        };
        let kinds: Vec<String> = (0..50).map(|kind| format!("{kind}{}", "n".repeat(4_000))).collect();
        let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
        let mut references: Vec<_> = (0..60).map(long).collect();
        references.push(reference("order", "many", 1, 50, &kinds));
        let filled = page(&references);
        assert!(filled.references.len() < 60 && item_size(&filled.to_item()) <= MAX_BYTES);
        let alone = page(&references[60..]);
        assert_eq!(alone.references[0].names, Names::Any);
    }

    #[test]
    fn damaged_pages_are_errors_that_quote_nothing() {
        let sound = page(&orders(3)).to_item();
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let secret = |value: &str| AttributeValue::L(vec![text(value)]);
        let damages = [
            (names::SORT_KEY, text("P#secret")),
            (names::SORT_KEY, text("P#00000000000000000000")),
            (names::SORT_KEY, text("P#99999999999999999999")),
            (names::PAGE_ID, text("secret")),
            (names::PAGE_ID, AttributeValue::N("1".to_owned())),
            (names::PAGE_AGGREGATES, text("secret")),
            (names::PAGE_AGGREGATES, secret("$secret")),
            (names::PAGE_KINDS, AttributeValue::L(vec![AttributeValue::Null(true)])),
            (names::PAGE_REFERENCES, AttributeValue::L(Vec::new())),
            (names::PAGE_REFERENCES, secret("secret")),
            (names::PAGE_REFERENCES, secret("9 1 0 00000000 secret")),
            (names::PAGE_REFERENCES, secret("0 0 0 00000000 secret")),
            (names::PAGE_REFERENCES, secret("0 2-1 0 00000000 secret")),
            (names::PAGE_REFERENCES, secret("0 1-9999999999999 0 00000000 secret")),
            (names::PAGE_REFERENCES, secret("0 1 9 00000000 secret")),
            (names::PAGE_REFERENCES, secret("0 1  00000000 secret")),
            (names::PAGE_REFERENCES, secret("0 1 0 secret")),
            (names::PAGE_REFERENCES, secret("0 1 0 0000000 secret")),
            (names::PAGE_REFERENCES, secret("0 1 0 +0000000 secret")),
            (names::COUNT, AttributeValue::N("0".to_owned())),
            (names::COUNT, AttributeValue::N("4097".to_owned())),
        ];
        for (name, value) in damages {
            let mut item = sound.clone();
            item.insert(name.to_owned(), value.clone());
            let error = LogPage::from_item(Slice::new(7), &item).expect_err(&format!("{name}: {value:?}"));
            assert!(!error.to_string().contains("secret"), "{error}");
            item.remove(name);
            LogPage::from_item(Slice::new(7), &item).expect_err("missing");
        }
    }

    #[test]
    fn a_filter_matches_the_names_of_a_reference() {
        use es_core::feed::EventFilter;

        let filter = EventFilter::none().with_events("order", ["Placed"]);
        assert!(reference("order", 1, 1, 2, &["Paid", "Placed"]).is_taken(&filter));
        assert!(!reference("order", 1, 1, 1, &["Paid"]).is_taken(&filter));
        assert!(!reference("bet", 1, 1, 1, &["Placed"]).is_taken(&filter));
        let unknown = Reference {
            stream: StreamId::new("order", 1).expect("valid"),
            first: Version::FIRST,
            last: Version::FIRST,
            tag: CommitTag::default(),
            names: Names::Any,
        };
        assert!(unknown.is_taken(&filter), "its events have to be read");
    }
}
