//! Copies of small commits in the pages of the log, which a consumer reads without getting the commits themselves.
//!
//! A writer takes copies from the table, never from hints. A reader uses a copy only if it is the commit to which the
//! page refers, and otherwise gets the commit from the table.

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::StoreError;
use es_core::store::Commit;

use super::TableFeed;
use super::log::page::LogPage;
use super::log::reference::{CommitTag, Reference};
use super::read::place;
use crate::streams::item::{Attributes, Part};
use crate::table::{Item, item_size, names};

/// The maximum size in bytes of all copies in a page, which leaves space for its references.
const MAX_BYTES: u64 = 256 * 1024;

impl TableFeed {
    /// Returns the item of a page, with copies of the commits that are not larger than the application has set.
    pub(super) async fn page_item(&self, page: &LogPage) -> Result<Item, StoreError> {
        let mut item = page.to_item();
        if self.max_copy == 0 {
            return Ok(item);
        }
        let (mut found, _) = self.find(page.references.iter()).await?;
        let mut left = MAX_BYTES;
        let copies: Vec<AttributeValue> = page
            .references
            .iter()
            .map(|reference| {
                let item = found.remove(&place(reference));
                let size = item.as_ref().map_or(0, item_size);
                match item.filter(|_| size <= self.max_copy.min(left)) {
                    Some(item) if part_of(reference, item.clone()).is_some_and(|part| !is_erased(&part)) => {
                        left -= size;
                        AttributeValue::M(without_key(item))
                    }
                    _ => AttributeValue::Null(true),
                }
            })
            .collect();
        if copies.iter().any(AttributeValue::is_m) {
            item.insert(names::PAGE_COPIES.to_owned(), AttributeValue::L(copies));
        }
        Ok(item)
    }
}

/// Returns the commits of a copy, if it is that of the reference.
pub(super) fn commits_of(reference: &Reference, copy: &AttributeValue) -> Option<Vec<Commit>> {
    let mut item = copy.as_m().ok()?.clone();
    let (partition, sort) = place(reference);
    item.insert(names::PARTITION_KEY.to_owned(), AttributeValue::S(partition));
    item.insert(names::SORT_KEY.to_owned(), AttributeValue::S(sort));
    Some(part_of(reference, item)?.into_commits().collect())
}

/// Decodes an item, if it has all commits of the reference. The payloads of large events are not in the item, so there
/// is no copy of it.
fn part_of(reference: &Reference, item: Item) -> Option<Part> {
    let part = Attributes::of(&reference.stream, item).and_then(Attributes::part).ok()?;
    let found = (part.whole.first, part.whole.last, CommitTag::of(part.whole.id));
    (part.is_whole() && part.is_complete() && found == (reference.first, reference.last, reference.tag))
        .then_some(part)
}

/// Returns whether the events are erased. They may come back from an archive.
fn is_erased(part: &Part) -> bool {
    part.commits().flat_map(|commit| &commit.events).any(es_core::store::is_erased)
}

fn without_key(mut item: Item) -> Item {
    item.remove(names::PARTITION_KEY);
    item.remove(names::SORT_KEY);
    item
}
