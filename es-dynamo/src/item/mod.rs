//! Items: how commits, snapshots, claims and markers are laid out in attributes.

mod attributes;
mod claim;
mod commit;
mod marker;
mod part;
mod size;
mod snapshot;

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

pub(crate) use attributes::Attributes;
pub(crate) use claim::{claim_item, claim_key, holder_of};
pub(crate) use commit::commit_items;
pub(crate) use marker::{marker_from, marker_item, marker_key};
pub(crate) use part::{CommitHead, HeadFields, Part, PartFields};
pub(crate) use size::{LIMIT as SIZE_LIMIT, item_size};
pub(crate) use snapshot::{snapshot_from, snapshot_item};

use crate::names;

/// An item, as the SDK has it.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// The key of an item.
pub(crate) fn key(partition: impl Into<String>, sort: impl Into<String>) -> Item {
    Item::from([
        (names::PARTITION_KEY.to_owned(), AttributeValue::S(partition.into())),
        (names::SORT_KEY.to_owned(), AttributeValue::S(sort.into())),
    ])
}
